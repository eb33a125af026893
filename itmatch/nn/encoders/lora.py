"""Training a large model by small updates of its weights."""

from __future__ import annotations

from typing import Any

from itmatch.ops.checks import check_above_zero, check_dropout, check_several, check_whole
from itmatch.spec import Configurable

_TARGETS = ["query", "value", "q_proj", "v_proj", "q_lin", "v_lin"]  # by the names that transformers has for them


class Lora(Configurable):
    r"""LoRA: the weights of a model stay as they are, and products of two narrow matrices are learned beside some.

    It needs ``peft``: ``pip install "itmatch[lora]"``. A model with it is saved whole, with the weights that stayed as
    they were.

    Args:
        rank: r, width of the matrices.
        alpha: the update is multiplied by ``alpha / rank``.
        dropout: probability, on what the update reads.
        targets: names of the linear layers, or their last parts, as ``["q_proj", "v_proj"]``; None = those of queries
            and values.

    Formula:
        .. math:: y = W x + b + \frac{\alpha}{r} B A x

        with :math:`A` random and :math:`B = 0` at the start, so that a training begins with the model as it is.

    Source:
        Hu et al., "LoRA: Low-Rank Adaptation of Large Language Models", ICLR 2022.

    Example:
        >>> Lora(rank=4).spec["init_args"]["alpha"]
        16.0
    """

    def __init__(
        self, rank: int = 8, alpha: float = 16.0, dropout: float = 0.0, targets: list[str] | None = None
    ) -> None:
        self.rank, self.alpha = check_whole("rank", rank), check_above_zero("alpha", alpha)
        self.dropout = check_dropout("dropout", dropout)
        self.targets = None if targets is None else list(check_several("targets", targets))

    def __repr__(self) -> str:
        """The settings, as an encoder with them is shown."""
        return f"Lora({self.extra_repr()})"

    def added_to(self, model: Any, where: str, *, trainable: bool) -> Any:
        """The same model, with the updates in it; nothing else of it is trained.

        Raises:
            ImportError: ``peft`` is not installed.
            ValueError: the model has no such layers, or is not to be trained.
        """
        if not trainable:
            raise ValueError(f"{where}: lora with trainable=False, expected one of them")
        try:
            from peft import LoraConfig, inject_adapter_in_model
        except ImportError as error:
            raise ImportError(f'{where}.lora needs peft: pip install "itmatch[lora]"') from error
        targets = _TARGETS if self.targets is None else self.targets
        alpha: Any = self.alpha  # annotated as a whole number there, and only divided by the rank
        settings = LoraConfig(r=self.rank, lora_alpha=alpha, lora_dropout=self.dropout, target_modules=list(targets))
        try:
            return inject_adapter_in_model(settings, model)
        except ValueError as error:
            raise ValueError(
                f"{where}.lora: targets {', '.join(targets)}: {type(model).__name__} has no such linear layers"
            ) from error
