"""The text encoder with a pretrained transformer."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from itmatch.batch import Captions, Fragments
from itmatch.nn.encoders._output import RelationList, takes_no_rows, to_fragments
from itmatch.nn.encoders._pretrained import HasTransformer, named_or_new, without_pooler
from itmatch.nn.encoders.base import TextEncoder
from itmatch.nn.encoders.lora import Lora
from itmatch.nn.linear import Perceptron, xavier_linear
from itmatch.nn.pooling import Pooling
from itmatch.nn.relations.base import Relation
from itmatch.ops.checks import check_dropout, check_kind_or_none, check_whole


class TransformerTextEncoder(HasTransformer, TextEncoder):
    """Text encoder: a text model of ``transformers``, its last hidden states projected into the shared space.

    Args:
        model_name: name on the Hugging Face hub (``"bert-base-uncased"``), or a local folder that
            ``save_pretrained`` has written.
        embed_dim: size D of the shared space.
        config: the settings of the transformer, ``{"model_type": "bert", "hidden_size": 64, ...}``; it is then built
            from them, with random weights, and ``model_name`` is not looked up. A checkpoint rebuilds through it.
        trainable: False freezes the transformer and keeps its dropout off; nothing is stored for its backward pass.
        normalize: L2-normalise each word at the end.
        dropout: probability, on the hidden states before the projection.
        gradient_checkpointing: trade time for memory in the backward pass.
        bf16: run the transformer, and nothing else, under bfloat16 autocast. Its weights stay in float32. Not for
            CPUs without instructions for it, where it is very slow.
        pooling: makes ``Fragments.pooled``, from the words before their normalisation; None makes none.
        relations: blocks through which the words learn from each other, in this order, before pooling and
            normalisation; they are given ``Captions.graph`` too.
        mlp: add to the projection that of a perceptron, as :class:`RegionEncoder` has it.
        lora: train small updates of the transformer's weights, and not these.

    Shape:
        ``Captions`` with input_ids (T, W) of the model's own tokenizer -> ``Fragments`` with features (T, W, D). Padded
        positions are never read and come out as 0. Special tokens count as words.

    Source:
        The BERT model of CHAN: last hidden states and a linear layer, 768 to D. The transformer is the submodule
        ``transformer``, so a learning rate of its own can be given to ``text_encoder.transformer``.

    Example:
        >>> config = {"model_type": "bert", "vocab_size": 50, "hidden_size": 16, "num_hidden_layers": 1,
        ...           "num_attention_heads": 2, "intermediate_size": 32}
        >>> encoder = TransformerTextEncoder(embed_dim=8, config=config)
        >>> mask = torch.tensor([[True, True, True], [True, True, False]])
        >>> encoder(Captions(torch.tensor([[2, 7, 3], [2, 3, 0]]), mask)).features.shape
        torch.Size([2, 3, 8])
    """

    def __init__(
        self,
        model_name: str | Path | None = None,
        embed_dim: int = 1024,
        *,
        config: dict[str, Any] | None = None,
        trainable: bool = True,
        normalize: bool = True,
        dropout: float = 0.0,
        gradient_checkpointing: bool = False,
        bf16: bool = False,
        pooling: Pooling | None = None,
        relations: list[Relation] | None = None,
        mlp: bool = False,
        lora: Lora | None = None,
    ) -> None:
        super().__init__()
        check_whole("TransformerTextEncoder.embed_dim", embed_dim)
        check_dropout("TransformerTextEncoder.dropout", dropout)
        model = named_or_new(model_name, config, "TransformerTextEncoder", "text model")
        self.embed_dim, self.normalize, self.bf16 = embed_dim, normalize, bf16
        if getattr(model.config, "is_encoder_decoder", False):
            model = model.get_encoder()
        self.take(without_pooler(model), trainable=trainable, lora=lora, gradient_checkpointing=gradient_checkpointing)
        hidden_size = getattr(self.transformer.config, "hidden_size", None)
        if not isinstance(hidden_size, int):
            raise ValueError(f"{model_name or config}: no text encoder, its configuration has no hidden_size")
        self.fc = xavier_linear(hidden_size, embed_dim)
        self.mlp = Perceptron(hidden_size, embed_dim) if mlp else None
        self.dropout = nn.Dropout(dropout)
        self.pooling = check_kind_or_none("pooling", pooling, Pooling)
        self.relations = RelationList(relations)
        self.train(self.training)  # `from_pretrained` hands the model over in evaluation mode

    @takes_no_rows
    def forward(self, captions: Captions) -> Fragments:
        """Encode the tokens of a batch of captions."""
        mask = captions.mask
        padding = getattr(self.transformer.config, "pad_token_id", None) or 0
        input_ids = captions.input_ids.masked_fill(~mask, padding)  # (T, W); RoBERTa counts positions by the pad id
        self._check(input_ids)
        half = torch.autocast(mask.device.type, torch.bfloat16) if self.bf16 else nullcontext()
        with half:
            output = self.transformer(input_ids=input_ids, attention_mask=mask.long())
        hidden = output.last_hidden_state.to(self.fc.weight.dtype)  # (T, W, H)
        hidden = self.dropout(hidden)
        features = self.fc(hidden)
        if self.mlp is not None:
            features = self.mlp.added_to(features, hidden, mask)
        related = self.relations(features, mask, None, captions.graph)
        return to_fragments(related, mask, normalize=self.normalize, pooling=self.pooling)

    def _check(self, input_ids: Tensor) -> None:
        config = self.transformer.config
        longest = getattr(config, "max_position_embeddings", None)
        if longest is not None and input_ids.shape[1] > longest:
            raise ValueError(
                f"TransformerTextEncoder: captions of {input_ids.shape[1]} tokens, expected at most {longest}"
            )
        if input_ids.device.type != "cpu" or torch.compiler.is_compiling():
            return  # looking at values would wait for the device
        size = self.transformer.get_input_embeddings().num_embeddings
        if int(input_ids.max()) >= size:
            raise ValueError(
                f"TransformerTextEncoder: token id {int(input_ids.max())}, expected ids below the vocabulary size "
                f"{size} (the tokenizer has to be the model's own)"
            )
