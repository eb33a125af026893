"""Searching an index: exact search beside a plain product and maximum, two stages and Qdrant, and what they find.

    python examples/benchmarks/search.py --threads 2 --data DATA/flickr8k --checkpoint MODEL

The first table is of random fragments, in indexes of several sizes; the second of the images of a folder (the
precomputed layout), encoded by a model that was trained on it. ``--qdrant`` adds Qdrant, in this process, to both.
docs/benchmarks.md says how to read them.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from measure import add_common_options, begin, print_table, told, write_json
from torch import Tensor

from itmatch.batch import Fragments, Regions
from itmatch.data import FeatureStore, ImageTextSplit, PrecompFolder, WordTokenizer
from itmatch.models import MatchingModel
from itmatch.nn import GRUTextEncoder, HardAligningSimilarity, ImageEncoder, MeanPooling
from itmatch.search import Axes, Engine, Index, Qdrant

WORDS = 12  # of a random query
TOP = 10
SECONDS = 12  # for the calls of one row; one call is always made

Row = dict[str, Any]


class RandomRegions(FeatureStore):
    """Region features that are drawn when they are asked for: consecutive rows of one table, from anywhere."""

    def __init__(self, images: int, regions: int, dim: int) -> None:
        self.images, self.num_regions, self.feature_dim = images, regions, dim
        table = torch.nn.functional.normalize(torch.randn(1 << 16, dim), dim=1)
        self.table = table.half().numpy()

    def __len__(self) -> int:
        return self.images

    def __getitem__(self, index: int) -> Any:
        return self.table[(index * 7919 + np.arange(self.num_regions)) % len(self.table)]


class AsTheyAre(ImageEncoder):
    """The features of the regions are their fragments."""

    def __init__(self, embed_dim: int) -> None:
        super().__init__()
        self.embed_dim = embed_dim

    def forward(self, regions: Regions) -> Fragments:
        """The regions."""
        return Fragments(regions.features, regions.mask)


def random_index(
    images: int, options: argparse.Namespace, folder: Path, engine: Engine | None = None
) -> tuple[Index, float]:
    """An index of random fragments, and the seconds that it took."""
    tokenizer = WordTokenizer(["<pad>", "<start>", "<end>", "<unk>", "a"])
    text = GRUTextEncoder(5, options.dim, word_dim=8)
    similarity = HardAligningSimilarity("words", MeanPooling())
    model = MatchingModel(AsTheyAre(options.dim), text, similarity, tokenizer)
    split = ImageTextSplit(RandomRegions(images, options.regions, options.dim), [], np.zeros(0, np.int64))
    start = time.perf_counter()
    index = Index.build(model, split, folder / "index", engine=engine or Axes(options.axes))
    return index, time.perf_counter() - start


def plain(index: Index, queries: Tensor) -> Tensor:
    """The best images by one product and one maximum a block, as one writes it down: blocks that fit the cache."""
    count, words, _ = queries.shape
    flat = queries.flatten(0, 1)
    found = []
    for _, part in index.images.parts():
        regions = part.longest
        step = regions * (64 if count < 8 else 16)
        for start in range(0, len(part.values), step):
            block = part.values[start : start + step].float()
            if count < 8:
                best = (flat @ block.T).view(len(flat), -1, regions).amax(2).T
            else:
                best = (block @ flat.T).view(-1, regions, len(flat)).amax(1)
            found.append(best.view(-1, count, words).mean(2))
    return torch.cat(found).T.topk(TOP, 1).values


def in_turns(works: dict[str, Callable[[], Any]], repeat: int) -> tuple[dict[str, list[float]], dict[str, list[float]]]:
    """The seconds of each of several works, on the clock and of the processor; the first calls are not counted."""
    times: dict[str, list[float]] = {name: [] for name in works}
    used: dict[str, list[float]] = {name: [] for name in works}
    begin_all = time.perf_counter()
    for turn in range(repeat + 1):
        if turn > 1 and time.perf_counter() - begin_all > SECONDS:
            break
        for name, work in works.items():
            start, busy = time.perf_counter(), time.process_time()
            work()
            if turn:
                times[name].append(time.perf_counter() - start)
                used[name].append(time.process_time() - busy)
    return times, used


def of_size(images: int, options: argparse.Namespace) -> list[Row]:
    """The rows of one size."""
    rows: list[Row] = []
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        index, built = random_index(images, options, Path(folder))
        size = sum(path.stat().st_size for path in (Path(folder) / "index").rglob("*") if path.is_file())
        filled = 0.0
        for count in options.queries:
            if count * images > options.most_pairs and count > 1:
                continue
            features = torch.nn.functional.normalize(torch.randn(count, WORDS, options.dim), dim=2)
            queries = Fragments(features)
            works: dict[str, Callable[[], Any]] = {
                "exact": lambda queries=queries: index.search(queries, TOP, candidates="all", kind="images"),
                "plain": lambda features=features: plain(index, features),
            }
            if count == 1:
                works["stages"] = lambda queries=queries: index.search(queries, TOP, candidates=400, kind="images")
                if images in options.qdrant:
                    engine = Qdrant(path=Path(folder) / "qdrant")
                    other, filled = random_index(images, options, Path(folder) / "other", engine)
                    works["Qdrant"] = partial(other.search, queries, TOP, candidates=400, kind="images")
            same = torch.allclose(works["exact"]().scores, works["plain"](), atol=1e-5)
            times, used = in_turns(works, options.repeat)
            ratios = [ours / theirs for ours, theirs in zip(used["exact"], used["plain"], strict=True)]
            rows.append({"images": images, "queries": count, "build": built, "bytes": size / images, "same": same})
            rows[-1] |= {"times": times, "ratio": float(np.median(ratios)), "Qdrant build": filled}
            told(
                rows[-1] | {"work": f"{count} queries of {images} images", "seconds": float(np.median(times["exact"]))}
            )
    return rows


def gallery(split: ImageTextSplit) -> ImageTextSplit:
    """The images of a split alone."""
    return ImageTextSplit(split.features, [], np.zeros(0, np.int64), image_ids=split.image_ids, lengths=split.lengths)


def of_a_model(options: argparse.Namespace) -> list[Row]:
    """What two stages find among the images of a folder, and how long one query takes."""
    model = loaded(options.checkpoint)
    splits = [PrecompFolder(options.data, boxes=None, train=s, val=s, test=s).split("test") for s in options.splits]
    texts = splits[-1].captions[:: max(1, len(splits[-1].captions) // options.texts)][: options.texts]
    encoded = model.encode_texts(texts)
    rows: list[Row] = []
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        engines: dict[str, Engine] = {f"{axes} axes": Axes(axes) for axes in options.model_axes}
        if options.qdrant:
            engines["Qdrant"] = Qdrant(path=Path(folder) / "qdrant")
        for name, engine in engines.items():
            start, place = time.perf_counter(), Path(folder) / name.replace(" ", "_")
            index = Index.build(model, gallery(splits[0]) if options.no_captions else splits[0], place, engine=engine)
            for split in splits[1:]:
                index.add(gallery(split))
            built = time.perf_counter() - start
            for candidates in options.candidates if rows else ("all", *options.candidates):
                rows.append({"engine": name, "build": built} | of_candidates(index, encoded, candidates))
    return rows


def loaded(checkpoint: str) -> MatchingModel:
    """The model of a checkpoint of a run, or of a folder that save_pretrained wrote."""
    if not checkpoint.endswith(".ckpt"):
        return MatchingModel.from_pretrained(checkpoint)
    from itmatch import MatchingTask

    return MatchingTask.load_from_checkpoint(checkpoint).model.eval()


def of_candidates(index: Index, encoded: Fragments, candidates: Any) -> Row:
    """The row of a number of candidates, its times in seconds of the processor."""
    times = []
    for query in range(min(40, len(encoded))):
        start = time.process_time()
        index.search(encoded[query], TOP, candidates=candidates, kind="images")
        times.append(time.process_time() - start)
    row: Row = {"images": len(index.images), "candidates": candidates, "times": times, "recall": 1.0}
    if candidates != "all":
        row["recall"] = index.recall(encoded, TOP, candidates=candidates, kind="images")
        exact = index.search(encoded, TOP, candidates=candidates, kind="images").exact
        row["exact"] = sum(exact) / len(exact)
    told(row | {"work": f"{candidates} candidates", "seconds": float(np.median(times))})
    return row


def milliseconds(times: list[float], share: float) -> str:
    """A quantile."""
    return f"{float(np.quantile(times, share)) * 1000:.1f}" if times else "-"


def quantiles(name: str) -> dict[str, Callable[[Row], str]]:
    """Two columns of a work."""
    return {
        f"{name} p50, ms": lambda row: milliseconds(row["times"].get(name, []), 0.5),
        f"{name} p99, ms": lambda row: milliseconds(row["times"].get(name, []), 0.99),
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, nargs="*", default=[2000, 20_000, 200_000], help="sizes of the indexes")
    parser.add_argument("--queries", type=int, nargs="+", default=[1, 32, 500])
    parser.add_argument("--most-pairs", type=int, default=12_000_000, help="queries x images of a row")
    parser.add_argument("--regions", type=int, default=36)
    parser.add_argument("--dim", type=int, default=128)
    parser.add_argument("--axes", type=int, default=32, help="bytes a fragment of the first stage, random fragments")
    parser.add_argument("--model-axes", type=int, nargs="+", default=[16, 24, 32], help="the same, of the model's")
    parser.add_argument("--no-captions", action="store_true", help="an index of the model's images alone")
    parser.add_argument("--qdrant", type=int, nargs="*", default=[], help="sizes that Qdrant is measured at, too")
    parser.add_argument("--repeat", type=int, default=50, help="calls at most, and as many as 12 seconds hold")
    parser.add_argument("--folder", help="where the indexes are built and removed; by default that of temporary files")
    parser.add_argument("--data", help="folder of the precomputed layout")
    parser.add_argument("--checkpoint", help="of a model trained on it: a .ckpt, or a folder of save_pretrained")
    parser.add_argument("--splits", nargs="+", default=["train", "dev", "test"], help="queries are of the last one")
    parser.add_argument("--texts", type=int, default=300, help="captions that recall is measured with")
    parser.add_argument("--candidates", type=int, nargs="+", default=[100, 400, 1000])
    add_common_options(parser)
    options = parser.parse_args()
    _, facts = begin(options)
    torch.manual_seed(0)
    rows = [row for images in options.images for row in of_size(images, options)]
    columns: dict[str, Callable[[Row], str]] = {
        "images": lambda row: str(row["images"]),
        "queries": lambda row: str(row["queries"]),
        "build, s": lambda row: f"{row['build']:.1f}",
        "bytes an image": lambda row: f"{row['bytes']:.0f}",
        **quantiles("exact"),
        "plain p50, ms": lambda row: milliseconds(row["times"]["plain"], 0.5),
        "x plain": lambda row: f"{row['ratio']:.2f}",
        "two stages p50, ms": lambda row: milliseconds(row["times"].get("stages", []), 0.5),
        "Qdrant p50, ms": lambda row: milliseconds(row["times"].get("Qdrant", []), 0.5),
        "Qdrant build, s": lambda row: f"{row['Qdrant build']:.1f}" if row["Qdrant build"] else "-",
        "calls": lambda row: str(len(row["times"]["exact"])),
        "same scores": lambda row: "yes" if row["same"] else "no",
    }
    print_table(columns, rows)
    found: list[Row] = []
    if options.data and options.checkpoint:
        found = of_a_model(options)
        print()
        columns = {
            "first stage": lambda row: "none" if row["candidates"] == "all" else row["engine"],
            "build, s": lambda row: f"{row['build']:.1f}",
            "candidates": lambda row: str(row["candidates"]),
            "share of the exact top 10": lambda row: f"{row['recall']:.3f}",
            "p50, ms": lambda row: milliseconds(row["times"], 0.5),
            "p99, ms": lambda row: milliseconds(row["times"], 0.99),
            "proven exact": lambda row: f"{row.get('exact', 1.0):.2f}",
        }
        print_table(columns, found)
    write_json(options.json, facts, rows + found)


if __name__ == "__main__":
    main()
