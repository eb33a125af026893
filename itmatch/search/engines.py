"""The first stage of a search: which rows are worth being scored."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor, nn

from itmatch.batch import Fragments
from itmatch.formats.arrays import Array
from itmatch.search.collection import Collection
from itmatch.search.store.manifest import Side
from itmatch.spec import Configurable


@dataclass(frozen=True, eq=False)
class Proposal:
    """What a first stage proposes for N queries.

    Args:
        serials: of each query, the serials (n,) int64 of the rows that it proposes, in any order.
        bounds: (N,) what no row that is not proposed can score more than; None where nothing is known.
    """

    serials: list[Array]
    bounds: Tensor | None = None


class Engine(Configurable, ABC):
    """Base class of first stages: proposes rows, which the model's own similarity then scores.

    To write your own, subclass this. An engine sees rows by their *serials*, numbers that a row keeps whatever is added
    and deleted (:attr:`Collection.serials <itmatch.search.Collection.serials>`); a serial is never used again.

    An index writes and opens its engine with itself. :meth:`write` is called at every commit with all that there is,
    before the commit: what it writes into ``folder`` is part of the index from that moment on and not before. An
    engine that keeps its data elsewhere (a server) brings them up to date there and writes into ``folder`` how far it
    has come; since the commit may fail after that, rows that it proposes and that are not in the index are left out.
    """

    @abstractmethod
    def write(self, folder: Path, collections: Mapping[Side, Collection], similarity: nn.Module) -> None:
        """Write what the engine needs to know of all rows, into a new empty folder.

        Args:
            folder: for its files.
            collections: the images and the captions that the index is going to have.
            similarity: of the model.
        """

    @abstractmethod
    def open(self, folder: Path, collections: Mapping[Side, Collection], similarity: nn.Module) -> None:
        """Read what :meth:`write` wrote; the folder may come from a stranger.

        Raises:
            ValueError: a file is damaged, or does not fit the collections; names it.
        """

    @abstractmethod
    def propose(self, side: Side, queries: Fragments, count: int) -> Proposal:
        """About ``count`` rows of a side for each query: those that are likely to score best."""
