"""Whatever is wrong with a file: a ValueError or an OSError of one line that names it, and nothing else.

``python tests/attack.py`` counts over many more inputs, with bounds on time and memory.
"""

from functools import cache
from tempfile import TemporaryDirectory

import pytest
from helpers_data import DATA
from helpers_evaluation import EVALUATION
from helpers_layouts_damage import LAYOUTS
from helpers_models import MODELS
from helpers_targets import Prepared
from hypothesis import given, settings
from hypothesis import strategies as st

TARGETS = [target for target in DATA + LAYOUTS + EVALUATION + MODELS if not target.seconds]


@cache
def prepared(target):
    folder = TemporaryDirectory()  # once for all examples; removed at the end of the process
    ready = Prepared(target, folder.name)
    ready.keep = folder
    return ready


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("target", TARGETS, ids=repr)
@settings(derandomize=True, database=None, deadline=None, max_examples=30)
@given(random=st.randoms(use_true_random=False))
def test_a_damaged_file_is_told_of_in_one_line(target, random):
    ready = prepared(target)
    name, content = ready.damaged(random)
    outcome, message = ready.attempt(name, content)
    assert outcome in ("clear", "accepted"), f"{name}: {outcome}: {message}"


@pytest.mark.parametrize("target", TARGETS, ids=repr)
def test_good_files_are_read(target):
    ready = prepared(target)
    for name, content in ready.good.items():
        assert ready.attempt(name, content) == ("accepted", "")
