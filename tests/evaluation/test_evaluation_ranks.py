from pathlib import Path

import numpy as np
import pytest
import torch
from helpers_processes import run_processes

from itmatch.evaluation import RetrievalRanks, retrieval_ranks, streamed_ranks
from itmatch.evaluation import ranks as ranks_module

REFERENCE = Path(__file__).parent.parent / "reference"


def naive(scores, index):
    """One query and one candidate at a time."""
    scores, index = scores.tolist(), index.tolist()
    image_to_text = []
    for i, row in enumerate(scores):
        own = [row[t] for t, image in enumerate(index) if image == i]
        wrong = [row[t] for t, image in enumerate(index) if image != i]
        image_to_text.append(sum(s >= max(own) for s in wrong) if own else -1)
    text_to_image = []
    for t, image in enumerate(index):
        wrong = [row[t] for i, row in enumerate(scores) if i != image]
        text_to_image.append(sum(s >= scores[image][t] for s in wrong))
    return image_to_text, text_to_image


def random_case(seed, images=13, captions=37, levels=6):
    """Captions in any order and number an image (none for some), with many ties."""
    generator = torch.Generator().manual_seed(seed)
    scores = torch.randint(levels, (images, captions), generator=generator).float()
    return scores, torch.randint(images - 2, (captions,), generator=generator)


def slicer(scores):
    return lambda images, captions: scores[images][:, captions]


def same(a: RetrievalRanks, b: RetrievalRanks) -> bool:
    return torch.equal(a.image_to_text, b.image_to_text) and torch.equal(a.text_to_image, b.text_to_image)


@pytest.mark.parametrize("seed", range(10))
def test_equals_counting_one_by_one(seed, monkeypatch):
    monkeypatch.setattr(ranks_module, "_BLOCK_SCORES", 100)  # several blocks of rows
    scores, index = random_case(seed)
    ranks = retrieval_ranks(scores, index)
    assert (ranks.image_to_text.tolist(), ranks.text_to_image.tolist()) == naive(scores, index)
    assert ranks.image_to_text.dtype == ranks.text_to_image.dtype == torch.int64
    assert ranks.image_to_text[-2:].tolist() == [-1, -1]  # images without captions


@pytest.mark.parametrize("blocks", [(1, 1), (4, 5), (5, 100), (100, 3), (256, 1024)])
@pytest.mark.parametrize("kept", [0, 200, 2**27])
def test_streamed_equals_full(blocks, kept, monkeypatch):
    monkeypatch.setattr(ranks_module, "_KEPT_BYTES", kept)
    for seed in range(3):
        scores, index = random_case(seed, levels=10**6 if seed else 4)
        ranks = streamed_ranks(slicer(scores), index, 13, chunk_size=blocks[0], caption_chunk_size=blocks[1])
        assert same(ranks, retrieval_ranks(scores, index))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_dtypes(dtype):
    scores, index = random_case(0)
    expected = naive(scores, index)
    for ranks in (
        retrieval_ranks(scores.to(dtype), index.int()),
        streamed_ranks(slicer(scores.to(dtype)), index.int(), 13, chunk_size=4, caption_chunk_size=9),
    ):
        assert (ranks.image_to_text.tolist(), ranks.text_to_image.tolist()) == expected


