"""Models as they are named on the command line: on this machine, or on the Hub."""

import re
import time
from pathlib import Path

import pytest
from huggingface_hub import constants

from itmatch.cli.running.runs import any_model


@pytest.mark.parametrize("name", ["runs/version_3", "nobody/model-v1.5"])
def test_a_name_that_is_nothing_here_is_looked_for_on_the_hub_once(name, elsewhere, monkeypatch, tmp_path):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    template = "http://127.0.0.1:9/{repo_id}/resolve/{revision}/{filename}"  # nobody listens there
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(time, "sleep", lambda _: pytest.fail("tried again"))
    told = f"^{re.escape(name)}: no such folder here, and the .* cannot be reached"
    with pytest.raises(FileNotFoundError, match=told):
        any_model(Path(name), [])


@pytest.mark.parametrize("name", ["runs/best.ckpt", "nowhere", "a/b/c"])
def test_a_path_that_is_nothing_here_is_not(name, elsewhere):
    with pytest.raises(FileNotFoundError, match=f"^{re.escape(name)}: no such file"):
        any_model(Path(name), [])


def test_a_model_that_is_not_there_is_helped_with(elsewhere):
    Path("runs/version_3").mkdir(parents=True)
    known = r"expected a run, a checkpoint, a folder of save_pretrained, or a CLIP or SigLIP .* such as openai/clip-"
    for name, told in (
        ("runs/../runs/version_33", r"runs/version_33: no such file or folder; did you mean runs/../runs/version_3\?$"),
        ("vit", rf"^vit: no such file or folder; {known}"),
    ):
        with pytest.raises(FileNotFoundError, match=told):
            any_model(Path(name), [])
