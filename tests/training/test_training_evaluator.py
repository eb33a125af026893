import numpy as np
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from itmatch.batch import Fragments
from itmatch.data import ImageTextDataset
from itmatch.metrics import retrieval_metrics, retrieval_ranks, twin_accuracy
from itmatch.nn import CosineSimilarity, HardAligningSimilarity, MeanPooling
from itmatch.training.evaluator import Evaluator

IMAGES, CAPTIONS = 7, 16
CAPTION_IMAGE = torch.arange(CAPTIONS) % IMAGES  # in no order, some images with three captions, some with two


def fragments(count, length, seed):
    generator = torch.Generator().manual_seed(seed)
    mask = torch.arange(length) < torch.randint(1, length + 1, (count, 1), generator=generator)
    return Fragments(torch.randn(count, length, 6, generator=generator), mask)


def add(evaluator, image, text, images, captions, batch=3):
    for start in range(0, len(images), batch):
        rows = images[start : start + batch]
        evaluator.add_images(image[rows].trimmed(), rows)  # batches of different widths
    for start in range(0, len(captions), batch):
        rows = captions[start : start + batch]
        evaluator.add_captions(text[rows].trimmed(), rows, CAPTION_IMAGE[rows])


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
    assert evaluator.compute() == expected(similarity)


def test_reset_forgets(similarity):
    image, text = fragments(IMAGES, 5, 0), fragments(CAPTIONS, 9, 1)
    evaluator = Evaluator(similarity)
    add(evaluator, fragments(IMAGES, 5, 8), fragments(CAPTIONS, 9, 9), torch.arange(IMAGES), torch.arange(CAPTIONS))
    evaluator.reset()
    add(evaluator, image, text, torch.arange(IMAGES), torch.arange(CAPTIONS))
    assert evaluator.compute() == expected(similarity)


def test_captions_of_images_that_were_not_added_are_left_out(similarity):
    image, text = fragments(IMAGES, 5, 0), fragments(CAPTIONS, 9, 1)
    evaluator = Evaluator(similarity)
    add(evaluator, image, text, torch.tensor([4, 1]), torch.arange(CAPTIONS))
    kept = torch.tensor([i for i in range(CAPTIONS) if CAPTION_IMAGE[i] in (1, 4)])
    scores = similarity(image[torch.tensor([1, 4])], text[kept])
    assert evaluator.compute() == retrieval_metrics(retrieval_ranks(scores, (CAPTION_IMAGE[kept] == 4).long()))


def test_nothing_to_rank_is_an_error(similarity):
    image, text = fragments(IMAGES, 5, 0), fragments(CAPTIONS, 9, 1)
    evaluator = Evaluator(similarity)
    with pytest.raises(ValueError, match="need both"):
        evaluator.compute()
    add(evaluator, image, text, torch.tensor([0]), torch.tensor([1, 2]))
    with pytest.raises(ValueError, match="no caption describes any of the images"):
        evaluator.compute()


def test_twins():
    image, text = fragments(IMAGES, 5, 0), fragments(CAPTIONS, 9, 1)
    twin = np.array([-1, 2, 1] + [-1] * (CAPTIONS - 4) + [3])
    kinds = ["", "spatial", "semantic"] + [""] * (CAPTIONS - 4) + ["spatial"]
    dataset = ImageTextDataset(
        np.zeros((IMAGES, 5, 6), np.float32),
        ["words"] * CAPTIONS,
        CAPTION_IMAGE.numpy(),
        caption_twin=twin,
        caption_twin_kind=kinds,
    )
    similarity = CosineSimilarity()
    evaluator = Evaluator(similarity)
    add(evaluator, image, text, torch.arange(IMAGES), torch.randperm(CAPTIONS))
    scores = similarity(image, text)
    captions = [1, 2, CAPTIONS - 1]
    own = torch.stack([scores[CAPTION_IMAGE[c], c] for c in captions])
    other = torch.stack([scores[int(twin[c]), c] for c in captions])
    found = evaluator.compute(dataset)
    for name, value in twin_accuracy(own, other, [kinds[c] for c in captions]).items():
        assert found[name] == pytest.approx(value)


def _process(rank, world, path, queue):
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{path}", rank=rank, world_size=world)
    similarity = HardAligningSimilarity(pooling=MeanPooling())
    image, text = fragments(IMAGES, 5, 0), fragments(CAPTIONS, 9, 1)
    evaluator = Evaluator(similarity)
    # as a distributed sampler shares them out: uneven sizes are filled up with items from the beginning
    images = torch.tensor([i % IMAGES for i in range(8)])[rank::world]
    captions = torch.tensor([i % CAPTIONS for i in range(18)])[rank::world]
    add(evaluator, image, text, images, captions)
    queue.put((rank, evaluator.compute()))
    dist.destroy_process_group()


def test_two_processes_give_the_figures_of_one(tmp_path, similarity):
    context = mp.get_context("spawn")
    queue = context.SimpleQueue()
    processes = [context.Process(target=_process, args=(r, 2, tmp_path / "store", queue)) for r in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
        assert process.exitcode == 0
    assert queue.get()[1] == queue.get()[1] == expected(similarity)
