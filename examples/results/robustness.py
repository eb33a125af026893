"""What is lost at test time: regions or words dropped, boxes moved, edges of the graph rewired, relations removed.

    python examples/results/choices.py systems DATA/flickr8k --vectors ... --out MODELS
    python examples/results/robustness.py DATA/flickr8k MODELS

Reads the trained models NAME.seedS of a folder and prints the change in rSum on the first test photos, mean and
standard deviation over the models of a system; the noise has the seed of the model. What a system does not read has no
figure. Dropping is that of itmatch.data.SizeAugmentation. Results are kept, by the number of photos; a table that was
interrupted goes on where it stopped. Other data or models need another --out.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from budget import LABELS, SEEDS, images_of, mean
from choices import ASKED, MORE
from systems import LABELS as SYSTEMS
from systems import TEST_PHOTOS

SMALLEST = 0.01  # side of a box that was moved
BATCH = 100

Item = Any
Change = Callable[[Item, Any], Item]  # of an item, with a generator


def dropped(**rates: float) -> Any:
    """Regions or tokens that are missing."""
    from itmatch.data import SizeAugmentation

    return SizeAugmentation(
        **{"region_drop": 0.0, "token_rate": 0.0, "token_mask": 0.0, "token_replace": 0.0, "token_drop": 1.0, **rates}
    )


def moved(item: Item, generator: Any, *, share: float) -> Item:
    """Each side of each box moves by chance, evenly up to a share of the image's side, and stays in the image."""
    import torch

    noise = share * (2 * torch.rand(item.boxes.shape, generator=generator) - 1)
    corners = (item.boxes + noise).clamp(0, 1).view(-1, 2, 2).sort(1).values
    first = corners[:, 0].clamp(max=1 - SMALLEST)
    return replace(item, boxes=torch.cat([first, torch.maximum(corners[:, 1], first + SMALLEST)], 1))


def rewired(item: Item, generator: Any, *, share: float) -> Item:
    """Some edges join other regions, drawn by chance; predicate and confidence stay."""
    import torch

    edges, regions = item.relations.clone(), len(item.features)
    chosen = torch.rand(len(edges), generator=generator) < share
    subject = torch.randint(regions, (len(edges),), generator=generator)
    other = (subject + torch.randint(1, regions, (len(edges),), generator=generator)) % regions
    edges[chosen, 0], edges[chosen, 2] = subject[chosen], other[chosen]
    return replace(item, relations=edges)


def removed(item: Item, _: Any) -> Item:
    """No relations."""
    scores = getattr(item, "relation_scores", None)
    without = {} if scores is None else {"relation_scores": scores[:0]}
    return replace(item, relations=item.relations[:0], **without)


PERCENT, MOVES, REWIRED = (10, 30, 50), (5, 10, 20), (25, 50, 100)
READS = {
    "boxes": ("cmsei", "hire", "resg"),
    "graph": ("cmsei", "hire", "resg"),
    "caption graph": ("resg",),
}  # the systems that read more than features and words
CHANGES: dict[str, tuple[str, dict[str, Any]]] = {
    **{f"{p} % of the regions dropped": ("", {"augmentation": ("region_drop", p)}) for p in PERCENT},
    **{f"{p} % of the words dropped": ("", {"augmentation": ("token_rate", p)}) for p in PERCENT},
    **{f"boxes moved by up to {p} %": ("boxes", {"image": partial(moved, share=p / 100)}) for p in MOVES},
    **{f"{p} % of the edges rewired": ("graph", {"image": partial(rewired, share=p / 100)}) for p in REWIRED},
    "relations of the photos removed": ("graph", {"image": removed}),
    "relations of the captions removed": ("caption graph", {"caption": removed}),
}  # what a change is of, and what it does


