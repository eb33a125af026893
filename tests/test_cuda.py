"""What only a GPU can show. ``python examples/benchmarks/gpu.py`` runs these, and more."""

import argparse
from pathlib import Path

import pytest
import torch

from itmatch.losses import HardNegativeTripletLoss
from itmatch.training.step import compute_loss

pytestmark = [pytest.mark.cuda, pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")]
SIZES = {"region_dim": 12, "embed_dim": 16, "word_dim": 6}
SYSTEMS = ["VSE++", "VSE-infinity", "SCAN", "SGR", "CHAN", "CMSEI", "Hire", "ReSG"]


@pytest.fixture(autouse=True)
def _benchmarks(monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "examples" / "benchmarks"))


def test_similarities_and_losses_are_those_of_the_cpu():
    precision = pytest.importorskip("precision")
    rows = list(precision.compare(torch.device("cuda"), ("float32",)))
    assert [row for row in rows if not row["same"]] == []


@pytest.mark.parametrize("name", SYSTEMS)
def test_a_step_is_that_of_the_cpu(name):
    training, systems = pytest.importorskip("training"), pytest.importorskip("steps")
    options = argparse.Namespace(batch=8, dim=16, features=12, words=6, regions=5, device="cpu")
    batch, found = training.made_up(options), []
    for device in ("cpu", "cuda"):
        torch.manual_seed(0)
        model = systems.systems(SIZES, training.VOCABULARY, training.PREDICATES)[name]().eval().to(device)
        for module in model.modules():
            if isinstance(module, torch.nn.GRU):
                module.train()  # cuDNN has a backward pass in training mode alone
        loss = compute_loss(model, HardNegativeTripletLoss(), batch.to(device)).loss
        loss.backward()
        found.append([loss.detach().cpu(), *(p.grad.cpu() for p in model.parameters() if p.grad is not None)])
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(theirs, ours, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", SYSTEMS)
def test_waits_of_a_step(name):
    waits = pytest.importorskip("waits")
    row = waits.measure(name, argparse.Namespace(device="cuda", batch=8, steps=3, log_every=4))
    assert row["most"] <= (3 if name in ("CHAN", "SCAN") else 6), row["where"]
