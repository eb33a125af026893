"""Names of earlier versions in saved models and checkpoints."""

import pytest

from itmatch import losses, nn
from itmatch.models import renames
from itmatch.models.renames import Removed, Renamed, renamed
from itmatch.spec import build

CLASSES = {"itmatch.nn.OldHead": "itmatch.nn.Head"}
ARGUMENTS = {
    "itmatch.nn.Head": {
        "direction": Renamed("query", {"t2i": "words"}.get),
        "size": Renamed("dim"),
        "merge": Removed(("mean", None), "train it again"),
    }
}


@pytest.fixture
def _tables(monkeypatch):
    monkeypatch.setattr(renames, "CLASSES", CLASSES)
    monkeypatch.setattr(renames, "ARGUMENTS", ARGUMENTS)


@pytest.mark.usefixtures("_tables")
def test_classes_and_arguments_get_the_names_of_now():
    before = {"class_path": "itmatch.nn.heads.OldHead", "init_args": {"direction": "t2i", "size": 3, "merge": "mean"}}
    now = {"class_path": "itmatch.nn.Head", "init_args": {"query": "words", "dim": 3}}
    assert renamed(before, "file") == now
    assert renamed(now, "file") == now
    nested = {"class_path": "itmatch.nn.Other", "init_args": {"heads": [before, before], "size": 1}}
    assert renamed(nested, "file") == {"class_path": "itmatch.nn.Other", "init_args": {"heads": [now, now], "size": 1}}


@pytest.mark.usefixtures("_tables")
def test_what_is_not_of_this_library_stays():
    for value in (None, 3, "t2i", {"direction": "t2i"}, {"class_path": "mine.Head", "init_args": {"size": 3}}):
        assert renamed(value, "file") == value
    assert renamed({"class_path": 3, "init_args": [1]}, "file") == {"class_path": 3, "init_args": [1]}


def test_a_gated_refinement_is_refused():
    spec = {"class_path": "itmatch.nn.InteractiveSimilarity", "init_args": {"refinement": "gated", "embed_dim": 8}}
    with pytest.raises(ValueError, match="InteractiveSimilarity was saved with refinement=gated, which is gone: keep"):
        renamed(spec, "file")


@pytest.mark.usefixtures("_tables")
def test_an_argument_that_is_gone_is_refused_where_it_did_something():
    spec = {"class_path": "itmatch.nn.Head", "init_args": {"merge": "gate"}}
    expected = r"^file\.heads: itmatch.nn.Head was saved with merge=gate, which is gone: train it again$"
    with pytest.raises(ValueError, match=expected):
        renamed({"heads": spec}, "file")


def test_data_without_an_end_is_left_to_the_one_who_builds():
    deep = value = {}
    for _ in range(5000):
        value["class_path"] = value = {}
    assert renamed(deep, "file") == renamed(deep, "file")


@pytest.mark.parametrize(
    ("before", "now"),
    [
        (
            ("similarity.cross_attention.CrossAttentionSimilarity", {"direction": "i2t", "lambda_softmax": 5.0}),
            nn.CrossAttentionSimilarity("regions", 0.2),
        ),
        (("CrossAttentionSimilarity", {"direction": "t2i", "lambda_softmax": None}), nn.CrossAttentionSimilarity()),
        (("VectorSimilarity", {"embed_dim": 8, "lambda_softmax": 4}), nn.VectorSimilarity(8, temperature=0.25)),
        (
            (
                "InteractiveSimilarity",
                {"refinement": "residual", "embed_dim": None, "gamma": 7.0, "region_lambda": 2.0, "cross_level": False},
            ),
            nn.InteractiveSimilarity(region_temperature=0.5, cross_level=None),
        ),
        (("InteractiveSimilarity", {"cross_level": True}), nn.InteractiveSimilarity(cross_level="score")),
        (("InteractiveSimilarity", {"cross_level": "refine"}), nn.InteractiveSimilarity(cross_level="refine")),
    ],
)
def test_what_the_version_before_wrote_is_built(before, now):
    path, arguments = before
    spec = {"class_path": f"itmatch.nn.{path}", "init_args": arguments}
    assert build(renamed(spec, "file")).spec == now.spec


def test_a_number_that_is_none_is_refused_by_the_class():
    for value in (0, -4.0, "nine"):
        spec = {"class_path": "itmatch.nn.VectorSimilarity", "init_args": {"embed_dim": 8, "lambda_softmax": value}}
        with pytest.raises(ValueError, match="temperature"):
            build(renamed(spec, "file"))


def test_a_reduction_of_a_queue_is_of_both_hinges():
    arguments = {"embed_dim": 4, "size": 8, "margin": 0.3, "queue_margin": 0.1, "reduction": "mean"}
    built = build(renamed({"class_path": "itmatch.losses.OffBatchHardestLoss", "init_args": arguments}, "file"))
    triplet = losses.HardNegativeTripletLoss(0.3, reduction="mean")
    assert built.spec == losses.MemoryLoss(triplet, 4, 8, memory_margin=0.1, reduction="mean").spec


def test_damaged_arguments_are_refused_by_name():
    spec = {"class_path": "itmatch.nn.CrossAttentionSimilarity", "init_args": {"direction": [1]}}
    with pytest.raises(ValueError, match="query"):
        build(renamed(spec, "file"))
    for beside in ("hardest", [1], {"class_path": "itmatch.losses.SelectiveNegatives", "init_args": None}):
        arguments = {"epsilon": 0.1, "negatives": beside}
        with pytest.raises(ValueError, match=r"^file: .*: epsilon beside negatives, expected one of them$"):
            renamed({"class_path": "itmatch.losses.SelectiveHardNegativeLoss", "init_args": arguments}, "file")


def test_a_dropout_that_is_gone_is_told_of():
    spec = {"class_path": "itmatch.nn.SpatialSemanticGCN", "init_args": {"embed_dim": 8, "dropout": 0.1}}
    with pytest.warns(UserWarning, match=r"dropout=0.1, which is gone: it only acted in training"):
        assert renamed(spec, "file")["init_args"] == {"embed_dim": 8}


def test_a_spec_without_arguments_stays_one():
    assert renamed({"class_path": "itmatch.nn.MeanPooling"}, "file") == {"class_path": "itmatch.nn.MeanPooling"}
