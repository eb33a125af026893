"""The first stage of a search: which rows are worth being scored."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

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

    :meth:`write` is called in every commit that adds or deletes rows, with all rows that there will be, before the
    commit: what it writes into ``folder`` belongs to the index from the commit on. An engine that keeps its data
    elsewhere (a server) brings them up to date there, and writes into ``folder`` what it needs to find them. Since a
    commit may still fail after that, rows that are proposed and are not in the index are left out.

    Attributes:
        is_local: whether all that it reads lies in that folder. An engine that reaches out of it (to a server, to
            another folder) is not made from what an index says: :meth:`Index.open` has to be given it.
    """

    is_local: ClassVar[bool] = True

    @abstractmethod
    def write(
        self, folder: Path, collections: Mapping[Side, Collection], similarity: nn.Module, previous: Path | None
    ) -> None:
        """Write what the engine needs to know of all rows.

        Args:
            folder: new and empty, for its files.
            collections: the images and the captions.
            similarity: of the model.
            previous: the folder that it wrote in the commit before; None = this is the first one.
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
