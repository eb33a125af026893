"""Training on several processes is training on one with the whole batch."""

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch.nn.parallel import DistributedDataParallel

from itmatch import losses
from itmatch.data import Collator, PairDataset, RelationScenes, WordTokenizer
from itmatch.models import MatchingModel, resg_gru
from itmatch.nn import (
    GRUTextEncoder,
    HardAligningSimilarity,
    InteractiveSimilarity,
    MeanPooling,
    RegionEncoder,
    SpatialSemanticGCN,
)
from itmatch.ops import packing
from itmatch.training.step import compute_loss

# Captions of each process, by the number of processes. Five captions describe an image: two processes have the same
# image, and one caption comes twice, as it does where a sampler fills the shares up.
SHARES = {2: [[0, 1, 5, 10, 11, 3], [6, 2, 15, 0]], 3: [[0, 5, 1, 10, 15], [6, 11, 16], [2, 0]]}


def make_collate():
    """From places of captions in a small dataset to a batch; the vocabulary; the size of the features."""
    dataset = RelationScenes("easy", num_train=8, num_val=2, num_test=2, text_graphs=True).split("train")
    tokenizer, pairs = WordTokenizer(), PairDataset(dataset)
    tokenizer.fit(dataset.captions)
    collator = Collator(tokenizer)
    return (
        lambda places: doubled(collator([pairs[place] for place in places])),
        tokenizer.vocabulary,
        dataset.feature_dim,
    )


def doubled(value):
    """A batch in float64, so that sums in another order show no difference."""
    if isinstance(value, torch.Tensor):
        return value.double() if value.is_floating_point() else value
    return None if value is None else value._map(doubled)


def resg_objective():
    return losses.Objective(
        {
            "triplet": losses.HardNegativeTripletLoss(margin=0.2, warmup_epochs=0),
            "center": losses.CenterHingeLoss(),
            "positive_negative": losses.PositiveNegativeMarginLoss(0.8, 0.4),
        }
    )


def systems(vocabulary, dim):
    """Models and objectives: each kind of similarity, each kind of objective."""
    mean = MeanPooling()

    def encoders(relations=None):
        image = RegionEncoder(dim, 8, pooling=mean, relations=relations)
        return image, GRUTextEncoder(vocabulary, 8, word_dim=6, pooling=mean)

    chan = MatchingModel(*encoders(), HardAligningSimilarity(pooling=mean))
    yield "chan, triplet", chan, losses.HardNegativeTripletLoss(margin=0.2, warmup_epochs=0)
    yield "chan, all negatives", chan, losses.HardNegativeTripletLoss(margin=0.2, negatives="all")
    yield "chan, InfoNCE", chan, losses.InfoNCELoss(temperature=0.1, learnable=True)
    yield "vectors", chan, losses.CenterHingeLoss()
    gcn = SpatialSemanticGCN(8, threshold=0.0, num_predicates=10)
    yield "cmsei", MatchingModel(*encoders([gcn]), InteractiveSimilarity(pooling=mean)), losses.InfoNCELoss()
    yield "resg", resg_gru(vocabulary, region_dim=dim, embed_dim=8, word_dim=6, predicates=10), resg_objective()


class Step(torch.nn.Module):
    """The loss of a batch, in float64; parameters that start at 0 are moved, so that all others have a gradient."""

    def __init__(self, model, objective, **options):
        super().__init__()
        self.model, self.objective, self.options = model, objective, options
        self.double()
        for parameter in self.parameters():
            if not bool(parameter.any()):
                torch.nn.init.constant_(parameter, 0.1)

    def forward(self, batch):
        return compute_loss(self.model, self.objective, batch, **self.options).loss


def gradients(module, batch):
    module.zero_grad()
    loss = module(batch)
    loss.backward()
    parameters = (module.module if hasattr(module, "module") else module).named_parameters()
    return loss.detach(), {name: p.grad.clone() for name, p in parameters if p.grad is not None}


def largest_difference(found, expected):
    """Relative to the largest entry of each parameter's gradient."""
    assert found.keys() == expected.keys()
    return max(
        float((found[name] - value).abs().max() / value.abs().max().clamp(min=1e-12))
        for name, value in expected.items()
    )


def check_systems(rank, world, find_unused):
    collate, vocabulary, dim = make_collate()
    whole, own = collate([place for share in SHARES[world] for place in share]), collate(SHARES[world][rank])
    torch.manual_seed(0)
    for name, model, objective in systems(vocabulary, dim):
        single = Step(model, objective, gather_negatives=False)
        expected_loss, expected = gradients(single, whole)
        shared = DistributedDataParallel(Step(model, objective), find_unused_parameters=find_unused)
        loss, found = gradients(shared, own)
        torch.testing.assert_close(loss, expected_loss, rtol=1e-9, atol=0, msg=name)
        assert largest_difference(found, expected) < 1e-9, name


def check_that_the_test_can_fail(rank, world):
    """Captions that are gathered without their gradient give another one."""
    collate, vocabulary, dim = make_collate()
    whole, own = collate([place for share in SHARES[world] for place in share]), collate(SHARES[world][rank])
    torch.manual_seed(0)
    _, model, objective = next(systems(vocabulary, dim))
    _, expected = gradients(Step(model, objective, gather_negatives=False), whole)
    gather = packing.all_gather_ragged

    packing.all_gather_ragged = lambda tensor, dim=0: gather(tensor.detach(), dim)
    try:
        shared = DistributedDataParallel(Step(model, objective), find_unused_parameters=True)
        _, found = gradients(shared, own)
    finally:
        packing.all_gather_ragged = gather
    assert found.keys() != expected.keys() or largest_difference(found, expected) > 0.01


def check_own_negatives(rank, world):
    """Without gathering, each process has the loss of its own batch."""
    collate, vocabulary, dim = make_collate()
    own = collate(SHARES[world][rank])
    torch.manual_seed(0)
    _, model, objective = next(systems(vocabulary, dim))
    loss = Step(model, objective, gather_negatives=False)(own)
    scores = model.similarity(model.image_encoder(own.regions), model.text_encoder(own.captions))
    torch.testing.assert_close(loss, objective(scores, own.positives()))


def _process(rank, world, folder):
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=world)
    check_systems(rank, world, find_unused=world == 3)
    if world == 2:
        check_that_the_test_can_fail(rank, world)
        check_own_negatives(rank, world)
    dist.destroy_process_group()


@pytest.mark.parametrize("world", [2, 3])
def test_gradients_are_those_of_one_process(tmp_path, world):
    mp.spawn(_process, args=(world, tmp_path), nprocs=world)
