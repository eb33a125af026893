"""Who does what to whom: systems before captions with a relation turned round or replaced, on photos.

    itmatch data parse DATA/flickr8k train dev test --triples      # and the same for DATA/flickr30k_scenes
    itmatch data choices DATA/flickr8k test
    python examples/results/choices.py systems DATA/flickr8k --vectors DATA/word_vectors/glove.8k.100d.txt
    python examples/results/choices.py relations DATA/flickr30k_scenes --vectors DATA/word_vectors/glove.8k.100d.txt

Trains the variants of systems.py, or of relations.py, within the budget of that table, and asks every model all
questions of the test split. The recalls beside them are those of that table. The models stay, for robustness.py.
"""

from __future__ import annotations

import argparse
import math
import statistics
from collections.abc import Iterable
from dataclasses import replace
from functools import partial
from typing import Any

import relations
import systems
from budget import LABELS, add_options, run_each


def words_alone() -> Any:
    """CMSEI's similarity without attention across levels."""
    from itmatch.nn import InteractiveSimilarity

    return InteractiveSimilarity(cross_level=None)


TABLES: dict[str, tuple[Any, dict[str, Any]]] = {
    "systems": (
        systems,
        {
            **systems.VARIANTS,
            "cmsei_none": partial(systems.parts, similarity=systems.interactive, margin=0.05),
            "cmsei_words": partial(systems.parts, similarity=words_alone, margin=0.05),
        },
    ),
    "relations": (relations, relations.VARIANTS),
}
ASKED = {
    "systems": ("vse_infty", "chan", "scan_t2i", "cmsei_none", "cmsei_words", "cmsei", "hire", "resg"),
    "relations": ("chan", "scan_t2i", "cmsei_none", "cmsei_both", "hire", "resg_all"),
}
MORE = {"cmsei_none": LABELS["cmsei_none"], "cmsei_words": "CMSEI, no graph, nothing across levels"}
KINDS = ("swap", "replace")


def choices(task: Any, data: Any, seed: int) -> dict[str, Any]:
    """Share of the questions that are answered well, its standard error, and the same about another image."""
    from itmatch.data import read_choices
    from itmatch.models.choosing import measure_choices

    asked = read_choices(data.source.root / "test_choices.jsonl")
    figures = measure_choices(task.model, data.source.split("test"), asked)
    return {"choices": {one.kind: (one.count, one.value, one.error, one.blind, one.blind_error) for one in figures}}


def print_choices(results: dict[str, list[dict[str, Any]]], labels: dict[str, str]) -> None:
    """A Markdown table: means over the seeds, with a standard error from the seeds and from the questions."""
    heads = [f"{kind}{what}" for kind in KINDS for what in ("", ", other image")]
    print("| | " + " | ".join(heads) + " | rSum | seeds |")
    print("|---" * (len(heads) + 3) + "|")
    for name, runs in results.items():
        found = [[run["choices"][kind] for run in runs] for kind in KINDS]
        cells = [_mean((one[at], one[at + 1]) for one in kind) for kind in found for at in (1, 3)]
        rsum = [run["test"]["rsum"] for run in runs]
        spread = f" ± {statistics.stdev(rsum):.1f}" if len(rsum) > 1 else ""
        row = [labels[name], *cells, f"{statistics.mean(rsum):.1f}{spread}", str(len(runs))]
        print("| " + " | ".join(row) + " |")


def _mean(values: Iterable[tuple[float, float]]) -> str:
    """The mean over models, whose error has two parts: other questions, which all models share, and other seeds."""
    means, errors = zip(*values, strict=True)
    seeds = statistics.variance(means) / len(means) if len(means) > 1 else 0.0
    return f"{statistics.mean(means):.1f} ± {math.hypot(statistics.mean(errors), math.sqrt(seeds)):.1f}"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("table", choices=list(TABLES), help="whose variants and budget")
    parser.add_argument("root", help="folder of region features, captions and test_choices.jsonl")
    parser.add_argument("--vectors", help="text file of word vectors; without it they start at random")
    add_options(parser, list(dict.fromkeys(sum(ASKED.values(), ()))), epochs=0, out="runs/choices")
    options = parser.parse_args()
    module, variants = TABLES[options.table]
    budget = replace(module.BUDGET, epochs=options.epochs or module.BUDGET.epochs, also=choices, keep_models=True)
    names = [name for name in ASKED[options.table] if name in options.only]
    print_choices(
        run_each([(budget, n, variants[n], s, options) for s in options.seeds for n in names], options),
        {**LABELS, **module.LABELS, **MORE},
    )
