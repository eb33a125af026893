"""Objects as plain data and back: every public class, the user's own, and what is refused."""

import copy
import enum
import inspect
import io
import json
import pickle
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import itmatch.data
import itmatch.losses
import itmatch.nn
from itmatch.data import (
    AdjacentWords,
    CaptionOverlap,
    CharacterTokenizer,
    ConlluParses,
    HuggingFaceTokenizer,
    ImageFolder,
    KarpathyJson,
    PhotoPatches,
    PrecompFolder,
    RelationScenes,
    SizeAugmentation,
    SpacyParser,
    Triples,
    WordTokenizer,
)
from itmatch.losses import (
    AdaptiveMarginTripletLoss,
    AnchoredMarginLoss,
    BatchRelationLoss,
    CenterHingeLoss,
    CircleLoss,
    ComplementaryLoss,
    CrossModalProjectionLoss,
    DiscrepancyLoss,
    DistanceWeightedNegatives,
    DistillationLoss,
    HardNegativeTripletLoss,
    HubnessAwareLoss,
    InfoNCELoss,
    LadderLoss,
    MemoryLoss,
    Objective,
    PolynomialLoss,
    PositiveNegativeMarginLoss,
    ProbabilisticMatchingLoss,
    ScoreLoss,
    SelectiveNegatives,
    SetDiversityLoss,
    SetUniformityLoss,
    SigmoidLoss,
    SimilarityDistributionLoss,
    SmoothNDCGLoss,
    SoftMarginTripletLoss,
    TripletAlignmentLoss,
    ViewRedundancyLoss,
)
from itmatch.nn import (
    Block,
    BlockSimilarity,
    ClassEmbedding,
    ClipImageEncoder,
    ClipTextEncoder,
    ContextualOrder,
    CosineSimilarity,
    CrossAttentionSimilarity,
    GaussianPooling,
    GaussianSimilarity,
    GeneralizedPooling,
    GlobalAttentionPooling,
    GraphMatchingSimilarity,
    GRUTextEncoder,
    HardAligningSimilarity,
    ImplicitRelationAttention,
    InteractiveSimilarity,
    LastPooling,
    LayerNormPooling,
    LogSumExpPooling,
    Lora,
    MaxPooling,
    MeanPooling,
    PatchSlimmingSimilarity,
    Pooling,
    RegionEncoder,
    RegionViewEncoder,
    SetSimilarity,
    Similarity,
    SimilarityFiltration,
    SimilarityReasoning,
    SlotImageEncoder,
    SlotPooling,
    SlotTextEncoder,
    SoftAligningSimilarity,
    SoftmaxPooling,
    SpatialSemanticGCN,
    SumPooling,
    TextualRelationGraph,
    TopKPooling,
    TransformerImageEncoder,
    TransformerPooling,
    TransformerTextEncoder,
    VectorSimilarity,
    ViewEncoder,
    VisualRelationGraph,
)
from itmatch.spec import Configurable, build, is_spec
from itmatch.trust import import_class

WORDS = ["<pad>", "<start>", "<end>", "<unk>", "dog"]
BERT = {
    "model_type": "bert",
    "vocab_size": 20,
    "hidden_size": 8,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 8,
}

_TOWER = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2}
VIT = {**BERT, "model_type": "vit", "image_size": 16, "patch_size": 8}
CLIP = {
    "model_type": "clip",
    "projection_dim": 6,
    "text_config": {**_TOWER, "vocab_size": 20, "bos_token_id": 1, "eos_token_id": 3, "pad_token_id": 0},
    "vision_config": {**_TOWER, "image_size": 16, "patch_size": 8},
}


def precomp(folder):
    return PrecompFolder(folder, captions_per_image=5, labels=None)


def karpathy(folder):
    return KarpathyJson(folder / "dataset.json", folder / "features.npy", train=["train", "restval"])


