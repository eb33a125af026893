import numpy as np
import pytest
import torch
from helpers_processes import run_processes

from itmatch.batch import Fragments
from itmatch.data import ImageTextSplit
from itmatch.evaluation import (
    Coco1K,
    EvaluationProtocol,
    Relevance,
    SeveralProtocols,
    retrieval_metrics,
    retrieval_ranks,
    twin_accuracy,
)
from itmatch.evaluation import evaluator as evaluator_module
from itmatch.evaluation.collected import _first_places
from itmatch.evaluation.evaluator import Evaluator
from itmatch.evaluation.protocols import relevance_figures
from itmatch.models import MatchingModel
from itmatch.nn import (
    CosineSimilarity,
    GRUTextEncoder,
    HardAligningSimilarity,
    InteractiveSimilarity,
    MeanPooling,
    RegionEncoder,
)
from itmatch.ops.ragged import Ragged

IMAGES, CAPTIONS = 7, 16
CAPTION_IMAGE = torch.arange(CAPTIONS) % IMAGES  # in no order, some images with three captions, some with two


def fragments(count, length, seed):
    generator = torch.Generator().manual_seed(seed)
    mask = torch.arange(length) < torch.randint(1, length + 1, (count, 1), generator=generator)
    return Fragments(torch.randn(count, length, 6, generator=generator), mask)


def add(evaluator, image, text, images, captions, batch=3):
    for start in range(0, len(images), batch):
        rows = images[start : start + batch]
        evaluator.add_images(parts(image, rows), rows)  # batches of different widths
    for start in range(0, len(captions), batch):
        rows = captions[start : start + batch]
        evaluator.add_captions(parts(text, rows), rows, CAPTION_IMAGE[rows])


def parts(fragments, rows):
    """The rows as one model encodes them, or as each of several does."""
    if isinstance(fragments, list):
        return [Ragged.of(part)[rows] for part in fragments]
    return Ragged.of(fragments)[rows]


def expected(similarity):
    image, text = fragments(IMAGES, 5, 0), fragments(CAPTIONS, 9, 1)
    with torch.no_grad():
        return retrieval_metrics(retrieval_ranks(similarity(image, text), CAPTION_IMAGE))


@pytest.fixture
def similarity():
    return HardAligningSimilarity(pooling=MeanPooling())


def test_order_and_repetition_do_not_matter(similarity):
    image, text = fragments(IMAGES, 5, 0), fragments(CAPTIONS, 9, 1)
    evaluator = Evaluator(similarity)
    generator = torch.Generator().manual_seed(2)
    images = torch.cat([torch.randperm(IMAGES, generator=generator), torch.tensor([3, 3, 0])])
    captions = torch.cat([torch.randperm(CAPTIONS, generator=generator), torch.tensor([5, 15])])
    add(evaluator, image, text, images, captions)
    assert evaluator.compute() == pytest.approx(expected(similarity))


@pytest.mark.parametrize(("large", "kept"), [(1, 6), (800, 4), (1 << 20, 6)])  # alone, some joined, at the end
def test_batches_are_joined_on_the_way(similarity, large, kept, monkeypatch):
    monkeypatch.setattr(evaluator_module, "_LARGE", large)
    evaluator = Evaluator(similarity)
    add(evaluator, fragments(IMAGES, 5, 0), fragments(CAPTIONS, 9, 1), torch.arange(IMAGES), torch.arange(CAPTIONS))
    assert len(evaluator._captions[0]) == kept
    assert evaluator.compute() == pytest.approx(expected(similarity))


def test_reset_forgets(similarity):
    image, text = fragments(IMAGES, 5, 0), fragments(CAPTIONS, 9, 1)
    evaluator = Evaluator(similarity)
    add(evaluator, fragments(IMAGES, 5, 8), fragments(CAPTIONS, 9, 9), torch.arange(IMAGES), torch.arange(CAPTIONS))
    evaluator.reset()
    add(evaluator, image, text, torch.arange(IMAGES), torch.arange(CAPTIONS))
    assert evaluator.compute() == pytest.approx(expected(similarity))


