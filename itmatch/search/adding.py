"""From a split to the columns of shards: images and captions are encoded batch by batch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from itmatch.batch import Fragments, Regions
from itmatch.data import Names
from itmatch.formats.arrays import Array
from itmatch.formats.messages import shown
from itmatch.models import MatchingModel
from itmatch.models._inputs import batches_of
from itmatch.ops.ragged import Ragged
from itmatch.search.collection import Collection
from itmatch.search.engines import Engine
from itmatch.search.opening import state_of
from itmatch.search.sources import SplitPart, file_of_picture
from itmatch.search.store.manifest import Manifest, ShardEntry, Side
from itmatch.search.store.writing import Commit, ShardWriter


def with_split(
    commit: Commit,
    manifest: Manifest,
    model: MatchingModel,
    part: SplitPart,
    batch_size: int,
    *,
    keep_regions: bool = False,
) -> Manifest:
    """Write the images and the captions of a split as new shards; the id of a caption is its serial as text.

    Args:
        commit: that they are for.
        manifest: of the index without them.
        model: encodes.
        part: images and captions, or a gallery.
        batch_size: images, and captions, that are encoded at a time.
        keep_regions: write what the model read of the images, too.

    Returns:
        The manifest with them.
    """
    if model.tokenizer is None:
        raise ValueError("this model has no tokenizer: set model.tokenizer")
    split = part.split
    names = with_names(manifest.names, split.name, split.names)
    images = ShardWriter(commit, "images", manifest.next_serial["images"])
    texts = ShardWriter(commit, "captions", manifest.next_serial["captions"])
    rows = np.arange(split.num_images) if part.rows is None else part.rows
    serials = np.full(split.num_images + 1, -1)  # the last place stands for no image
    serials[rows] = manifest.next_serial["images"] + np.arange(len(rows))
    for batch in batches_of(split, model.tokenizer, batch_size, part.rows):
        if batch.regions is not None and batch.image_index is not None:
            index = batch.image_index.tolist()
            pictures = None if split.pictures is None else [split.picture(i) or "" for i in index]
            ids = [split.image_ids[i] for i in index]
            fragments = model.encode_images(batch.regions, batch_size=len(ids))
            where = f"{split.name}: image"
            images.add(image_columns(fragments, ids, batch.regions, pictures, where, keep_regions=keep_regions))
        elif batch.captions is not None and batch.caption_index is not None and batch.caption_image is not None:
            given = [split.captions[i] for i in batch.caption_index.tolist()]
            fragments = model.encode_texts(batch.captions, batch_size=batch_size)
            owners = serials[batch.caption_image.numpy()]
            texts.add(caption_columns(fragments, texts.next_serial, given, owners, split.name))
    images.flush()
    texts.flush()
    return replace(
        manifest,
        images=(*manifest.images, *images.written),
        captions=(*manifest.captions, *texts.written),
        next_serial={"images": images.next_serial, "captions": texts.next_serial},
        names=names,
    )


def with_names(known: dict[str, list[str]], where: str, new: Names) -> dict[str, list[str]]:
    """What classes and predicates are called, of an index and of what is added to it."""
    names = dict(known)
    for kind, given in (("labels", new.labels), ("predicates", new.predicates)):
        if given and names.setdefault(kind, list(given)) != list(given):
            raise ValueError(f"{where}: its {kind} have other names than those of the index")
    return names


def compacted(commit: Commit, manifest: Manifest, collections: Mapping[Side, Collection]) -> Manifest:
    """Write the rows of both collections as new shards; returns the manifest with these and no others."""
    written: dict[Side, tuple[ShardEntry, ...]] = {}
    for side, collection in collections.items():
        writer = ShardWriter(commit, side, 0)
        for columns in collection.columns():
            writer.add(columns)
        writer.flush()
        written[side] = tuple(writer.written)
    return replace(manifest, images=written["images"], captions=written["captions"], deleted=None)


def finish(
    commit: Commit, manifest: Manifest, model: MatchingModel, engine: Engine | None, previous: str | None = None
) -> None:
    """Let the first stage write what it needs, and make a manifest the state of the index.

    Args:
        commit: the change.
        manifest: all of whose shards are written.
        model: of the index.
        engine: its first stage, or None.
        previous: the folder that the engine wrote in the commit before.
    """
    if engine is not None:
        name = commit.folder("engine")
        (commit.index / name).mkdir()
        collections = state_of(commit.index, manifest).collections
        before = None if previous is None else commit.index / previous
        engine.write(commit.index / name, collections, model.similarity, before)
        manifest = replace(manifest, engine_folder=name)
    commit.done(manifest)


def image_columns(
    fragments: Fragments,
    ids: list[str],
    regions: Regions,
    pictures: list[str] | None,
    where: str,
    *,
    keep_regions: bool = False,
) -> dict[str, Any]:
    """The columns of images.

    Args:
        fragments: of the images.
        ids: of the images.
        regions: that the fragments were made of, on the CPU.
        pictures: of the images, an empty text where there is none; None where there are none at all.
        where: what an image is called in error messages, before its id.
        keep_regions: the features of the regions as well.
    """
    columns = _fragment_columns(fragments, ids, where)
    lengths = regions.mask.sum(1).tolist()
    if keep_regions:
        row = np.repeat(np.arange(len(ids)), lengths)
        columns["regions"] = _half(regions.features[regions.mask], ids, row, where, "what is read of it"), lengths
    if regions.boxes is not None:
        columns["boxes"] = regions.boxes[regions.mask].numpy(), lengths
    if regions.labels is not None:
        columns["labels"] = regions.labels[regions.mask].numpy(), lengths
    scores = getattr(regions, "scores", None)  # of regions that were found in photos
    if scores is not None:
        columns["region_scores"] = scores[regions.mask].numpy(), lengths
    graph = regions.graph
    if graph is not None and graph.predicate is not None:
        order = graph.row.argsort(stable=True)
        triples = torch.stack((graph.edge_index[0], graph.predicate, graph.edge_index[1]), 1)
        counts = torch.bincount(graph.row, minlength=len(ids)).tolist()
        columns["relations"] = triples[order].numpy(), counts
        if graph.confidence is not None:
            columns["relation_scores"] = graph.confidence[order].numpy(), counts
    if pictures is not None:
        columns["pictures"] = [file_of_picture(picture) or picture for picture in pictures]
    return columns


def caption_columns(
    fragments: Fragments, serial: int, texts: list[str], images: Array, where: str = "captions"
) -> dict[str, Any]:
    """The columns of captions.

    Args:
        fragments: of the captions.
        serial: of the first of them.
        texts: of the captions.
        images: the serial of the image of each, -1 = of none.
        where: what they are of, for error messages.
    """
    columns = _fragment_columns(fragments, [str(serial + place) for place in range(len(texts))], f"{where}: caption")
    return columns | {"texts": texts, "image": images}


def _fragment_columns(fragments: Fragments, ids: list[str], where: str) -> dict[str, Any]:
    """The columns of what an encoder makes, in float16."""
    ragged = Ragged.of(fragments.cpu())
    row = np.repeat(np.arange(len(ids)), ragged.lengths.numpy())
    columns: dict[str, Any] = {
        "ids": ids,
        "features": (_half(ragged.values, ids, row, where), ragged.lengths.tolist()),
    }
    if ragged.pooled is not None:
        columns["pooled"] = _half(ragged.pooled, ids, np.arange(len(ids)), where)
    if ragged.is_relation is not None:
        columns["is_relation"] = ragged.is_relation.numpy()
    return columns


def _half(values: torch.Tensor, ids: list[str], row: Array, where: str, what: str = "its encoding") -> Array:
    """Values as float16; what that type cannot hold is told of."""
    half = values.half()
    if not bool(torch.isfinite(half.sum(dtype=torch.float32))):
        bad = (~torch.isfinite(half)).any(1).nonzero()[:, 0]
        if len(bad):
            found = values[int(bad[0])].abs().max()
            told = f"{float(found):g}, which float16 cannot hold" if bool(torch.isfinite(found)) else "NaN or infinite"
            raise ValueError(f"{where} {shown(ids[int(row[int(bad[0])])])}: {what} holds a number that is {told}")
    return half.numpy()
