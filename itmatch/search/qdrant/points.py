"""What the engine asks of Qdrant, wherever that runs."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

from itmatch.formats.arrays import Array

LISTED = 10_000  # numbers of points that are read at a time


@dataclass(frozen=True)
class Settings:
    """How Qdrant keeps and compares vectors.

    Args:
        int8: keep a copy of the vectors in int8, and compare that first.
        oversampling: how many times as many rows the copy proposes to be compared in float32.
        graph: edges of each row in a graph that is walked; 0 = every row is compared.
    """

    int8: bool
    oversampling: float
    graph: int

    @property
    def is_exact(self) -> bool:
        """Whether every row is compared, in float32."""
        return not self.int8 and not self.graph


class Points(ABC):
    """Collections of points: each has a number, and several vectors that are compared by MaxSim."""

    @abstractmethod
    def create(self, name: str, size: int) -> None:
        """Make a collection of vectors of a size."""

    @abstractmethod
    def found(self, name: str) -> tuple[int, int]:
        """How many points a collection has, and the size of its vectors.

        Raises:
            ValueError: there is no such collection, or it is none of ours.
            ConnectionError: no server answers.
        """

    @abstractmethod
    def numbers(self, name: str, first: int) -> list[int]:
        """The numbers of the points that are there, from a number on."""

    @abstractmethod
    def put(self, name: str, numbers: Sequence[int], vectors: Sequence[Array]) -> None:
        """Add points; one whose number is there is replaced."""

    @abstractmethod
    def remove(self, name: str, numbers: Sequence[int]) -> None:
        """Remove points; numbers that are not there do nothing."""

    @abstractmethod
    def finish(self, name: str) -> None:
        """Bring to the disk what was put and removed, and what makes it fast."""

    @abstractmethod
    def nearest(self, name: str, queries: Sequence[Array], count: int) -> list[tuple[list[int], list[float]]]:
        """Of each query (Q, D), the numbers of the best points and their MaxSim, best first."""

    @abstractmethod
    def drop(self, name: str) -> None:
        """Remove a collection, if it is there."""

    @abstractmethod
    def close(self) -> None:
        """Let go of files and connections; the next call opens them again."""
