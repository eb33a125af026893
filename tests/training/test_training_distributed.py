"""Training on several processes is training on one with the whole batch."""

import copy
from dataclasses import replace

import pytest
import torch
from helpers_processes import run_processes
from helpers_training import doubled
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor
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
    TransformerTextEncoder,
)
from itmatch.ops import ragged
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


def resg_objective():
    return losses.Objective(
        {
            "triplet": losses.HardNegativeTripletLoss(margin=0.2, warmup_epochs=0),
            "center": losses.CenterHingeLoss(),
            "positive_negative": losses.PositiveNegativeMarginLoss(0.8, 0.4),
        }
    )


class Apart(losses.Loss):
    """Reads the fragments of all images and captions of the batch, and weighs them with a parameter of its own."""

    needs = frozenset({"fragments"})

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Linear(8, 8)

    def of(self, matches):
        image, text = (self.weight(side.features.sum(1)) for side in matches.fragments)
        return torch.cdist(image, text)[matches.positives].mean()


def relevance(images, captions):
    """Any function of the positions, the same on all processes."""
    return ((7 * images[:, None] + 3 * captions) % 5).double() / 4


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
    yield "relevance", chan, losses.LadderLoss()
    yield "fragments", chan, Apart()
    wrong_pairs = losses.ComplementaryLoss(temperature=0.2)
    wrong_pairs.memory.write(torch.arange(40), torch.arange(40) / 7 % 1)  # labels by places in the data
    yield "labels", chan, wrong_pairs
    relations = losses.BatchRelationLoss(8, losses.HardNegativeTripletLoss(), 2, dropout=0.0, warmup_epochs=0)
    yield "batch relations", chan, relations
    yield "anchors", chan, losses.AnchoredMarginLoss()
    gcn = SpatialSemanticGCN(8, threshold=0.0, num_predicates=10)
    yield "cmsei", MatchingModel(*encoders([gcn]), InteractiveSimilarity(pooling=mean)), losses.InfoNCELoss()
    yield "resg", resg_gru(vocabulary, region_dim=dim, embed_dim=8, word_dim=6, predicates=10), resg_objective()


def bare(batch, rows):
    """The batch without the relations of these images and captions."""

    def cut(side):
        graph = side.graph
        kept = ~torch.isin(graph.row, torch.tensor(list(rows)))
        optional = {name: getattr(graph, name) for name in ("predicate", "confidence")}
        optional = {name: value if value is None else value[kept] for name, value in optional.items()}
        return replace(
            side, graph=replace(graph, edge_index=graph.edge_index[:, kept], row=graph.row[kept], **optional)
        )

    return replace(batch, regions=cut(batch.regions), captions=cut(batch.captions))


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


def differences(found, expected):
    """Of each parameter's gradient, relative to its largest entry, where that is more than rounding."""
    assert found.keys() == expected.keys()
    largest = max(float(value.abs().max()) for value in expected.values())
    return {
        name: float((found[name] - value).abs().max()) / max(float(value.abs().max()), 1e-6 * largest)
        for name, value in expected.items()
    }


def check_systems(rank, world, find_unused):
    collate, vocabulary, dim = make_collate()
    whole, own = collate([place for share in SHARES[world] for place in share]), collate(SHARES[world][rank])
    torch.manual_seed(0)
    for name, model, objective in systems(vocabulary, dim):
        anchors = [copy.deepcopy(model).double()] if name == "anchors" else []
        for parameter in (parameter for anchor in anchors for parameter in anchor.parameters()):
            torch.nn.init.normal_(parameter.requires_grad_(False))
        single = Step(model, objective, gather_negatives=False, relevance=relevance, anchors=anchors)
        if name == "resg" and world == 2:  # the second process has no relation at all
            first, second = map(len, SHARES[world])
            whole = bare(whole, range(first, first + second))
            own = bare(own, range(second)) if rank else own
        expected_loss, expected = gradients(single, whole)
        options = {"encode_chunk": 2} if name == "cmsei" else {}
        step = Step(model, objective, relevance=relevance, anchors=anchors, **options)
        shared = DistributedDataParallel(step, find_unused_parameters=find_unused, bucket_cap_mb=0.0001)
        loss, found = gradients(shared, own)
        torch.testing.assert_close(loss, expected_loss, rtol=1e-9, atol=0, msg=name)
        wrong = {key: value for key, value in differences(found, expected).items() if value > 1e-9}
        assert wrong == {}, name