def test_captions_of_images_that_were_not_added_are_left_out(similarity):
    image, text = fragments(IMAGES, 5, 0), fragments(CAPTIONS, 9, 1)
    evaluator = Evaluator(similarity)
    add(evaluator, image, text, torch.tensor([4, 1]), torch.arange(CAPTIONS))
    kept = torch.tensor([i for i in range(CAPTIONS) if CAPTION_IMAGE[i] in (1, 4)])
    scores = similarity(image[torch.tensor([1, 4])], text[kept])
    ranks = retrieval_ranks(scores, (CAPTION_IMAGE[kept] == 4).long())
    assert evaluator.compute() == pytest.approx(retrieval_metrics(ranks))


def test_nothing_to_rank_is_an_error(similarity):
    image, text = fragments(IMAGES, 5, 0), fragments(CAPTIONS, 9, 1)
    evaluator = Evaluator(similarity)
    with pytest.raises(ValueError, match="need both"):
        evaluator.compute()
    add(evaluator, image, text, torch.tensor([0]), torch.tensor([1, 2]))
    with pytest.raises(ValueError, match="no caption describes any of the images"):
        evaluator.compute()


TWIN = np.array([-1, 2, 1] + [-1] * (CAPTIONS - 4) + [3])
TWIN_KINDS = ["", "spatial", "semantic"] + [""] * (CAPTIONS - 4) + ["spatial"]


def twins():
    return ImageTextSplit(
        np.zeros((IMAGES, 5, 6), np.float32),
        ["words"] * CAPTIONS,
        CAPTION_IMAGE.numpy(),
        caption_twin=TWIN,
        caption_twin_kind=TWIN_KINDS,
    )


def test_twins_of_no_kind_have_one_accuracy():
    image, text = fragments(IMAGES, 5, 0), fragments(CAPTIONS, 9, 1)
    figures = []
    for dataset in (twins(), twins()):
        evaluator = Evaluator(CosineSimilarity())
        add(evaluator, image, text, torch.arange(IMAGES), torch.arange(CAPTIONS))
        dataset.caption_twin_kind = dataset.caption_twin_kind if not figures else None
        found = evaluator.compute(dataset)
        figures.append({name: value for name, value in found.items() if "twin" in name})
    assert figures[1] == {"twin_accuracy": figures[0]["twin_accuracy"]}


def test_twins():
    image, text = fragments(IMAGES, 5, 0), fragments(CAPTIONS, 9, 1)
    similarity = CosineSimilarity()
    evaluator = Evaluator(similarity)
    add(evaluator, image, text, torch.arange(IMAGES), torch.randperm(CAPTIONS))
    scores = similarity(image, text)
    captions = [1, 2, CAPTIONS - 1]
    own = torch.stack([scores[CAPTION_IMAGE[c], c] for c in captions])
    other = torch.stack([scores[int(TWIN[c]), c] for c in captions])
    found = evaluator.compute(twins())
    for name, value in twin_accuracy(own, other, [TWIN_KINDS[c] for c in captions]).items():
        assert found[name] == pytest.approx(value)


def _process(rank, world, expected):
    assert figures(rank, world) == expected


