"""A training step of each system: time over its floor, against textbook scoring, and memory with gradient caching.

    python examples/benchmarks/training.py --threads 2
    python examples/benchmarks/training.py --soak 2000

A step is: encode a batch of made-up images and captions, score all pairs, triplet loss with the hardest negatives,
gradients of all parameters. docs/benchmarks.md says how to read the table. ``--soak`` trains on the built-in data for
so many steps instead, and prints the memory of the process along the way.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import textbook
import torch
from inputs import caption_lengths
from measure import (
    Product,
    add_common_options,
    begin,
    megabytes,
    peak_extra_bytes,
    print_table,
    resident,
    seconds,
    told,
    trim,
    write_json,
)
from torch import Tensor

from itmatch.batch import Batch, Captions, Fragments, Regions, SceneGraph
from itmatch.losses import HardNegativeTripletLoss
from itmatch.models import MatchingModel, chan_gru, cmsei_gru, hire_gru, resg_gru
from itmatch.ops import lengths_to_mask
from itmatch.training.step import compute_loss

VOCABULARY, PREDICATES, EDGES = 8000, 50, 25  # sizes of the public sets
OBJECTIVE = HardNegativeTripletLoss(margin=0.05, warmup_epochs=0)
Row = dict[str, Any]


def systems(options: argparse.Namespace) -> dict[str, Callable[[], MatchingModel]]:
    """The four systems with a bidirectional GRU, in their published form."""
    sizes = {"region_dim": options.features, "embed_dim": options.dim, "word_dim": options.words}
    return {
        "CHAN": partial(chan_gru, VOCABULARY, **sizes),
        "CMSEI": partial(cmsei_gru, VOCABULARY, num_predicates=PREDICATES, **sizes),
        "Hire": partial(hire_gru, VOCABULARY, num_predicates=PREDICATES, **sizes),
        "ReSG": partial(resg_gru, VOCABULARY, predicates=PREDICATES, **sizes),
    }


def made_up(options: argparse.Namespace) -> Batch:
    """A batch of images with boxes and scene graphs, each with one caption."""
    generator = torch.Generator().manual_seed(0)
    images, regions = options.batch, options.regions
    corners = 0.6 * torch.rand(images, regions, 2, generator=generator)
    sizes = 0.1 + 0.3 * torch.rand(images, regions, 2, generator=generator)
    edges = torch.randint(regions, (2, images * EDGES), generator=generator)
    graph = SceneGraph(
        edges,
        torch.arange(images).repeat_interleave(EDGES),
        images,
        torch.randint(PREDICATES, (images * EDGES,), generator=generator),
        torch.rand(images * EDGES, generator=generator),
    )
    mask = lengths_to_mask(caption_lengths(images, generator))
    places = torch.arange(images)
    return Batch(
        Regions(
            torch.randn(images, regions, options.features, generator=generator),
            torch.ones(images, regions, dtype=torch.bool),
            torch.cat((corners, corners + sizes), 2),
            graph=graph,
        ),
        Captions(torch.randint(VOCABULARY, mask.shape, generator=generator), mask),
        places,
        places,
        places,
    ).to(options.device)


def textbook_scores(name: str, model: MatchingModel, image: Fragments, text: Fragments) -> Tensor:
    """Scores as a textbook has them; ReSG has no textbook version here."""
    words = [features[mask] for features, mask in zip(text.features, text.mask, strict=True)]
    if name == "CHAN":
        return textbook.hard_alignment(image.features, words, lambda x: 0.1 * (x / 0.1).logsumexp(1))
    return textbook.interactive(image.features, words, model.similarity)


def jobs(name: str, model: MatchingModel, batch: Batch, options: argparse.Namespace) -> dict[str, Callable[[], None]]:
    """What is timed: a step, one with gradient caching, the encoders alone, and a step with textbook scoring."""

    def step(chunk: int | None = None) -> None:
        model.zero_grad()
        compute_loss(model, OBJECTIVE, batch, encode_chunk=chunk).loss.backward()

    def encode() -> tuple[Fragments, Fragments]:
        assert batch.regions is not None
        assert batch.captions is not None
        model.zero_grad()
        return model.image_encoder(batch.regions), model.text_encoder(batch.captions)

    def encoders() -> None:
        (encode_image, encode_text) = encode()
        torch.autograd.backward([f.features for f in (encode_image, encode_text)], gradients)

    def with_textbook() -> None:
        OBJECTIVE(textbook_scores(name, model, *encode()), batch.positives()).backward()

    gradients = [torch.randn_like(side.features) for side in encode()]
    found = {"library": step, "encoders": encoders}
    if options.chunk:
        found["cached"] = partial(step, options.chunk)
    if options.textbook and name != "ReSG":
        found["textbook"] = with_textbook
    return found


def measure(name: str, options: argparse.Namespace, product: Product) -> Iterator[Row]:
    """The rows of a system: as it is, and with gradient caching."""
    torch.manual_seed(0)
    model = systems(options)[name]().to(options.device)
    batch = made_up(options)
    work = jobs(name, model, batch, options)
    memory = {}
    for job, run in work.items():
        if job != "textbook":
            run()  # gradients exist from now on, and whatever is done once only
        _, memory[job] = peak_extra_bytes(run, product.device)
    times: dict[str, list[float]] = {job: [] for job in work}
    rates = []
    for turn in range(options.repeat):
        rates.append(product.rate())
        for job, run in work.items():
            if job != "textbook" or turn == 0:
                times[job].append(seconds(run, product.device))
    medians = {job: statistics.median(values) for job, values in times.items()}
    assert batch.regions is not None
    assert batch.captions is not None
    words = int(batch.captions.mask.sum())
    scoring = 2 * int(batch.regions.mask.sum()) * words * options.dim / statistics.median(rates)
    for job, label in (("library", name), ("cached", f"{name}, {options.chunk} at a time")):
        if job in work:
            yield {
                "work": label,
                "batch": options.batch,
                "seconds": medians[job],
                "encoders": medians["encoders"],
                "floor": medians["encoders"] + scoring,
                "textbook": medians.get("textbook"),
                "extra_bytes": memory[job],
                "textbook_extra_bytes": memory.get("textbook"),
                "parameters": sum(parameter.numel() for parameter in model.parameters()),
            }


def soak(options: argparse.Namespace) -> None:
    """Train on the built-in data and print the size of the process about twenty times on the way."""
    from lightning.pytorch import Callback, Trainer, seed_everything

    from itmatch.data import RelationScenes
    from itmatch.training import MatchingData, MatchingTask

    sizes: list[int] = []
    every = max(1, options.soak // 20)

    class Watch(Callback):
        def on_train_batch_end(self, trainer: Any, *_: Any) -> None:
            if trainer.global_step % every == 0:
                trim()
                sizes.append(resident())
                print(f"step {trainer.global_step}: {sizes[-1] / 2**20:.1f} MB", flush=True)

    if options.threads:
        torch.set_num_threads(options.threads)
    seed_everything(0)
    data = MatchingData(RelationScenes(num_train=400, num_val=50), batch_size=64)
    model = chan_gru(data.vocabulary, region_dim=data.feature_dim, embed_dim=64, word_dim=32)
    trainer = Trainer(
        accelerator="cpu",
        max_steps=options.soak,
        max_epochs=-1,
        callbacks=[Watch()],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        num_sanity_val_steps=0,
        check_val_every_n_epoch=5,
    )
    trainer.fit(MatchingTask.from_model(model, objective=HardNegativeTripletLoss(margin=0.05)), data)
    after = sizes[min(1, len(sizes) - 1) :]  # a tenth of the steps to warm up
    print(f"after step {2 * every}: {after[0] / 2**20:.1f} MB; most since: {max(after) / 2**20:.1f} MB")


def columns() -> dict[str, Callable[[Row], str]]:
    """The cells of a row."""
    return {
        "system": lambda row: row["work"],
        "batch": lambda row: str(row["batch"]),
        "ms a step": lambda row: f"{1000 * row['seconds']:.0f}",
        "of it encoders": lambda row: f"{1000 * row['encoders']:.0f}",
        "x floor": lambda row: f"{row['seconds'] / row['floor']:.2f}",
        "textbook ms": lambda row: "-" if row["textbook"] is None else f"{1000 * row['textbook']:.0f}",
        "times faster": lambda row: "-" if row["textbook"] is None else f"{row['textbook'] / row['seconds']:.1f}",
        "extra MB": lambda row: megabytes(row["extra_bytes"]),
        "textbook MB": lambda row: megabytes(row["textbook_extra_bytes"]),
        "parameters": lambda row: f"{row['parameters']:,}",
    }


def main() -> None:
    """Measure the rows and print them."""
    parser = argparse.ArgumentParser(description="Time and memory of a training step.")
    parser.add_argument("--batch", type=int, default=128, help="images, each with a caption")
    parser.add_argument("--dim", type=int, default=1024, help="size of the fragments")
    parser.add_argument("--features", type=int, default=2048, help="size of the region features")
    parser.add_argument("--words", type=int, default=300, help="size of the word vectors")
    parser.add_argument("--regions", type=int, default=36, help="regions an image")
    parser.add_argument("--chunk", type=int, default=16, help="rows at a time with gradient caching; 0 leaves it out")
    add_common_options(parser)
    parser.add_argument("--repeat", type=int, default=3, help="times are medians of so many steps")
    parser.add_argument("--only", nargs="+", choices=["CHAN", "CMSEI", "Hire", "ReSG"], help="only these systems")
    parser.add_argument("--no-textbook", dest="textbook", action="store_false", help="leave the slow comparison out")
    parser.add_argument("--soak", type=int, help="train for so many steps and watch the memory, in place of the table")
    options = parser.parse_args()
    if options.soak:
        soak(options)
        return
    product, facts = begin(options)
    rows = []
    for name in options.only or systems(options):
        for row in measure(name, options, product):
            rows.append(told(row))
    print_table(columns(), rows)
    write_json(options.json, facts, rows)


if __name__ == "__main__":
    main()
