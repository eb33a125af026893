"""Every system with a bidirectional GRU, as the benchmarks build it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from itmatch.models import (
    MatchingModel,
    chan_gru,
    cmsei_gru,
    hire_gru,
    resg_gru,
    scan_gru,
    sgraf_gru,
    vse_infty_gru,
    vse_pp_gru,
)


def systems(
    sizes: Mapping[str, Any], vocabulary: Any = 8000, predicates: int = 50
) -> dict[str, Callable[[], MatchingModel]]:
    """By name, each ready to be built.

    Args:
        sizes: ``region_dim``, ``embed_dim`` and ``word_dim``.
        vocabulary: of the words, or its size.
        predicates: classes of relations.
    """
    return {
        "VSE++": partial(vse_pp_gru, vocabulary, **sizes),
        "VSE-infinity": partial(vse_infty_gru, vocabulary, **sizes),
        "SCAN": partial(scan_gru, vocabulary, **sizes),
        "SGR": partial(sgraf_gru, vocabulary, **sizes),
        "CHAN": partial(chan_gru, vocabulary, **sizes),
        "CMSEI": partial(cmsei_gru, vocabulary, num_predicates=predicates, **sizes),
        "Hire": partial(hire_gru, vocabulary, num_predicates=predicates, **sizes),
        "ReSG": partial(resg_gru, vocabulary, predicates=predicates, **sizes),
    }
