"""Parameter groups with learning rates and weight decay of their own, and what a checkpoint does to them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor
from torch.optim import AdamW, Optimizer


@dataclass(frozen=True, eq=False)
class ParameterGroup:
    """Parameters that are trained alike.

    Args:
        parameters: the trainable ones.
        factor: on the learning rate.
        decays: whether weight decay acts on them.
    """

    parameters: list[Tensor]
    factor: float
    decays: bool = True


def default_optimizer(params: Any) -> Optimizer:
    """AdamW with the family's learning rate, 5e-4."""
    return AdamW(params, lr=5e-4)


def make_optimizer(
    make: Callable[[Any], Optimizer],
    parameters: Iterable[tuple[str, Tensor]],
    lr_scale: Mapping[str, float],
    *,
    decay_one_dimensional: bool,
) -> tuple[Optimizer, list[ParameterGroup]]:
    """An optimizer, and what its groups of parameters are.

    Args:
        make: makes the optimizer from parameter groups.
        parameters: by name.
        lr_scale: factors on the learning rate, by the beginning of names.
        decay_one_dimensional: weight decay acts on biases, norms and learned scales too. An optimizer without weight
            decay, such as LBFGS, gets one group a factor either way.

    Raises:
        ValueError: a beginning in ``lr_scale`` fits no parameter.
    """
    groups = parameter_groups(parameters, lr_scale)
    optimizer = make([{"params": group.parameters} for group in groups])
    if not decay_one_dimensional and "weight_decay" in optimizer.defaults and not _flattened(groups):
        groups = [part for group in groups for part in _by_decay(group)]
        optimizer = make([{"params": g.parameters} | ({} if g.decays else {"weight_decay": 0.0}) for g in groups])
    for settings, group in zip(optimizer.param_groups, groups, strict=True):
        settings["lr"] = settings["lr"] * group.factor
    optimizer.register_load_state_dict_pre_hook(_check_groups)
    return optimizer, groups


def parameter_groups(parameters: Iterable[tuple[str, Tensor]], lr_scale: Mapping[str, float]) -> list[ParameterGroup]:
    """Trainable parameters by the factor on their learning rate.

    Raises:
        ValueError: a beginning in ``lr_scale`` fits no parameter, or its factor is negative or not finite.
    """
    for part, factor in lr_scale.items():
        if not 0 <= factor < float("inf"):
            raise ValueError(f"lr_scale: {factor} for {part!r}, expected a finite number, 0 or more")
    groups: dict[float, list[Tensor]] = {}
    unused = set(lr_scale)
    names = []
    for name, parameter in parameters:
        name = name.removeprefix("model.")
        names.append(name)
        fitting = [part for part in lr_scale if name == part or name.startswith(part.rstrip(".") + ".")]
        unused.difference_update(fitting)
        factor = lr_scale[max(fitting, key=len)] if fitting else 1.0
        if parameter.requires_grad:
            groups.setdefault(factor, []).append(parameter)
    if unused:
        parts = sorted({".".join(name.split(".")[:2]) for name in names})
        raise ValueError(f"lr_scale: no parameter begins with {sorted(unused)}; parts are {parts}")
    return [ParameterGroup(found, factor) for factor, found in groups.items()]


def _by_decay(group: ParameterGroup) -> list[ParameterGroup]:
    """Matrices and tables, which decay, apart from biases, norms and learned scales, which do not."""
    parts = []
    for decays in (True, False):
        found = [parameter for parameter in group.parameters if (parameter.ndim > 1) == decays]
        if found:
            parts.append(replace(group, parameters=found, decays=decays))
    return parts


def _flattened(groups: Sequence[ParameterGroup]) -> bool:
    """Whether the shapes of the parameters are no longer told, as with the first form of FSDP."""
    found = any(getattr(parameter, "_fsdp_flattened", False) for group in groups for parameter in group.parameters)
    if found:
        rank_zero_warn("FSDP has flattened the parameters: weight decay acts on biases and norms too")
    return found


def _check_groups(optimizer: Optimizer, state: dict[str, Any]) -> None:
    """Raise one clear line where a checkpoint has other groups; what torch says does not help."""
    found, expected = len(state["param_groups"]), len(optimizer.param_groups)
    if found != expected:
        raise ValueError(
            f"the checkpoint's optimizer has {found} groups of parameters, expected {expected}: it was trained with "
            "other lr_scale, another optimizer, or the other decay_one_dimensional (True goes on with a checkpoint of "
            "before there was this option)"
        )


def replaced_settings(optimizer: Optimizer, groups: Sequence[ParameterGroup]) -> list[str]:
    """Settings of the parameter groups that are not those the optimizer was made with.

    Args:
        optimizer: whose ``defaults`` are what was given, and whose groups may come from a checkpoint.
        groups: as :func:`make_optimizer` made them.
    """
    changed = {}
    for settings, group in zip(optimizer.param_groups, groups, strict=True):
        for name, given in optimizer.defaults.items():
            found, expected = settings.get(name, given), given
            if name == "lr":
                found, expected = settings.get("initial_lr", settings["lr"]), given * group.factor
            elif name == "weight_decay" and not group.decays:
                expected = 0.0
            if not isinstance(given, Tensor) and found != expected:
                changed[name] = f"{name} is {found}, not {expected}"
    return list(changed.values())
