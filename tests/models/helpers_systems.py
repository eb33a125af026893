"""Regions with boxes and a scene graph, and captions, for models that use relations."""

import torch

from itmatch.batch import Regions, SceneGraph
from itmatch.data import CaptionItem, Collator
from itmatch.losses import HardNegativeTripletLoss
from itmatch.ops import lengths_to_mask

WORDS = ["<pad>", "<start>", "<end>", "<unk>", "a", "black", "white", "dog", "cat"]
TEXTS = ["a black dog", "a white dog", "a black cat", "a white cat"]


def regions(**replace):
    """Four images of 3, 2, 3 and 1 regions; the third has no relation."""
    generator = torch.Generator().manual_seed(0)
    boxes = torch.tensor([[0.0, 0.0, 0.5, 0.5], [0.0, 0.1, 0.5, 0.5], [0.1, 0.0, 0.6, 0.5]])  # these overlap
    graph = SceneGraph(
        edge_index=torch.tensor([[0, 1, 0, 1], [1, 2, 1, 0]]),
        row=torch.tensor([0, 0, 1, 1]),
        num_rows=4,
        predicate=torch.tensor([0, 2, 1, 1]),
        confidence=torch.tensor([0.9, 0.2, 0.8, 0.1]),
    )
    fields = {
        "features": torch.randn(4, 3, 6, generator=generator),
        "mask": lengths_to_mask(torch.tensor([3, 2, 3, 1])),
        "boxes": boxes.repeat(4, 1, 1),
        "graph": graph,
    }
    return Regions(**fields | replace)


def captions(model):
    """The four texts, as token ids."""
    return Collator(model.tokenizer)([CaptionItem(i, i, text) for i, text in enumerate(TEXTS)]).captions


def change_start(model):
    """Move every parameter a little, so that layers that start at zero do something."""
    torch.manual_seed(3)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model


def learns(model, images, text, *, steps, margin):
    """Whether some steps on one batch make the loss clearly smaller; every gradient on the way is finite."""
    loss, losses = HardNegativeTripletLoss(margin=margin, negatives="all"), []
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    model.train()
    for _ in range(steps):
        losses.append(loss(model(images, text)))
        optimizer.zero_grad()
        losses[-1].backward()
        assert all(parameter.grad.isfinite().all() for parameter in model.parameters() if parameter.grad is not None)
        optimizer.step()
    return losses[-1] < 0.7 * losses[0]
