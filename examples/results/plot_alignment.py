"""Figure: which regions and relations of photos ReSG matches with which words and relations of their captions.

    python examples/results/plot_alignment.py DATA/flickr30k_scenes --vectors DATA/word_vectors/glove.8k.100d.txt \
        --figure alignment.svg

Trains the variant "resg_triplet" of relations.py with one seed, then draws, for some test photos, the maxima of
``similarity.align``. DATA/flickr30k_scenes needs ``labels.json``, ``predicates.json`` and relations of the captions
(``itmatch data parse DATA/flickr30k_scenes train dev test --triples``).
"""

from __future__ import annotations

import argparse
import json
import textwrap
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("svg")
import matplotlib.pyplot as plt
from budget import train_and_test
from relations import BUDGET, VARIANTS

PHOTOS = 3
MOST_ROWS = 12


def draw(task: Any, data: Any, _: int, *, root: Path, figure: Path) -> dict[str, Any]:
    """Draw the first test photos whose first caption has two relations."""
    names = {stem: json.loads((root / f"{stem}.json").read_text()) for stem in ("labels", "predicates")}
    dataset = data.dataset("test")
    chosen = [c for c in range(0, dataset.num_captions, 5) if len(dataset.caption_relations[c]) == 2][:PHOTOS]
    mpl.rcParams["svg.hashsalt"] = "itmatch"  # the same figure from the same model
    _, axes = plt.subplots(PHOTOS, 1, figsize=(9, 3.6 * PHOTOS), layout="constrained")
    for axis, caption in zip(axes, chosen, strict=True):
        one_picture(axis, task.model, data.tokenizer, dataset, caption, names)
    figure.parent.mkdir(parents=True, exist_ok=True)
    plt.savefig(figure, metadata={"Date": None})
    return {}


def one_picture(axis: Any, model: Any, tokenizer: Any, dataset: Any, caption: int, names: dict[str, list[str]]) -> None:
    """Words and relations of a caption beside the regions and relations of its image that won one of them."""
    from itmatch.data import Collator

    image_item, caption_item = dataset.image(int(dataset.caption_image[caption])), dataset.caption(caption)
    batch = Collator(tokenizer)([(image_item, caption_item)])
    image, text = model.encode_images(batch.regions), model.encode_texts(batch.captions)
    shown = model.similarity.align(image, text)
    rows, columns = image_names(model, batch.regions, names), text_names(batch.captions, caption_item.text, tokenizer)
    shown = shown[: len(rows), : len(columns)]
    best = sorted(set(shown.argmax(0).tolist()), key=lambda row: (row >= image_item.features.shape[0], row))[:MOST_ROWS]
    axis.imshow(shown[best].numpy(), cmap="Blues", vmin=0, vmax=1, aspect="auto")
    axis.set_yticks(range(len(best)), [rows[row] for row in best])
    axis.set_xticks(range(len(columns)), columns, rotation=40, ha="right")
    axis.set_title(textwrap.fill(caption_item.text, 100), fontsize=9, loc="left")


def image_names(model: Any, regions: Any, names: dict[str, list[str]]) -> list[str]:
    """A name for every fragment of one image: labels of its regions, then its relations."""
    from itmatch.ops import strongest_edges

    graph, block = regions.graph, model.image_encoder.relations[0]
    labels = [names["labels"][label] if label >= 0 else "window" for label in regions.labels[0].tolist()]
    kept = strongest_edges(graph, block.min_confidence, block.max_relations)
    edges = zip(*graph.edge_index[:, kept].tolist(), graph.predicate[kept].tolist(), strict=True)
    return labels + [f"{labels[s]} - {names['predicates'][p]} - {labels[o]}" for s, o, p in edges]


def text_names(captions: Any, text: str, tokenizer: Any) -> list[str]:
    """A name for every fragment of one caption: its words, then its relations."""
    spans = tokenizer.spans([text])[0]
    words = [text[start:end] if end > 0 else "|" for start, end in spans]
    edges = zip(*captions.graph.edge_index.tolist(), captions.graph.predicate.tolist(), strict=True)
    return words + [" - ".join([words[s], *([words[p]] if p >= 0 else []), words[o]]) for s, o, p in edges]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("root", type=Path)
    parser.add_argument("--vectors")
    parser.add_argument("--figure", type=Path, required=True)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    budget = replace(BUDGET, also=partial(draw, root=options.root, figure=options.figure))
    print(train_and_test((budget, "resg_triplet", VARIANTS["resg_triplet"], 0, options))["test"])