def check_that_the_test_can_fail(rank, world):
    """Without the gradients of the other processes, where only its own captions have one, it is another gradient."""
    collate, vocabulary, dim = make_collate()
    whole, own = collate([place for share in SHARES[world] for place in share]), collate(SHARES[world][rank])
    torch.manual_seed(0)
    _, model, objective = next(systems(vocabulary, dim))
    _, expected = gradients(Step(model, objective, gather_negatives=False), whole)
    gather = ragged.all_gather_ragged

    def own_gradient(tensor, dim=0):
        every, lengths = gather(tensor.detach()), gather(torch.tensor([len(tensor)]))
        start = int(lengths[:rank].sum())
        return torch.cat((every[:start], tensor, every[start + len(tensor) :]))

    ragged.all_gather_ragged = own_gradient
    try:
        _, found = gradients(DistributedDataParallel(Step(model, objective)), own)
    finally:
        ragged.all_gather_ragged = gather
    assert max(differences(found, expected).values()) > 0.01


def check_own_negatives(rank, world):
    """Without gathering, each process has the loss of its own batch."""
    collate, vocabulary, dim = make_collate()
    own = collate(SHARES[world][rank])
    torch.manual_seed(0)
    _, model, objective = next(systems(vocabulary, dim))
    loss = Step(model, objective, gather_negatives=False)(own)
    scores = model.similarity(model.image_encoder(own.regions), model.text_encoder(own.captions))
    torch.testing.assert_close(loss, objective(scores, own.positives()))


def check_sharded(rank, world):
    """FSDP: the layers of the text encoder and all the rest are shared out over the processes."""
    collate, vocabulary, dim = make_collate()
    whole, own = collate([place for share in SHARES[world] for place in share]), collate(SHARES[world][rank])
    torch.manual_seed(0)
    bert = {"model_type": "bert", "vocab_size": len(vocabulary), "hidden_size": 8, "num_hidden_layers": 2}
    bert |= {"num_attention_heads": 2, "intermediate_size": 8}
    text = TransformerTextEncoder(embed_dim=8, config=bert)
    model = MatchingModel(RegionEncoder(dim, 8), text, HardAligningSimilarity(pooling=MeanPooling()))
    objective = losses.InfoNCELoss(temperature=0.1, learnable=True)
    single = Step(model, objective, gather_negatives=False).eval()  # without dropout
    expected_loss, expected = gradients(single, whole)
    step = Step(model, objective).eval()
    for layer in text.transformer.encoder.layer:
        fully_shard(layer)
    fully_shard(step)
    loss, found = gradients(step, own)
    torch.testing.assert_close(loss, expected_loss, rtol=1e-9, atol=0)
    sharded = [name for name, value in found.items() if isinstance(value, DTensor)]
    assert sharded == list(found)
    wrong = differences({name: value.full_tensor() for name, value in found.items()}, expected)
    assert max(wrong.values()) < 1e-9, wrong


def _process(rank, world):
    check_systems(rank, world, find_unused=world == 3)  # both ways of Lightning's "ddp"
    if world == 2:
        check_that_the_test_can_fail(rank, world)
        check_own_negatives(rank, world)
        check_sharded(rank, world)


@pytest.mark.parametrize("world", [2, 3])
def test_gradients_are_those_of_one_process(tmp_path, world):
    run_processes(_process, world, tmp_path)
