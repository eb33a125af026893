"""Extraction that says how it goes on."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence

from itmatch.vision.parts import Plan, extract_parts


def extract_with_progress(plan: Plan, parts: Sequence[int], told: Callable[[str], None] | None = None) -> None:
    """Extract parts, with a line about how it goes on that is written over where somebody sees it.

    Args:
        plan: of the extraction.
        parts: which.
        told: is called with a line about each photo that cannot be read; None = it is written.
    """
    count = sum(min(plan.part_size, len(plan.photos) - part * plan.part_size) for part in parts)
    seen, text = sys.stderr.isatty(), ""
    for done, rate in extract_parts(plan, parts, told or (lambda error: print(error, file=sys.stderr))):
        text = f"{done} of {count} photos, {rate:.1f} photos per second"
        if seen:
            print(f"\r{text}", end="", file=sys.stderr, flush=True)
    if text:
        print(f"\r{text}" if seen else text, file=sys.stderr)
