"""CHAN's claim on photos: hard against soft alignment, poolings, self-attention, and the mean-pooled cosine model.

    python examples/results/chan.py DATA/flickr8k --vectors DATA/word_vectors/glove.8k.100d.txt

Runs every variant with three seeds under the budget of budget.py and prints the table of docs/results.md.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from budget import image_encoder, print_table, run_all, text_encoder


def make(
    data: Any, vectors: str | None, *, similarity: Any, margin: float, self_attention: bool = False
) -> dict[str, Any]:
    """The parts of one variant."""
    from itmatch.losses import HardNegativeTripletLoss

    return {
        "image_encoder": image_encoder(data, self_attention=self_attention),
        "text_encoder": text_encoder(data, vectors),
        "similarity": similarity(),
        "objective": HardNegativeTripletLoss(margin=margin, warmup_epochs=1),
    }


def cosine() -> Any:
    from itmatch.nn import CosineSimilarity

    return CosineSimilarity()


def hard(pooling: str, query: str = "words", **options: Any) -> Any:
    from itmatch import nn

    return nn.HardAligningSimilarity(query=query, pooling=getattr(nn, pooling)(**options))


def soft(temperature: float) -> Any:
    from itmatch import nn

    return nn.SoftAligningSimilarity(temperature=temperature, query="words", pooling=nn.MeanPooling())


LSE = partial(hard, "LogSumExpPooling", temperature=0.1, scaled=True)
VARIANTS = {
    "cosine": partial(make, similarity=cosine, margin=0.2),
    "hard_mean": partial(make, similarity=partial(hard, "MeanPooling"), margin=0.2),
    "hard_lse": partial(make, similarity=LSE, margin=0.05),
    "hard_max": partial(make, similarity=partial(hard, "MaxPooling"), margin=0.2),
    "hard_regions": partial(make, similarity=partial(hard, "MeanPooling", query="regions"), margin=0.2),
    "soft_mean": partial(make, similarity=partial(soft, 0.1), margin=0.2),
    "hard_mean_attention": partial(make, similarity=partial(hard, "MeanPooling"), margin=0.2, self_attention=True),
    "hard_lse_attention": partial(make, similarity=LSE, margin=0.05, self_attention=True),
}
LABELS = {
    "cosine": "mean-pooled cosine",
    "hard_mean": "hard, words query, mean",
    "hard_lse": "hard, words query, log-sum-exp",
    "hard_max": "hard, words query, max",
    "hard_regions": "hard, regions query, mean",
    "soft_mean": "soft (0.1), words query, mean",
    "hard_mean_attention": "hard, words query, mean + self-attention",
    "hard_lse_attention": "hard, words query, log-sum-exp + self-attention",
}

if __name__ == "__main__":
    print_table(run_all(VARIANTS, __doc__.splitlines()[0]), LABELS)
