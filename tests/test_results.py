"""Every variant behind the tables of docs/results.md can be built and has a loss, on a small batch; none is trained."""

import importlib
import json
import sys
from argparse import Namespace
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from itmatch.data import CaptionDataset, Collator, ImageDataset, PairDataset, RelationScenes, WordTokenizer
from itmatch.evaluation import retrieval_metrics, retrieval_ranks
from itmatch.models import MatchingModel
from itmatch.training import MatchingData
from itmatch.training.step import compute_loss

SCRIPTS = ("chan", "losses", "relations", "scenes", "systems")
sys.path.insert(0, str(Path(__file__).parents[1] / "examples" / "results"))
VARIANTS = [
    (script, name)
    for script in SCRIPTS
    for name, variant in importlib.import_module(script).VARIANTS.items()
    if callable(variant)  # an ensemble is made of others
]
budget = importlib.import_module("budget")
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