# One of each public class, with arguments that are not the defaults.
EXAMPLES = {
    MeanPooling: lambda _: MeanPooling(),
    SumPooling: lambda _: SumPooling(),
    MaxPooling: lambda _: MaxPooling(),
    SoftmaxPooling: lambda _: SoftmaxPooling(0.3),
    LogSumExpPooling: lambda _: LogSumExpPooling(0.2, scaled=False, length_normalized=True),
    TopKPooling: lambda _: TopKPooling(3, sticky_k=True),
    TransformerPooling: lambda _: TransformerPooling(8, 2, 0.7, MeanPooling(), 0.2),
    LastPooling: lambda _: LastPooling(),
    GlobalAttentionPooling: lambda _: GlobalAttentionPooling(4, 0.1, batch_norm=True, positions=3),
    SimilarityReasoning: lambda _: SimilarityReasoning(4, steps=2),
    SimilarityFiltration: lambda _: SimilarityFiltration(4),
    VectorSimilarity: lambda _: VectorSimilarity(4, SimilarityFiltration(3), MeanPooling(), temperature=0.2),
    GaussianPooling: lambda _: GaussianPooling(4, MeanPooling(), SumPooling(), log_variance=-3.0),
    GaussianSimilarity: lambda _: GaussianSimilarity(normalize=False, distance="wasserstein"),
    GeneralizedPooling: lambda _: GeneralizedPooling(4, hidden_dim=3, temperature=0.5),
    CosineSimilarity: lambda _: CosineSimilarity(),
    HardAligningSimilarity: lambda _: HardAligningSimilarity("both", MeanPooling(), SoftmaxPooling(0.3), chunk_size=3),
    SoftAligningSimilarity: lambda _: SoftAligningSimilarity(0.2, "regions", LogSumExpPooling(0.3), normalize=True),
    CrossAttentionSimilarity: lambda _: CrossAttentionSimilarity("regions", 0.2, "softmax", MaxPooling(), chunk_size=2),
    BlockSimilarity: lambda _: BlockSimilarity([2, 4], chunk_size=2),
    PatchSlimmingSimilarity: lambda _: PatchSlimmingSimilarity(8, 9, 0.8, 0.6, class_token=False, empty_rest=True),
    SetSimilarity: lambda _: SetSimilarity(temperature=0.2, length_normalized=True, clipped=True, chunk_size=2),
    InteractiveSimilarity: lambda _: InteractiveSimilarity(
        region_alignment=True, cross_level="score", word_temperature=0.2, pooling=GeneralizedPooling(2)
    ),
    RegionEncoder: lambda _: RegionEncoder(
        5, 4, self_attention=True, num_heads=2, pooling=GeneralizedPooling(2), relations=[SpatialSemanticGCN(8)]
    ),
    GraphMatchingSimilarity: lambda _: GraphMatchingSimilarity("both", relation_weight=0.5, chunk_size=2),
    ClassEmbedding: lambda _: ClassEmbedding(["dog", "cat"], 3, freeze=True),
    ContextualOrder: lambda _: ContextualOrder(8, "raster"),
    VisualRelationGraph: lambda _: VisualRelationGraph(8, ClassEmbedding(3, 2), neighbours=2, num_heads=2),
    TextualRelationGraph: lambda _: TextualRelationGraph(8, unparsed="none", num_heads=4),
    ImplicitRelationAttention: lambda _: ImplicitRelationAttention(8, 4, geometry=True, num_layers=2),
    SpatialSemanticGCN: lambda _: SpatialSemanticGCN(8, num_layers=2, num_predicates=3),
    ClipImageEncoder: lambda _: ClipImageEncoder(config=CLIP, trainable=False),
    ClipTextEncoder: lambda _: ClipTextEncoder(config=CLIP, normalize=False),
    PhotoPatches: lambda _: PhotoPatches(image_size=32, patch_size=16, fit="stretch", mean=[0.5] * 3),
    ImageFolder: lambda folder: ImageFolder(folder, extractor=PhotoPatches(image_size=16, patch_size=8, fit="stretch")),
    SlotPooling: lambda _: SlotPooling(4, 2, 3, depth=2, head_dim=3, tied=False, post_norm=True, positions="batch"),
    SlotImageEncoder: lambda _: SlotImageEncoder(RegionEncoder(5, 4), SlotPooling(4, 2, head_dim=2)),
    SlotTextEncoder: lambda _: SlotTextEncoder(GRUTextEncoder(9, 4), SlotPooling(4, head_dim=2, positions="caption")),
    ViewEncoder: lambda _: ViewEncoder(RegionEncoder(5, 4), 3, kept=0.5, class_token=False, pooling=MeanPooling()),
    RegionViewEncoder: lambda _: RegionViewEncoder(RegionEncoder(5, 4), 3, kept=0.5, pooling=MeanPooling()),
    LayerNormPooling: lambda _: LayerNormPooling(MeanPooling(), 4),
    GRUTextEncoder: lambda _: GRUTextEncoder(WORDS, 4, word_dim=3, num_layers=2, dropout=0.1, pooling=MeanPooling()),
    TransformerTextEncoder: lambda _: TransformerTextEncoder(embed_dim=4, config=BERT, trainable=False),
    TransformerImageEncoder: lambda _: TransformerImageEncoder(
        embed_dim=4, config=VIT, lora=Lora(2), class_token=False
    ),
    Lora: lambda _: Lora(4, alpha=2.0, targets=["query"]),
    CaptionOverlap: lambda _: CaptionOverlap("mean"),
    HardNegativeTripletLoss: lambda _: HardNegativeTripletLoss(0.1, "all", reduction="mean", warmup_epochs=2),
    InfoNCELoss: lambda _: InfoNCELoss(0.1, learnable=True, min_temperature=0.02),
    PositiveNegativeMarginLoss: lambda _: PositiveNegativeMarginLoss(0.7, 0.1, "all", negative_weight=0.5),
    SigmoidLoss: lambda _: SigmoidLoss(0.2, -3.0, learnable=False),
    PolynomialLoss: lambda _: PolynomialLoss(0.1, [0.5, -0.5], [0.0, 1.0], "mean"),
    LadderLoss: lambda _: LadderLoss([0.2, 0.1], [0.5], [0.3]),
    AdaptiveMarginTripletLoss: lambda _: AdaptiveMarginTripletLoss(0.3, "all"),
    BatchRelationLoss: lambda _: BatchRelationLoss(8, InfoNCELoss(), 2, relevance_weight=1.5, warmup_epochs=0),
    DistillationLoss: lambda _: DistillationLoss(0.2, reverse=True),
    DiscrepancyLoss: lambda _: DiscrepancyLoss(3.0, "sum"),
    SetUniformityLoss: lambda _: SetUniformityLoss(0.3),
    SetDiversityLoss: lambda _: SetDiversityLoss(),
    ViewRedundancyLoss: lambda _: ViewRedundancyLoss(0.01, divided_twice=True),
    AnchoredMarginLoss: lambda _: AnchoredMarginLoss(0.1, 0.3, "relative", positive_share=0.25),
    HubnessAwareLoss: lambda _: HubnessAwareLoss(1 / 60, threshold=0.7),
    CircleLoss: lambda _: CircleLoss(0.4, temperature=1 / 80),
    SelectiveNegatives: lambda _: SelectiveNegatives(epsilon=0.02),
    SmoothNDCGLoss: lambda _: SmoothNDCGLoss(0.05),
    SoftMarginTripletLoss: lambda _: SoftMarginTripletLoss(0.1, "linear", warmup_epochs=2),
    ComplementaryLoss: lambda _: ComplementaryLoss(0.1, threshold=0.05),
    TripletAlignmentLoss: lambda _: TripletAlignmentLoss(0.2, 0.02, "mean", "hardest"),
    SimilarityDistributionLoss: lambda _: SimilarityDistributionLoss(0.05, 1e-6),
    DistanceWeightedNegatives: lambda _: DistanceWeightedNegatives(64, 0.1, sample=True),
    CenterHingeLoss: lambda _: CenterHingeLoss(0.1, "compactness", "squared", "mean"),
    MemoryLoss: lambda _: MemoryLoss(HardNegativeTripletLoss(), 8, 16, memory_margin=0.05),
    CrossModalProjectionLoss: lambda _: CrossModalProjectionLoss(1e-6, divided_by_length=True),
    ProbabilisticMatchingLoss: lambda _: ProbabilisticMatchingLoss(0.25, 3.0, 0.2, normalize=False),
    Objective: lambda _: Objective(
        {"sigmoid": SigmoidLoss(learnable=True), "center": CenterHingeLoss()}, {"center": 0.5}, {"center": 2}
    ),
    CharacterTokenizer: lambda _: CharacterTokenizer(WORDS, min_count=2),
    WordTokenizer: lambda _: WordTokenizer(WORDS, min_count=2),
    HuggingFaceTokenizer: lambda _: HuggingFaceTokenizer("somewhere", max_length=12),
    SizeAugmentation: lambda _: SizeAugmentation(0.1, token_mask=0.4),
    PrecompFolder: precomp,
    AdjacentWords: lambda _: AdjacentWords(),
    ConlluParses: lambda folder: ConlluParses(folder / "dev.conllu", "edges"),
    SpacyParser: lambda _: SpacyParser("en_core_web_md", relations="edges"),
    Triples: lambda folder: Triples(folder / "dev.jsonl"),
    KarpathyJson: karpathy,
    RelationScenes: lambda _: RelationScenes("easy", num_train=4, num_val=2, num_test=2),
}


