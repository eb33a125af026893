"""The search page over an index whose model reads photos by its extractor."""

import io

import numpy as np
import pytest
import torch
from helpers_photos import COLOURS, Halves, a_photo, halves_model
from helpers_server import get, npy, serving

from itmatch.data import ImageTextSplit
from itmatch.search import Index
from itmatch.vision import RegionExtractor

Image = pytest.importorskip("PIL.Image")


def index_of(folder):
    """Three images with captions, as features."""
    images = [Image.open(io.BytesIO(a_photo(colour))) for colour in COLOURS]
    captions = [f"a {colour} photo" for colour in COLOURS]
    split = ImageTextSplit(Halves()(images).features.numpy(), captions, np.arange(3))
    return Index.build(halves_model(), split, folder / "index")


def test_a_photo_or_its_features_find_captions(tmp_path):
    index = index_of(tmp_path)
    features = Halves()([Image.open(io.BytesIO(a_photo("green")))]).features[0].numpy()
    with serving(index) as server:
        assert get(server, "/about")[2]["takes_photos"]
        status, _, content = get(server, "/search?top=3", "POST", a_photo("green"))
        assert (status, content["kind"], len(content["hits"])) == (200, "captions", 3)
        assert content["hits"][0]["html"].count("data-row=") == 2
        assert 'src="blob:sent"' in content["hits"][0]["html"]
        assert "left" in content["hits"][0]["html"]  # what the extractor calls a region
        _, _, other = get(server, "/search?top=3", "POST", npy(features))
        assert [hit["id"] for hit in other["hits"]] == [hit["id"] for hit in content["hits"]]
    torch.testing.assert_close(other["hits"][0]["score"], content["hits"][0]["score"])


def test_what_is_wrong_is_one_line(tmp_path):
    index = index_of(tmp_path)
    with serving(index) as server:
        for body, error in (
            (b"nothing", "the file: no image that can be read ("),
            (a_photo(size=(300, 200))[:-100], "the file: no image that can be read ("),
            (npy(np.zeros((4, 5))), "the file: float64 of shape (4, 5), expected features (regions, 3)"),
        ):
            status, _, content = get(server, "/search", "POST", body)
            assert (status, content["error"][: len(error)]) == (400, error)
        index.model.extractor = RegionExtractor(str(tmp_path / "gone"))
        status, _, content = get(server, "/search", "POST", a_photo())
        assert status == 400
        assert "gone': no such folder here" in content["error"]
