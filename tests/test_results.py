"""Every variant behind the tables of docs/results.md can be built and has a loss, on a small batch; none is trained."""

import importlib
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from itmatch.data import Collator, PairDataset, RelationScenes, WordTokenizer
from itmatch.models import MatchingModel
from itmatch.training.step import compute_loss

SCRIPTS = ("chan", "losses", "relations", "scenes", "systems")
sys.path.insert(0, str(Path(__file__).parents[1] / "examples" / "results"))
VARIANTS = [(script, name) for script in SCRIPTS for name in importlib.import_module(script).VARIANTS]
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