def public_classes():
    for module in (itmatch.nn, itmatch.losses, itmatch.data):
        for name in module.__all__:
            value = getattr(module, name)
            if inspect.isclass(value) and issubclass(value, Configurable) and value is not Block:
                yield value


def test_every_public_class_is_tried():
    assert {cls for cls in public_classes() if not inspect.isabstract(cls) and not is_base(cls)} == set(EXAMPLES)


def is_base(cls):
    """Blocks whose ``forward`` is left to subclasses (nn.Module does not refuse to build these)."""
    return any(getattr(getattr(cls, name), "__isabstractmethod__", False) for name in dir(cls))


@pytest.fixture(params=list(EXAMPLES), ids=lambda cls: cls.__name__)
def example(request, tmp_path):
    return EXAMPLES[request.param](tmp_path)


def test_round_trip(example):
    spec = example.spec
    assert json.loads(json.dumps(spec, allow_nan=False)) == spec
    again = build(json.loads(json.dumps(spec)), type(example))
    assert type(again) is type(example)
    assert again is not example
    assert again.spec == spec
    assert set(spec["init_args"]) <= set(inspect.signature(type(example)).parameters)
    if isinstance(example, torch.nn.Module):
        shapes = {name: value.shape for name, value in example.state_dict().items()}
        assert {name: value.shape for name, value in again.state_dict().items()} == shapes
        assert str(again) == str(example)