def rsum(
    model: Any,
    split: Any,
    seed: int,
    *,
    augmentation: tuple[str, int] | None = None,
    image: Change | None = None,
    caption: Change | None = None,
) -> float:
    """The rSum of a model on a split that is changed in one way."""
    import torch

    from itmatch.batch import Fragments
    from itmatch.data import CaptionDataset, Collator, ImageDataset
    from itmatch.evaluation import rank_fragments, retrieval_metrics

    drop = None if augmentation is None else dropped(**{augmentation[0]: augmentation[1] / 100})
    collate, generator = Collator(model.tokenizer, augmentation=drop), torch.Generator().manual_seed(seed)

    def encoded(dataset: Any, change: Change | None, side: str, encode: Any) -> Fragments:
        parts = []
        for start in range(0, len(dataset), BATCH):
            items = [dataset[place] for place in range(start, min(start + BATCH, len(dataset)))]
            items = items if change is None else [change(item, generator) for item in items]
            parts.append(encode(getattr(collate(items, generator=generator), side)))
        return Fragments.cat(parts)

    images = encoded(ImageDataset(split), image, "regions", model.encode_images)
    texts = encoded(CaptionDataset(split), caption, "captions", model.encode_texts)
    with model._inference():
        ranks = rank_fragments(model.similarity, images, texts, torch.as_tensor(split.caption_image), chunk_size=BATCH)
    return retrieval_metrics(ranks)["rsum"]


def measure(run: tuple[str, int, argparse.Namespace]) -> str:
    """All changes of one model, unless their results are there; each is kept at once."""
    name, seed, options = run
    import torch

    from itmatch.data import PrecompFolder
    from itmatch.models import MatchingModel

    torch.set_num_threads(1)
    path = result_path(options, name, seed)
    found: dict[str, float] = json.loads(path.read_text()) if path.exists() else {}
    whole = PrecompFolder(options.root).split("test")
    split = images_of((whole, range(options.photos)))
    model = MatchingModel.from_pretrained(options.models / f"{name}.seed{seed}")
    wanted = {"": {}} | {change: given for change, (what, given) in CHANGES.items() if not what or name in READS[what]}
    for change, given in wanted.items():
        if change not in found:
            found[change] = rsum(model, split, seed, **given)
            beside = path.with_suffix(".part")
            beside.write_text(json.dumps(found, indent=1))
            os.replace(beside, path)
    return f"{name}, seed {seed}: rSum {found['']:.1f}"


def result_path(options: argparse.Namespace, name: str, seed: int) -> Path:
    """Where the results of a model are, or will be."""
    path: Path = options.out / f"{name}.seed{seed}.photos{options.photos}.json"
    return path


def print_losses(results: dict[str, list[dict[str, float]]]) -> None:
    """A Markdown table: rSum, and how much each change takes from it."""
    labels = {**LABELS, **SYSTEMS, **MORE}
    print("| | " + " | ".join(labels[name] for name in results) + " |")
    print("|---" * (len(results) + 1) + "|")
    print(
        "| rSum, nothing changed | " + " | ".join(mean([one[""] for one in runs]) for runs in results.values()) + " |"
    )
    for change in CHANGES:
        cells = [
            mean([one[change] - one[""] for one in runs]) if change in runs[0] else "" for runs in results.values()
        ]
        print(f"| {change} | " + " | ".join(cells) + " |")
    print("| models | " + " | ".join(str(len(runs)) for runs in results.values()) + " |")


def main() -> None:
    """Measure what is missing, print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("root", help="folder of region features and captions, with relations of the captions")
    parser.add_argument("models", type=Path, help="folder of the models NAME.seedS")
    parser.add_argument("--out", type=Path, default=Path("runs/robustness"), help="folder of the results")
    parser.add_argument(
        "--only", nargs="+", choices=ASKED["systems"], default=ASKED["systems"], help="only these systems"
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=list(SEEDS))
    parser.add_argument("--photos", type=int, default=TEST_PHOTOS, help="the first test photos, so many")
    parser.add_argument("--jobs", type=int, default=1, help="models at a time")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    runs = [(n, s, options) for s in options.seeds for n in options.only if (options.models / f"{n}.seed{s}").exists()]
    with multiprocessing.get_context("spawn").Pool(options.jobs, maxtasksperchild=1) as pool:
        for line in pool.imap_unordered(measure, runs, chunksize=1):
            print(line, flush=True)
    results: dict[str, list[dict[str, float]]] = {}
    for name in options.only:
        for one, seed, _ in runs:
            if one == name:
                results.setdefault(name, []).append(json.loads(result_path(options, name, seed).read_text()))
    print_losses(results)


if __name__ == "__main__":
    main()
