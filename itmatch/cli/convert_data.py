"""``itmatch data convert``: a folder of precomputed features from files of another layout."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from itmatch.cli.parser import CommandParser
from itmatch.data.conversion.hub import convert_hub_folder, is_hub_folder
from itmatch.data.conversion.lists import PhotoList, karpathy_lists, text_lists
from itmatch.data.conversion.regions import Conversion, convert_regions
from itmatch.formats.features.opening import layout_of, open_regions
from itmatch.formats.files import user_path
from itmatch.formats.messages import is_count
from itmatch.formats.text import read_lines

_DESCRIPTION = """Write a folder of precomputed features (SPLIT_ims.npy, SPLIT_caps.txt, boxes, lengths, ids) from
SOURCE: .tsv files of bottom-up-attention or LXMERT; features.tsv of VinVL, or its folder; a folder with a .npz or .npy
file a photo; an .h5 file; one .npy file of all photos. Splits and captions come from --karpathy or from --lists. From a
folder of Hugging Face datasets (.arrow, .parquet) a folder of photos is made. All files are there together, or none."""


def convert_data_command(arguments: Sequence[str]) -> int:
    """Run the command; returns the exit status."""
    options = _parser().parse_args(arguments)
    if is_hub_folder(options.source[0]):
        print(*convert_hub_folder(options.source[0], options.out), sep="\n")
        return 0
    layout = layout_of(options.source[0])
    if options.karpathy is None and options.lists is None:
        raise ValueError(
            f"{options.source[0]}: {layout}; say whose captions and splits go with it: --karpathy dataset_coco.json, "
            "or --lists FOLDER with SPLIT_ids.txt and SPLIT_caps.txt"
        )
    lists = _lists(options)
    names = None if options.ids is None else [line.strip() for line in read_lines(options.ids)]
    fields = None if options.fields is None else options.fields.split(",")
    reader = open_regions(options.source, grid=options.grid, fields=fields, names=names)
    how = Conversion(
        options.dtype,
        options.without_regions,
        options.missing,
        boxes=not options.no_boxes,
        numbers=options.numbers,
        overwrite=options.overwrite,
    )
    print(f"{options.source[0]}: {layout}, {len(reader)} photos")
    print(*convert_regions(reader, lists, options.out, how, options.key), f"written to {options.out}", sep="\n")
    return 0


def _parser() -> CommandParser:
    parser = CommandParser(prog="itmatch data convert", description=_DESCRIPTION)
    add = parser.add_argument
    add("source", metavar="SOURCE", nargs="+", type=user_path, help="file or folder; several .tsv are read as one")
    add("--out", required=True, metavar="FOLDER", type=user_path, help="folder to write")
    whose = parser.add_mutually_exclusive_group()
    whose.add_argument("--karpathy", metavar="JSON", type=user_path, help="captions and splits: dataset_coco.json ...")
    whose.add_argument(
        "--lists", metavar="FOLDER", type=user_path, help="captions and splits: SPLIT_ids.txt and SPLIT_caps.txt in it"
    )
    add(
        "--split",
        nargs="+",
        metavar="NAME[=PART,...]",
        help="splits to write; with --karpathy also those of the json that each consists of, by default "
        "train=train,restval dev=val test=test",
    )
    add("--key", help="what names the photos in SOURCE: cocoid, imgid, filename, stem or id; the default is what fits")
    add(
        "--dtype",
        choices=("float32", "float16"),
        default="float32",
        help="of the features (float32); float16 takes half the disk and rounds by up to a part in 2048",
    )
    add(
        "--without_regions",
        choices=("zeros", "leave_out"),
        default="zeros",
        help="photos in which nothing was detected: kept, to be read as one region of zeros (the default), or left out "
        "with their captions",
    )
    add("--missing", choices=("error", "leave_out"), default="error", help="photos without features (error)")
    add("--no_boxes", action="store_true", help="write no boxes")
    add("--numbers", type=_count, metavar="N", help="keep the first N numbers of a region: 2048 of VinVL's 2054, say")
    add(
        "--grid",
        choices=("channels_last", "channels_first"),
        help="where the numbers of a grid are, if it is not as high as wide",
    )
    add("--fields", metavar="NAME,...", help="names of the fields of a .tsv file that are others than usual")
    add("--ids", metavar="FILE", type=user_path, help="names of the photos, a line each, of an .npy or .h5 file")
    add("--overwrite", action="store_true", help="replace splits that are there")
    return parser


def _lists(options: argparse.Namespace) -> list[PhotoList]:
    given = [text.partition("=") for text in options.split or ()]
    if options.karpathy is not None:
        splits = {name: (parts or name).split(",") for name, _, parts in given}
        return karpathy_lists(options.karpathy, splits or None)
    if any(parts for _, _, parts in given):
        raise ValueError("--split NAME=PART,... goes with --karpathy; with --lists name the splits alone")
    return text_lists(options.lists, [name for name, _, _ in given] or None)


def _count(text: str) -> int:
    if not is_count(text) or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text}, expected a whole number of 1 or more")
    return int(text)
