"""The versions that pyproject.toml allows are those that the checks run with."""

from pathlib import Path

import pytest

tomllib = pytest.importorskip("tomllib")  # since Python 3.11
requirements = pytest.importorskip("packaging.requirements")
version = pytest.importorskip("packaging.version")
ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
PYTHONS = [
    name.rsplit(" ", 1)[1] for name in PROJECT["classifiers"] if name.startswith("Programming Language :: Python :: 3.")
]
TESTED = [
    *PROJECT["dependencies"],
    *PROJECT["optional-dependencies"]["tensorboard"],
    *PROJECT["optional-dependencies"]["images"],
    *PROJECT["optional-dependencies"]["h5"],
    *PROJECT["optional-dependencies"]["arrow"],
    *PROJECT["optional-dependencies"]["lora"],
    *PROJECT["optional-dependencies"]["qdrant"],
]


def _name(text: str) -> str:
    return text.lower().replace("_", "-")


def _here(requirement, python: str) -> bool:
    return requirement.marker is None or requirement.marker.evaluate({"python_version": python})


def _pins(file: str, python: str) -> dict[str, str]:
    lines = [line for line in (ROOT / ".ci" / file).read_text().splitlines() if not line.startswith("#")]
    found = [requirements.Requirement(line) for line in lines]
    here = [(_name(one.name), next(iter(one.specifier)).version) for one in found if _here(one, python)]
    assert len(dict(here)) == len(here), f"{file} pins a package twice"
    return dict(here)


def _direct(python: str) -> list:
    return [one for one in map(requirements.Requirement, TESTED) if _here(one, python)]


@pytest.mark.parametrize("python", PYTHONS)
def test_the_oldest_versions_are_the_lower_bounds(python):
    pins = _pins("oldest.txt", python)
    for one in _direct(python):
        bound = next(part.version for part in one.specifier if part.operator == ">=")
        assert version.Version(pins[_name(one.name)]) == version.Version(bound), one


@pytest.mark.parametrize("python", PYTHONS)
def test_the_versions_of_the_checks_are_allowed(python):
    pins = _pins("constraints.txt", python)
    for one in _direct(python):
        assert one.specifier.contains(pins[_name(one.name)]), one


def test_every_python_of_the_classifiers_is_checked():
    workflow = (ROOT / ".github" / "workflows" / "ci.yml").read_text()
    assert [python for python in PYTHONS if f'"{python}"' not in workflow] == []
