"""A run keeps the extractor of its model, without its weights."""

import io

import pytest
import torch
from helpers_photos import Halves, halves_model

from itmatch.training import MatchingTask


def checkpoint_of(task):
    """What Lightning would write."""
    content = {"state_dict": task.state_dict(), "pytorch-lightning_version": "2.6.6"}
    task.on_save_checkpoint(content)
    file = io.BytesIO()
    torch.save(content, file)
    file.seek(0)
    return content, file


def test_a_checkpoint_has_it():
    model = halves_model()
    model.extractor = Halves(0.25)
    task = MatchingTask.from_model(model)
    content, file = checkpoint_of(task)
    assert content["hyper_parameters"]["extractor"]["init_args"] == {"scale": 0.25}
    assert not [name for name in content["state_dict"] if "extractor" in name]
    again = MatchingTask.load_from_checkpoint(file)
    assert again.model.extractor.scale == 0.25
    assert again.model.spec == model.spec


def test_a_checkpoint_of_before_has_none():
    content, _ = checkpoint_of(MatchingTask.from_model(halves_model(extractor=False)))
    assert content["hyper_parameters"].pop("extractor") is None
    file = io.BytesIO()
    torch.save(content, file)
    file.seek(0)
    assert MatchingTask.load_from_checkpoint(file).model.extractor is None


@pytest.mark.parametrize("extractor", ["x", {"class_path": "itmatch.nn.MeanPooling"}, [1]])
def test_a_checkpoint_names_extractors_alone(extractor):
    content, _ = checkpoint_of(MatchingTask.from_model(halves_model(extractor=False)))
    content["hyper_parameters"]["extractor"] = extractor
    file = io.BytesIO()
    torch.save(content, file)
    file.seek(0)
    with pytest.raises(ValueError, match="extractor"):
        MatchingTask.load_from_checkpoint(file)


def test_arguments_that_there_are_not():
    _, file = checkpoint_of(MatchingTask.from_model(halves_model()))
    with pytest.raises(TypeError, match="load_from_checkpoint: MatchingTask takes no argument 'extractors'"):
        MatchingTask.load_from_checkpoint(file, extractors=None)
