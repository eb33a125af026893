"""One training step without its bookkeeping: from a batch to the loss."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from itmatch.batch import Batch, Captions, Fragments, Regions
from itmatch.losses import Loss, Matches, paired
from itmatch.models import MatchingModel
from itmatch.ops.checks import check_kind
from itmatch.ops.collectives import all_gather_ragged, is_distributed
from itmatch.ops.ragged import Ragged

Relevance: TypeAlias = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class StepResult:
    """What one batch gave.

    Args:
        loss: scalar.
        matches: what the loss has read.
        terms: the parts of the loss that count in this epoch, before weighting (:meth:`itmatch.losses.Loss.values`).
    """

    loss: Tensor
    matches: Matches
    terms: dict[str, Tensor]


def compute_loss(
    model: MatchingModel,
    objective: Loss,
    batch: Batch,
    *,
    relevance: Relevance | None = None,
    anchors: Sequence[MatchingModel] = (),
    gather_negatives: bool = True,
    encode_chunk: int | None = None,
) -> StepResult:
    """Encode both sides of a batch, compute what the objective needs of them, and take the loss.

    On several processes with ``gather_negatives``, the loss is that of all their batches together, and the same on
    every process. A process scores its own images with the captions of all; captions, rows of scores and vectors
    travel, gradients travel back. The mean over the processes of the parameters' gradients is that of one process with
    the whole batch. Images and captions are told apart by their positions in the dataset, so two captions of an image
    are no negatives of each other wherever they are. A loss that draws random numbers draws other ones on every
    process.

    Args:
        model: the parts that score.
        objective: what is made of the scores, the vectors, or whatever it needs.
        batch: images and captions of this process.
        relevance: how well captions fit images, by their positions in the dataset: (I,) and (T,) to (I, T).
        anchors: other models, in evaluation mode, whose scores of the batch the objective may read.
        gather_negatives: whether processes share their negatives; without, each takes the loss of its own batch.
        encode_chunk: images, and captions, that are encoded at a time; see :func:`encode`.

    Raises:
        ValueError: the batch lacks images or captions; the objective reads vectors and an encoder makes none; the loss
            is not one number.
    """
    if batch.regions is None or batch.image_index is None:
        raise ValueError("compute_loss: a batch without images, expected images and captions")
    if batch.captions is None or batch.caption_image is None or batch.caption_index is None:
        raise ValueError("compute_loss: a batch without captions, expected images and captions")
    image = encode(model.image_encoder, batch.regions, encode_chunk)
    text = encode(model.text_encoder, batch.captions, encode_chunk)
    shared = gather_negatives and is_distributed()
    gather = all_gather_ragged if shared else _keep
    index, caption_image = gather(batch.image_index), gather(batch.caption_image)
    positives, needs = index[:, None] == caption_image[None, :], objective.needs  # (I, T)
    scores = first = second = None
    captions = _of_all(text) if shared and needs & {"scores", "fragments"} else text
    if "scores" in needs:
        scores = gather(model.similarity(image, captions))
    if needs & {"image", "text"}:
        image_vectors, text_vectors = (gather(side) for side in _vectors(image, text, objective))
        first, second = paired(image_vectors, text_vectors, positives)[:2]
    read = needs | objective.uses
    places = gather(batch.caption_index) if "captions" in read or (relevance and "relevance" in read) else None
    matches = Matches(
        scores,
        positives,
        first,
        second,
        caption_image,
        relevance(index, places) if relevance and places is not None and "relevance" in read else None,
        places if "captions" in read else None,
        _anchor_scores(anchors, batch, shared=shared) if anchors and "anchors" in read else None,
        (_of_all(image) if shared else image, captions) if "fragments" in needs else None,
    )
    terms = objective.values(matches)
    loss = objective.total(terms)
    if check_kind("objective", loss, Tensor).ndim:
        raise ValueError(f"objective: a loss of shape {tuple(loss.shape)}, expected one number (reduction='none'?)")
    if first is not None and second is not None:  # before a term of them starts, what makes them is in the graph
        loss = loss + (first[:0].sum() + second[:0].sum()).to(loss.dtype)  # of no rows: 0 whatever they hold
    return StepResult(loss, matches, terms)


def encode(encoder: nn.Module, data: Regions | Captions, chunk: int | None) -> Fragments:
    """Fragments of a batch, encoded some rows at a time in less memory.

    What an encoder computes on the way is forgotten, and computed again in the backward pass, one chunk after the
    other, with the same random numbers. So the activations of one chunk are in memory at a time, while the scores and
    the loss are those of the whole batch. It costs a second forward pass of the encoders. They have to treat rows apart
    from each other, which batch normalisation does not; dropout draws other numbers for chunks than for the whole.

    Args:
        encoder: Regions or Captions -> Fragments.
        data: its input.
        chunk: rows at a time; None encodes all of them at once, and keeps the activations.

    Source:
        Gradient caching (Gao, Zhang, Han and Callan, RepL4NLP 2021), by checkpoints of autograd, which holds the cached
        gradients of the fragments itself.
    """
    if chunk is None or not torch.is_grad_enabled():
        fragments: Fragments = encoder(data)
        return fragments
    parts: list[Fragments] = []
    for start in range(0, len(data), chunk):
        part = data[start : start + chunk]
        # The mask is handed over for its device alone, whose random state is kept for the second pass.
        parts.append(checkpoint(lambda _, part=part: encoder(part), part.mask, use_reentrant=False))
    return Fragments.cat(parts)


def check_relevance_known(objective: Loss, relevance: Relevance | None) -> None:
    """Raise if an objective needs to know how well captions fit images, and nobody says."""
    names = [type(part).__name__ for part in objective.parts.values() if "relevance" in part.needs]
    if names and relevance is None:
        raise ValueError(
            f"objective: {names[0]} needs to know how well captions fit images, and the data does not say; give it "
            "MatchingData(relevance=...), --data.relevance itmatch.data.CaptionOverlap for one"
        )


def check_rows_apart(encoder: nn.Module, name: str) -> None:
    """Raise if an encoder makes what it makes of an image from the others in the batch too."""
    for path, module in encoder.named_modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            raise ValueError(
                f"encode_chunk: {name}.{path} normalises over the batch, and would do so over each chunk; leave "
                "encode_chunk out"
            )


@torch.no_grad()
def _anchor_scores(anchors: Sequence[MatchingModel], batch: Batch, *, shared: bool) -> Tensor:
    """Scores (A, I, T) by other models, of the images and captions that the model in training scores."""
    assert batch.regions is not None
    assert batch.captions is not None
    scores = []
    for model in anchors:
        text = model.text_encoder(batch.captions)
        found = model.similarity(model.image_encoder(batch.regions), _of_all(text) if shared else text)
        scores.append(all_gather_ragged(found) if shared else found)
    return torch.stack(scores)


def _keep(tensor: Tensor) -> Tensor:
    return tensor


def _of_all(fragments: Fragments) -> Fragments:
    return Ragged.of(fragments).gathered()[:]


def _vectors(image: Fragments, text: Fragments, objective: Loss) -> tuple[Tensor, Tensor]:
    if image.pooled is not None and text.pooled is not None:
        return image.pooled, text.pooled
    name, loss = next((name, part) for name, part in objective.parts.items() if part.needs & {"image", "text"})
    parts = [f"{side}_encoder" for side, x in (("image", image), ("text", text)) if x.pooled is None]
    raise ValueError(
        f"objective{name and f', term {name!r}'}: {type(loss).__name__} takes one vector per image and one per "
        f"caption, and none comes from {' and '.join(parts)}; both encoders need `pooling=`"
    )


def step_statistics(objective: Loss, result: StepResult, *, logged: bool) -> tuple[Tensor, dict[str, Tensor]]:
    """The loss of a step per pair; and of one that is logged, by name, the terms of the loss and mean scores."""
    scores, positives = result.matches.scores, result.matches.get("positives", objective)
    values = {name: value.detach() for name, value in result.terms.items()}
    terms = objective.per_pair(values, positives.sum().clamp(min=1))
    statistics = {f"train/loss_{name}": value for name, value in terms.items() if name and logged}
    if scores is not None and logged:
        statistics |= score_statistics(scores.detach(), positives)
    return objective.total(terms), statistics


def score_statistics(scores: Tensor, positives: Tensor) -> dict[str, Tensor]:
    """Mean score of the positives, and mean over the images of the highest score of a negative."""
    statistics = {"train/positive": scores[positives].float().mean()}
    has_negative = (~positives).any(1)
    if bool(has_negative.any()):
        hardest = scores[has_negative].masked_fill(positives[has_negative], -torch.inf).amax(1)
        statistics["train/hardest_negative"] = hardest.float().mean()
    return statistics
