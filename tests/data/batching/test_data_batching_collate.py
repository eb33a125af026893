import multiprocessing

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from itmatch.batch import Batch
from itmatch.data import (
    CaptionDataset,
    CaptionItem,
    Collator,
    ImageDataset,
    ImageItem,
    ImageTextSplit,
    PairDataset,
    SizeAugmentation,
    Tokenizer,
    WordTokenizer,
    open_array,
    save_array,
)


@pytest.fixture
def tokenizer():
    tokenizer = WordTokenizer(min_count=1)
    tokenizer.fit(["a dog runs on grass"])
    return tokenizer


@pytest.fixture
def dataset(tmp_path):
    features = np.arange(1, 3 * 4 * 5 + 1, dtype=np.float32).reshape(3, 4, 5).astype(np.float16)
    save_array(tmp_path / "x.npy", features)
    return ImageTextSplit(
        open_array(tmp_path / "x.npy"),
        ["a dog runs", "a dog", "grass", "a dog on grass"],
        np.array([0, 0, 1, 2]),
        lengths=np.array([4, 2, 3]),
        boxes=np.tile(np.array([0, 0, 0.5, 1], np.float32), (3, 4, 1)),
        labels=np.arange(12).reshape(3, 4),
        relations=np.array([[[0, 7, 1], [3, 8, 2]], [[-1, -1, -1]] * 2, [[2, 9, 0], [-1, -1, -1]]]),
        relation_scores=np.array([[0.5, 0.25], [0, 0], [0.75, 0]], np.float32),
    )


def test_pairs(dataset, tokenizer):
    pairs = PairDataset(dataset)
    batch = Collator(tokenizer)([pairs[i] for i in (3, 1, 2)])
    regions, captions = batch.regions, batch.captions
    assert batch.image_index.tolist() == [2, 0, 1]
    assert batch.caption_index.tolist() == [3, 1, 2]
    assert batch.caption_image.tolist() == [2, 0, 1]
    assert regions.mask.sum(1).tolist() == [3, 4, 2]
    assert torch.equal(regions.features[1], dataset.image(0).features)
    assert not regions.features[2, 2:].any()
    assert not regions.boxes[2, 2:].any()
    assert regions.labels.tolist() == [[8, 9, 10, -1], [0, 1, 2, 3], [4, 5, -1, -1]]
    assert regions.graph.edge_index.tolist() == [[2, 0, 3], [0, 1, 2]]
    assert regions.graph.row.tolist() == [0, 1, 1]
    assert regions.graph.predicate.tolist() == [9, 7, 8]
    assert regions.graph.confidence.tolist() == [0.75, 0.5, 0.25]
    assert captions.mask.sum(1).tolist() == [6, 4, 3]
    assert captions.input_ids[2].tolist() == [*tokenizer(["grass"])[0], 0, 0, 0]
    assert torch.equal(batch.positives(), torch.eye(3, dtype=torch.bool))


def test_an_image_twice(dataset, tokenizer):
    batch = Collator(tokenizer)([PairDataset(dataset)[i] for i in (0, 1)])
    assert len(batch.regions) == 2
    assert batch.positives().all()


def test_images_alone_and_captions_alone(dataset, tokenizer):
    batch = Collator(tokenizer)([ImageDataset(dataset)[2], ImageDataset(dataset)[1]])
    assert batch.captions is None
    assert batch.image_index.tolist() == [2, 1]
    assert batch.regions.features.shape == (2, 3, 5)  # the longest of the batch
    batch = Collator(tokenizer)([CaptionDataset(dataset)[1], CaptionDataset(dataset)[3]])
    assert batch.regions is None
    assert batch.caption_image.tolist() == [0, 2]


def test_relations_may_be_absent_everywhere(dataset, tokenizer):
    graph = Collator(tokenizer)([ImageDataset(dataset)[1]]).regions.graph
    assert graph.edge_index.shape == (2, 0)
    assert graph.num_rows == 1
    bare = Collator(tokenizer)([ImageItem(0, torch.ones(2, 3))]).regions
    assert bare.graph is bare.boxes is bare.labels is None


