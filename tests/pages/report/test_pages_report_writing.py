"""The page about a run: what is in it, whatever the run's folder holds."""

import json
import math

import numpy as np
import pytest
from helpers_pages import SCENES, Elements, model_of

from itmatch.data import Collator
from itmatch.evaluation import Evaluator
from itmatch.models._inputs import batches_of
from itmatch.pages.report import choosing
from itmatch.pages.report.charts import bars, curves
from itmatch.pages.report.choosing import Chooser
from itmatch.pages.report.environment import environment
from itmatch.pages.report.record import read_log, read_run
from itmatch.pages.report.writing import report_page, write_report
from itmatch.training.output.report import write_ranks

LOG = "epoch,step,train/loss,val/rsum\n0,9,2.5,\n0,19,1.5,\n0,19,,250.0\n1,29,0.5,\n1,39,,300.0\n"
FIGURES = {f"{side}_{name}": 50.0 for side in ("i2t", "t2i") for name in ("r1", "r5", "r10", "medr", "meanr")}
HOSTILE = "<script>alert(1)</script><img src=x onerror=alert(1)>"


@pytest.fixture(scope="module")
def split():
    return SCENES.split("test")


@pytest.fixture(scope="module")
def model():
    return model_of("cmsei", min_confidence=0.0)


@pytest.fixture(scope="module")
def evaluator(split, model):
    evaluator = Evaluator(model)
    for batch in batches_of(split, model.tokenizer, 8):
        evaluator.add(batch)
    evaluator.compute(split, None)
    return evaluator


@pytest.fixture
def folder(tmp_path, evaluator):
    run = tmp_path / "my run"
    run.mkdir()
    (run / "metrics.csv").write_text(LOG)
    (run / "config.yaml").write_text(
        "seed_everything: 7\nmodel:\n  similarity:\n    class_path: itmatch.nn.MySimilarity\n"
    )
    figures = {**FIGURES, "rsum": 300.0, "coco_1k_i2t_r1": 60.0, "coco_1k_rsum": 310.0, "twin_accuracy": 55.5}
    (run / "test_metrics.json").write_text(json.dumps(figures))
    (run / "environment.json").write_text(json.dumps(environment()))
    write_ranks(run / "test_ranks.npz", evaluator)
    return run


def headings(page):
    parts = page.split("<h2>")[1:]
    return [part.partition("</h2>")[0] for part in parts]


def test_a_whole_run(folder, split, model):
    path = write_report(folder, model=model, split=split)
    assert path == folder / "report.html"
    page = path.read_text("utf-8")
    wanted = [
        "Recalls of the test",
        "Curves and ranks",
        "Worst captions",
        "Worst images",
        "Best captions",
        "Settings",
        "Environment",
    ]
    assert headings(page) == wanted
    elements = Elements(page)
    texts = " ".join(elements.texts)
    for text in ("300.0", "coco_1k", "310.0", "twin accuracy", "55.5", "MySimilarity", "torch", "my run"):
        assert text in texts
    assert len(elements.of_class("itm-chart")) == 3  # loss, rSum, ranks
    assert elements.count("script") == 1
    for explained in elements.of_class("itm-explain"):
        assert len(json.loads(explained["data-alignment"])) >= 4  # regions of a scene
    assert report_page(read_run(folder), model, split) == page  # the same every time


def test_queries_are_those_that_the_ranks_say(folder, split, model):
    chooser = Chooser(read_run(folder).ranks, model, split)
    best, worst = chooser.captions(2)
    ranks = chooser.ranks.text_to_image
    assert [query.rank for query in best] == [0] * len(best)
    assert worst[0].rank == int(ranks.max())
    for query in [*best, *worst]:
        assert query.image == int(split.caption_image[query.caption])
        assert query.rank == int(ranks[query.caption])
    assert all(query.found is not None and query.found != query.image for query in worst)
    assert len({query.image for query in worst}) == len(worst)


def test_images_are_beside_the_captions_that_they_found(folder, split, model):
    queries = Chooser(read_run(folder).ranks, model, split).worst_images(2)
    texts = model.encode_texts(Collator(model.tokenizer)([split.caption(i) for i in range(20)]).captions)
    assert queries
    for query in queries:
        scores = model.score(Collator(model.tokenizer)([split.image(query.image)]).regions, texts)[0]
        order = scores.argsort(descending=True).tolist()
        assert int(split.caption_image[query.caption]) == query.image != int(split.caption_image[query.found])
        assert order[0] == query.found
        assert order.index(query.caption) == query.rank


