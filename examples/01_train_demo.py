"""Train CHAN on RelationScenes, the built-in data, and test it. The same as 01_train_demo.sh."""

import argparse

from lightning.pytorch import Trainer, seed_everything
from lightning.pytorch.callbacks import ModelCheckpoint
from torch.optim import AdamW

from itmatch.data import RelationScenes
from itmatch.losses import HardNegativeTripletLoss
from itmatch.nn import GRUTextEncoder, HardAligningSimilarity, MeanPooling, RegionEncoder
from itmatch.training import MatchingData, MatchingTask, RecallReport


def main(*, fast: bool) -> None:
    """Train, then test the best epoch."""
    seed_everything(0)
    source = RelationScenes(num_train=20, num_val=10, num_test=10) if fast else RelationScenes(num_train=1000)
    data = MatchingData(source, batch_size=64)
    task = MatchingTask(
        image_encoder=RegionEncoder(data.feature_dim, embed_dim=128, self_attention=True),
        text_encoder=GRUTextEncoder(data.vocabulary, embed_dim=128, word_dim=64),
        similarity=HardAligningSimilarity(query="words", pooling=MeanPooling()),
        objective=HardNegativeTripletLoss(margin=0.2, warmup_epochs=1),
        optimizer=lambda groups: AdamW(groups, lr=1e-3),
    )
    best = ModelCheckpoint(monitor="val/rsum", mode="max", filename="best")
    trainer = Trainer(
        accelerator="cpu",
        max_epochs=1 if fast else 5,
        gradient_clip_val=2.0,
        default_root_dir="runs",
        callbacks=[best, RecallReport()],
    )
    trainer.fit(task, data)
    trainer.test(task, data, ckpt_path="best", verbose=False)
    print(f"best checkpoint: {best.best_model_path}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--fast", action="store_true", help="a few steps on a few images, to see that it runs")
    main(fast=parser.parse_args().fast)
