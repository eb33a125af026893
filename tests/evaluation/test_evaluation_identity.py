import json
from pathlib import Path

import numpy as np
import pytest
import torch

from itmatch.evaluation import (
    IdentityRetrieval,
    MeanRecall,
    Relevance,
    ScoredSplit,
    SeveralProtocols,
    retrieval_ranks,
    streamed_hits,
)

REFERENCE = Path(__file__).parents[1] / "reference" / "person_reid.npz"


class Scored(ScoredSplit):
    def __init__(self, scores, caption_image, image_ids):
        super().__init__(caption_image, len(scores), image_ids)
        self.scores, self.found = scores, []

    def ranks(self, images=slice(None)):
        return retrieval_ranks(self.scores, self.caption_image)

    def hits(self, relevance, places=10, images=None):
        everything = torch.arange(len(self.scores)), torch.arange(self.scores.shape[1])
        self.found = streamed_hits(
            lambda i, t: self.scores[i][:, t], *everything, relevance, places=places, chunk_size=5, caption_chunk_size=7
        )
        return self.found


@pytest.mark.parametrize("case", ["small", "medium", "random", "perfect"])
def test_agrees_with_the_public_code(case, tmp_path):
    with np.load(REFERENCE, allow_pickle=False) as arrays:
        found = {name.removeprefix(f"{case}."): arrays[name] for name in arrays.files if name.startswith(f"{case}.")}
    scores, queries, gallery = (torch.from_numpy(found[name]) for name in ("similarity", "query_ids", "gallery_ids"))
    paths = [f"photos/{k}.jpg" for k in range(len(gallery))]
    content = [{"file_path": path, "id": int(i), "captions": []} for path, i in zip(paths, gallery, strict=True)]
    (tmp_path / "ids.json").write_text(json.dumps(content))
    owner = (gallery == queries[:, None]).int().argmax(1)  # any photo of the person
    split = Scored(scores.T, owner, paths)
    figures = IdentityRetrieval(tmp_path / "ids.json").measure(split)
    for direction, hits in zip(("t2i", "i2t"), reversed(split.found), strict=True):
        recalls = [hits.recall(k) for k in range(1, 11)]
        assert recalls == pytest.approx(found[f"{direction}.cmc"].tolist(), rel=1e-5)
        for name in ("r1", "r5", "r10", "map", "minp"):
            expected = float(found[f"{direction}.{name}"])
            assert figures[f"identity_{direction}_{name}"] == pytest.approx(expected, rel=1e-5), (direction, name)
    three = sum(figures[f"identity_t2i_r{k}"] for k in (1, 5, 10))
    assert three == pytest.approx(float(found["t2i.rsum"]), rel=1e-5)


def test_a_small_example_by_hand(tmp_path):
    (tmp_path / "ids.json").write_text(json.dumps({"a.jpg": 1, "b.jpg": "two", "c.jpg": 1}))
    scores = torch.tensor([[0.9, 0.1], [0.8, 0.7], [0.3, 0.6]])  # caption 0 is of a (and c), caption 1 of b
    split = Scored(scores, torch.tensor([0, 1]), ["x/a.jpg", "x/b.jpg", "x/c.jpg"])
    figures = IdentityRetrieval(tmp_path / "ids.json").measure(split)
    assert figures["identity_t2i_r1"] == 100
    assert figures["identity_t2i_map"] == pytest.approx(100 * ((1 + 2 / 3) / 2 + 1) / 2)
    assert figures["identity_t2i_minp"] == pytest.approx(100 * (2 / 3 + 1) / 2)
    assert figures["identity_i2t_r1"] == pytest.approx(100 / 3)  # b and c prefer the other caption


def test_constant_scores_are_worst(tmp_path):
    (tmp_path / "ids.json").write_text(json.dumps({"a": 1, "b": 2, "c": 3, "d": 3}))
    figures = IdentityRetrieval(tmp_path / "ids.json").measure(Scored(torch.zeros(4, 4), torch.arange(4), list("abcd")))
    assert figures["identity_t2i_r1"] == 0


def test_queries_of_no_image_are_left_out(tmp_path):
    (tmp_path / "ids.json").write_text(json.dumps({"a": 1, "b": 2}))
    scores = torch.tensor([[1.0, 0.0, 0.5], [0.0, 1.0, 0.7]])
    figures = IdentityRetrieval(tmp_path / "ids.json").measure(Scored(scores, torch.tensor([0, 1, -1]), ["a", "b"]))
    assert figures["identity_t2i_r1"] == figures["identity_t2i_minp"] == 100


def test_unfound_positives_count(tmp_path):
    found = streamed_hits(
        lambda i, t: torch.zeros(len(i), len(t)),
        torch.arange(1),
        torch.arange(2),
        Relevance(torch.tensor([[0, 0], [0, 9]]), torch.tensor([[0, 0]])),
        places=2,
    )[0]
    assert found.mean_inverse_negative_penalty() == 0
    assert found.mean_average_precision() == pytest.approx(25)  # second place, one of two


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([{"file_path": "a"}], "record 0 is .*expected a photo"),
        ([{"id": 3}], "record 0 is .*expected a photo"),
        ([], "no records"),
        ([{"img_path": "b", "id": 1}], "no identity of 1 of 1 images, such as 'a'"),
    ],
)
def test_bad_annotations(tmp_path, content, message):
    (tmp_path / "ids.json").write_text(json.dumps(content))
    with pytest.raises(ValueError, match=message):
        IdentityRetrieval(tmp_path / "ids.json").measure(Scored(torch.ones(1, 1), torch.zeros(1).long(), ["a"]))


def test_a_missing_file_is_told_before_anything_is_encoded(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"ids\.json"):
        IdentityRetrieval(tmp_path / "ids.json").check(torch.zeros(1).long(), 1)


def test_mean_recall_beside_others():
    split = Scored(torch.rand(20, 20), torch.arange(20), [str(i) for i in range(20)])
    figures = MeanRecall().measure(split)
    assert figures["mr"] == pytest.approx(figures["rsum"] / 6)
    assert SeveralProtocols([MeanRecall()]).measure(split)["mean_recall_mr"] == figures["mr"]