def test_copies_keep_the_spec(example):
    for twin in (copy.deepcopy(example), pickle.loads(pickle.dumps(example))):
        assert type(twin) is type(example)
        assert twin.spec == example.spec


def test_loads_as_weights_only(example):
    buffer = io.BytesIO()
    torch.save(example.spec, buffer)
    buffer.seek(0)
    assert torch.load(buffer, weights_only=True) == example.spec


def test_arguments_are_not_the_defaults(example):
    arguments = example.spec["init_args"]
    parameters = inspect.signature(type(example)).parameters
    given = {name for name, value in arguments.items() if value != parameters[name].default}
    assert given or not arguments


class Plain(Configurable):
    def __init__(self, value=None, *, other=1):
        self.value, self.other = value, other


class Renamed(Plain):
    pass


class Doubled(Plain):
    def __init__(self, half: float):
        super().__init__(2 * half, other="inner")


class Open(Plain):
    def __init__(self, first, **rest):
        super().__init__(first)
        self.rest = rest


class Silent(Configurable):
    pass


class Changing(Configurable):
    def __init__(self, config):
        self.model_type = config.pop("model_type")
        config["sizes"].append(3)


class Stars(Configurable):
    def __init__(self, *values):
        self.values = values


class Converting(Block):
    def __init__(self, value="1", weight=2.0):
        super().__init__()
        self.value = int(value)
        self.weight = torch.nn.Parameter(torch.tensor([weight]))


class Annotated(Configurable):
    def __init__(self, data: Any = None, more: dict[str, Any] | None = None, part: Pooling | None = None):
        self.data, self.more, self.part = data, more, part


class Outer:
    class Inner(Plain):
        pass


class Color(str, enum.Enum):
    RED = "red"


class Level(enum.IntEnum):
    HIGH = 3


def arguments(value):
    return Plain(value).spec["init_args"]["value"]


def test_defaults_are_recorded():
    assert Plain().spec == {"class_path": f"{__name__}.Plain", "init_args": {"value": None, "other": 1}}
    assert Plain(3, other=4).spec["init_args"] == {"value": 3, "other": 4}
    assert Silent().spec == {"class_path": f"{__name__}.Silent", "init_args": {}}
    assert type(build(Silent().spec, Silent)) is Silent