def figures(rank=0, world=1):
    """What a process finds of its share of the images and captions."""
    image, text = fragments(IMAGES, 5, 0), fragments(CAPTIONS, 9, 1)
    found = []
    interactive = InteractiveSimilarity(cross_level=None, pooling=MeanPooling())
    for similarity in (HardAligningSimilarity(pooling=MeanPooling()), CosineSimilarity(), interactive):
        evaluator = Evaluator(similarity)
        # as a distributed sampler shares them out: uneven sizes are filled up with items from the beginning
        images = torch.arange(-(-IMAGES // world) * world)[rank::world] % IMAGES
        captions = torch.arange(-(-CAPTIONS // world) * world)[rank::world] % CAPTIONS
        add(evaluator, image, text, images, captions)
        found.append(evaluator.compute(twins()))
    ensemble = Evaluator([CosineSimilarity(), HardAligningSimilarity(pooling=MeanPooling())])
    for protocol in (Halves(), Related()):
        add(ensemble, [image, fragments(IMAGES, 4, 5)], [text, fragments(CAPTIONS, 8, 6)], images, captions)
        found.append(ensemble.compute(twins(), protocol))
    add(evaluator, image, text, images, captions)
    found.append([side.indices.tolist() for side in evaluator.find(twins(), 4)])
    add(evaluator, image, text, images, captions)
    found.append(evaluator.compute(twins(), SeveralProtocols([Halves(), Related()]), top=4))
    found.append([side.indices.tolist() for side in evaluator.top])
    return found


class Halves(EvaluationProtocol):
    """The first four images, and the last three."""

    def measure(self, split):
        parts = [retrieval_metrics(split.ranks(part)) for part in (slice(0, 4), slice(4, 7))]
        return {f"{name}{i}": value for i, part in enumerate(parts) for name, value in part.items()}


class Related(EvaluationProtocol):
    def measure(self, split):
        relevance = Relevance.from_lists({0: [0, 3, 9], 5: [1], 6: [2, 4]}, {1: [6, 2], 15: [0, 1, 2, 3], 7: [5]})
        found = relevance_figures("related", split.hits(relevance, places=2), (1, 2), precision=True)
        some = torch.arange(split.num_images) != 1
        return found | relevance_figures("some", split.hits(relevance, places=2, images=some), (1, 2), precision=True)


def collected(**options):
    evaluator = Evaluator(HardAligningSimilarity(pooling=MeanPooling()), **options)
    add(evaluator, fragments(IMAGES, 5, 0), fragments(CAPTIONS, 9, 1), torch.arange(IMAGES), torch.arange(CAPTIONS))
    return evaluator


@pytest.mark.parametrize("memory", ["1GiB", 4000, 1])  # all scores are held, or none; a block is a pair
def test_several_protocols_at_once_measure_what_each_does_alone(memory):
    members = [Halves(), Related()]
    alone = [collected().compute(None, member) for member in members]
    evaluator = collected(memory=memory)
    found = evaluator.compute(None, SeveralProtocols(members), top=3)
    named = {
        f"{type(m).__name__}_{name}": value
        for m, row in zip(members, alone, strict=True)
        for name, value in row.items()
    }
    whole = expected(HardAligningSimilarity(pooling=MeanPooling()))
    assert {name: found[name] for name in whole} == pytest.approx(whole)
    measured = {name: value for name, value in named.items() if name.partition("_")[2] not in whole}
    assert {name: found[name] for name in measured} == pytest.approx(measured)
    assert evaluator.top[0].indices.tolist() == best_captions(3)


def test_scores_are_computed_once_for_several_things():
    counted = Counting()
    counts = []
    for memory in ("1GiB", 100):
        evaluator = Evaluator(counted, memory=memory)
        add(evaluator, fragments(IMAGES, 5, 0), fragments(CAPTIONS, 9, 1), torch.arange(IMAGES), torch.arange(CAPTIONS))
        counted.pairs = 0
        evaluator.compute(None, SeveralProtocols([Halves(), Related()]), top=3)
        counts.append(counted.pairs)
    once = IMAGES * CAPTIONS
    assert once <= counts[0] < 2 * once  # and a few to measure the memory
    assert counts[1] > 3 * once


class Counting(CosineSimilarity):
    pairs = 0

    def forward(self, image, text):
        self.pairs += len(image) * len(text)
        return super().forward(image, text)


def test_protocols_of_one_name_are_refused():
    with pytest.raises(ValueError, match="coco_1k comes twice"):
        SeveralProtocols([Coco1K(), Coco1K(num_images=10)])


def best_captions(k):
    similarity = HardAligningSimilarity(pooling=MeanPooling())
    with torch.no_grad():
        scores = similarity(fragments(IMAGES, 5, 0), fragments(CAPTIONS, 9, 1))
    return scores.argsort(1, descending=True)[:, :k].tolist()


def test_the_number_of_processes_does_not_matter(tmp_path):
    """7 images and 16 captions divide by neither 2 nor 3."""
    alone = figures()
    for world in (2, 3):
        run_processes(_process, world, tmp_path, alone)
    one = expected(HardAligningSimilarity(pooling=MeanPooling()))
    assert {name: alone[0][name] for name in one} == pytest.approx(one)
    assert "twin_accuracy" in alone[0]


def test_an_ensemble_scores_with_the_mean_of_its_members():
    image, text = (
        [fragments(IMAGES, 5, 0), fragments(IMAGES, 4, 5)],
        [fragments(CAPTIONS, 9, 1), fragments(CAPTIONS, 8, 6)],
    )
    members = [CosineSimilarity(), HardAligningSimilarity(pooling=MeanPooling())]
    evaluator = Evaluator(members)
    add(evaluator, image, text, torch.arange(IMAGES), torch.arange(CAPTIONS))
    scores = sum(member(i, t) for member, i, t in zip(members, image, text, strict=True)) / 2
    ranks = retrieval_ranks(scores, CAPTION_IMAGE)
    assert evaluator.compute() == pytest.approx(retrieval_metrics(ranks))
    assert torch.equal(evaluator.ranks.image_to_text, ranks.image_to_text)
    assert torch.equal(evaluator.ranks.text_to_image, ranks.text_to_image)
    assert torch.equal(evaluator.caption_image, CAPTION_IMAGE)


def test_a_protocol_sees_the_split_in_its_order(similarity):
    image, text = fragments(IMAGES, 5, 0), fragments(CAPTIONS, 9, 1)
    evaluator = Evaluator(similarity)
    add(evaluator, image, text, torch.randperm(IMAGES), torch.randperm(CAPTIONS))
    found = evaluator.compute(protocol=Halves())
    last = (CAPTION_IMAGE >= 4).nonzero()[:, 0]
    ranks = retrieval_ranks(similarity(image[torch.arange(4, 7)], text[last]), CAPTION_IMAGE[last] - 4)
    for name, value in retrieval_metrics(ranks).items():
        assert found[f"{name}1"] == pytest.approx(value)
    assert found["rsum"] == pytest.approx(expected(similarity)["rsum"])  # a protocol without one does not hide it


def test_fragments_are_kept_in_half_precision_if_wanted(similarity):
    image, text = fragments(IMAGES, 5, 0), fragments(CAPTIONS, 9, 1)
    whole, half = Evaluator(similarity), Evaluator(similarity, torch.float16)
    for evaluator in (whole, half):
        add(evaluator, image, text, torch.arange(IMAGES), torch.arange(CAPTIONS))
    assert half._images[0][0].values.dtype == torch.float16
    assert half.compute() == pytest.approx(whole.compute(), abs=100 / CAPTIONS)


def test_of_a_model_the_similarity_counts_that_it_has_in_the_end(similarity):
    model = MatchingModel(RegionEncoder(2, 3), GRUTextEncoder(2, 3), CosineSimilarity())
    evaluator = Evaluator(model)
    add(evaluator, fragments(IMAGES, 5, 0), fragments(CAPTIONS, 9, 1), torch.arange(IMAGES), torch.arange(CAPTIONS))
    model.similarity = similarity
    assert evaluator.similarities == [similarity]
    assert evaluator.compute() == pytest.approx(expected(similarity))


def test_first_places():
    index = torch.tensor([4, 2, 4, 9, 2])
    assert _first_places(index).tolist() == [1, 0, 3]
    assert _first_places(index[:0]).tolist() == []
