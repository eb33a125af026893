"""Checkpoints and model folders of before the rooms: written by the version whose classes lay in other files."""

from pathlib import Path

import pytest
import torch

from itmatch.data import Collator, RelationScenes
from itmatch.models import MatchingModel
from itmatch.training import MatchingTask

BEFORE = Path(__file__).parents[2] / "reference/before_rooms"
SCORES = [[0.5390, 0.5323, 0.5342], [0.6190, 0.5975, 0.6067]]  # two test images, three captions; by that version


@pytest.mark.parametrize(
    "load",
    [
        lambda: MatchingTask.load_from_checkpoint(BEFORE / "model.ckpt").model,
        lambda: MatchingModel.from_pretrained(BEFORE),
    ],
)
def test_a_model_of_before_still_loads_and_scores_the_same(load):
    model = load()
    split = RelationScenes(num_train=8, num_val=2, num_test=2).split("test")
    regions = Collator(model.tokenizer)([split.image(0), split.image(1)]).regions
    assert torch.allclose(model.score(regions, split.captions[:3]), torch.tensor(SCORES), atol=1e-4)
    assert model.spec["tokenizer"]["class_path"] == "itmatch.data.WordTokenizer"


def test_the_folder_of_a_run_is_helped_with(tmp_path):
    (tmp_path / "run/checkpoints").mkdir(parents=True)
    best = tmp_path / "run/checkpoints/best.ckpt"
    best.write_bytes((BEFORE / "model.ckpt").read_bytes())
    for load, told in (
        (MatchingTask.load_from_checkpoint, rf"run: a folder, expected the file of a checkpoint; {best} is one$"),
        (MatchingModel.from_pretrained, rf"run: no config.json, .*; there is {best}, which MatchingTask.load_from_ch"),
    ):
        with pytest.raises(FileNotFoundError, match=told):
            load(tmp_path / "run")
    MatchingTask.load_from_checkpoint(BEFORE / "model.ckpt").model.save_pretrained(tmp_path / "run")
    with pytest.raises(FileNotFoundError, match=r"it is a model folder, which MatchingModel.from_pretrained reads$"):
        MatchingTask.load_from_checkpoint(tmp_path / "run")
    with pytest.raises(FileNotFoundError, match=r"none.ckpt: no such file$"):
        MatchingTask.load_from_checkpoint(tmp_path / "none.ckpt")