def test_subclass_without_constructor():
    assert Renamed(5).spec == {"class_path": f"{__name__}.Renamed", "init_args": {"value": 5, "other": 1}}
    assert type(build(Renamed(5).spec, Plain)) is Renamed


def test_the_outermost_arguments_count():
    doubled = Doubled(1.5)
    assert doubled.value == 3.0
    assert doubled.spec == {"class_path": f"{__name__}.Doubled", "init_args": {"half": 1.5}}
    assert build(doubled.spec).value == 3.0


def test_keyword_arguments_of_any_name():
    made = Open(1, colour="red")
    assert made.spec["init_args"] == {"first": 1, "colour": "red"}
    assert build(made.spec).rest == {"colour": "red"}
    with pytest.raises(TypeError, match="values: positional variadic"):
        Stars(1, 2)
    assert Stars().spec["init_args"] == {}


def test_our_classes_are_recorded_by_their_public_path():
    assert RegionEncoder(3, 4).spec["class_path"] == "itmatch.nn.RegionEncoder"
    assert CircleLoss().spec["class_path"] == "itmatch.losses.CircleLoss"
    assert type(build({"class_path": "itmatch.nn.a_file_that_was_moved.MeanPooling"})) is MeanPooling


def test_nested_class():
    path = f"{__name__}.Outer.Inner"
    assert Outer.Inner(1).spec["class_path"] == path
    assert import_class(path) is Outer.Inner


@pytest.mark.parametrize(
    "value",
    [
        lambda: Plain(Renamed(2)),
        lambda: [Plain(1), [Plain(2), 3]],
        lambda: {"words": Plain(1), "regions": {"deep": [Plain(2)]}, "number": 3},
    ],
)
def test_nesting(value):
    def found(thing):
        if isinstance(thing, Plain):
            return (type(thing), found(thing.value))
        if isinstance(thing, dict):
            return {key: found(item) for key, item in thing.items()}
        return [found(item) for item in thing] if isinstance(thing, list) else thing

    outer = Plain(value())
    again = build(outer.spec)
    assert found(again.value) == found(value())
    assert again.spec == outer.spec


def test_plain_values():
    assert arguments(Path("a") / "b") == str(Path("a/b"))
    assert arguments((1, (2, Path("c")))) == [1, [2, "c"]]
    assert arguments({1: Path("d")}) == {"1": "d"}
    assert arguments(True) is True
    for value, kind in ((np.float64(0.5), float), (Color.RED, str), (Level.HIGH, int), (np.str_("x"), str)):
        assert type(arguments(value)) is kind  # weights_only loads no other
        assert arguments(value) == value


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        (torch.zeros(2), "torch.Tensor"),
        (torch.nn.Linear(2, 2), "torch.nn.modules.linear.Linear"),
        ([1, {"deep": {3}}], "builtins.set"),
        (print, "builtins.builtin_function_or_method"),
        (np.zeros(2), "numpy.ndarray"),
    ],
)
def test_what_cannot_be_recorded(value, kind):
    with pytest.raises(TypeError) as caught:
        _ = Plain(value).spec
    assert f"{__name__}.Plain(value=...) holds a {kind}" in str(caught.value)
    assert "itmatch.spec.Configurable" in str(caught.value)


def test_arguments_are_recorded_as_they_were_given():
    config = {"model_type": "bert", "sizes": [1, 2]}
    changing = Changing(config)
    assert config == {"sizes": [1, 2, 3]}
    assert changing.spec["init_args"] == {"config": {"model_type": "bert", "sizes": [1, 2]}}
    assert build(changing.spec).model_type == "bert"


def test_changing_a_spec_does_not_change_the_object():
    plain = Plain([1])
    plain.spec["init_args"]["value"].append(2)
    plain.spec["init_args"]["other"] = 5
    assert plain.spec["init_args"] == {"value": [1], "other": 1}


# ------------------------------------------------------------------------------------------ the object as it is now


def test_a_replaced_part_is_recorded():
    similarity = HardAligningSimilarity(pooling=LogSumExpPooling(0.1))
    similarity.pooling = MeanPooling()
    assert type(build(similarity.spec).pooling) is MeanPooling
    again = copy.deepcopy(similarity)
    again.pooling = SoftmaxPooling(0.5)
    assert similarity.spec["init_args"]["pooling"]["class_path"].endswith("MeanPooling")
    assert build(again.spec).pooling.temperature == 0.5


