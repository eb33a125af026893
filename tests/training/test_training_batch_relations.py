"""A loss with a graph of its own: a training has it, a saved model does not."""

import torch
from helpers_training import small_data, small_trainer
from lightning.pytorch import seed_everything
from safetensors.torch import load_file

from itmatch.losses import BatchRelationLoss
from itmatch.models import MatchingModel
from itmatch.nn import CosineSimilarity, GRUTextEncoder, RegionEncoder, TransformerPooling
from itmatch.training import MatchingTask


def test_the_graph_is_in_checkpoints_and_not_in_models(tmp_path):
    seed_everything(0, verbose=False)
    data = small_data()
    task = MatchingTask(
        RegionEncoder(data.feature_dim, 8, pooling=TransformerPooling(8, 2)),
        GRUTextEncoder(data.vocabulary, 8, word_dim=6, pooling=TransformerPooling(8, 2)),
        CosineSimilarity(),
        objective=BatchRelationLoss(8, num_heads=2, warmup_epochs=1),
        optimizer=lambda parameters: torch.optim.Adam(parameters, lr=0.01),  # without decay
    )
    before = {name: value.clone() for name, value in task.objective.state_dict().items()}
    trainer = small_trainer(tmp_path, max_epochs=1)
    trainer.fit(task, data)
    for name, value in task.objective.state_dict().items():
        assert torch.equal(value, before[name]), name  # the first epoch has no graph
    trainer = small_trainer(tmp_path, max_epochs=2)
    trainer.fit(task, data)
    changed = [name for name, value in task.objective.state_dict().items() if not torch.equal(value, before[name])]
    assert {name.split(".")[0] for name in changed} == {"fusion", "mlp_i2t", "mlp_t2i"}
    trainer.save_checkpoint(tmp_path / "a.ckpt")
    again = MatchingTask.load_from_checkpoint(tmp_path / "a.ckpt")
    for name, value in task.objective.state_dict().items():
        assert torch.equal(again.objective.state_dict()[name], value), name
    task.model.save_pretrained(tmp_path / "model")
    saved = load_file(tmp_path / "model" / "model.safetensors")
    assert not [name for name in saved if "fusion" in name or "mlp" in name]
    model = MatchingModel.from_pretrained(tmp_path / "model")
    batch = next(iter(data.train_dataloader()))
    vectors = model.image_encoder(batch.regions).pooled, model.text_encoder(batch.captions).pooled
    torch.testing.assert_close(model(batch.regions, batch.captions), vectors[0] @ vectors[1].T)
