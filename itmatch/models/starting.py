"""A model that starts with the weights of another one."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from itmatch.models.matching import MatchingModel
from itmatch.models.weights import fill_weights


def start_from(model: MatchingModel, other: MatchingModel, where: str = "the other model") -> list[str]:
    """Give a model the weights of another one that is built like it; its words may be other ones.

    The embedding of a word goes to the same word, whatever its id. A word that the other model does not know keeps the
    embedding that it has, which is that of a new model.

    Args:
        model: changed; its tokenizer is that of its new data.
        other: where the weights come from.
        where: what it was read from, for error messages.

    Returns:
        The words that the other model does not know.

    Raises:
        ValueError: the models are not built alike, or their tokenizers give other ids to what are no words.

    Example:
        >>> from itmatch.data import WordTokenizer
        >>> from itmatch.models import chan_gru
        >>> def made(words):
        ...     tokenizer = WordTokenizer(["<pad>", "<start>", "<end>", "<unk>", *words])
        ...     model = chan_gru(tokenizer.vocabulary, region_dim=4, embed_dim=8, word_dim=3)
        ...     model.tokenizer = tokenizer
        ...     return model
        >>> start_from(made(["dog", "a", "red"]), made(["a", "dog"]))
        ['red']
    """
    found = other.state_dict()
    new = [] if model.tokenizer is None or other.tokenizer is None else _take_words(model, other, found, where)
    fill_weights(model, found, where)
    return new


def _take_words(model: MatchingModel, other: MatchingModel, found: dict[str, Tensor], where: str) -> list[str]:
    """Bring the tables of words into the order of the model's own words."""
    assert model.tokenizer is not None  # asked for before
    assert other.tokenizer is not None
    if model.tokenizer.fingerprint == other.tokenizer.fingerprint:
        return []
    own, known = model.tokenizer.vocabulary, other.tokenizer.vocabulary
    if own is None or known is None:
        raise ValueError(
            f"{where}: its tokenizer ({type(other.tokenizer).__name__} of {other.tokenizer.vocab_size} tokens) is not "
            f"that of the data ({type(model.tokenizer).__name__} of {model.tokenizer.vocab_size} tokens)"
        )
    if own == known:
        return []
    both = [(own[word], known[word]) for word in own.words if word in known]
    here, there = torch.tensor(both).T
    weights, tables = model.state_dict(), 0
    for path, module in model.text_encoder.named_modules():
        name = f"text_encoder.{path}.weight"
        table = found.get(name)
        if isinstance(module, nn.Embedding) and table is not None and len(module.weight) == len(own):
            if len(table) != len(known) or table.shape[1:] != module.weight.shape[1:]:
                continue  # no table of words, or one of another size, which is told of when it is filled in
            found[name] = weights[name].clone().index_copy_(0, here, table.to(weights[name])[there])
            tables += 1
    if not tables:
        raise ValueError(
            f"{where}: no embedding in {type(model.text_encoder).__name__} with a row for each of {len(own)} words, "
            f"and {len(known)} rows there"
        )
    return [word for word in own.words if word not in known]
