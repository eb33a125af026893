"""An index: encoded images and captions on disk, and searching them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np

from itmatch.data import ImageTextSplit
from itmatch.formats.arrays import Array
from itmatch.formats.files import user_path
from itmatch.formats.messages import short
from itmatch.models import MatchingModel
from itmatch.models.fingerprint import fingerprint
from itmatch.ops.checks import check_kind, check_kind_or_none, check_whole
from itmatch.search.adding import compacted, finish
from itmatch.search.engines import Engine
from itmatch.search.opening import at_last_commit, check_place, folder_inside, named_engine, opened_state
from itmatch.search.photos import with_source
from itmatch.search.searching import Searchable
from itmatch.search.sources import Photos, as_source, images_in, new_in
from itmatch.search.store.manifest import Manifest
from itmatch.search.store.writing import Commit, commit


class Index(Searchable):
    """Images and captions that a model has encoded, in a folder, with the model: what is searched.

    It is made by :meth:`build` or :meth:`open`. One process may write (:meth:`build`, :meth:`add`, :meth:`delete`)
    while any number read; each sees the index as it was when it opened it, until :meth:`refresh`. A writer that is
    killed leaves the index as it was before.

    Attributes:
        path: the folder.
        model: that encodes and scores, in evaluation mode.

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

    @classmethod
    def build(
        cls,
        model: MatchingModel,
        source: ImageTextSplit | Photos,
        path: str | Path,
        *,
        captions: str | Path | None = None,
        batch_size: int = 128,
        overwrite: bool = False,
        engine: Engine | None = None,
        keep_regions: bool = False,
    ) -> Index:
        """Encode a split, or photos, and write them as an index, with the model.

        Args:
            model: with a tokenizer.
            source: images and captions, as from ``source.split("test")``; a gallery has no captions. Or photos, where
                the model takes them: a folder with all below it, a text file with a path per line, a tar file, or a
                list of paths.
            path: folder of the index, made if missing.
            captions: a file with captions of photos, as for ``itmatch extract``; None: those that came with the photos,
                in a tar file or a folder of ``datasets``. Photos without captions are taken, too.
            batch_size: images, and captions, that are encoded at a time.
            overwrite: take the place of an index that is there; it stays as it is until the new one is whole.
            engine: a first stage, such as :class:`Axes`; None = every search scores everything.
            keep_regions: keep what the model read of the images, too, for :func:`itmatch.pages.explain_relations`:
                ``index.images.regions(row)``. It takes more room: the features of all regions, in float16.

        Raises:
            FileExistsError: there is an index, or something else.
            ValueError: the model has no tokenizer; an encoding is NaN or does not fit float16.
            OSError: it cannot be written; what was there is as before.

        Warns:
            UserWarning: photos cannot be read; they are left out.
        """
        folder = user_path(path)
        check_kind("model", model, MatchingModel)
        check_kind_or_none("engine", engine, Engine)
        found = as_source(source, captions)
        check_whole("batch_size", batch_size)
        check_place(folder, overwrite=overwrite)
        with commit(folder) as change:
            spec = None if engine is None else engine.spec
            new = Manifest(change.number, change.folder("model"), fingerprint(model), engine=spec)
            model.save_pretrained(folder / new.model)
            new = with_source(change, new, model, found, batch_size, keep_regions=keep_regions)
            finish(change, new, model, engine)
        return cls.open(folder, model=model, engine=engine)

    @classmethod
    def open(
        cls,
        path: str | Path,
        *,
        model: MatchingModel | None = None,
        engine: Engine | None = None,
        exact: bool = False,
        trusted_modules: Sequence[str] = (),
    ) -> Index:
        """An index that is there, with its model and its first stage.

        Args:
            path: its folder.
            model: the model it was built with, where that is at hand; None: the one in the folder is loaded.
            engine: the first stage, where it reaches out of the folder; None: the one that the index names.
            exact: open no first stage: every search scores everything, and nothing can be changed.
            trusted_modules: modules of your own that the index may name, as for :meth:`MatchingModel.from_pretrained`.

        Raises:
            FileNotFoundError: there is no index.
            ValueError: it is damaged, of another model, or of a newer itmatch.
        """
        folder = user_path(path)
        check_kind_or_none("model", model, MatchingModel)
        check_kind_or_none("engine", engine, Engine)
        if exact and engine is not None:
            raise ValueError(f"exact=True, and engine={type(engine).__name__}; give one of them")

        def opened(manifest: Manifest) -> Index:
            found = model
            if found is None:
                own = folder_inside(folder, manifest.model)
                found = MatchingModel.from_pretrained(own, trusted_modules=trusted_modules)
            now = fingerprint(found)
            if now != manifest.fingerprint:
                which = "its model folder holds another one" if model is None else "the model given is another one"
                raise ValueError(
                    f"{folder}: built with the model {short(manifest.fingerprint)[:12]}, {which} ({now[:12]})"
                )
            stage = None if exact else engine or named_engine(folder, manifest, trusted_modules)
            return cls(folder, found, opened_state(folder, manifest, found, stage), stage)

        return at_last_commit(folder, opened)

    def refresh(self) -> bool:
        """See what writers have committed since the index was opened; returns whether anything was.

        Raises:
            ValueError: it was built anew, with another model or first stage: open it again.
        """
        return at_last_commit(self.path, self._refreshed)

    def _refreshed(self, manifest: Manifest) -> bool:
        before = self._state.manifest
        if (manifest.fingerprint, manifest.engine) != (before.fingerprint, before.engine):
            raise ValueError(f"{self.path}: was built anew with another model or first stage; open it again")
        if manifest.commit == before.commit:
            return False
        self._state = opened_state(self.path, manifest, self.model, self.engine)
        return True

    def add(
        self,
        source: ImageTextSplit | Photos,
        *,
        captions: str | Path | None = None,
        batch_size: int = 128,
        skip_existing: bool = False,
    ) -> int:
        """Encode more images and captions, or photos, and add them, all or none; as :meth:`build`.

        What the model read of them is kept where it is of the images that are there.

        Args:
            source: images and captions, or photos.
            captions: a file with captions of photos.
            batch_size: images, and captions, that are encoded at a time.
            skip_existing: leave images as they are, with their captions, that the index has already: photos whose file
                it has, by whatever path, and others whose id it has.

        Returns:
            How many images were added.

        Raises:
            ValueError: the index has an image already, or its id is that of another photo.
            BlockingIOError: somebody else is writing.
        """
        given = as_source(source, captions)
        check_whole("batch_size", batch_size)
        before = len(self.images)
        with self._change() as change:
            found, before = new_in(given, self.images, skip_existing=skip_existing), len(self.images)
            if images_in(found):
                manifest = replace(self._state.manifest, commit=change.number)
                keep = self.images.has_regions
                new = with_source(change, manifest, self.model, found, batch_size, keep_regions=keep)
                finish(change, new, self.model, self.engine, self._state.manifest.engine_folder)
        self.refresh()
        return len(self.images) - before

    def delete(self, ids: str | Sequence[str]) -> None:
        """Delete images, with their captions: all or none. What they take on disk stays until :meth:`compact`.

        Args:
            ids: of images; a string is one id.

        Raises:
            KeyError: there is no such image.
            BlockingIOError: somebody else is writing.
        """
        names = [ids] if isinstance(ids, str) else check_kind("ids", ids, Iterable)
        with self._change() as change:
            rows = np.array([self.images.position(name) for name in names], np.int64)
            gone = self.images.serials[rows]
            captions = self.captions.serials[np.isin(self.captions.image_serials(), gone)]
            serials: dict[str, Array] = {
                side: np.union1d(before, now)
                for (side, before), now in zip(self._state.deleted.items(), (gone, captions), strict=True)
            }
            deleted = change.write_deleted(serials)
            new = replace(self._state.manifest, commit=change.number, deleted=deleted)
            finish(change, new, self.model, self.engine, new.engine_folder)
        self.refresh()

    def compact(self) -> None:
        """Write all rows anew without those that were deleted, in large shards; the room of the others is free then.

        Readers that have the index open go on with what they have opened.

        Raises:
            BlockingIOError: somebody else is writing.
        """
        with self._change() as change:
            before = self._state.manifest
            new = compacted(change, replace(before, commit=change.number), self._state.collections)
            finish(change, new, self.model, self.engine, before.engine_folder)
        self.refresh()

    @contextmanager
    def _change(self) -> Iterator[Commit]:
        """The one writer, who sees the last commit."""
        with commit(self.path) as change:
            self.refresh()
            if self.engine is None and self._state.manifest.engine is not None:
                raise ValueError(f"{self.path}: opened without its first stage, so it is read and not changed")
            yield change
