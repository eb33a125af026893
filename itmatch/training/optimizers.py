"""Parameter groups with learning rates of their own, and what a checkpoint does to them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from torch import Tensor
from torch.optim import Optimizer


def parameter_groups(
    parameters: Iterable[tuple[str, Tensor]], lr_scale: Mapping[str, float]
) -> dict[float, list[Tensor]]:
    """Trainable parameters by the factor on their learning rate.

    Raises:
        ValueError: a beginning in ``lr_scale`` fits no parameter.
    """
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
    return groups


def replaced_settings(optimizer: Optimizer, factors: Sequence[float]) -> list[str]:
    """Settings of the parameter groups that are not those the optimizer was made with.

    Args:
        optimizer: whose ``defaults`` are what was given, and whose groups may come from a checkpoint.
        factors: on the learning rate of each group.
    """
    changed = {}
    for group, factor in zip(optimizer.param_groups, factors, strict=True):
        for name, given in optimizer.defaults.items():
            found = group.get("initial_lr", group["lr"]) if name == "lr" else group.get(name, given)
            expected = given * factor if name == "lr" else given
            if not isinstance(given, Tensor) and found != expected:
                changed[name] = f"{name} is {found}, not {expected}"
    return list(changed.values())
