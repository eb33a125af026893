"""A folder of photos with captions, and a backbone that needs no weights."""

import json

import numpy as np
import torch
from PIL import Image

from itmatch.vision import Backbone

COLOURS = {"red": (255, 0, 0), "green": (0, 255, 0), "blue": (0, 0, 255), "white": (255, 255, 255)}


class Pixels(Backbone):
    """The photo as 4 x 4 pixels of three colours; a line of its own file for each batch, if it has one."""

    def __init__(self, log: str | None = None) -> None:
        self.log = log

    def __call__(self, images):
        if self.log is not None:
            with open(self.log, "a") as file:
                file.write(f"{len(images)}\n")
        small = [np.asarray(image.resize((4, 4)), np.float32) / 255 for image in images]
        return torch.from_numpy(np.stack(small)).permute(0, 3, 1, 2)


def write_photos(folder, count=24):
    """Photos of one or two colours; returns the records of a json of captions, one of each four in another split."""
    folder.mkdir(parents=True, exist_ok=True)
    names, records = list(COLOURS), []
    for number in range(count):
        left, right = names[number % 4], names[number // 4 % 4]
        image = Image.new("RGB", (40, 30), COLOURS[left])
        image.paste(COLOURS[right], (20, 0, 40, 30))
        image.save(folder / f"{number:02d}.png")
        texts = [f"{left} beside {right}", f"the left is {left}"][: 1 + number % 2]
        split = ("train", "restval", "val", "test")[number % 4]
        records.append(
            {"filename": f"{number:02d}.png", "split": split, "sentences": [{"raw": text} for text in texts]}
        )
    return records


def write_captions(path, records):
    """A file of captions, as its ending says."""
    if path.suffix == ".json":
        path.write_text(json.dumps({"images": records}))
    else:
        lines = [f"{one['filename']}\t{text['raw']}\n" for one in records for text in one["sentences"]]
        path.write_text("".join(lines))
    return path


def save_hub(path, rows):
    """Write rows as a file of ``datasets``, whose rows lie in groups of two."""
    import pyarrow
    from pyarrow import ipc, parquet

    path.parent.mkdir(parents=True, exist_ok=True)
    table = pyarrow.Table.from_pylist(rows)
    if path.suffix == ".parquet":
        parquet.write_table(table, path, row_group_size=2)
    else:
        with ipc.new_stream(str(path), table.schema) as stream:
            stream.write_table(table, max_chunksize=2)
