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
