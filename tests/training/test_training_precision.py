import pytest
import torch
from helpers_training import small_data, small_task, small_trainer
from lightning.pytorch import seed_everything
from lightning.pytorch.plugins.precision import FSDPPrecision

from itmatch.losses import HardNegativeTripletLoss
from itmatch.nn import (
    CosineSimilarity,
    GRUTextEncoder,
    HardAligningSimilarity,
    LogSumExpPooling,
    MeanPooling,
    RegionEncoder,
)
from itmatch.training import MatchingTask

SIMILARITIES = {
    "cosine of means": (CosineSimilarity, None),
    "cosine of pooled": (CosineSimilarity, MeanPooling),
    "hard": (lambda: HardAligningSimilarity(pooling=LogSumExpPooling(0.1, scaled=False)), None),
}


@pytest.mark.parametrize("name", SIMILARITIES)
def test_mixed_precision_trains_and_ranks_by_float32_scores(name, tmp_path, monkeypatch):
    monkeypatch.setattr("itmatch.ops.pairs.sides._autocast_chooses", torch.is_autocast_enabled)
    make_similarity, pooling = SIMILARITIES[name]
    seed_everything(0, verbose=False)
    data = small_data()
    pooling = None if pooling is None else pooling()
    task = MatchingTask(
        RegionEncoder(data.feature_dim, 8, pooling=pooling),
        GRUTextEncoder(data.vocabulary, 8, word_dim=6, pooling=pooling),
        make_similarity(),
        HardNegativeTripletLoss(margin=0.05, warmup_epochs=1),
    )
    seen = []
    task.model.similarity.register_forward_hook(
        lambda module, inputs, scores: seen.append(
            (module.training, scores.dtype, *(side.features.dtype for side in inputs))
        )
    )
    before = [parameter.clone() for parameter in task.parameters()]
    trainer = small_trainer(tmp_path, precision="bf16-mixed")
    trainer.fit(task, data)
    assert all(torch.isfinite(p).all() for p in task.parameters())
    assert any(not torch.equal(p, b) for p, b in zip(task.parameters(), before, strict=True))
    for recalls, stage in ((trainer.callback_metrics, "val"), (trainer.test(task, data, verbose=False)[0], "test")):
        assert 0 < float(recalls[f"{stage}/rsum"]) <= 600
    assert {training for training, *_ in seen} == {True, False}
    assert any(torch.bfloat16 in inputs for _, _, *inputs in seen)  # else nothing was mixed
    assert {scores for _, scores, *_ in seen} == {torch.float32}


@pytest.mark.parametrize("precision", ["bf16-true", "64-true"])
def test_batches_are_converted_where_the_whole_model_is(precision, tmp_path):
    data = small_data()
    trainer = small_trainer(tmp_path, precision=precision, limit_train_batches=2)
    trainer.fit(small_task(data), data)
    assert 0 < float(trainer.callback_metrics["val/rsum"]) <= 600


def test_fsdp_converts_batches():
    data = small_data()
    data.setup("fit")
    batch = FSDPPrecision("bf16-true").convert_input(next(iter(data.train_dataloader())))
    assert batch.regions.features.dtype == torch.bfloat16