def test_augmented_batches_are_valid_and_smaller(dataset, tokenizer):
    torch.manual_seed(0)
    collate = Collator(tokenizer, augmentation=SizeAugmentation(region_drop=0.5, token_rate=0.5))
    pairs = [PairDataset(dataset)[i] for i in range(4)]
    batches = [collate(pairs) for _ in range(50)]  # Regions and SceneGraph check themselves
    assert sum(int(b.regions.mask.sum()) for b in batches) / 50 < 10  # of 13
    assert any((b.captions.input_ids == tokenizer.mask_id).any() for b in batches)


def test_mixtures_are_refused(dataset, tokenizer):
    collate = Collator(tokenizer)
    with pytest.raises(ValueError, match="one or more items of one kind"):
        collate([])
    with pytest.raises(ValueError, match="one or more items of one kind"):
        collate([ImageDataset(dataset)[0], CaptionDataset(dataset)[0]])
    with pytest.raises(ValueError, match="1 of 2 images have boxes"):
        collate([ImageItem(0, torch.ones(2, 3), boxes=torch.zeros(2, 4)), ImageItem(1, torch.ones(2, 3))])


def test_caption_without_tokens(tokenizer):
    class Silent(WordTokenizer):
        def __call__(self, texts):
            return [[] for _ in texts]

    with pytest.raises(ValueError, match=r"caption '\.' has no tokens"):
        Collator(Silent(["<pad>", "<start>", "<end>", "<unk>"]))([CaptionItem(7, 0, ".")])


@pytest.mark.parametrize("start", ["fork", "spawn"])
def test_worker_processes(dataset, tokenizer, start):
    loader = DataLoader(
        PairDataset(dataset),
        batch_size=3,
        num_workers=1,
        collate_fn=Collator(tokenizer),
        multiprocessing_context=multiprocessing.get_context(start),
    )
    batches = list(loader)
    assert all(isinstance(batch, Batch) for batch in batches)
    assert torch.cat([batch.caption_index for batch in batches]).tolist() == [0, 1, 2, 3]
    assert torch.equal(batches[0].regions.features[0], dataset.image(0).features)


def test_worker_names_the_bad_image(tokenizer):
    features = np.ones((2, 2, 3), np.float32)
    features[1, 0, 0] = np.nan
    dataset = ImageTextSplit(features, ["a", "b"], np.arange(2), name="toy")
    loader = DataLoader(PairDataset(dataset), batch_size=2, num_workers=1, collate_fn=Collator(tokenizer))
    with pytest.raises(ValueError, match="toy: image '1' region 0: NaN or inf"):
        next(iter(loader))


def test_the_generator_decides_the_augmentation(dataset, tokenizer):
    collate = Collator(tokenizer, augmentation=SizeAugmentation(region_drop=0.5, token_rate=0.5))
    pairs = [PairDataset(dataset)[i] for i in range(4)]

    def made(seed):
        before = torch.get_rng_state()
        batch = collate(pairs, generator=torch.Generator().manual_seed(seed))
        assert torch.equal(torch.get_rng_state(), before)
        return batch.regions.features.flatten().tolist(), batch.captions.input_ids.flatten().tolist()

    assert made(1) == made(1)
    assert made(1) != made(2)


def spans(text, *relations):
    """Relations of words as a tensor of their characters; "" = nowhere."""
    return torch.tensor(
        [[(text.index(w), text.index(w) + len(w)) if w else (-1, -1) for w in relation] for relation in relations]
    ).view(-1, 3, 2)


def parsed(text, *relations, index=0):
    return CaptionItem(index, 0, text, spans(text, *relations))


def edges(captions):
    graph = captions.graph
    return torch.stack([graph.row, graph.edge_index[0], graph.predicate, graph.edge_index[1]], 1).tolist()


