"""Train on a folder of region features: write a small one, check it, train, test. The same as 02_own_features.sh.

The features are made up: 3 regions an image, each a fixed random code of the thing it shows, plus noise.
"""

import argparse
from pathlib import Path

import numpy as np

WORDS = ("dog", "cat", "ball", "tree", "car", "man", "hat", "boat", "bird", "cup")


def write_folder(root: Path) -> None:
    """Write ``{split}_ims.npy`` (N, R, F) and ``{split}_caps.txt``, two captions an image, for three splits."""
    root.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    codes = rng.standard_normal((len(WORDS), 32))
    for split, images in (("train", 300), ("dev", 50), ("test", 50)):
        shown = rng.permuted(np.tile(np.arange(len(WORDS)), (images, 1)), axis=1)[:, :3]  # (N, R)
        features = codes[shown] + 0.3 * rng.standard_normal((images, 3, 32))
        np.save(root / f"{split}_ims.npy", features.astype(np.float16))
        names = [[WORDS[thing] for thing in row] for row in shown]
        captions = [line for a, b, c in names for line in (f"a {a}, a {b} and a {c}", f"the {c} is near the {a}")]
        (root / f"{split}_caps.txt").write_text("\n".join(captions) + "\n", encoding="utf-8")


def main(root: Path, *, fast: bool) -> None:
    """Check the folder, train, test."""
    from lightning.pytorch import Trainer, seed_everything

    from itmatch.data import PrecompFolder, check_path
    from itmatch.losses import HardNegativeTripletLoss
    from itmatch.models import chan_gru
    from itmatch.training import MatchingData, MatchingTask, RecallReport

    print(check_path(root))
    seed_everything(0)
    data = MatchingData(PrecompFolder(root), batch_size=32)
    model = chan_gru(data.vocabulary, region_dim=data.feature_dim, embed_dim=64, word_dim=32)
    task = MatchingTask.from_model(model, objective=HardNegativeTripletLoss(margin=0.05, warmup_epochs=1))
    epochs = 1 if fast else 10
    trainer = Trainer(accelerator="cpu", max_epochs=epochs, default_root_dir="runs", callbacks=[RecallReport()])
    trainer.fit(task, data)
    trainer.test(task, data, verbose=False)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--root", type=Path, default=Path("data/toy_precomp"), help="the folder to write")
    parser.add_argument("--only-write", action="store_true", help="write the folder and stop")
    parser.add_argument("--fast", action="store_true", help="one epoch, to see that it runs")
    options = parser.parse_args()
    write_folder(options.root)
    if not options.only_write:
        main(options.root, fast=options.fast)
