"""Qdrant as a first stage: in this process, or a server or cluster."""

from itmatch.search.qdrant.engine import Qdrant

__all__ = ["Qdrant"]
