"""CHAN's claim on photos: hard against soft alignment, poolings, self-attention, and the mean-pooled cosine model.

    python examples/results/chan.py DATA/flickr8k --vectors DATA/word_vectors/glove.8k.100d.txt

Runs every variant with three seeds under the budget of budget.py and prints the table of docs/results.md.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from budget import encoders, print_table, run_all


def parts(
    data: Any, vectors: str | None, *, similarity: tuple[str, dict[str, Any]], margin: float, attention: bool = False
) -> dict[str, Any]:
    """The parts of one variant; a similarity is given as name and arguments, its pooling likewise."""
    from itmatch import nn
    from itmatch.losses import HardNegativeTripletLoss

    name, arguments = similarity
    if "pooling" in arguments:
        pooling, options = arguments["pooling"]
        arguments = {**arguments, "pooling": getattr(nn, pooling)(**options)}
    return {
        **encoders(data, vectors, self_attention=attention),
        "similarity": getattr(nn, name)(**arguments),
        "objective": HardNegativeTripletLoss(margin=margin, warmup_epochs=1),
    }


def hard(pooling: str, query: str = "words", **options: Any) -> tuple[str, dict[str, Any]]:
    """Hard alignment with a pooling."""
    return "HardAligningSimilarity", {"query": query, "pooling": (pooling, options)}


COSINE = ("CosineSimilarity", {})
SOFT = ("SoftAligningSimilarity", {"temperature": 0.1, "query": "words", "pooling": ("MeanPooling", {})})
LSE = hard("LogSumExpPooling", temperature=0.1, scaled=False)

VARIANTS = {
    "hard_mean": partial(parts, similarity=hard("MeanPooling"), margin=0.05),
    "cosine": partial(parts, similarity=COSINE, margin=0.2),
    "soft_mean": partial(parts, similarity=SOFT, margin=0.05),
    "hard_lse": partial(parts, similarity=LSE, margin=0.05),
    "hard_max": partial(parts, similarity=hard("MaxPooling"), margin=0.05),
    "hard_mean_attention": partial(parts, similarity=hard("MeanPooling"), margin=0.05, attention=True),
    "hard_mean_margin": partial(parts, similarity=hard("MeanPooling"), margin=0.2),
    "cosine_margin": partial(parts, similarity=COSINE, margin=0.05),
}
LABELS = {
    "hard_mean": "hard, mean",
    "cosine": "mean-pooled cosine, margin 0.2",
    "soft_mean": "soft (temperature 0.1), mean",
    "hard_lse": "hard, log-sum-exp",
    "hard_max": "hard, max",
    "hard_mean_attention": "hard, mean, self-attention",
    "hard_mean_margin": "hard, mean, margin 0.2",
    "cosine_margin": "mean-pooled cosine, margin 0.05",
}

if __name__ == "__main__":
    print_table(run_all(VARIANTS, __doc__.splitlines()[0]), LABELS)
