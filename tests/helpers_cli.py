"""The command line in this process: importing Lightning again for every call would take seconds."""

import numpy as np
import torch

from itmatch.__main__ import main
from itmatch.data import Vocabulary
from itmatch.models import chan_gru

SMALL = [
    "--data.source.init_args.num_train=8",
    "--data.source.init_args.num_val=4",
    "--data.source.init_args.num_test=4",
    "--model.image_encoder.init_args.embed_dim=16",
    "--model.text_encoder.init_args.embed_dim=16",
    "--data.batch_size=16",
    "--trainer.max_epochs=1",
]
QUIET = ["--trainer.enable_progress_bar=false", "--trainer.enable_model_summary=false", "--trainer.log_every_n_steps=1"]
DEMO = ["--config", "demo", *SMALL, *QUIET]


def run(*args):
    """Exit status of ``itmatch args``."""
    try:
        return main([str(arg) for arg in args])
    except SystemExit as exit_:
        return exit_.code


def saved_model(folder, captions):
    """An untrained CHAN that knows the words of some captions."""
    torch.manual_seed(0)
    vocabulary = Vocabulary.build([text.split() for text in captions], min_count=1)
    chan_gru(vocabulary, region_dim=8, embed_dim=8, word_dim=8).save_pretrained(folder / "model")
    return folder / "model"


def error_of(capsys, *args):
    """The one line that a call writes to stderr before it fails."""
    capsys.readouterr()
    status = run(*args)
    lines = capsys.readouterr().err.splitlines()
    assert status not in (0, None)
    assert len(lines) == 1, lines
    assert lines[0].startswith("itmatch: error: ")
    return lines[0].removeprefix("itmatch: error: ")


def on_precomp(command, folder, *args):
    """Arguments for a small run on a folder of :func:`write_precomp`."""
    sizes = [flag for flag in SMALL if "source" not in flag]
    source = ["--data.source=itmatch.data.PrecompFolder", f"--data.source.root={folder}", "--data.num_workers=0"]
    words = ["--data.tokenizer.min_count=1"]
    return [command, "--config=chan_gru_f30k", *sizes, *QUIET, *source, *words, "--trainer.accelerator=cpu", *args]


def write_precomp(folder, splits=("train", "dev", "test"), features=6, captions=2, relations=False):
    """A small folder of precomputed features; with ``relations`` also boxes, relations and their confidences."""
    folder.mkdir(exist_ok=True)
    rng = np.random.default_rng(0)
    for split in splits:
        np.save(folder / f"{split}_ims.npy", rng.standard_normal((4, 3, features)).astype(np.float32))
        lines = [f"a {colour} dog number {i}\n" for i in range(4) for colour in ("red", "blue", "green")[:captions]]
        (folder / f"{split}_caps.txt").write_text("".join(lines))
        if relations:
            boxes = np.sort(rng.random((4, 3, 2, 2)), axis=2).reshape(4, 3, 4)
            np.save(folder / f"{split}_boxes.npy", boxes.astype(np.float32))
            np.save(folder / f"{split}_relations.npy", rng.integers(0, 3, (4, 5, 3)))
            np.save(folder / f"{split}_relation_scores.npy", rng.random((4, 5)).astype(np.float32))
    return folder
