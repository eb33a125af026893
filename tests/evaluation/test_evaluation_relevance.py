"""Any number of right answers: against loops over full rankings."""

import pytest
import torch

from itmatch.evaluation import Relevance, retrieval_metrics, retrieval_ranks, streamed_hits

IMAGES, CAPTIONS = 9, 23


def scores(seed=0, dtype=torch.float32, ties=False):
    generator = torch.Generator().manual_seed(seed)
    values = torch.randn(IMAGES, CAPTIONS, generator=generator, dtype=dtype)
    return (values * 2).round() / 2 if ties else values


def relevance(seed=1):
    generator = torch.Generator().manual_seed(seed)
    fit = torch.rand(IMAGES, CAPTIONS, generator=generator) < 0.2
    fit[[2, 7]] = False  # these images, and this caption, are no queries
    back = torch.rand(CAPTIONS, IMAGES, generator=generator) < 0.3
    back[5] = False
    return Relevance(fit.nonzero(), back.nonzero()), fit, back


def run(matrix, wanted, **options):
    images, captions = torch.arange(IMAGES), torch.arange(CAPTIONS)
    return streamed_hits(lambda i, t: matrix[i][:, t], images, captions, wanted, **options)


def ranking(row, fit):
    """Candidates from best to worst; among equal ones the right answers come last."""
    return sorted(range(len(row)), key=lambda c: (-float(row[c]), bool(fit[c])))


def loop(matrix, fit):
    """R@1, R@3, R-Precision and mAP@R in percent."""
    found = []
    for row, answers in zip(matrix, fit, strict=True):
        count = int(answers.sum())
        if not count:
            continue
        order = ranking(row, answers)
        hit = [bool(answers[c]) for c in order]
        average = sum(sum(hit[: k + 1]) / (k + 1) for k in range(count) if hit[k]) / count
        found.append((any(hit[:1]), any(hit[:3]), sum(hit[:count]) / count, average))
    return (100 * torch.tensor(found, dtype=torch.float64).mean(0)).tolist()


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    "blocks", [{}, {"chunk_size": 2, "caption_chunk_size": 5}, {"chunk_size": 1, "caption_chunk_size": 1}]
)
def test_figures_of_a_loop(ties, dtype, blocks):
    matrix, (wanted, fit, back) = scores(dtype=dtype, ties=ties), relevance()
    for found, values, answers in zip(run(matrix, wanted, **blocks), (matrix, matrix.T), (fit, back), strict=True):
        figures = [found.recall(1), found.recall(3), found.r_precision(), found.map_at_r()]
        assert figures == pytest.approx(loop(values, answers))
        assert sorted(found.queries.tolist()) == answers.any(1).nonzero()[:, 0].tolist()


def test_with_their_own_captions_recalls_are_the_usual_ones():
    matrix = scores(3)
    own = torch.arange(CAPTIONS) % IMAGES
    usual = retrieval_metrics(retrieval_ranks(matrix, own))
    found = run(matrix, Relevance.own(own))
    for direction, hits in zip(("i2t", "t2i"), found, strict=True):
        for k in (1, 5, 10):
            assert hits.recall(k) == pytest.approx(usual[f"{direction}_r{k}"])


def test_blocks_without_queries_are_not_scored():
    matrix, asked = scores(), []

    def score(images, captions):
        asked.append(len(images) * len(captions))
        return matrix[images][:, captions]

    wanted = Relevance.from_lists({8: [1]}, {22: [4]})
    found = streamed_hits(
        score, torch.arange(IMAGES), torch.arange(CAPTIONS), wanted, places=1, chunk_size=1, caption_chunk_size=1
    )
    assert sum(asked) == IMAGES + CAPTIONS - 1
    assert found[0].queries.tolist() == [8]
    assert found[1].queries.tolist() == [22]


def test_places_of_the_dataset_need_not_be_those_of_the_scores():
    matrix, (wanted, fit, back) = scores(), relevance()
    images, captions = torch.randperm(IMAGES), torch.randperm(CAPTIONS)
    found = streamed_hits(lambda i, t: matrix[images[i]][:, captions[t]], images, captions, wanted)
    assert found[0].map_at_r() == pytest.approx(loop(matrix, fit)[3])
    assert found[1].map_at_r() == pytest.approx(loop(matrix.T, back)[3])


def test_positives_that_are_no_candidates_are_never_found():
    matrix = scores()
    wanted = Relevance.from_lists({0: [0, 1]}, {0: [0]})
    best = matrix.clone()
    best[0, 0] = 10.0
    found, _ = streamed_hits(lambda i, t: best[i][:, t], torch.tensor([0]), torch.tensor([0, 5, 6]), wanted)
    assert found.recall(1) == 100.0
    assert found.r_precision() == 50.0


def test_a_score_that_is_not_finite_is_named():
    matrix = scores()
    matrix[4, 9] = torch.nan
    with pytest.raises(ValueError, match="image 4 and caption 9 is nan"):
        run(matrix, relevance()[0])
    with pytest.raises(ValueError, match="score_block returned"):
        streamed_hits(lambda i, t: matrix, torch.arange(2), torch.arange(CAPTIONS), relevance()[0])
