"""What a prediction writes: the fragments of images and captions, and what finds what."""

from __future__ import annotations

import json
from dataclasses import fields
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import BasePredictionWriter

from itmatch.batch import Fragments
from itmatch.evaluation.hits import hit_files, write_hits
from itmatch.formats.files import user_path, written_beside, written_together
from itmatch.formats.json import parse_json
from itmatch.formats.messages import shown_keys
from itmatch.formats.tensors import read_safetensors
from itmatch.training.data import MatchingData
from itmatch.training.evaluating import EvaluatedModule
from itmatch.training.output.report import run_folder


class FragmentWriter(BasePredictionWriter):
    """Writes what ``predict`` encodes: ``images.safetensors`` and ``captions.safetensors``.

    Each file holds ``features`` (N, L, D), ``mask`` (N, L), ``index`` (N,) and, if the encoder makes them, ``pooled``
    (N, D) and ``is_relation`` (N, L). The metadata key ``ids`` is a JSON list: the image ids, or
    ``["image id", caption number]`` for captions, the image id null for a query of no image. Of a gallery without
    captions there is no second file.
    Where the module is asked for the best candidates (``top``), ``hits.jsonl`` and ``hits.csv`` hold them
    (:func:`itmatch.evaluation.hits.write_hits`).
    With several processes each writes its own share, ``images.rank0.safetensors`` and so on.

    Args:
        dirpath: folder of the files; left out, the folder of the run, or that of the trainer without a logger.
        overwrite: replace the files of an earlier prediction, which are left as they are otherwise.
    """

    def __init__(self, dirpath: str | Path | None = None, *, overwrite: bool = False) -> None:
        super().__init__(write_interval="epoch")
        self.dirpath, self.overwrite = dirpath, overwrite
        self._folder: str | Path | None = None

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Find the folder, which takes all processes.

        Raises:
            ValueError: the data to predict is no MatchingData, which knows the ids.
            FileExistsError: the folder holds a prediction already.
        """
        data = getattr(trainer, "datamodule", None)
        if stage == "predict" and not isinstance(data, MatchingData):
            raise ValueError(f"FragmentWriter: predicts from a MatchingData, which knows the ids, found {data!r}")
        self._folder = self.dirpath or run_folder(trainer) or trainer.default_root_dir
        there = sorted(user_path(self._folder).glob("images*.safetensors"))
        if stage == "predict" and there and not self.overwrite:
            raise FileExistsError(f"{there[0]}: there is one already; --fragments.overwrite true replaces it")

    def write_on_epoch_end(
        self, trainer: Trainer, pl_module: LightningModule, predictions: Any, batch_indices: Any
    ) -> None:
        """Write both files; they take their places together."""
        data = trainer.datamodule  # type: ignore[attr-defined]
        dataset = data.dataset(data.predict_stage)
        assert self._folder is not None  # found in setup
        share = f".rank{trainer.global_rank}" if trainer.world_size > 1 else ""
        report = []
        ranked = pl_module.ranked(predictions, dataset) if isinstance(pl_module, EvaluatedModule) else None
        paths = [user_path(self._folder) / f"{name}{share}.safetensors" for name in ("images", "captions")]
        hits = user_path(self._folder) / "hits"
        stale = hit_files(hits) if ranked is None else []  # of a prediction before
        stale += [path for path, batches in zip(paths, predictions, strict=True) if not batches]
        with written_together(removing=stale):
            for path, batches in zip(paths, predictions, strict=True):
                if not batches:
                    report += [] if dataset.captions else ["no captions, so nothing is ranked: a gallery"]
                    continue
                index = torch.cat([index for _, index in batches]).cpu()
                images = path is paths[0]
                if images:
                    ids: list[Any] = [dataset.image_ids[i] for i in index.tolist()]
                else:
                    owners = dataset.caption_image[index.numpy()].tolist()
                    named = (None if owner < 0 else dataset.image_ids[owner] for owner in owners)
                    ids = [[image, i] for image, i in zip(named, index.tolist(), strict=True)]
                write_fragments(path, Fragments.cat([part.cpu() for part, _ in batches]), index, ids)
                report.append(f"{len(index)} {'images' if images else 'captions'} written to {path}")
            if ranked is not None and trainer.is_global_zero:
                write_hits(hits, ranked)
                report.append(f"what finds what written to {', '.join(map(str, hit_files(hits)))}")
        print(*report, sep="\n")


def write_fragments(path: Path, fragments: Fragments, index: torch.Tensor, ids: list[Any]) -> None:
    """Write fragments with the places and ids of their rows as safetensors."""
    from safetensors.torch import save_file

    found = {field.name: getattr(fragments, field.name) for field in fields(fragments)}
    tensors = {name: value for name, value in found.items() if value is not None} | {"index": index}
    with written_beside(path) as beside:
        save_file({k: v.contiguous() for k, v in tensors.items()}, str(beside), metadata={"ids": json.dumps(ids)})


def read_fragments(path: str | Path) -> tuple[Fragments, torch.Tensor, list[Any]]:
    """Fragments, indices and ids from a file of :func:`write_fragments`.

    Raises:
        FileNotFoundError: no such file.
        ValueError: no such file of fragments, or a broken one.
    """
    path = user_path(path)
    tensors, metadata = read_safetensors(path)
    ids = parse_json(metadata.get("ids", "null"), f"{path}: ids")
    index = tensors.pop("index", None)
    names = [field.name for field in fields(Fragments)]
    if index is None or not {"features", "mask"} <= set(tensors) <= set(names) or not isinstance(ids, list):
        raise ValueError(f"{path}: holds {shown_keys(tensors)}, expected index, ids and fragments ({', '.join(names)})")
    try:
        fragments = Fragments(**tensors)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path}: {error}") from None
    if index.dtype != torch.int64 or index.shape != (len(fragments),) or len(ids) != len(fragments):
        raise ValueError(
            f"{path}: index {index.dtype} of shape {tuple(index.shape)} and {len(ids)} ids, expected one for each of "
            f"{len(fragments)} rows"
        )
    if bool((index < 0).any()):
        raise ValueError(f"{path}: index {int(index.min())}, expected places of 0 or more")
    return fragments, index, ids
