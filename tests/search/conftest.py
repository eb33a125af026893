"""An index of scenes, and Qdrant of either kind."""

import pytest
from helpers_search import SCENES

from itmatch.search import Qdrant


@pytest.fixture(scope="module")
def split():
    return SCENES.split("test")


@pytest.fixture(params=["path", "url"])
def engine(request, tmp_path):
    """An engine of either kind; another call gives one that sees the same data."""
    pytest.importorskip("qdrant_edge", reason="needs qdrant-edge-py")
    client = pytest.importorskip("qdrant_client", reason="needs qdrant-client")
    memory = client.QdrantClient(":memory:")
    made = []

    def make(**settings):
        if request.param == "path":
            while made:
                made.pop().close()
            made.append(Qdrant(path=tmp_path / "edge", **settings))
            return made[-1]
        found = Qdrant(url="http://somewhere:6333", **settings)
        found.client = memory
        return found

    yield make
    for one in made:
        one.close()
