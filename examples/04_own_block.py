"""Put a similarity of your own, from my_similarity.py, in the place of ours. The same as 04_own_block.sh."""

import argparse

from lightning.pytorch import Trainer, seed_everything
from my_similarity import TopKSimilarity

from itmatch.data import RelationScenes
from itmatch.losses import HardNegativeTripletLoss
from itmatch.nn import GRUTextEncoder, RegionEncoder
from itmatch.training import MatchingData, MatchingTask, RecallReport


def main(*, fast: bool) -> None:
    """Train, save, and reload from the checkpoint alone."""
    seed_everything(0)
    source = RelationScenes(num_train=20, num_val=10, num_test=10) if fast else RelationScenes(num_train=1000)
    data = MatchingData(source, batch_size=64)
    task = MatchingTask(
        image_encoder=RegionEncoder(data.feature_dim, embed_dim=128),
        text_encoder=GRUTextEncoder(data.vocabulary, embed_dim=128, word_dim=64),
        similarity=TopKSimilarity(k=2),
        objective=HardNegativeTripletLoss(margin=0.2, warmup_epochs=1),
    )
    trainer = Trainer(
        accelerator="cpu",
        max_epochs=1 if fast else 5,
        gradient_clip_val=2.0,
        default_root_dir="runs",
        callbacks=[RecallReport()],
    )
    trainer.fit(task, data)
    trainer.test(task, data, verbose=False)

    # The checkpoint names the class and its arguments; the file that defines it must be importable.
    trainer.save_checkpoint("runs/own.ckpt", weights_only=True)  # without the state of the optimizer
    reloaded = MatchingTask.load_from_checkpoint("runs/own.ckpt").model
    print(reloaded.similarity.spec)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--fast", action="store_true", help="a few steps on a few images, to see that it runs")
    main(fast=parser.parse_args().fast)
