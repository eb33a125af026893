"""Photos, and a model that looks at them."""

import io

import torch
from PIL import Image

from itmatch.batch import Regions
from itmatch.data import WordTokenizer
from itmatch.extractor import Extractor
from itmatch.models import MatchingModel
from itmatch.nn import (
    ClipImageEncoder,
    ClipTextEncoder,
    GRUTextEncoder,
    HardAligningSimilarity,
    MeanPooling,
    RegionEncoder,
)

SIZES = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
CLIP = {
    "model_type": "clip",
    "projection_dim": 16,
    "text_config": {**SIZES, "vocab_size": 300, "max_position_embeddings": 70},
    "vision_config": {**SIZES, "image_size": 16, "patch_size": 8},
}
COLOURS = ("red", "green", "blue")


class Halves(Extractor):
    """Two regions of each photo, its left and its right half, with their mean colours; ``seen`` are the batches."""

    def __init__(self, scale: float = 1.0) -> None:
        self.scale, self.seen = scale, []

    def __call__(self, photos):
        self.seen.append([photo.size for photo in photos])
        assert all(photo.mode == "RGB" for photo in photos)
        pixels = [[photo.resize((2, 1), Image.Resampling.BOX).getpixel((x, 0)) for x in (0, 1)] for photo in photos]
        boxes = torch.tensor([[0, 0, 0.5, 1], [0.5, 0, 1, 1]]).expand(len(photos), -1, -1)
        labels = torch.tensor([0, 1]).expand(len(photos), -1)
        return Regions(torch.tensor(pixels) / 255 * self.scale, boxes=boxes.clone(), labels=labels.clone())

    @property
    def label_names(self):
        return ["left", "right"]


def halves_model(extractor=True, size=3):
    """A model of regions with random weights, which reads photos as their two halves."""
    torch.manual_seed(0)
    words = WordTokenizer(["<pad>", "<start>", "<end>", "<unk>", "a", "photo", *COLOURS])
    text = GRUTextEncoder(words.vocab_size, 8, word_dim=4)
    made = Halves() if extractor else None
    return MatchingModel(RegionEncoder(size, 8), text, HardAligningSimilarity(), words, made).eval()


def small_clip():
    """A CLIP with random weights, which takes photos of 16 x 16 pixels as four patches."""
    torch.manual_seed(0)
    words = WordTokenizer(["<pad>", "<start>", "<end>", "<unk>", "a", "photo", *COLOURS])
    similarity = HardAligningSimilarity(query="words", pooling=MeanPooling())
    return MatchingModel(ClipImageEncoder(config=CLIP), ClipTextEncoder(config=CLIP), similarity, words)


def a_photo(colour="red", size=(64, 48)):
    """The bytes of a JPEG file."""
    image = Image.new("RGB", size, colour)
    image.paste("white", (0, 0, size[0] // 4, size[1] // 4))
    with io.BytesIO() as file:
        image.save(file, "JPEG")
        return file.getvalue()


def write_photos(folder):
    """A folder of three photos with a caption each, the test split."""
    for colour in COLOURS:
        (folder / f"{colour}.jpg").write_bytes(a_photo(colour))
    (folder / "test_ids.txt").write_text("".join(f"{colour}.jpg\n" for colour in COLOURS))
    (folder / "test_caps.txt").write_text("".join(f"a {colour} photo\n" for colour in COLOURS))
    return folder
