"""Every similarity and every loss on a device and in its precisions, against the same on the CPU in float32."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

import itmatch.losses
import itmatch.nn
from itmatch.batch import Fragments
from itmatch.losses import HardNegativeTripletLoss, Loss, Matches
from itmatch.nn import Similarity
from itmatch.ops import l2_normalize, lengths_to_mask

MODES = ("float32", "tf32", "bf16")
BOUND = 1e-3  # of float32: above it the two do not compute the same
IMAGES, CAPTIONS, REGIONS, WORDS, DIM = 12, 20, 17, 9, 64
_BUILT: dict[str, dict[str, Any]] = {
    "BlockSimilarity": {"block_dim": DIM // 4},
    "PatchSlimmingSimilarity": {"embed_dim": DIM, "num_patches": REGIONS - 1},
    "VectorSimilarity": {"embed_dim": DIM},
    "BatchRelationLoss": {"embed_dim": DIM, "num_heads": 4, "dropout": 0.0},
    "MemoryLoss": {"loss": HardNegativeTripletLoss(), "embed_dim": DIM, "size": 64},
    "Objective": {"terms": {"triplet": HardNegativeTripletLoss(), "again": HardNegativeTripletLoss(0.4)}},
}


def found(module: Any, base: type) -> dict[str, Callable[[], Any]]:
    """Every public class of a kind that is no base class, by name, ready to be built."""
    classes = {name: getattr(module, name) for name in module.__all__}
    return {
        name: partial(cls, **_BUILT.get(name, {}))
        for name, cls in classes.items()
        if inspect.isclass(cls) and issubclass(cls, base) and not _is_base(cls)
    }


def _is_base(cls: type) -> bool:
    return any(getattr(getattr(cls, name, None), "__isabstractmethod__", False) for name in dir(cls))


def similarities() -> dict[str, Callable[[], Similarity]]:
    """All of them, and those with a choice of queries for regions and for both."""
    made = found(itmatch.nn, Similarity)
    for name in ("HardAligningSimilarity", "SoftAligningSimilarity", "CrossAttentionSimilarity"):
        for query in ("regions", "both"):
            made[f"{name}, {query}"] = partial(getattr(itmatch.nn, name), query=query)
    return made


def losses() -> dict[str, Callable[[], Loss]]:
    """All of them."""
    return found(itmatch.losses, Loss)


@contextmanager
def precision(mode: str, device: torch.device) -> Iterator[None]:
    """Products in float32, in TF32 where a GPU has it, or bf16 by autocast."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high" if mode == "tf32" else "highest")
    try:
        with torch.autocast(device.type, torch.bfloat16, enabled=mode == "bf16"):
            yield
    finally:
        torch.set_float32_matmul_precision(before)


def sides(seed: int = 0) -> tuple[Fragments, Fragments]:
    """Images and captions of random unit fragments, padded, some of them relations; a caption resembles its image."""
    generator = torch.Generator().manual_seed(seed)
    image = l2_normalize(torch.randn(IMAGES, REGIONS, DIM, generator=generator))
    lengths = torch.randint(4, WORDS + 1, (CAPTIONS,), generator=generator)
    lengths[0] = WORDS
    mask = lengths_to_mask(lengths)
    words = image[torch.arange(CAPTIONS) % IMAGES][:, :WORDS] + 0.2 * torch.randn(
        CAPTIONS, WORDS, DIM, generator=generator
    )
    words = l2_normalize(words).masked_fill(~mask[..., None], 0)
    real = lengths_to_mask(torch.full((IMAGES,), REGIONS))
    relation = torch.arange(REGIONS).expand(IMAGES, -1) >= REGIONS - 3
    of_words = (torch.arange(WORDS) == 3).expand(CAPTIONS, -1) & mask
    return (
        Fragments(image, real, l2_normalize(image.mean(1)), relation.clone()),
        Fragments(words, mask, l2_normalize(words.sum(1)), of_words),
    )


def matches() -> Matches:
    """What any loss may read."""
    generator = torch.Generator().manual_seed(1)
    image, text = sides()
    scores = 0.5 * torch.randn(IMAGES, CAPTIONS, generator=generator).tanh()
    owner = torch.arange(CAPTIONS) % IMAGES
    positives = torch.arange(IMAGES)[:, None] == owner
    assert image.pooled is not None
    relevance = torch.rand(IMAGES, CAPTIONS, generator=generator).masked_fill(positives, 1)
    anchors = 0.5 * torch.randn(1, IMAGES, CAPTIONS, generator=generator).tanh()
    assert text.pooled is not None
    vectors = image.pooled[owner], text.pooled.clone()  # leaves of their own
    return Matches(scores, positives, *vectors, owner, relevance, torch.arange(CAPTIONS), anchors, (image, text))


def _leaves(*fragments: Fragments) -> list[Tensor]:
    return [x.requires_grad_() for side in fragments for x in (side.features, side.pooled) if x is not None]


def of_similarity(module: nn.Module, device: torch.device, mode: str) -> list[Tensor]:
    """Scores, and the gradients of both sides, in host memory."""
    image, text = (side.to(device) for side in sides())
    leaves = _leaves(image, text)
    weights = torch.randn(IMAGES, CAPTIONS, generator=torch.Generator().manual_seed(2)).to(device)
    with precision(mode, device):
        scores = module(image, text)
        gradients = torch.autograd.grad((scores.float() * weights).sum(), leaves, materialize_grads=True)
    return [x.detach().float().cpu() for x in (scores, *gradients)]


def of_loss(module: Loss, device: torch.device, mode: str) -> list[Tensor]:
    """The value, and the gradients of whatever it has read, in host memory."""
    given = matches()
    image, text = (side.to(device) for side in given.fragments or ())
    moved = {
        name: value.to(device) if isinstance(value, Tensor) else (image, text) for name, value in vars(given).items()
    }
    leaves = [moved[name].requires_grad_() for name in ("scores", "image", "text")]
    leaves += _leaves(image, text)
    module.set_epoch(5)
    torch.manual_seed(0)
    with precision(mode, device):
        value = module.of(Matches(**moved))
        gradients = torch.autograd.grad(value.sum(), leaves, materialize_grads=True)
    return [x.detach().float().cpu() for x in (value, *gradients)]


def distance(ours: list[Tensor], theirs: list[Tensor]) -> tuple[float, float]:
    """How far apart values, and gradients, are: the length of the difference over the length of the twin's."""

    def relative(a: list[Tensor], b: list[Tensor]) -> float:
        first, second = (torch.cat([x.double().flatten() for x in side]) for side in (a, b))
        return float((first - second).norm() / second.norm().clamp(min=1e-12))

    return relative(ours[:1], theirs[:1]), relative(ours[1:], theirs[1:])


def compare(device: torch.device, modes: tuple[str, ...] = MODES) -> Iterator[dict[str, Any]]:
    """A row for each similarity and loss: distances of values and gradients by mode, of which float32 is one."""
    kinds = [(name, make, of_similarity) for name, make in similarities().items()]
    kinds += [(name, make, of_loss) for name, make in losses().items()]  # type: ignore[list-item]
    for name, make, run in kinds:
        torch.manual_seed(0)
        module = make().eval()
        twin = run(copy.deepcopy(module), torch.device("cpu"), "float32")  # type: ignore[arg-type]
        row: dict[str, Any] = {"work": name}
        for mode in modes:
            ours = run(copy.deepcopy(module).to(device), device, mode)  # type: ignore[arg-type]
            row[mode], row[f"{mode}, gradient"] = distance(ours, twin)
        row["same"] = row["float32"] <= BOUND and row["float32, gradient"] <= BOUND
        yield row