def test_no_time_to_look_for_what_was_found(folder, split, model, monkeypatch):
    monkeypatch.setattr(choosing, "PATIENCE", -1.0)
    monkeypatch.setattr(choosing, "_BATCH", 1)
    page = write_report(folder, model=model, split=split).read_text("utf-8")
    assert "what was found instead is not shown" in page
    assert "Worst captions" in headings(page)
    assert "found first" not in page


@pytest.mark.parametrize(
    "name", ["metrics.csv", "config.yaml", "test_metrics.json", "test_ranks.npz", "environment.json"]
)
def test_what_is_missing_or_broken_is_named(folder, split, model, name):
    (folder / name).write_bytes(b"\xff\x00{{{")
    page = write_report(folder, model=model, split=split).read_text("utf-8")
    assert headings(page)[-1] == "Missing here"
    assert name in page.partition("Missing here")[2]
    (folder / name).unlink()
    page = write_report(folder, model=model, split=split).read_text("utf-8")
    assert f"{name} is missing" in page.partition("Missing here")[2]


def test_no_run(tmp_path):
    with pytest.raises(FileNotFoundError, match="no such folder, expected the folder of a run"):
        write_report(tmp_path / "nothing")
    with pytest.raises(FileNotFoundError, match=r"no run, it has none of config\.yaml"):
        write_report(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_data_of_another_test(folder, split, model, monkeypatch):
    monkeypatch.setattr(split, "image_ids", [f"other {i}" for i in range(split.num_images)])
    page = write_report(folder, model=model, split=split).read_text("utf-8")
    assert "Worst captions" not in page
    assert "is of other data than" in page


def test_a_model_that_fails_leaves_the_rest(folder, split, model, monkeypatch):
    def broken(*args, **kwargs):
        raise RuntimeError("something of my own")

    monkeypatch.setattr(model, "encode_images", broken)
    page = write_report(folder, model=model, split=split).read_text("utf-8")
    assert "Recalls of the test" in headings(page)
    assert "no queries are shown: something of my own" in page


def test_hostile_folders(tmp_path, split, model, evaluator):
    run = tmp_path / "<script>alert(1)<"
    run.mkdir()
    (run / "metrics.csv").write_text(f"step,train/loss,{HOSTILE}\n0,1,2\n1,NaN,1e999\n2,3,4\n")
    (run / "config.yaml").write_text(f"model: '{HOSTILE}'\ndata:\n  source: {{class_path: '{HOSTILE}'}}\n")
    (run / "test_metrics.json").write_text(json.dumps({f"{HOSTILE}_rsum": 3.0, HOSTILE: 4.0}))
    (run / "environment.json").write_text(json.dumps({HOSTILE: HOSTILE, "list": [HOSTILE]}))
    write_ranks(run / "test_ranks.npz", evaluator)
    elements = Elements(write_report(run, model=model, split=split).read_text("utf-8"))
    assert elements.count("script") == 1
    assert all(attributes["src"].startswith("data:") for tag, attributes in elements.found if tag == "img")
    assert not any(name.startswith("on") for _, attributes in elements.found for name in attributes)


def test_logs(tmp_path):
    path = tmp_path / "metrics.csv"
    path.write_text(LOG)
    assert read_log(path) == {
        "train/loss": [(9, 2.5), (19, 1.5), (29, 0.5)],
        "val/rsum": [(19, 250.0), (39, 300.0)],
    }
    for text in ("", "a,b\n1,2\n"):
        path.write_text(text)
        with pytest.raises(ValueError, match=r"metrics\.csv: no column step"):
            read_log(path)
    path.write_text("step,a\n,1\nx,2\n3\n4,nan\n5,inf\n6,7,8\n")
    assert read_log(path) == {"a": [(6, 7.0)]}


@pytest.mark.parametrize("points", [[(0, 1.0)], [(0, 1.0), (1, 1.0)], [(0, -1e9), (5, 1e9)], [(0, 1e-9), (1, 2e-9)]])
def test_curves_of_all_scales(points):
    chart = curves("title", {"a": points}, "step")
    assert "nan" not in chart
    assert chart.count("<circle") == len(points)


def test_long_curves_are_thinned():
    points = [(float(i), math.sin(i)) for i in range(100_000)]
    chart = curves("title", {"a": points, "b": []}, "step")
    assert len(chart) < 20_000
    assert len(Elements(chart).of_class("itm-key")) == 1


def test_bars_are_as_high_as_their_shares():
    chart = Elements(bars("title", ["1", "2"], {"a": [100.0, 25.0]}, "rank"))
    heights = [
        float(attributes["height"]) for tag, attributes in chart.found if tag == "rect" and "rx" not in attributes
    ]
    np.testing.assert_allclose(heights[1] / heights[0], 0.25, atol=0.01)
