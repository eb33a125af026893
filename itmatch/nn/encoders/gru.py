"""The text encoder with a GRU."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from itmatch.batch import Captions, Fragments
from itmatch.formats.vocabularies import read_vocabulary
from itmatch.formats.word_vectors import load_word_vectors
from itmatch.hostcopies import on_host
from itmatch.nn.encoders._output import RelationList, takes_no_rows, to_fragments
from itmatch.nn.encoders.base import TextEncoder
from itmatch.nn.pooling import Pooling
from itmatch.nn.recurrent import recurrent_states
from itmatch.nn.relations.base import Relation
from itmatch.ops.checks import check_dropout, check_kind_or_none, check_whole, check_whole_or_none


@runtime_checkable
class WordList(Protocol):
    """A vocabulary as the encoder needs it: its words, in the order of their ids."""

    @property
    def words(self) -> list[str]:
        """The words; the position in the list is the id."""
        ...

    def __len__(self) -> int:
        """Number of words."""
        ...


class GRUTextEncoder(TextEncoder):
    r"""Text encoder: word embeddings and a GRU, by default bidirectional with its two directions averaged.

    Args:
        vocabulary: number of words; or the words in the order of their ids, as a list, an object with ``words``
            (:class:`itmatch.data.Vocabulary`), or the path of a vocabulary file of SCAN, json.
            The words themselves matter only together with ``vectors``, and none is special: the mask says what is
            padding, and the tokenizer, which needs an ``<unk>``, what a word is that is not in the list. None stands
            for "filled in by the command line from the data" and is an error here.
        embed_dim: size D of the shared space, and of the hidden state of each direction.
        word_dim: size of a word embedding; None = the size of ``vectors``, or 300 without.
        num_layers: layers of the GRU.
        bidirectional: read the words in both directions; otherwise from the first to the last.
        vectors: GloVe or fastText text file that initialises the embeddings of the words it holds; needs the words.
        freeze_vectors: keep the whole embedding table as it is at the start, words without a vector included.
        normalize: L2-normalise each word at the end.
        dropout: probability, on the word embeddings and between the layers of the GRU.
        pooling: makes ``Fragments.pooled``, from the words before their normalisation; None makes none.
        relations: blocks through which the words learn from each other, in this order, before pooling and
            normalisation; they are given ``Captions.graph`` too.

    Shape:
        ``Captions`` with input_ids (T, W) -> ``Fragments`` with features (T, W, D). Real tokens stand first in a row.
        Padded positions are never read and come out as 0.

    Formula:
        .. math::
            t_w = (\overrightarrow{h}_w + \overleftarrow{h}_w) / 2, \qquad t_w \leftarrow t_w / \|t_w\|

    Source:
        The text encoder of SCAN and of the GRU model of CHAN. Embeddings start uniform in (-0.1, 0.1). The parameters
        ``embed`` and ``rnn`` have the public names; the ``fc`` in the public state dict of CHAN is not used there.

    Example:
        >>> encoder = GRUTextEncoder(100, 8, word_dim=4)
        >>> mask = torch.tensor([[True, True, True], [True, False, False]])
        >>> encoder(Captions(torch.tensor([[5, 7, 9], [11, 0, 0]]), mask)).features.shape
        torch.Size([2, 3, 8])
    """

    def __init__(
        self,
        vocabulary: int | str | Path | list[str] | WordList | Any = None,  # Any: else jsonargparse compares signatures
        embed_dim: int = 1024,
        *,
        word_dim: int | None = None,
        num_layers: int = 1,
        bidirectional: bool = True,
        vectors: str | Path | None = None,
        freeze_vectors: bool = False,
        normalize: bool = True,
        dropout: float = 0.0,
        pooling: Pooling | None = None,
        relations: list[Relation] | None = None,
    ) -> None:
        super().__init__()
        self.vocabulary_size, words = _read_vocabulary(vocabulary)
        check_whole("GRUTextEncoder.embed_dim", embed_dim)
        check_whole_or_none("GRUTextEncoder.word_dim", word_dim)
        check_whole("GRUTextEncoder.num_layers", num_layers)
        check_dropout("GRUTextEncoder.dropout", dropout)
        pretrained = None if vectors is None else _load_vectors(vectors, words, word_dim)
        self.word_dim = (word_dim or 300) if pretrained is None else pretrained[0].shape[1]
        self.embed_dim, self.normalize = embed_dim, normalize
        self.embed = nn.Embedding(self.vocabulary_size, self.word_dim)
        nn.init.uniform_(self.embed.weight, -0.1, 0.1)
        if pretrained is not None:
            values, found = pretrained
            with torch.no_grad():
                self.embed.weight[found] = values[found].to(self.embed.weight)
        self.embed.weight.requires_grad_(not freeze_vectors)
        self.dropout = nn.Dropout(dropout)
        between = dropout if num_layers > 1 else 0.0  # nn.GRU warns where there is no "between"
        self.rnn = nn.GRU(
            self.word_dim, embed_dim, num_layers, batch_first=True, bidirectional=bidirectional, dropout=between
        )
        self.pooling = check_kind_or_none("pooling", pooling, Pooling)
        self.relations = RelationList(relations)

    def spec_arguments(self) -> dict[str, Any]:
        """The size of the vocabulary in place of its words; the vectors are in the weights by now."""
        arguments = super().spec_arguments()
        real = {"vocabulary": self.vocabulary_size, "word_dim": self.word_dim, "vectors": None}
        return arguments | {name: value for name, value in real.items() if name in arguments}

    @takes_no_rows
    def forward(self, captions: Captions) -> Fragments:
        """Encode the words of a batch of captions."""
        mask = captions.mask
        input_ids = captions.input_ids.masked_fill(~mask, 0)  # (T, W)
        lengths = self._check(captions)
        embedded = self.dropout(self.embed(input_ids))  # (T, W, word_dim)
        self.rnn.flatten_parameters()
        output = recurrent_states(self.rnn, embedded, lengths)
        features = output.view(*mask.shape, -1, self.embed_dim).mean(2)  # (T, W, directions, D) -> (T, W, D)
        related = self.relations(features, mask, None, captions.graph)
        return to_fragments(related, mask, normalize=self.normalize, pooling=self.pooling)

    def _check(self, captions: Captions) -> Tensor:
        """(T,) number of real tokens, in host memory, where everything is checked."""
        mask = on_host(captions.mask)
        lengths, places = mask.sum(1), torch.arange(1, mask.shape[1] + 1)
        ends = (mask * places).amax(1)
        largest = on_host(captions.input_ids).masked_fill(~mask, 0).amax(1)
        if bool((lengths != ends).any()):
            row = int((lengths != ends).nonzero()[0])
            raise ValueError(f"GRUTextEncoder: row {row} of the mask has padding before a real token, expected it last")
        if int(lengths.min()) < 1:
            raise ValueError(f"GRUTextEncoder: row {int(lengths.argmin())} of the mask has no real token")
        if int(largest.max()) >= self.vocabulary_size:
            raise ValueError(
                f"GRUTextEncoder: token id {int(largest.max())} in row {int(largest.argmax())}, expected ids below the "
                f"vocabulary size {self.vocabulary_size}"
            )
        return lengths


def _read_vocabulary(vocabulary: object) -> tuple[int, list[str] | None]:
    """Number of words, and the words where they are known."""
    if isinstance(vocabulary, int) and not isinstance(vocabulary, bool):
        if vocabulary < 1:
            raise ValueError(f"GRUTextEncoder.vocabulary: {vocabulary}, expected at least one word")
        return vocabulary, None
    if isinstance(vocabulary, (str, Path)):
        words = read_vocabulary(vocabulary)
    elif isinstance(vocabulary, (list, tuple)):
        words = list(vocabulary)
    elif isinstance(vocabulary, WordList):
        words = list(vocabulary.words)
    else:
        found = "None" if vocabulary is None else f"a {type(vocabulary).__qualname__}"
        raise TypeError(
            f"GRUTextEncoder.vocabulary: {found}, expected the number of words, a list of words, an object with "
            "`words`, or the path of a vocabulary file"
        )
    if not words:
        raise ValueError("GRUTextEncoder.vocabulary: no words")
    return len(words), words


def _load_vectors(path: str | Path, words: list[str] | None, word_dim: int | None) -> tuple[Tensor, Tensor]:
    if words is None:
        raise ValueError("GRUTextEncoder.vectors needs the words: vocabulary is a number, expected words or a file")
    values, found = load_word_vectors(path, words)
    if word_dim not in (None, values.shape[1]):
        raise ValueError(f"{path}: word vectors of size {values.shape[1]}, expected word_dim {word_dim}")
    return values, found
