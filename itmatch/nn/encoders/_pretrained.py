"""Models of ``transformers`` as parts of encoders: from a name or from settings, and their settings as plain data."""

from __future__ import annotations

import inspect
import json
from pathlib import Path
from typing import Any

from typing_extensions import Self

from itmatch.formats.hub.models import load_pretrained
from itmatch.nn.block import Block
from itmatch.nn.encoders.lora import Lora

_NOT_RECORDED = ("_name_or_path", "transformers_version", "dtype", "torch_dtype")
_NAMES_CODE = ("auto_map", "quantization_config", "use_kernels", "custom_pipelines", "trust_remote_code")
_NAMES_WEIGHTS = ("backbone", "use_pretrained_backbone", "use_timm_backbone", "timm_kwargs", "architecture")


class HasTransformer(Block):
    """What encoders around a model of ``transformers`` have in common.

    The model is the submodule ``transformer``. It is recorded by its settings, so that neither hub nor folder is needed
    to build an encoder again; frozen, it stays in evaluation mode.
    """

    trainable: bool
    transformer: Any

    def take(
        self, transformer: Any, *, trainable: bool, lora: Lora | None = None, gradient_checkpointing: bool = False
    ) -> None:
        """Keep a model, and decide what of it is trained."""
        if gradient_checkpointing:
            _checkpoint_activations(transformer)
        self.trainable = trainable
        transformer.requires_grad_(trainable)
        if lora is not None:
            transformer = lora.added_to(transformer, type(self).__name__, trainable=trainable)
        self.transformer = transformer

    def spec_arguments(self) -> dict[str, Any]:
        """With the transformer's settings, so that neither hub nor folder is needed to build the model again."""
        arguments = super().spec_arguments()
        if "config" in arguments:
            arguments["config"] = recorded(self.transformer.config)
        return arguments

    def train(self, mode: bool = True) -> Self:  # noqa: FBT001, FBT002 (the signature of nn.Module)
        """Set the mode of everything but a frozen transformer, which stays in evaluation mode."""
        super().train(mode)
        self.transformer.train(mode and self.trainable)
        return self


def named_or_new(model_name: str | Path | None, config: dict[str, Any] | None, where: str, kind: str) -> Any:
    """The model of a name or a folder; from settings, if there are some, with random weights.

    Raises:
        ValueError: neither is given, or no model can be made of the settings.
    """
    if config is not None:
        return model_from_config(config, where)
    if model_name is None:
        raise ValueError(f"{where}: neither model_name nor config, expected one of them")
    return load_pretrained("AutoModel", str(model_name), kind)


def without_pooler(model: Any) -> Any:
    """A model that makes hidden states alone: no pooler, whose weights would never have a gradient; in float32."""
    optional = "add_pooling_layer" in inspect.signature(type(model).__init__).parameters
    if optional and getattr(model, "pooler", None) is not None:
        model.pooler = None
    return model.float()  # models are stored in half precision too; autocast is meant for that


def _checkpoint_activations(model: Any) -> None:
    current = hasattr(model, "activation_checkpointing_enable")  # its name since transformers 5
    enable = model.activation_checkpointing_enable if current else model.gradient_checkpointing_enable
    enable({"use_reentrant": False})


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
