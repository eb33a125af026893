"""``itmatch data convert``: a folder of precomputed features from files of another layout."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from itmatch.cli.parser import check_one_of
from itmatch.data.conversion.captions import TextConversion, convert_captions, is_caption_file
from itmatch.data.conversion.hub import convert_hub_folder, is_hub_folder
from itmatch.data.conversion.lists import PhotoList, karpathy_lists, text_lists
from itmatch.data.conversion.regions import Conversion, convert_regions
from itmatch.errors import UsageError
from itmatch.formats.features.opening import layout_of, open_regions
from itmatch.formats.messages import counted
from itmatch.formats.text import read_lines


def convert_data(
    sources: list[Path],
    *,
    out: Path,
    karpathy: Path | None = None,
    lists: Path | None = None,
    split: list[str] | None = None,
    captions_per_image: int | None = None,
    key: str | None = None,
    dtype: Literal["float32", "float16"] = "float32",
    without_regions: Literal["zeros", "drop"] = "zeros",
    missing: Literal["error", "drop"] = "error",
    no_boxes: bool = False,
    numbers: int | None = None,
    grid: Literal["channels_last", "channels_first"] | None = None,
    fields: str | None = None,
    ids: Path | None = None,
    overwrite: bool = False,
) -> None:
    """Write a folder of precomputed features (SPLIT_ims.npy, SPLIT_caps.txt, boxes, lengths, ids) from SOURCE.

    Splits and captions come from --karpathy or from --lists. Of a folder of Hugging Face datasets (.arrow, .parquet) a
    folder of photos is made, without either. Of text files of captions (.token, .txt, .en ...) SPLIT_ids.txt and
    SPLIT_caps.txt are made, for --lists or beside photos. All files are there together, or none.

    Args:
        sources: .tsv files of bottom-up-attention or LXMERT, several of which are read as one; features.tsv of VinVL,
            or its folder; a folder with one .npz or .npy file per photo (of an .npz the arrays features or x (R, F),
            bbox or boxes, image_w and image_h, objects_id, or other usual names); a .h5 file; a .npy file of all
            photos. Or text files of captions: PHOTO#NUMBER and a caption a line; or a line per photo of one split, as
            Multi30K has it.
        out: folder to write.
        karpathy: captions and splits from such a json, dataset_coco.json for example.
        lists: captions and splits from SPLIT_ids.txt and SPLIT_caps.txt in this folder.
        split: splits to write; with --karpathy NAME=PART,... also those of the json that each consists of, by default,
            and of NAME alone, train=train,restval dev=val test=test. Of captions without it NAME=FILE, with a photo per
            line.
        captions_per_image: with --karpathy, or of text files, keep so many captions of a photo, the first; 5 for COCO,
            which has 6 and 7.
        key: what names the photos in SOURCE: cocoid, imgid, filename, stem or id; the default is what fits.
        dtype: of the features; float16 takes half the disk and rounds by up to a part in 2048.
        without_regions: photos in which nothing was detected are kept, to be read as one region of zeros, or left out
            with their captions.
        missing: photos without features, or without captions in text files, are an error, or left out.
        no_boxes: write no boxes.
        numbers: keep so many numbers of a region, the first; 2048 of VinVL's 2054, for example.
        grid: where the numbers of a grid are, if it is not as high as wide.
        fields: names of the fields of a .tsv file that are others than usual, with commas between them.
        ids: file with the names of the photos, a line each, for a .npy or .h5 file without them.
        overwrite: replace splits that are there.
    """
    if is_hub_folder(sources[0]):
        print(*convert_hub_folder(sources[0], out), sep="\n")
        return
    if is_caption_file(sources[0]):
        if lists is not None:
            raise UsageError("--lists: such lists are made of files of captions; give --split NAME=FILE or --karpathy")
        text_how = TextConversion(captions_per_image, missing, overwrite=overwrite)
        print(*convert_captions(sources, out, _splits(split or []), karpathy, text_how), f"written to {out}", sep="\n")
        return
    layout = layout_of(sources[0])
    check_one_of(karpathy=karpathy, lists=lists)
    photos = _photos(karpathy, lists, split or [], captions_per_image)
    names = None if ids is None else [line.strip() for line in read_lines(ids)]
    reader = open_regions(sources, grid=grid, fields=None if fields is None else fields.split(","), names=names)
    print(f"{sources[0]}: {layout}, {counted(len(reader), 'photos')}")
    how = Conversion(dtype, without_regions, missing, boxes=not no_boxes, numbers=numbers, overwrite=overwrite)
    train, look = f"itmatch fit --config chan_features --data.source.root {out}", f"itmatch data check {out}"
    next_ = f"{train} trains on it, {look} looks at it"
    print(*convert_regions(reader, photos, out, how, key), f"written to {out}", next_, sep="\n")


def _photos(karpathy: Path | None, lists: Path | None, split: Sequence[str], most: int | None) -> list[PhotoList]:
    if karpathy is not None:
        return karpathy_lists(karpathy, _splits(split) or None, most)
    if lists is None or most is not None or any(_splits(split).values()):
        raise ValueError("--split NAME=PART,... and --captions-per-image go with --karpathy; --lists are taken whole")
    return text_lists(lists, list(_splits(split)) or None)


def _splits(given: Sequence[str]) -> dict[str, list[str]]:
    """What consists of what, of NAME=PART,... or NAME alone."""
    return {name: parts.split(",") if parts else [] for name, _, parts in (text.partition("=") for text in given)}
