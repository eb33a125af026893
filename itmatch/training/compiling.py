"""Encoders through torch.compile."""

from __future__ import annotations

from torch import nn

from itmatch.models import MatchingModel


def compile_encoders(model: MatchingModel) -> list[str]:
    """Have torch.compile take the encoders that it can take whole, at their next call; returns their names.

    An encoder with a recurrent network stays as it is, since torch.compile leaves such networks out and would cut the
    rest to pieces around them. Similarities stay as they are: their tiles are cut by values. The names of the weights
    do not change.
    """
    compiled = []
    for name in ("image_encoder", "text_encoder"):
        encoder: nn.Module = getattr(model, name)
        if not any(isinstance(module, nn.RNNBase) for module in encoder.modules()):
            if encoder._compiled_call_impl is None:  # once, for fit, validation and test
                encoder.compile()
            compiled.append(name)
    return compiled
