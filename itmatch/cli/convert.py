"""``itmatch convert``: a model folder from the checkpoint file of a public repository."""

from __future__ import annotations

from pathlib import Path


def convert(
    source: Path,
    *,
    format: str,
    out: Path,
    vocabulary: Path | None = None,
    text_model: str | None = None,
    overwrite: bool = False,
) -> None:
    """Write a model folder from a checkpoint file of the public code of CHAN, VSE-infinity, SCAN or SGRAF.

    Nothing that the file contains is run: it may hold tensors, containers and a Namespace of plain values, and is
    refused otherwise.

    Args:
        source: the .pth or .pth.tar file.
        format: chan, vse_infty, scan or sgraf.
        out: folder to write: config.json and model.safetensors.
        vocabulary: json file of the words; the model then takes strings.
        text_model: name or folder of the BERT it was trained with, for its tokenizer.
        overwrite: replace a model that is there.
    """
    if (out / "config.json").exists() and not overwrite:
        raise FileExistsError(f"{out}: there is a model already; --overwrite replaces it")
    from itmatch.models.conversion.convert import convert_checkpoint

    found = convert_checkpoint(source, format, vocabulary=vocabulary, text_model=text_model)
    found.model.save_pretrained(out)
    print(found, f"written to {out}", sep="\n")
