"""Ranks of a whole test set: time beyond scoring, memory, and what fragments in half precision change.

    python examples/benchmarks/evaluation.py --threads 2

Random fragments stand for 5 000 images of 36 regions and 25 000 captions, as in COCO 5K, with D = 64, so that scoring
does not take all the time. docs/benchmarks.md says how to read the tables.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any

import torch
from inputs import caption_lengths
from measure import (
    Product,
    add_common_options,
    begin,
    megabytes,
    peak_extra_bytes,
    print_table,
    seconds,
    told,
    wait,
    write_json,
)
from torch import Tensor, nn

from itmatch.batch import Fragments
from itmatch.evaluation import RetrievalRanks, rank_fragments, retrieval_metrics, retrieval_ranks
from itmatch.nn import CosineSimilarity, HardAligningSimilarity, MeanPooling, Similarity
from itmatch.ops import l2_normalize, lengths_to_mask
from itmatch.ops.ragged import Ragged

NOISE = 2.5  # of a word, in lengths of the region that it names: so much that about half of the captions are found
BLOCKS = {"chunk_size": 256, "caption_chunk_size": 1024}
CAPTIONS_AN_IMAGE = 5
Row = dict[str, Any]
Sides = tuple[Ragged, Ragged]


def fragments(images: int, options: argparse.Namespace) -> tuple[Ragged, Ragged, Tensor]:
    """Images, captions whose words are regions of their image with noise, and the image of each caption."""
    generator = torch.Generator().manual_seed(0)
    features = l2_normalize(torch.randn(images, options.regions, options.dim, generator=generator))
    image = Fragments.unchecked(features, torch.ones(features.shape[:2], dtype=torch.bool), features.mean(1))
    caption_image = torch.arange(images).repeat_interleave(CAPTIONS_AN_IMAGE)
    lengths = caption_lengths(len(caption_image), generator)
    parts = []
    for start in range(0, len(caption_image), BLOCKS["caption_chunk_size"]):
        rows = slice(start, start + BLOCKS["caption_chunk_size"])
        mask = lengths_to_mask(lengths[rows])
        region = torch.randint(options.regions, mask.shape, generator=generator)
        words = features[caption_image[rows][:, None], region]
        words = l2_normalize(words + NOISE * l2_normalize(torch.randn(words.shape, generator=generator)))
        pooled = (words * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)
        parts.append(Ragged.of(Fragments.unchecked(words, mask, pooled)))
    return Ragged.of(image), Ragged.cat(parts), caption_image


def moved(packed: Ragged, device: torch.device, dtype: torch.dtype) -> Ragged:
    """The same on a device, in a precision."""
    assert packed.pooled is not None
    return Ragged(packed.values.to(device, dtype), packed.lengths, packed.starts, packed.pooled.to(device, dtype))


class Timed(nn.Module):
    """A similarity that counts the seconds spent in it."""

    def __init__(self, similarity: Similarity, device: torch.device) -> None:
        super().__init__()
        self.similarity, self.device, self.spent = similarity, device, 0.0

    def forward(self, image: Fragments, text: Fragments) -> Tensor:
        """Scores."""
        wait(self.device)
        start = time.perf_counter()
        scores: Tensor = self.similarity(image, text)
        wait(self.device)
        self.spent += time.perf_counter() - start
        return scores


def textbook_ranks(scores: Tensor, caption_image: Tensor) -> RetrievalRanks:
    """A full matrix, sorted both ways."""
    place = torch.empty_like(scores, dtype=torch.int64)
    places = torch.arange(scores.shape[1], device=scores.device)
    place.scatter_(1, scores.argsort(1, descending=True), places.expand_as(scores))
    own = caption_image == torch.arange(len(scores), device=scores.device)[:, None]
    image_to_text = place.masked_fill(~own, len(caption_image)).amin(1)
    order = scores.argsort(0, descending=True)
    text_to_image = (order == caption_image).int().argmax(0)
    return RetrievalRanks(image_to_text, text_to_image)


@torch.no_grad()
def measure(name: str, similarity: Similarity, images: int, options: argparse.Namespace, product: Product) -> list[Row]:
    """Rows of one similarity: fragments in float32 and in float16."""
    device = product.device
    image, text, caption_image = fragments(images, options)
    caption_image = caption_image.to(device)
    floor = 2 * len(image.values) * len(text.values) * options.dim / product.rate()
    rows: list[Row] = []
    for dtype in (torch.float32, torch.float16):
        own_image, own_text = (moved(packed, device, dtype) for packed in (image, text))

        def rank(similarity: nn.Module, sides: Sides = (own_image, own_text)) -> RetrievalRanks:
            return rank_fragments(similarity, *sides, caption_image, **BLOCKS)

        ranks, extra = peak_extra_bytes(lambda rank=rank: rank(similarity), device)  # also warms up
        timed = Timed(similarity, device)
        start = time.perf_counter()
        rank(timed)
        wait(device)
        elapsed = time.perf_counter() - start
        row = {
            "work": f"{name}, {str(dtype).removeprefix('torch.')}",
            "size": f"{len(image)} x {len(text)}",
            "seconds": elapsed,
            "scoring": timed.spent,
            "floor": floor if name != "cosine" else None,
            "fragment_bytes": sum(p.values.numel() * p.values.element_size() for p in (own_image, own_text)),
            "extra_bytes": extra,
            "rsum": retrieval_metrics(ranks)["rsum"],
            "moved": None if not rows else moved_ranks(rows[0]["ranks"], ranks),
            "ranks": ranks,
        }
        rows.append(told(row))
    return rows


def moved_ranks(a: RetrievalRanks, b: RetrievalRanks) -> float:
    """Share of the queries, in percent, whose rank is another one."""
    return 100 * float(torch.cat([x != y for x, y in zip(a, b, strict=True)]).float().mean())


@torch.no_grad()
def compare(options: argparse.Namespace, product: Product) -> str:
    """On a set whose matrix fits: the same ranks as from the matrix, and the time of the textbook's sorting."""
    similarity, device = HardAligningSimilarity(pooling=MeanPooling()), product.device
    image, text, caption_image = fragments(options.matrix_images, options)
    image, text, caption_image = *(moved(p, device, torch.float32) for p in (image, text)), caption_image.to(device)
    scores = torch.cat([similarity(image[:], text[i : i + 1024]) for i in range(0, len(text), 1024)], 1)
    blocks = {"chunk_size": len(image), "caption_chunk_size": 1024}  # the same products, so the same rounding
    streamed = rank_fragments(similarity, image, text, caption_image, **blocks)
    full = retrieval_ranks(scores, caption_image)
    sorted_ranks = textbook_ranks(scores, caption_image)
    same = all(torch.equal(a, b) for a, b in zip(streamed, full, strict=True))
    as_textbook = all(torch.equal(a, b) for a, b in zip(full, sorted_ranks, strict=True))
    ours = seconds(lambda: retrieval_ranks(scores, caption_image), device)
    textbook = seconds(lambda: textbook_ranks(scores, caption_image), device)
    return (
        f"{len(image)} x {len(text)}: streamed ranks {'equal' if same else 'DIFFER FROM'} those of the matrix, which "
        f"{'equal' if as_textbook else 'DIFFER FROM'} those of sorting; from the matrix {ours:.3g} s, "
        f"by sorting {textbook:.3g} s ({textbook / ours:.0f} times as long)"
    )


