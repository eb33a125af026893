"""Models of ``transformers`` from settings, and their settings as plain data."""

from __future__ import annotations

import json
from typing import Any

_NOT_RECORDED = ("_name_or_path", "transformers_version", "dtype", "torch_dtype")
_NAMES_CODE = ("auto_map", "quantization_config", "use_kernels", "custom_pipelines", "trust_remote_code")
_NAMES_WEIGHTS = ("backbone", "use_pretrained_backbone", "use_timm_backbone", "timm_kwargs", "architecture")


def model_from_config(config: dict[str, Any], where: str) -> Any:
    """A model with random weights.

    Raises:
        ValueError: no such type of model, or settings that it does not have; names ``where``.
    """
    from transformers import AutoConfig, AutoModel

    settings = dict(config)
    _check_plain_settings(settings, f"{where}.config")
    model_type = settings.pop("model_type", None)
    try:
        made = AutoConfig.for_model(model_type, **settings)
        return AutoModel.from_config(made, trust_remote_code=False)  # type: ignore[no-untyped-call]
    except ImportError:
        raise
    except Exception as error:  # each model has its own ways to refuse
        cause = " ".join(str(error).split())[:200] or type(error).__name__
        raise ValueError(f"{where}.config: no settings of a model_type {model_type!r} ({cause})") from error


def _check_plain_settings(settings: Any, where: str) -> None:
    """Settings may come with a model from elsewhere, and some of them name code or weights to be fetched from the hub.

    Raises:
        ValueError: there is one of those, or an implementation of attention that is the name of a repository.
    """
    for key, value in settings.items() if isinstance(settings, dict) else ():
        here = f"{where}.{key}"
        if (key in _NAMES_CODE or key in _NAMES_WEIGHTS) and value not in (None, False):
            raise ValueError(f"{here}: names code or weights that would be fetched; it is not taken from settings")
        if str(key).endswith("_implementation") or str(key).endswith("_implementation_internal"):
            named = value.values() if isinstance(value, dict) else [value]
            if not all(one is None or (isinstance(one, str) and one.isidentifier()) for one in named):
                raise ValueError(f"{here}: {value!r}, expected the name of a built-in one, such as 'sdpa' or 'eager'")
        _check_plain_settings(value, here)


def recorded(config: Any) -> dict[str, Any]:
    """The settings from which :func:`model_from_config` builds the same model."""
    found: dict[str, Any] = _without(json.loads(config.to_json_string(use_diff=False)))
    return found


def _without(settings: Any) -> Any:
    if isinstance(settings, dict):
        return {key: _without(value) for key, value in settings.items() if key not in _NOT_RECORDED}
    return settings
