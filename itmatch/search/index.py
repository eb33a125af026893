"""An index: encoded images and captions on disk, and searching them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
from torch import Tensor

from itmatch.batch import Fragments
from itmatch.data import ImageTextSplit
from itmatch.evaluation.top_k import TopK
from itmatch.formats.arrays import Array
from itmatch.formats.files import user_path
from itmatch.formats.messages import short, shown
from itmatch.models import MatchingModel
from itmatch.models.fingerprint import fingerprint
from itmatch.ops.checks import check_kind, check_whole
from itmatch.search.adding import add_split
from itmatch.search.collection import Collection
from itmatch.search.hits import Hits
from itmatch.search.opening import State, open_state
from itmatch.search.queries import Queries, encoded_queries
from itmatch.search.scan import best_of, wide
from itmatch.search.store.manifest import NAME, SIDES, Manifest, Side, is_own
from itmatch.search.store.writing import Commit, commit


class Index:
    """Images and captions that a model has encoded, in a folder, with the model: what is searched.

    It is made by :meth:`build` or :meth:`open`. One process may write (:meth:`build`, :meth:`add`, :meth:`delete`)
    while any number read; each sees the index as it was when it opened it, until :meth:`refresh`. A writer that is
    killed leaves the index as it was before.

    Attributes:
        path: the folder.
        model: that encodes and scores, in evaluation mode.
        images: what texts find.
        captions: what images find.

    Example:
        >>> import tempfile
        >>> from itmatch.data import RelationScenes, Vocabulary, WordTokenizer
        >>> from itmatch.models import chan_gru
        >>> scenes = RelationScenes("easy", num_test=4)
        >>> tokenizer = WordTokenizer(["<pad>", "<start>", "<end>", "<unk>", *scenes.words()])
        >>> model = chan_gru(tokenizer.vocabulary, region_dim=64, embed_dim=8)
        >>> model.tokenizer = tokenizer
        >>> folder = tempfile.TemporaryDirectory()
        >>> index = Index.build(model, scenes.split("test"), folder.name + "/index")
        >>> hits = index.search("a small red dog", top=2)
        >>> hits.kind, len(hits[0]), len(index.captions)
        ('images', 2, 20)
    """

    def __init__(self, path: Path, model: MatchingModel, state: State) -> None:
        self.path, self.model, self._state = path, model.eval(), state

    def __repr__(self) -> str:
        return f"Index({self.path}: {len(self.images)} images, {len(self.captions)} captions)"

    @property
    def images(self) -> Collection:
        """What texts find."""
        return self._state.collections["images"]

    @property
    def captions(self) -> Collection:
        """What images find."""
        return self._state.collections["captions"]

    @classmethod
    def build(
        cls,
        model: MatchingModel,
        source: ImageTextSplit,
        path: str | Path,
        *,
        batch_size: int = 128,
        overwrite: bool = False,
    ) -> Index:
        """Encode a split and write it as an index, with the model.

        Args:
            model: with a tokenizer.
            source: images and captions, as from ``source.split("test")``; a gallery has no captions.
            path: folder of the index, made if missing.
            batch_size: images, and captions, that are encoded at a time.
            overwrite: take the place of an index that is there; it stays as it is until the new one is whole.

        Raises:
            FileExistsError: there is an index, or something else.
            ValueError: the model has no tokenizer; an encoding is NaN or does not fit float16.
            OSError: it cannot be written; what was there is as before.
        """
        folder = user_path(path)
        check_kind("model", model, MatchingModel)
        check_whole("batch_size", batch_size)
        _check_place(folder, overwrite=overwrite)
        with commit(folder) as change:
            new = Manifest(change.number, change.folder("model"), fingerprint(model))
            model.save_pretrained(folder / new.model)
            cls._add(change, new, model, source, batch_size)
        return cls(folder, model, open_state(folder))

    @classmethod
    def open(
        cls, path: str | Path, *, model: MatchingModel | None = None, trusted_modules: Sequence[str] = ()
    ) -> Index:
        """An index that is there, with its model.

        Args:
            path: its folder.
            model: the model it was built with, where that is at hand; None: the one in the folder is loaded.
            trusted_modules: modules of your own that the model may name, as for :meth:`MatchingModel.from_pretrained`.

        Raises:
            FileNotFoundError: there is no index.
            ValueError: it is damaged, of another model, or of a newer itmatch.
        """
        folder = user_path(path)
        state = open_state(folder)
        found = model
        if found is None:
            found = MatchingModel.from_pretrained(
                _inside(folder, state.manifest.model), trusted_modules=trusted_modules
            )
        now = fingerprint(found)
        if now != state.manifest.fingerprint:
            which = "its model folder holds another one" if model is None else "the model given is another one"
            raise ValueError(
                f"{folder}: built with the model {short(state.manifest.fingerprint)[:12]}, {which} ({now[:12]})"
            )
        return cls(folder, found, state)

    def refresh(self) -> bool:
        """See what writers have committed since the index was opened; returns whether anything was.

        Raises:
            ValueError: it was built anew, with another model: open it again.
        """
        state = open_state(self.path)
        if state.manifest.fingerprint != self._state.manifest.fingerprint:
            raise ValueError(f"{self.path}: was built anew with another model; open it again")
        changed = state.manifest.commit != self._state.manifest.commit
        if changed:
            self._state = state
        return changed

    def add(self, source: ImageTextSplit, *, batch_size: int = 128) -> None:
        """Encode more images and captions and add them, all or none.

        Raises:
            ValueError: an image has an id that the index has already.
            BlockingIOError: somebody else is writing.
        """
        with self._change() as change:
            double = [name for name in source.image_ids if self.images.has(name)]
            if double:
                raise ValueError(f"{self.path}: has an image {shown(double[0])} already ({len(double)} such ids)")
            manifest = replace(self._state.manifest, commit=change.number)
            self._add(change, manifest, self.model, source, batch_size)
        self.refresh()

    def delete(self, ids: Sequence[str]) -> None:
        """Delete images, with their captions: all or none. What they take on disk stays until :meth:`compact`.

        Raises:
            KeyError: there is no such image.
            BlockingIOError: somebody else is writing.
        """
        with self._change() as change:
            rows = np.array([self.images.position(name) for name in ids], np.int64)
            gone = self.images.serials[rows]
            captions = self.captions.serials[np.isin(self.captions.image_serials(), gone)]
            serials: dict[str, Array] = {
                side: np.union1d(before, now)
                for (side, before), now in zip(self._state.deleted.items(), (gone, captions), strict=True)
            }
            deleted = change.write_deleted(serials)
            change.done(replace(self._state.manifest, commit=change.number, deleted=deleted))
        self.refresh()

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
            queries: a text, texts or Captions find images; Regions, features (I, R, F) or a list of them find captions.
                Fragments, as a model encodes them, find what ``kind`` says.
            top: answers per query; fewer where the index has fewer.
            candidates: 0 or "all": everything is scored. None: the same.
            kind: what Fragments look for.
            alignments: also how regions and words of each answer meet, (R, W), for pictures.

        Raises:
            ValueError: the model has no tokenizer, or a query is none; a score is NaN or infinite.
        """
        check_whole("top", top)
        side, fragments = encoded_queries(self.model, queries, kind)
        collection = self._state.collections[side]
        found = best_of(self.model.similarity, fragments, collection, top)
        exact = [True] * len(fragments)
        texts, pictures = collection.texts, collection.pictures
        rows: list[list[int]] = found.indices.tolist()
        return Hits(
            side,
            [[collection.ids[row] for row in line] for line in rows],
            found.scores,
            found.indices,
            exact,
            None if texts is None else [[texts[row] for row in line] for line in rows],
            None if pictures is None else [[pictures[row] for row in line] for line in rows],
            self._alignments(side, fragments, found) if alignments else None,
        )

    def _alignments(self, side: Side, queries: Fragments, found: TopK) -> list[list[Tensor]]:
        maps: list[list[Tensor]] = []
        for query, rows in enumerate(found.indices):
            own, stored = queries[query].cpu(), self._state.collections[side].fragments(rows)
            maps.append([])
            for place in range(len(rows)):
                answer = wide(stored, slice(place, place + 1))
                pair = (answer, own) if side == "images" else (own, answer)
                maps[-1].append(self.model.align(*(part.to(self.model.device) for part in pair)).cpu())
        return maps

    @contextmanager
    def _change(self) -> Iterator[Commit]:
        """The one writer, who sees the last commit."""
        with commit(self.path) as change:
            self.refresh()
            yield change

    @staticmethod
    def _add(change: Commit, manifest: Manifest, model: MatchingModel, source: ImageTextSplit, batch_size: int) -> None:
        new = add_split(change, manifest, model, source, batch_size)
        serials: dict[str, int] = {
            side: manifest.next_serial[side] + sum(shard.rows for shard in new[side]) for side in SIDES
        }
        change.done(
            replace(
                manifest,
                images=(*manifest.images, *new["images"]),
                captions=(*manifest.captions, *new["captions"]),
                next_serial=serials,
            )
        )


def _check_place(folder: Path, *, overwrite: bool) -> None:
    """Raise unless an index may be built in a folder: an empty one, or one with an index that is to go."""
    if not folder.exists():
        return
    if not folder.is_dir():
        raise FileExistsError(f"{folder}: a file, expected a folder for the index")
    if (folder / NAME).exists():
        if not overwrite:
            raise FileExistsError(f"{folder}: there is an index already; overwrite=True builds it anew")
        return
    others = sorted(path.name for path in folder.iterdir() if not is_own(path.name))
    if others:
        raise FileExistsError(f"{folder}: holds {shown(others[0])}, which is no index; give a folder of its own")


def _inside(folder: Path, name: str) -> Path:
    """A folder of the index."""
    path = folder / name
    if not path.is_dir():
        raise ValueError(f"{folder}: no {name}, though the manifest names it")
    for part in (path, *path.iterdir()):
        if not part.resolve().is_relative_to(folder.resolve()):
            raise ValueError(f"{part}: a link out of the index")
    return path.absolute()