def columns() -> dict[str, Callable[[Row], str]]:
    """The cells of a row."""
    return {
        "work": lambda row: row["work"],
        "images x captions": lambda row: row["size"],
        "s": lambda row: f"{row['seconds']:.3g}",
        "scoring s": lambda row: f"{row['scoring']:.3g}",
        "ranks s": lambda row: f"{row['seconds'] - row['scoring']:.2g}",
        "x floor": lambda row: "-" if row["floor"] is None else f"{row['seconds'] / row['floor']:.2f}",
        "fragments MB": lambda row: megabytes(row["fragment_bytes"]),
        "extra MB": lambda row: megabytes(row["extra_bytes"]),
        "rSum": lambda row: f"{row['rsum']:.2f}",
        "other ranks %": lambda row: "-" if row["moved"] is None else f"{row['moved']:.2g}",
    }


def main() -> None:
    """Measure the rows and print them."""
    parser = argparse.ArgumentParser(description="Time and memory of ranking all images and captions.")
    parser.add_argument("--images", type=int, default=5000, help="images; there are five captions each")
    parser.add_argument("--matrix-images", type=int, default=1000, help="images of the comparison with a full matrix")
    parser.add_argument("--dim", type=int, default=64, help="size of the fragments")
    parser.add_argument("--regions", type=int, default=36, help="regions an image")
    add_common_options(parser)
    options = parser.parse_args()
    product, facts = begin(options)
    comparison = compare(options, product)
    rows = []
    similarities = {"cosine": CosineSimilarity(), "hard alignment": HardAligningSimilarity(pooling=MeanPooling())}
    for name, similarity in similarities.items():
        rows += measure(name, similarity, options.images, options, product)
    print_table(columns(), rows)
    print(f"\n{comparison}")
    numbers = [{key: value for key, value in row.items() if key != "ranks"} for row in rows]
    write_json(options.json, facts | {"comparison": comparison}, numbers)


if __name__ == "__main__":
    main()
