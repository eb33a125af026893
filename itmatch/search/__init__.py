"""Layer 3: encoded images and captions on disk, and searching them."""

from itmatch.search.axes import Axes
from itmatch.search.collection import Collection
from itmatch.search.engines import Engine, Proposal
from itmatch.search.hits import Hit, Hits
from itmatch.search.index import Index
from itmatch.search.qdrant.engine import Qdrant

__all__ = ["Axes", "Collection", "Engine", "Hit", "Hits", "Index", "Proposal", "Qdrant"]