def test_a_changed_setting_is_recorded_at_any_depth():
    similarity = HardAligningSimilarity(pooling=LogSumExpPooling(0.1))
    similarity.pooling.temperature = 0.02
    assert build(similarity.spec).pooling.temperature == 0.02
    similarity.chunk_size = 7
    assert build(pickle.loads(pickle.dumps(similarity)).spec).chunk_size == 7


def test_modules_that_hold_a_setting_are_read():
    encoder = RegionEncoder(5, 8, dropout=0.1, relations=[SpatialSemanticGCN(8)])
    encoder.dropout.p = 0.4
    assert encoder.spec["init_args"]["dropout"] == 0.4
    encoder.relations.append(ImplicitRelationAttention(8, 4))
    again = build(encoder.spec)
    assert [type(relation) for relation in again.relations] == [SpatialSemanticGCN, ImplicitRelationAttention]
    objective = Objective({"rank": HardNegativeTripletLoss(0.1)})
    objective.terms["more"] = CircleLoss()
    assert set(build(objective.spec).terms) == {"rank", "more"}


def test_containers_that_are_changed_in_place():
    made = Plain([1, {"a": 2}])
    made.value[1]["a"] = 3
    assert made.spec["init_args"]["value"] == [1, {"a": 3}]
    made.value.append(Plain(4))
    assert build(made.spec).value[2].value == 4


def test_what_cannot_be_followed_is_refused():
    made = Doubled(1.5)
    made.value = 7.0
    with pytest.raises(TypeError, match=r"Doubled\.value was changed, and its constructor takes no value"):
        _ = made.spec
    similarity = HardAligningSimilarity()
    similarity.pooling = torch.nn.Identity()
    with pytest.raises(TypeError, match="Identity, which cannot be written as plain data"):
        _ = similarity.spec


def test_weights_and_what_a_constructor_made_of_an_argument_are_no_change():
    made = Converting("3")
    assert made.spec["init_args"] == {"value": "3", "weight": 2.0}
    with torch.no_grad():
        made.weight.add_(1.0)
    made.weight = torch.nn.Parameter(torch.zeros(1))
    assert made.spec["init_args"] == {"value": "3", "weight": 2.0}
    made.value = 4
    assert made.spec["init_args"]["value"] == 4


def test_plain_data_stay_plain_data():
    spec = MeanPooling().spec
    made = build(
        {"class_path": f"{__name__}.Annotated", "init_args": {"data": spec, "more": {"x": spec}, "part": spec}}
    )
    assert made.data == spec
    assert made.more == {"x": spec}
    assert type(made.part) is MeanPooling
    with pytest.raises(ValueError, match=r"spec\.part: .*CircleLoss is no itmatch\.nn\.pooling\.Pooling"):
        build({"class_path": f"{__name__}.Annotated", "init_args": {"part": CircleLoss().spec}})
    with pytest.raises(TypeError, match=r"data=\.\.\.\) is annotated as plain data and holds an object"):
        _ = Annotated(MeanPooling()).spec


def test_wrong_arguments_name_the_class():
    with pytest.raises(TypeError, match="Doubled: missing a required argument: 'half'"):
        Doubled()
    with pytest.raises(TypeError, match=r"RegionEncoder: .*'wrong'"):
        RegionEncoder(3, wrong=1)


def test_a_finished_object_is_returned_as_it_is():
    pooling = MeanPooling()
    assert build(pooling, Pooling) is pooling
    assert build(None, Pooling) is None
    assert is_spec({"class_path": "a.B"})
    assert is_spec({"class_path": "a.B", "init_args": {}})
    assert not is_spec({"class_path": "a.B", "more": 1})
    assert not is_spec({"init_args": {}})
    assert type(build({"class_path": "itmatch.nn.MeanPooling"})) is MeanPooling
    assert type(build({"class_path": "itmatch.nn.MeanPooling", "init_args": None})) is MeanPooling  # empty in YAML


