"""Small runs that the tests of this folder share."""

import torch
from lightning.pytorch import Trainer, seed_everything

from itmatch.data import RelationScenes
from itmatch.losses import HardNegativeTripletLoss
from itmatch.nn import GRUTextEncoder, HardAligningSimilarity, RegionEncoder
from itmatch.training import MatchingData, MatchingTask


def small_data(batch_size=16, **kwargs):
    return MatchingData(RelationScenes("easy", num_train=16, num_val=8, num_test=8), batch_size=batch_size, **kwargs)


def small_task(data, *, dropout=0.0, **kwargs):
    kwargs.setdefault("objective", HardNegativeTripletLoss(margin=0.05, warmup_epochs=1))
    common = {"dropout": dropout, "pooling": kwargs.pop("pooling", None)}
    return MatchingTask(
        RegionEncoder(data.feature_dim, 8, self_attention=True, num_heads=2, **common),
        GRUTextEncoder(data.vocabulary, 8, word_dim=6, **common),
        kwargs.pop("similarity", HardAligningSimilarity()),
        **kwargs,
    )


def small_trainer(folder, **kwargs):
    defaults = {
        "max_epochs": 1,
        "accelerator": "cpu",
        "gradient_clip_val": 2.0,
        "logger": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "enable_checkpointing": False,
        "default_root_dir": folder,
        "num_sanity_val_steps": 0,
    }
    return Trainer(**(defaults | kwargs))


def fitted(folder, seed=0, **kwargs):
    """A task after one epoch, its data and its trainer."""
    seed_everything(seed, verbose=False)
    data = small_data()
    task = small_task(data, **kwargs)
    trainer = small_trainer(folder)
    trainer.fit(task, data)
    return task, data, trainer


def doubled(value):
    """A batch in float64, so that sums in another order show no difference."""
    if isinstance(value, torch.Tensor):
        return value.double() if value.is_floating_point() else value
    return value._map(doubled)
