"""For example 06: photos that are drawn, and a backbone without weights."""

import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor

from itmatch.vision import Backbone

COLOURS = {"red": "#d22", "green": "#2a2", "blue": "#24d", "yellow": "#ec1", "black": "#111", "white": "#fff"}
SHAPES = ("circle", "square", "bar")


def draw_photos(folder: Path, count: int) -> Path:
    """Draw photos of two things beside each other; returns the json of their captions, two of each."""
    folder.mkdir(parents=True, exist_ok=True)
    chance, captions = random.Random(0), {}
    for number in range(count):
        image = Image.new("RGB", (96, 64), "#888")
        draw, told = ImageDraw.Draw(image), []
        for x in (8, 56):
            colour, shape, y = chance.choice(list(COLOURS)), chance.choice(SHAPES), chance.randrange(4, 28)
            box = (x, y, x + 32, y + (12 if shape == "bar" else 32))
            (draw.ellipse if shape == "circle" else draw.rectangle)(box, COLOURS[colour])
            told.append(f"a {colour} {shape}")
        image.save(folder / f"{number:03d}.png")
        captions[f"{number:03d}.png"] = [f"{told[0]} left of {told[1]}", f"{told[1]} and {told[0]}"]
    path = folder / "captions.json"
    path.write_text(json.dumps(captions, indent=1), encoding="utf-8")
    return path


class Squares(Backbone):
    """A map of 6 x 6 squares; a square is its 8 x 8 pixels, made bright where it differs from the whole photo."""

    def __call__(self, images: Sequence[Any]) -> Tensor:
        """Maps (I, 192, 6, 6)."""
        small = [np.asarray(image.resize((48, 48), Image.Resampling.BOX), np.float32) / 255 for image in images]
        pixels = torch.from_numpy(np.stack(small)).permute(0, 3, 1, 2)  # (I, 3, 48, 48)
        pixels = pixels - pixels.mean((2, 3), keepdim=True)
        return torch.nn.functional.pixel_unshuffle(pixels, 8)