def test_relations_of_captions_become_a_graph_of_tokens(tokenizer):
    first = parsed("A dog runs on grass", ("dog", "runs on", "grass"), ("A", "", "dog"))
    captions = Collator(tokenizer)([first, parsed("a dog"), parsed("grass: dog", ("dog", ":", "grass"))]).captions
    assert edges(captions) == [[0, 2, 3, 5], [0, 1, -1, 2], [2, 3, 2, 1]]
    assert captions.graph.num_rows == 3
    assert captions.graph.confidence is None
    assert captions.graph.predicate.dtype == captions.graph.edge_index.dtype == torch.int64


def test_captions_that_were_not_parsed_have_no_graph(tokenizer):
    assert Collator(tokenizer)([CaptionItem(0, 0, "a dog")]).captions.graph is None
    bare = Collator(tokenizer)([parsed("a dog"), parsed("a")]).captions.graph
    assert (bare.edge_index.shape, bare.predicate.shape, bare.num_rows) == ((2, 0), (0,), 2)
    with pytest.raises(ValueError, match="1 of 2 captions have relations, expected all or none"):
        Collator(tokenizer)([parsed("a dog"), CaptionItem(0, 0, "a dog")])


def test_relations_without_tokens_are_left_out(tokenizer):
    class Cut(WordTokenizer):
        def __call__(self, texts):
            return [ids[:4] for ids in super().__call__(texts)]

        def spans(self, texts):
            return [row[:4] for row in super().spans(texts)]

    cut = Cut(tokenizer.vocabulary.words)  # <start> a dog runs
    text = "a dog runs on grass"
    relations = [("a", "runs on", "dog"), ("dog", "", "grass"), ("grass", "", "dog"), ("dog", "on", "a")]
    one_token = ("gra", "", "ss")
    captions = Collator(cut)([parsed(text, *relations, one_token)]).captions
    assert edges(captions) == [[0, 1, 3, 2], [0, 2, -1, 1]]
    assert edges(Collator(tokenizer)([parsed(text, one_token, relations[1])]).captions) == [[0, 2, -1, 5]]


def test_a_graph_is_found_again_for_a_caption_that_comes_again(tokenizer):
    collate = Collator(tokenizer)
    text = "a dog runs on grass"
    one, other = parsed(text, ("dog", "runs", "grass")), parsed(text, ("grass", "on", "dog"))
    assert edges(collate([one, other, one]).captions) == [[0, 2, 3, 5], [1, 5, 4, 2], [2, 2, 3, 5]]
    collate.tokenizer.spans = None  # not asked again
    assert edges(collate([other]).captions) == [[0, 5, 4, 2]]


def test_augmented_captions_keep_their_graph(tokenizer):
    torch.manual_seed(0)
    text = "a dog runs on grass"
    drop = SizeAugmentation(token_rate=0.5, token_mask=0.0, token_replace=0.0, token_drop=1.0)
    items = [parsed(text, ("dog", "runs", "grass"), ("runs", "", "a"))] * 200
    words = tokenizer.vocabulary.words
    captions = Collator(tokenizer, augmentation=drop)(items).captions
    seen = {
        tuple(words[captions.input_ids[row, place]] if place >= 0 else "" for place in places)
        for row, *places in edges(captions)
    }
    assert seen == {("dog", "runs", "grass"), ("dog", "", "grass"), ("runs", "", "a")}
    assert len(edges(captions)) < 200


def test_tokenizers_without_spans(tokenizer):
    class Old(Tokenizer):
        def __call__(self, texts):
            return tokenizer(texts)

        vocab_size, pad_id, mask_id, special_ids = 9, 0, None, frozenset({0})

    assert len(Collator(Old())([CaptionItem(0, 0, "a dog"), parsed("a")][:1]).captions) == 1
    with pytest.raises(NotImplementedError, match=r"Old does not say where .* method spans"):
        Collator(Old())([parsed("a dog", ("a", "", "dog"))])

    class Short(WordTokenizer):
        def spans(self, texts):
            return [row[1:] for row in super().spans(texts)]

    with pytest.raises(ValueError, match=r"caption 'a dog': 4 tokens, and spans of 3"):
        Collator(Short(tokenizer.vocabulary.words))([parsed("a dog", ("a", "", "dog"))])
