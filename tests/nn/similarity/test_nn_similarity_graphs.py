"""Every similarity goes whole into a graph of torch.compile and of torch.export, and gives the same scores there."""

import inspect
import io

import pytest
import torch
from torch import nn

import itmatch.nn
from itmatch.batch import Fragments
from itmatch.nn import (
    AligningSimilarity,
    BlockSimilarity,
    CosineSimilarity,
    CrossAttentionSimilarity,
    GaussianSimilarity,
    GlobalAttentionPooling,
    GraphMatchingSimilarity,
    HardAligningSimilarity,
    InteractiveSimilarity,
    LastPooling,
    LogSumExpPooling,
    MaxPooling,
    PatchSlimmingSimilarity,
    SetSimilarity,
    Similarity,
    SimilarityFiltration,
    SimilarityReasoning,
    SoftAligningSimilarity,
    SoftmaxPooling,
    SumPooling,
    TiledSimilarity,
    VectorSimilarity,
)
from itmatch.ops import l2_normalize

SIZE = 8


class Squares(TiledSimilarity):
    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.tensor([2.0]))

    def score_tile(self, tile):
        return (self.scale * tile.scores).square().sum((2, 3))[..., None]


SIMILARITIES = {
    "cosine": CosineSimilarity,
    "hard both": lambda: HardAligningSimilarity("both", MaxPooling(), region_pooling=LastPooling()),
    "hard lse": lambda: HardAligningSimilarity("words", LogSumExpPooling(length_normalized=True)),
    "soft": lambda: SoftAligningSimilarity(0.1, "both", SoftmaxPooling(), region_pooling=SumPooling(), normalize=True),
    "attention": lambda: CrossAttentionSimilarity("words"),
    "regions in chunks": lambda: CrossAttentionSimilarity("regions", normalization="softmax", chunk_size=2),
    "interactive": InteractiveSimilarity,
    "all parts": lambda: InteractiveSimilarity(region_alignment=True, cross_level="score"),
    "refined regions": lambda: InteractiveSimilarity(region_alignment=True),
    "sgr": lambda: VectorSimilarity(SIZE, SimilarityReasoning(4)),
    "saf": lambda: VectorSimilarity(SIZE, SimilarityFiltration(4), GlobalAttentionPooling(SIZE)),
    "smooth sets": lambda: SetSimilarity(length_normalized=True, normalize=True),
    "sets": lambda: SetSimilarity("mean_sigmoid", clipped=True),
    "best of sets": lambda: SetSimilarity("chamfer", clipped=True),
    "blocks": lambda: BlockSimilarity([2, 4]),
    "slimming": lambda: PatchSlimmingSimilarity(SIZE, 4, kept=0.8, merged=0.7, class_token=False),
    "graph": lambda: GraphMatchingSimilarity("both"),
    "gaussian": GaussianSimilarity,
    "own": Squares,
}


class FromTensors(nn.Module):
    """A similarity as a function of tensors, which is what torch.export takes."""

    def __init__(self, similarity):
        super().__init__()
        self.similarity = similarity

    def forward(self, image, image_mask, text, text_mask, image_relations=None, text_relations=None):
        return self.similarity(
            Fragments(image, image_mask, self.pooled(image, image_mask), image_relations),
            Fragments(text, text_mask, self.pooled(text, text_mask), text_relations),
        )

    def pooled(self, features, mask):
        gaussian = isinstance(self.similarity, GaussianSimilarity)  # which has nothing to pool by itself
        return features.masked_fill(~mask[..., None], 0).sum(1) if gaussian else None


def inputs(name, images=3, captions=6, regions=4, words=5):
    """Fragments with holes in their masks and NaN there; the first row of each side is without relations."""
    generator = torch.Generator().manual_seed(images)
    tensors, relations = [], []
    for rows, length in ((images, regions), (captions, words)):
        features = l2_normalize(torch.randn(rows, length, SIZE, generator=generator))
        mask = torch.rand(rows, length, generator=generator) > 0.4
        is_relation = torch.rand(rows, length, generator=generator) > 0.6
        mask[:, 1], is_relation[:, 1], is_relation[0] = True, False, False
        tensors += [features.masked_fill(~mask[..., None], torch.nan), mask]
        relations.append(is_relation)
    return (*tensors, *relations) if name == "graph" else tuple(tensors)


def make(name):
    torch.manual_seed(0)
    return FromTensors(SIMILARITIES[name]()).eval()


def test_every_similarity_is_tried():
    public = (getattr(itmatch.nn, name) for name in itmatch.nn.__all__)
    bases = {Similarity, AligningSimilarity, TiledSimilarity}
    found = {c for c in public if inspect.isclass(c) and issubclass(c, Similarity)} - bases
    assert found == {type(make(name).similarity) for name in SIMILARITIES} - {Squares}


@torch.no_grad()
@pytest.mark.parametrize("name", SIMILARITIES)
def test_compiled_whole(name):
    module, given = make(name), inputs(name)
    torch._dynamo.reset()
    compiled = torch.compile(module, backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(*given), module(*given), atol=1e-5, rtol=0)


@torch.no_grad()
@pytest.mark.parametrize("name", ["cosine", "hard both", "attention", "graph"])
def test_compiled_with_fragments_as_arguments(name):
    similarity, given = make(name).similarity, inputs(name)
    relations = given[4:] or (None, None)
    sides = [Fragments(*given[2 * k : 2 * k + 2], is_relation=relations[k]) for k in (0, 1)]
    torch._dynamo.reset()
    compiled = torch.compile(similarity, backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(compiled(*sides), similarity(*sides), atol=1e-5, rtol=0)


NAMES = ["cosine", "hard both", "soft", "attention", "interactive", "sgr", "smooth sets", "blocks", "slimming", "graph"]


@torch.no_grad()
@pytest.mark.parametrize("name", [*NAMES, "own"])
def test_exported_for_any_sizes(name):
    module, given = make(name), inputs(name)
    sizes = {0: torch.export.Dim.AUTO, 1: torch.export.Dim.AUTO}
    program = torch.export.export(module, given, dynamic_shapes=(sizes,) * len(given)).module()
    torch.testing.assert_close(program(*given), module(*given), atol=1e-5, rtol=0)
    for images in (5, 1):
        other = inputs(name, images=images, captions=2, regions=7, words=3)
        torch.testing.assert_close(program(*other), module(*other), atol=1e-5, rtol=0)


@torch.no_grad()
def test_exported_in_chunks_and_read_again():
    module, given = make("regions in chunks"), inputs("regions in chunks")
    file = io.BytesIO()
    torch.export.save(torch.export.export(module, given), file)
    file.seek(0)
    torch.testing.assert_close(torch.export.load(file).module()(*given), module(*given), atol=1e-5, rtol=0)


@torch.no_grad()
def test_autocast_in_a_graph():
    module, given = make("interactive"), inputs("interactive")
    torch._dynamo.reset()
    compiled = torch.compile(module, backend="eager", fullgraph=True)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = compiled(*given)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, module(*given), atol=1e-5, rtol=0)
