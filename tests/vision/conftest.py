import pytest

pytest.importorskip("PIL.Image")


@pytest.fixture(scope="session")
def detector(tmp_path_factory):
    """``detector(family)`` is the folder of a tiny detector; each is made once."""
    from helpers_detectors import save_detector
    from helpers_prompted import PROMPTED, save_prompted

    made = {}

    def folder(family):
        if family not in made:
            save = save_prompted if family in PROMPTED else save_detector
            made[family] = save(family, tmp_path_factory.mktemp(family))
        return made[family]

    return folder
