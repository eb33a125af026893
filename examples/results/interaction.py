"""What should attention across levels do in CMSEI: nothing, refine the alignment, or make a score of its own?

    python examples/results/interaction.py DATA/flickr30k_scenes --vectors DATA/word_vectors/glove.8k.100d.txt

The data, encoders and objective are those of relations.py; batches are smaller and epochs fewer, so that a run takes
a few minutes. Dev, by which one chooses, is the 100 dev photos and the last 300 test photos; the first 400 are tested.
"""

from __future__ import annotations

import math
import statistics
from dataclasses import replace
from functools import partial
from typing import Any

import budget
import relations

LOGARITHM = "log_"  # begins the name of a parameter that is the logarithm of a factor


def learned(task: Any, *_: Any) -> dict[str, Any]:
    """Where the learned factors of the similarity ended."""
    found = {}
    for name, parameter in task.model.similarity.named_parameters():
        value = float(parameter.detach())
        found[name.removeprefix(LOGARITHM)] = math.exp(value) if name.startswith(LOGARITHM) else value
    return {"learned": found}


def one_side(fixed: str, *arguments: Any, **options: Any) -> dict[str, Any]:
    """The parts of a variant in which the other side alone is refined: one factor stays 0."""
    import torch

    found = relations.parts(*arguments, similarity=("InteractiveSimilarity", {}), **options)
    factor = getattr(found["similarity"], fixed)
    with torch.no_grad():
        factor.zero_()
    factor.requires_grad = False
    return found


def learned_temperatures(*arguments: Any, **options: Any) -> dict[str, Any]:
    """The parts of a variant whose three temperatures are learned, from where they are fixed otherwise.

    Their logarithms are the parameters: no step of the optimizer can make a temperature 0 or negative.
    """
    import torch

    from itmatch.nn import InteractiveSimilarity

    class LearnedTemperatures(InteractiveSimilarity):
        """The temperatures follow from the parameters."""

    found = relations.parts(*arguments, similarity=("InteractiveSimilarity", {}), **options)
    similarity = found["similarity"]
    for name in ("region_temperature", "word_temperature", "cross_level_temperature"):
        logarithm = torch.nn.Parameter(torch.tensor(getattr(similarity, name)).log())
        delattr(similarity, name)
        similarity.register_parameter(LOGARITHM + name, logarithm)
        setattr(LearnedTemperatures, name, property(lambda self, own=LOGARITHM + name: getattr(self, own).exp()))
    similarity.__class__ = LearnedTemperatures
    return found


LEVELS = {"score": "score", "off": None, "refine": "refine"}
SYSTEMS: dict[str, dict[str, Any]] = {
    "cmsei_none": {},
    "cmsei_both": {"graph": {}},
    "hire": {"graph": {}, "implicit": True},
}
VARIANTS = {
    f"{system}_{name}": partial(
        relations.parts, similarity=("InteractiveSimilarity", {"cross_level": level}), **options
    )
    for system, options in SYSTEMS.items()
    for name, level in LEVELS.items()
}
VARIANTS["cmsei_none_regions"] = partial(one_side, "gamma_words")
VARIANTS["cmsei_none_words"] = partial(one_side, "gamma_regions")
VARIANTS["cmsei_none_temperature"] = learned_temperatures
READINGS = {"score": "a third score", "off": "no attention across levels", "refine": "refined"}
LABELS = {f"{system}_{name}": f"{budget.LABELS[system]}, {READINGS[name]}" for system in SYSTEMS for name in LEVELS}
LABELS["cmsei_none_regions"] = "CMSEI, no graph, regions alone refined"
LABELS["cmsei_none_words"] = "CMSEI, no graph, words alone refined"
LABELS["cmsei_none_temperature"] = "CMSEI, no graph, refined, temperatures learned"
BUDGET = replace(relations.BUDGET, epochs=3, batch_size=32, also=learned)


def print_readings(results: dict[str, list[dict[str, Any]]]) -> None:
    """A row for each system and reading: dev and test rSum, the factors that were learned, the time of a step."""
    print("| | dev rSum | test rSum | learned factors | ms a step | seeds |\n" + "|---" * 6 + "|")
    for name, runs in results.items():
        factors = {factor: [run["learned"][factor] for run in runs] for factor in runs[0]["learned"]}
        cells = [
            LABELS[name],
            budget.mean([run["dev_rsum"][-1] for run in runs]),
            budget.mean([run["test"]["rsum"] for run in runs]),
        ]
        cells.append(", ".join(f"{factor} {statistics.mean(values):.2f}" for factor, values in factors.items()))
        cells += [f"{min(run['step_ms'] for run in runs):.0f}", str(len(runs))]
        print("| " + " | ".join(cells) + " |")


if __name__ == "__main__":
    print_readings(budget.run_all(VARIANTS, __doc__.splitlines()[0], BUDGET))
