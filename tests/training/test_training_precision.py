import pytest
import torch
from helpers_training import small_data, small_trainer
from lightning.pytorch import seed_everything

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
    monkeypatch.setattr("itmatch.ops.ragged._autocast_chooses", torch.is_autocast_enabled)
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
