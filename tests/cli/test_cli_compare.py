"""Files of runs that ``itmatch compare`` is given, and that are none."""

import re

import numpy as np
import pytest
from helpers_cli import error_of


@pytest.mark.parametrize("figure", ["null", "true", '"9.5"', "NaN", "Infinity", "1e999", "[1]", "7" * 400])
def test_compare_figures_that_are_none(figure, tmp_path, capsys):
    (tmp_path / "test_metrics.json").write_text(f'{{"rsum": {figure}}}')
    message = error_of(capsys, "compare", tmp_path)
    assert re.search(r"test_metrics\.json: no figures of a test \('rsum' is .*, expected a finite number\)", message)


RANKS = {
    "image_to_text": np.array([0, -1, 3]),
    "text_to_image": np.array([0, 2, 1, 0]),
    "caption_image": np.array([0, 0, 2, 2]),
    "image_ids": np.array(["a", "b", "c"]),
    "captions_digest": np.array("digest"),
}
BROKEN_RANKS = {
    r"no 'image_ids' in it": {"image_ids": None},
    r"image_to_text: float64 of shape \(3,\), expected integers of shape \(3,\)": {"image_to_text": np.zeros(3)},
    r"image_to_text: -2\.\.0, expected numbers of -1 to 3": {"image_to_text": np.array([-2, 0, 0])},
    r"text_to_image: 0\.\.3, expected numbers of 0 to 2": {"text_to_image": np.arange(4)},
    r"text_to_image: nothing, expected numbers": {
        "text_to_image": np.arange(0),
        "image_to_text": np.array([-1, -1, -1]),
    },
    r"caption_image: int64 of shape \(2,\), expected integers of shape \(4,\)": {"caption_image": np.array([0, 1])},
    r"caption_image: -1\.\.2, expected numbers of 0 to 2": {"caption_image": np.array([0, -1, 2, 2])},
    r"image_ids: int64, expected 3 names": {"image_ids": np.arange(3)},
    r"image_to_text: no image is a query": {"image_to_text": np.array([-1, -1, -1])},
    r"captions_digest: holds pickled Python objects": {"captions_digest": np.array([None], object)},
}


@pytest.mark.parametrize("message", BROKEN_RANKS)
def test_compare_ranks_that_are_none(message, tmp_path, capsys):
    for run_, content in (("one", RANKS), ("two", RANKS | BROKEN_RANKS[message])):
        (tmp_path / run_).mkdir()
        (tmp_path / run_ / "test_metrics.json").write_text('{"rsum": 9.5}')
        np.savez(tmp_path / run_ / "test_ranks.npz", **{k: v for k, v in content.items() if v is not None})
    found = error_of(capsys, "compare", tmp_path / "one", tmp_path / "two")
    assert re.search(rf"two/test_ranks\.npz: {message}", found), found
    (tmp_path / "two/test_ranks.npz").write_bytes(b"PK nothing")
    assert "two/test_ranks.npz: no .npz file" in error_of(capsys, "compare", tmp_path / "one", tmp_path / "two")
