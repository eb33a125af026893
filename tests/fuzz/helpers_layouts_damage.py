"""Targets: features in the layouts of other code, which are converted."""

import importlib.util
import pickle
import shutil
from functools import partial

import helpers_binary_damage as binary
import helpers_text_damage as damage
import numpy as np
from helpers_data import everything, wrong_items
from helpers_layouts import COUNTS, write_bottom_up, write_h5, write_npy, write_npz, write_vinvl
from helpers_targets import BYTES, NPZ, TEXT, Target

from itmatch.data import PrecompFolder
from itmatch.data.conversion.lists import text_lists
from itmatch.data.conversion.regions import convert_regions
from itmatch.formats.features.opening import open_regions

NAMED = (
    "features of '",
    "out/dev",
    "features: photo",
    "dev_ids.txt: ",
)  # where the photo is named, or what is made of it


def with_lists(write):
    def written(folder):
        write(folder)
        (folder / "dev_ids.txt").write_text("".join(f"{name}\n" for name in COUNTS))
        (folder / "dev_caps.txt").write_text("a dog\n" * len(COUNTS))

    return written


def converted(source):
    """Convert the good lists with the damaged features, and read what was written."""

    def read(folder):
        shutil.rmtree(folder / "out", ignore_errors=True)
        convert_regions(open_regions([folder / source]), text_lists(folder), folder / "out")
        return everything(PrecompFolder(folder / "out").split("val"))

    return read


def pickle_of(data, random):
    """Another pickle behind the header of a .npy file, or the good one with some steps changed."""
    start = data.index(b"\n") + 1
    values = [
        {"features": np.full((3, 6), np.nan)}, {"features": [print]}, {"features": b"x" * 9}, [{}], None, {3: 4},
        {"features": np.zeros((3, 6)), "boxes": np.zeros((2, 4))}, {"features": np.zeros((0, 6)), "num_boxes": -3},
        {"features": np.zeros((2, 6)), "num_boxes": "many"}, {"features": np.zeros((2, 6)), "image_w": [1, 2]},
        binary._Harm(), {"features": binary._Harm()}, [binary._Harm()],
    ]  # fmt: skip
    protocol = random.randrange(pickle.HIGHEST_PROTOCOL + 1)
    return data[:start] + pickle.dumps(random.choice(values), protocol)


def tsv_of(data, random):
    """Fields of lines put into each other's place, or made something else."""
    lines = [line.split(b"\t") for line in data.splitlines()]
    fields = random.choice(lines)
    place = random.randrange(len(fields))
    other = (
        b"",
        b"-1",
        b"999999999999",
        b"nan",
        b"%%%",
        b"AAAA" * 99,
        b"'",
        b"b''",
        random.choice(random.choice(lines)),
    )
    fields[place] = random.choice(other)
    if random.random() < 0.2:
        lines.append(random.choice(lines))
    return b"\n".join(b"\t".join(line) for line in lines) + b"\n"


TSV = (tsv_of, tsv_of, tsv_of, *TEXT)
if importlib.util.find_spec("h5py"):
    H5 = [
        Target(
            "other layouts",
            f"h5, {layout}",
            with_lists(partial(lambda layout, f: write_h5(f / "a.h5", layout), layout)),
            converted("a.h5"),
            {"a.h5": BYTES},
            wrong_items,
            NAMED,
        )
        for layout in ("arrays", "groups", "starts and ends")
    ]
else:
    H5 = []
LAYOUTS = [
    *H5,
    Target(
        "other layouts",
        "bottom-up-attention",
        with_lists(lambda f: write_bottom_up(f / "a.tsv")),
        converted("a.tsv"),
        {"a.tsv": TSV},
        wrong_items,
        NAMED,
    ),
    Target(
        "other layouts",
        "VinVL",
        with_lists(lambda f: write_vinvl(f / "v")),
        converted("v"),
        {"v/features.tsv": TSV, "v/predictions.tsv": TSV, "v/features.lineidx": TEXT},
        wrong_items,
        (*NAMED, "features.tsv", "predictions.tsv"),
    ),
    Target(
        "other layouts",
        "npz",
        with_lists(lambda f: write_npz(f / "n")),
        converted("n"),
        {"n/101.npz": NPZ},
        wrong_items,
        NAMED,
    ),
    Target(
        "other layouts",
        "pickled npy",
        with_lists(lambda f: write_npy(f / "n", "ViLBERT")),
        converted("n"),
        {"n/101.npy": (pickle_of, pickle_of, damage.flip, *BYTES)},
        wrong_items,
        NAMED,
    ),
]
