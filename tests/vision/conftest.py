import pytest

pytest.importorskip("PIL.Image")


@pytest.fixture(scope="session")
def detector(tmp_path_factory):
    """``detector(family)`` is the folder of a tiny detector; each is made once."""
    from helpers_detectors import save_detector

    made = {}

    def folder(family):
        if family not in made:
            made[family] = save_detector(family, tmp_path_factory.mktemp(family))
        return made[family]

    return folder