@pytest.fixture
def user_module(tmp_path, monkeypatch):
    source = """
import torch
from itmatch.nn import Block, Pooling
from itmatch.spec import Configurable

built = []

class Half(Pooling):
    def __init__(self, factor: float = 0.5) -> None:
        super().__init__()
        built.append(factor)
        self.factor = factor
    def forward(self, values, mask, dim=-1):
        return values.masked_fill(~mask, 0).sum(dim) * self.factor

class NoConfigurable:
    def __init__(self) -> None:
        built.append("NoConfigurable")

def function():
    built.append("function")
"""
    (tmp_path / "users_own_blocks.py").write_text(source)
    (tmp_path / "users_broken_blocks.py").write_text("import a_module_that_nobody_has\n")
    monkeypatch.syspath_prepend(tmp_path)
    yield importlib_import("users_own_blocks")
    sys.modules.pop("users_own_blocks", None)


def importlib_import(name):
    import importlib

    return importlib.import_module(name)


def test_a_class_of_the_user(user_module):
    similarity = HardAligningSimilarity(pooling=user_module.Half(0.25))
    spec = json.loads(json.dumps(similarity.spec))
    assert spec["init_args"]["pooling"] == {"class_path": "users_own_blocks.Half", "init_args": {"factor": 0.25}}
    del sys.modules["users_own_blocks"]  # as in another process
    again = build(spec, Similarity, trusted_modules=["users_own_blocks"])
    assert type(again.pooling).__name__ == "Half"
    assert again.pooling.factor == 0.25


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("users_own_blocks.Half", "users_own_blocks.Half is no itmatch.nn.similarity.base.Similarity"),
        ("users_own_blocks.NoConfigurable", "is no itmatch.nn.similarity.base.Similarity"),
        ("users_own_blocks.function", "no class 'users_own_blocks.function'"),
        ("users_own_blocks.Missing", "no class 'users_own_blocks.Missing'"),
        ("users_own_blocks.Half.Missing", "no class 'users_own_blocks.Half.Missing'"),
        ("users_own_blocks", "no class 'users_own_blocks'"),
        ("no_such_module_at_all.Half", "no class 'no_such_module_at_all.Half'"),
        ("itmatch.nope.Half", "no class 'itmatch.nope.Half'"),
        ("os.system", "no class 'os.system'"),
        ("subprocess.Popen", "subprocess.Popen is no itmatch"),
        ("", "no class ''"),
        (".Half", "no class '.Half'"),
        ("..nn.Half", "no class '..nn.Half'"),
        ("itmatch..Half", "no class 'itmatch..Half'"),
        (3, "no class 3"),
    ],
)
def test_a_wrong_class_is_never_built(user_module, path, message):
    with pytest.raises(ValueError, match="similarity: ") as caught:
        build({"class_path": path, "init_args": {}}, Similarity, "similarity")
    assert message in str(caught.value)
    assert user_module.built == []


def test_a_nested_wrong_class_is_never_built(user_module):
    for nested in ({"class_path": "users_own_blocks.NoConfigurable"}, {"class_path": "subprocess.Popen"}):
        for value in (nested, [nested], {"deep": nested}):
            with pytest.raises(ValueError, match=r"spec\.value.*is no itmatch\.spec.*\.Configurable"):
                build({"class_path": f"{__name__}.Plain", "init_args": {"value": value}})
    with pytest.raises(ValueError, match="only such classes are rebuilt"):
        build({"class_path": "users_own_blocks.NoConfigurable"})
    assert user_module.built == []


def test_an_object_with_a_key_too_many():
    nested = {"class_path": "itmatch.nn.MeanPooling", "init_arguments": {}}
    with pytest.raises(ValueError, match=r"spec\.pooling: has class_path, init_arguments, expected class_path and"):
        build({"class_path": "itmatch.nn.HardAligningSimilarity", "init_args": {"pooling": nested}})


def test_a_missing_dependency_is_named(user_module):
    with pytest.raises(ModuleNotFoundError, match="a_module_that_nobody_has"):
        build({"class_path": "users_broken_blocks.Half"}, trusted_modules=["users_broken_blocks"])


def test_a_missing_dependency_whose_name_begins_alike_is_named(user_module, tmp_path):
    (tmp_path / "usersx_blocks.py").write_text("import usersx\n")
    with pytest.raises(ModuleNotFoundError, match="usersx"):
        build({"class_path": "usersx_blocks.Half"}, trusted_modules=["usersx_blocks"])


def test_wrong_base_class():
    with pytest.raises(ValueError, match=r"objective: itmatch\..*MeanPooling is no itmatch\.losses\.base\.ScoreLoss"):
        build(MeanPooling().spec, ScoreLoss, "objective")
