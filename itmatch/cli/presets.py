"""``itmatch presets``: lists the packaged configurations, or prints one."""

from __future__ import annotations

from itmatch.presets import describe_presets, preset_text


def presets(name: str | None = None) -> None:
    """Without NAME: list the presets. With NAME: print that preset's whole configuration, as --config takes it.

    Args:
        name: of a preset.
    """
    print(describe_presets() if name is None else preset_text(name).rstrip())
