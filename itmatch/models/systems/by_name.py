"""The systems of this library by name, as plain data."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from itmatch.formats.messages import close_to, meant
from itmatch.models.matching import MatchingModel
from itmatch.models.parts import PARTS
from itmatch.models.systems import avse, chan, clip, cmsei, dive, hire, hrem, laps, resg, scan, sgraf, vse
from itmatch.spec import Spec, noted_spec, only_noted

SYSTEMS: dict[str, Callable[..., MatchingModel]] = {
    name: function
    for module in (avse, chan, clip, cmsei, dive, hire, hrem, laps, resg, scan, sgraf, vse)
    for name, function in sorted(vars(module).items())
    if name.endswith(("_gru", "_bert", "_vit", "_swin", "_dual_encoder"))
}
OF_THE_DATA = ("vocabulary", "region_dim")


class _OfTheData(int):
    """Stands for a size that nobody knows before the data are there."""


def system_specs(name: str, settings: Mapping[str, Any]) -> dict[str, Spec]:
    """The parts of a system, without building any: the names of :data:`itmatch.models.parts.PARTS`.

    What the data decide (the vocabulary, the size of the features) is left out; so are tokenizer and extractor, where
    the system has none of its own.

    Args:
        name: of a function in :data:`SYSTEMS`; no other is ever called.
        settings: its arguments.

    Raises:
        ValueError: no such system, or it has no such argument.

    Example:
        >>> system_specs("chan_bert", {"embed_dim": 64})["image_encoder"]
        {'class_path': 'itmatch.nn.RegionEncoder', 'init_args': {'embed_dim': 64}}
    """
    if name not in SYSTEMS:
        raise ValueError(f"no system {name!r}; {meant(name, SYSTEMS)}")
    for argument in OF_THE_DATA:
        if argument in settings:
            raise ValueError(f"{name}: {argument} comes from the data and cannot be set")
    unknown = _OfTheData()
    of_the_data = [argument for argument in OF_THE_DATA if argument in inspect.signature(SYSTEMS[name]).parameters]
    try:
        with only_noted():
            model = SYSTEMS[name](**dict.fromkeys(of_the_data, unknown), **settings)
    except TypeError as error:  # an argument that the system, or a block of it, does not have
        known = inspect.signature(SYSTEMS[name]).parameters
        close = next(filter(None, (close_to(one, known) for one in settings if one not in known)), None)
        told = "" if close is None else f"; did you mean {close!r}?"
        raise ValueError(f"{name}: {str(error).removeprefix(f'{name}() ')}{told}") from None
    parts = {part: getattr(model, part) for part in PARTS}
    return {part: noted_spec(value, unknown) for part, value in parts.items() if value is not None}