def test_agrees_with_the_public_code():
    with np.load(REFERENCE / "ranks.npz", allow_pickle=False) as reference:
        ranks = retrieval_ranks(torch.from_numpy(reference["scores"]), torch.arange(1000) // 5)
        assert ranks.image_to_text.tolist() == reference["i2t_ranks"].tolist()
        assert ranks.text_to_image.tolist() == reference["t2i_ranks"].tolist()


def test_constant_scores_rank_last():
    ranks = retrieval_ranks(torch.zeros(4, 12), torch.arange(12) // 3)
    assert ranks.image_to_text.tolist() == [9] * 4
    assert ranks.text_to_image.tolist() == [3] * 12


def test_perfect_scores_rank_first():
    index = torch.tensor([2, 0, 1, 1, 0])
    scores = (torch.arange(3)[:, None] == index).float()
    ranks = retrieval_ranks(scores, index)
    assert ranks.image_to_text.tolist() == [0] * 3
    assert ranks.text_to_image.tolist() == [0] * 5


def test_every_block_of_scores_is_asked_for_once():
    scores, index = random_case(1)
    asked = torch.zeros(13, 37, dtype=torch.int64)

    def score_block(images, captions):
        asked[images[:, None], captions] += 1
        assert len(images) <= 4
        assert len(captions) <= 8
        assert not torch.is_grad_enabled()
        return scores[images][:, captions]

    streamed_ranks(score_block, index, 13, chunk_size=4, caption_chunk_size=8)
    assert torch.equal(asked, torch.ones_like(asked))


def test_a_score_block_may_use_its_memory_again():
    scores, index = random_case(2)
    buffer = torch.empty(4, 8)

    def score_block(images, captions):
        view = buffer[: len(images), : len(captions)]
        return view.copy_(scores[images][:, captions])

    ranks = streamed_ranks(score_block, index, 13, chunk_size=4, caption_chunk_size=8)
    assert same(ranks, retrieval_ranks(scores, index))


def test_own_answers_never_count_even_if_rounded_otherwise(monkeypatch):
    monkeypatch.setattr(ranks_module, "_KEPT_BYTES", 0)
    calls = 0

    def score_block(images, captions):
        nonlocal calls
        calls += 1
        own = (images[:, None] == captions).float()
        return own * (1 - 1e-6 * calls)  # a bit less each time it is computed

    ranks = streamed_ranks(score_block, torch.arange(6), 6, chunk_size=2, caption_chunk_size=2)
    assert ranks.image_to_text.tolist() == [0] * 6
    assert ranks.text_to_image.tolist() == [0] * 6


def test_the_input_is_left_as_it_is():
    scores, index = random_case(0)
    before = scores.clone()
    retrieval_ranks(scores.requires_grad_(), index)
    assert torch.equal(scores, before)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("place", [(7, 3), (12, 36), (0, 0)])
def test_scores_have_to_be_finite(value, place, monkeypatch):
    monkeypatch.setattr(ranks_module, "_BLOCK_SCORES", 100)
    scores, index = random_case(0)
    scores[place] = value
    message = f"score of image {place[0]} and caption {place[1]} is {value}"
    with pytest.raises(ValueError, match=message):
        retrieval_ranks(scores, index)
    with pytest.raises(ValueError, match=message):
        streamed_ranks(slicer(scores), index, 13, chunk_size=4, caption_chunk_size=8)


def test_large_finite_scores_are_fine():
    scores = torch.full((4, 4), 3e38)
    scores.fill_diagonal_(3.1e38)
    assert retrieval_ranks(scores, torch.arange(4)).text_to_image.tolist() == [0] * 4


@pytest.mark.parametrize(
    ("scores", "index", "error", "message"),
    [
        (torch.zeros(3), torch.arange(3), TypeError, r"scores: \(3,\)"),
        (torch.zeros(3, 3, dtype=torch.int64), torch.arange(3), TypeError, "torch.int64"),
        (torch.zeros(3, 3), torch.zeros(3), TypeError, "caption_image_index: .* torch.float32"),
        (torch.zeros(3, 3), torch.arange(4).clamp(max=2), ValueError, "4 captions, the scores have 3 columns"),
        (torch.zeros(3, 3), torch.tensor([0, 3, 1]), ValueError, r"caption 1 has image 3, not in 0..2"),
        (torch.zeros(3, 3), torch.tensor([0, 1, -1]), ValueError, "caption 2 has image -1"),
        (torch.zeros(0, 3), torch.arange(3), ValueError, "nothing to rank"),
        (torch.zeros(3, 0), torch.arange(0), ValueError, "nothing to rank"),
    ],
)
def test_bad_inputs(scores, index, error, message):
    with pytest.raises(error, match=message):
        retrieval_ranks(scores, index)


def test_bad_blocks():
    with pytest.raises(ValueError, match=r"score_block returned \(1, 1\)"):
        streamed_ranks(lambda images, captions: torch.zeros(1, 1), torch.arange(3), 3)
    with pytest.raises(ValueError, match="chunk_size: 0"):
        streamed_ranks(slicer(torch.eye(3)), torch.arange(3), 3, chunk_size=0)


def _share_of_images(process, _):
    for seed, dtype in ((0, torch.float32), (1, torch.float64), (2, torch.float16)):
        scores, index = random_case(seed, levels=10**6 if seed else 4)
        scores = (scores / scores.max()).to(dtype)
        expected = retrieval_ranks(scores, index)
        for shares in ((torch.arange(0, 13, 2), torch.arange(1, 13, 2)), (torch.arange(13), torch.arange(0))):
            images, place = shares[process], torch.full((13,), -1)
            place[images] = torch.arange(len(images))
            ranks = streamed_ranks(
                slicer(scores[images]),
                place[index],
                len(images),
                chunk_size=3,
                caption_chunk_size=9,
                across_processes=True,
            )
            assert torch.equal(ranks.image_to_text, expected.image_to_text[images])
            assert torch.equal(ranks.text_to_image, expected.text_to_image)
    place = torch.tensor([[0, 1, 2, 3, 4, -1], [-1, -1, -1, -1, 4, 5]])[process]
    with pytest.raises(ValueError, match="caption 4: 2 processes have its image, expected one"):
        streamed_ranks(slicer(torch.eye(6)), place, 6, across_processes=True)


def test_images_of_two_processes(tmp_path):
    run_processes(_share_of_images, 2, tmp_path)


def test_an_image_that_no_process_has():
    with pytest.raises(ValueError, match="caption 2: 0 processes have its image, expected one"):
        streamed_ranks(slicer(torch.eye(3)), torch.tensor([0, 1, -1]), 3, across_processes=True)
    with pytest.raises(ValueError, match="caption 2 has image -1"):
        streamed_ranks(slicer(torch.eye(3)), torch.tensor([0, 1, -1]), 3)
