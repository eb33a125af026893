"""Searching what an index holds."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import torch

from itmatch.batch import Fragments
from itmatch.formats.messages import counted
from itmatch.models import MatchingModel
from itmatch.models._inputs import Images
from itmatch.ops.checks import check_whole
from itmatch.search.answers import alignments_of, candidates_of, hits_of
from itmatch.search.collection import Collection
from itmatch.search.engines import Engine
from itmatch.search.hits import Hits
from itmatch.search.opening import State
from itmatch.search.queries import Queries, check_compares_images, encoded_queries, unknown_words
from itmatch.search.scan import best_of, rescored
from itmatch.search.store.manifest import Side


class Searchable:
    """Encoded images and captions with their model, which are searched; :class:`itmatch.search.Index` can change them.

    Attributes:
        path: the folder.
        model: that encodes and scores, in evaluation mode.
    """

    def __init__(self, path: Path, model: MatchingModel, state: State, engine: Engine | None) -> None:
        self.path, self.model, self.engine, self._state = path, model.eval(), engine, state

    def __repr__(self) -> str:
        return f"Index({self.path}: {counted(len(self.images), 'images')}, {counted(len(self.captions), 'captions')})"

    @property
    def images(self) -> Collection:
        """What texts find."""
        return self._state.collections["images"]

    @property
    def captions(self) -> Collection:
        """What images find."""
        return self._state.collections["captions"]

    def search(
        self,
        queries: Queries,
        top: int = 10,
        *,
        candidates: int | Literal["all"] | None = None,
        kind: Side | None = None,
        alignments: bool = False,
    ) -> Hits:
        """The best answers to every query: images to texts, captions to images.

        Args:
            queries: a text, texts or Captions find images; Regions, features (I, R, F), a list of them, and photos
                (a ``Path``, an image of Pillow, a list of them) find captions. Fragments find what ``kind`` says.
            top: answers per query; fewer where the index has fewer.
            candidates: how many rows of each query the first stage proposes and the model scores; 0 or "all":
                everything is scored. None: everything where there is no first stage, where there are fewer rows than
                20 000, and for four queries and more at a time; else 1 000, or ten times ``top`` where that is more.
            kind: what Fragments look for.
            alignments: also how regions and words of each answer meet, (R, W), for pictures.

        Raises:
            ValueError: the model has no tokenizer, or a query is none; a score is NaN or infinite; images look for
                captions, and the index has none.

        Warns:
            UserWarning: the model knows no word of a text. :attr:`Hits.unknown` has the unknown words of every text.
        """
        check_whole("top", top)
        side, fragments = encoded_queries(self.model, queries, kind)
        if side == "captions" and not len(self.captions) and len(self.images):
            raise ValueError(
                f"{self.path}: holds no captions, so images find none; "
                "index.similar finds similar images; captions come with captions=FILE, or with a split"
            )
        collection = self._state.collections[side]
        number = candidates_of(candidates, top, collection, self.model, self.engine, len(fragments))
        if number is None or self.engine is None:
            found, exact = best_of(self.model.similarity, fragments, collection, top), [True] * len(fragments)
        else:
            proposal = self.engine.propose(side, fragments, number)
            found, exact = rescored(self.model.similarity, fragments, collection, proposal, top)
        maps = alignments_of(self.model, fragments, collection, found) if alignments else None
        unknown = unknown_words(self.model, queries, len(fragments))
        return hits_of(collection, found, exact, unknown, maps)

    def similar(self, images: Images | Fragments, top: int = 10) -> Hits:
        """The images most like other images, the best first; every row is scored.

        The similarity of the model scores them, with the fragments of the image that is asked with in the place of
        words. No training has made it rank images by images: how good that is depends on the model.

        Args:
            images: photos (a path, an image of Pillow, a list of them), Regions, or features, as the model encodes
                them; or Fragments of images, such as ``index.images.fragments([row])[:]`` of one that is there.
            top: answers per image; fewer where the index has fewer.

        Raises:
            ValueError: the similarity has weights, which were learned of words: it does not score images with images.
        """
        check_whole("top", top)
        check_compares_images(self.model.similarity)
        fragments = images if isinstance(images, Fragments) else self.model.encode_images(images)
        fragments = fragments.to(self.model.device, dtype=torch.float32)
        found = best_of(self.model.similarity, fragments, self.images, top)
        return hits_of(self.images, found, [True] * len(fragments), [[] for _ in range(len(fragments))], None)

    def recall(self, queries: Queries, top: int = 10, *, candidates: int = 100, kind: Side | None = None) -> float:
        """The share of the exact ``top`` that two stages find, from 0 to 1, over all queries.

        Args:
            queries: as for :meth:`search`; some hundred of the kind that will be asked.
            top: answers per query.
            candidates: that the first stage proposes.
            kind: what Fragments look for.
        """
        side, fragments = encoded_queries(self.model, queries, kind)
        exact = self.search(fragments, top, candidates="all", kind=side).rows
        found = self.search(fragments, top, candidates=candidates, kind=side).rows
        hits = (exact[:, :, None] == found[:, None, :]).any(2)
        return float(hits.double().mean()) if hits.numel() else 1.0
