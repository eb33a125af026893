import pytest

from itmatch.data import DataSource, PrecompFolder


def test_abstract():
    with pytest.raises(TypeError, match="abstract"):
        DataSource()


def test_unknown_stage():
    with pytest.raises(ValueError, match="no stage 'dev', expected train, val or test"):
        PrecompFolder("anywhere").split("dev")
