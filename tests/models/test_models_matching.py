"""MatchingModel: scores, encoding in batches, strings, folders of save_pretrained."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import nn

from itmatch.batch import Captions, Fragments, Regions, SceneGraph
from itmatch.data import CaptionItem, Collator, ImageTextSplit, WordTokenizer
from itmatch.evaluation import EvaluationProtocol, retrieval_metrics, retrieval_ranks
from itmatch.models import MatchingModel, chan_gru
from itmatch.nn import (
    CosineSimilarity,
    GRUTextEncoder,
    HardAligningSimilarity,
    ImageEncoder,
    MeanPooling,
    RegionEncoder,
    TextEncoder,
)
from itmatch.ops import lengths_to_mask

WORDS = ["<pad>", "<start>", "<end>", "<unk>", "a", "black", "dog", "cat", "on", "grass"]
TEXTS = ["a black dog", "cat", "a cat on black grass", "Dog on grass", "a a a", "unheard word"]


def make(tokenizer=True, **kwargs):
    torch.manual_seed(0)
    return MatchingModel(
        RegionEncoder(6, 8, self_attention=True, num_heads=2, dropout=0.3, **kwargs),
        GRUTextEncoder(len(WORDS) + 1, 8, word_dim=4, dropout=0.3, **kwargs),
        HardAligningSimilarity(),
        WordTokenizer(WORDS) if tokenizer else None,
    )


def images(count=5, length=4):
    torch.manual_seed(1)
    features = torch.randn(count, length, 6)
    lengths = torch.tensor([4, 1, 3, 2, 4])[:count]
    mask = lengths_to_mask(lengths, length)
    return Regions(features.masked_fill(~mask[..., None], float("nan")), mask)


def tokens(model, texts=TEXTS):
    return Collator(model.tokenizer)([CaptionItem(i, 0, text) for i, text in enumerate(texts)]).captions


def assert_same(found, expected, **tolerance):
    assert torch.equal(found.mask, expected.mask)
    torch.testing.assert_close(found.features, expected.features, **tolerance)
    torch.testing.assert_close(found.pooled, expected.pooled, **tolerance)


def test_scores_are_the_similarity_of_the_encoded():
    model = make().eval()
    with torch.no_grad():
        expected = model.similarity(model.image_encoder(images()), model.text_encoder(tokens(model)))
        forward = model(images(), tokens(model))
    assert expected.shape == (5, 6)
    assert torch.equal(forward, expected)
    encoded = model.encode_images(images()), model.encode_texts(TEXTS)
    for found in (
        model.score(images(), TEXTS),
        model.score(images(), tokens(model)),
        model.score(images(), TEXTS, chunk_size=2),
        model.score(encoded[0], TEXTS),
        model.score(images(), encoded[1]),
        model.score(*encoded),
    ):
        torch.testing.assert_close(found, expected, atol=1e-6, rtol=0)
        assert not found.requires_grad
    assert expected.std() > 1e-3  # the comparison can fail


def test_image_blocks_bound_what_is_scored_at_a_time():
    model, seen = make(), []
    model.similarity.register_forward_pre_hook(lambda _, args: seen.append((len(args[0]), len(args[1]))))
    model.score(images(), TEXTS, chunk_size=2)
    assert seen == [(2, 6), (2, 6), (1, 6)]


@pytest.mark.parametrize("pooling", [None, MeanPooling()])
@pytest.mark.parametrize("batch_size", [1, 2, 4, 5, 100])
def test_batches_do_not_matter(batch_size, pooling):
    model, seen = make(pooling=pooling), []
    for encoder in (model.image_encoder, model.text_encoder):
        encoder.register_forward_pre_hook(lambda _, args: seen.append(len(args[0])))
    assert_same(model.encode_images(images(), batch_size=batch_size), model.encode_images(images()), atol=1e-6, rtol=0)
    assert max(seen[:-1]) == min(batch_size, 5)
    seen.clear()
    assert_same(model.encode_texts(TEXTS, batch_size=batch_size), model.encode_texts(TEXTS), atol=1e-6, rtol=0)
    assert max(seen[:-1]) == min(batch_size, 6)


def test_boxes_labels_and_edges_are_cut_with_the_images():
    class Reading(ImageEncoder):
        def __init__(self):
            super().__init__()
            self.seen = []

        def forward(self, regions):
            edges = None if regions.graph is None else regions.graph.row.tolist()
            self.seen.append((regions.boxes[:, 0, 0].tolist(), regions.labels[:, 0].tolist(), edges))
            return Fragments(regions.features.nan_to_num(), regions.mask)

    model = make()
    model.image_encoder = Reading()
    boxes, labels = torch.zeros(5, 4, 4), torch.zeros(5, 4, dtype=torch.int64)
    boxes[:, 0, 0], labels[:, 0] = torch.arange(5.0), torch.arange(5)
    regions = Regions(images().features, images().mask, boxes, labels)
    model.encode_images(regions, batch_size=3)
    assert model.image_encoder.seen == [([0, 1, 2], [0, 1, 2], None), ([3, 4], [3, 4], None)]
    graph = SceneGraph(torch.tensor([[0, 0], [1, 0]]), torch.tensor([3, 0]), 5)
    model.encode_images(Regions(images().features, images().mask, boxes, labels, graph), batch_size=3)
    assert model.image_encoder.seen[2:] == [([0, 1, 2], [0, 1, 2], [0]), ([3, 4], [3, 4], [0])]
    captions = tokens(model)
    graph = SceneGraph(torch.tensor([[0], [1]]), torch.tensor([0]), 6)
    assert len(model.encode_texts(Captions(captions.input_ids, captions.mask, graph), batch_size=1)) == 6


@pytest.mark.parametrize("training", [True, False])
def test_the_modes_of_all_modules_come_back(training):
    model = make().train(training)
    model.image_encoder.dropout.train(not training)  # a part in another mode, as a frozen one would be
    before = {name: module.training for name, module in model.named_modules()}
    first = model.score(images(), TEXTS)
    assert {name: module.training for name, module in model.named_modules()} == before
    assert torch.equal(model.score(images(), TEXTS), first)  # dropout is off
    model.align(images()._map(lambda value: value[:1]), "a dog")
    with pytest.raises(TypeError):
        model.encode_texts(3)
    with pytest.raises(ValueError, match="RegionEncoder"):
        model.encode_images(torch.zeros(1, 2, 5))
    assert {name: module.training for name, module in model.named_modules()} == before
    assert torch.is_grad_enabled()


def test_training_has_a_gradient():
    model = make()
    model(images(), tokens(model)).sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


@pytest.mark.parametrize("kind", [torch.float32, torch.float64, np.float32])
def test_plain_features(kind):
    features = torch.randn(3, 4, 6)
    given = features.numpy().astype(kind) if kind is np.float32 else features.to(kind)
    model = make()
    expected = model.encode_images(Regions(features, torch.ones(3, 4, dtype=torch.bool)))
    assert_same(model.encode_images(given), expected)


def test_strings_are_tokenized_with_padding():
    model = make()
    from_text, from_ids = model.encode_texts(TEXTS), model.encode_texts(tokens(model))
    assert from_text.mask.sum(1).tolist() == [5, 3, 7, 5, 5, 4]
    assert_same(from_text, from_ids)
    for i, text in enumerate(TEXTS):
        alone = model.encode_texts([text])
        length = alone.mask.shape[1]
        torch.testing.assert_close(alone.features[0], from_text.features[i, :length], atol=1e-6, rtol=0)


def test_align():
    model = make()
    regions = images()._map(lambda value: value[:1])
    shown = model.align(regions, "a black dog")
    assert shown.shape == (4, 5)
    for text in (["a black dog"], tokens(model, ["a black dog"]), model.encode_texts(["a black dog"])):
        assert torch.equal(model.align(regions, text), shown)
    assert torch.equal(model.align(model.encode_images(regions), "a black dog"), shown)
    assert (shown != 0).sum(0).tolist() == [1] * 5  # each word has one region
    assert not shown.requires_grad
    with pytest.raises(ValueError, match="one image and one caption, got 5 and 1"):
        model.align(images(), "a dog")


class Whole(EvaluationProtocol):
    def __init__(self, size):
        self.size = size

    def check(self, caption_image, num_images):
        if num_images != self.size:
            raise ValueError(f"{num_images} images")

    def measure(self, split):
        return {"captions": float(len(split.caption_image))}


def test_evaluate():
    model = make().train()
    generator = torch.Generator().manual_seed(3)
    features = torch.randn(4, 3, 6, generator=generator).numpy()
    caption_image = np.array([2, 0, 1, 1, 3, 0])
    split = ImageTextSplit(features, TEXTS, caption_image)
    expected = retrieval_metrics(retrieval_ranks(model.score(features, TEXTS), caption_image))
    for batch_size in (1, 4, 128):
        assert model.evaluate(split, batch_size=batch_size) == pytest.approx(expected)
    assert model.training
    assert model.evaluate(split, Whole(4)) == pytest.approx(expected | {"captions": 6.0})
    with pytest.raises(ValueError, match="4 images"):
        model.evaluate(split, Whole(5))
    with pytest.raises(ValueError, match="no tokenizer"):
        make(tokenizer=False).evaluate(split)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda m: m.score(images(), " "), ValueError, r"texts\[0\]: an empty caption"),
        (lambda m: m.encode_texts(["a dog", " \n"]), ValueError, r"texts\[1\]: an empty caption"),
        (lambda m: m.encode_texts(["a dog", ""]), ValueError, r"texts\[1\]: an empty caption"),
        (lambda m: m.encode_texts(["a dog", 3]), TypeError, r"texts\[1\]: a int, expected a string"),
        (lambda m: m.encode_images(torch.zeros(2, 6)), ValueError, r"images: shape \(2, 6\), expected \(images"),
        (lambda m: m.encode_images(torch.zeros(2, 3, 5)), ValueError, "features of size 5, expected 6"),
        (lambda m: m.encode_images(torch.full((2, 3, 6), float("nan"))), ValueError, "NaN or inf at row 0"),
        (lambda m: m.encode_images(torch.zeros(2, 0, 6)), ValueError, "no valid fragment"),
        (lambda m: m.evaluate("test"), TypeError, "split: a str, expected an itmatch.data.ImageTextSplit"),
        (lambda _: make(tokenizer=False).encode_texts(["a"]), ValueError, "no tokenizer: give Captions"),
        (lambda _: make(tokenizer=False).score(images(), "a"), ValueError, "no tokenizer"),
    ],
)
def test_errors(call, error, message):
    with pytest.raises(error, match=message):
        call(make())


def test_embedding_sizes_that_differ():
    with pytest.raises(ValueError, match="image 8, text 12; give both encoders the same embed_dim"):
        MatchingModel(RegionEncoder(6, 8), GRUTextEncoder(11, 12, word_dim=4), CosineSimilarity())
    spec = make().spec
    spec["text_encoder"]["init_args"]["embed_dim"] = 12
    with pytest.raises(ValueError, match=r"config.json: embedding sizes differ: image 8, text 12"):
        MatchingModel.from_spec(spec, "config.json")


def test_an_encoder_without_its_size():
    class Silent(TextEncoder):
        def forward(self, captions):
            return Fragments(captions.mask[..., None].float(), captions.mask)

    with pytest.raises(TypeError, match=r"text_encoder: embed_dim of .*Silent: None, expected a number"):
        MatchingModel(RegionEncoder(6, 8), Silent(), CosineSimilarity())


@pytest.mark.parametrize("kind", [ImageEncoder, TextEncoder])
def test_an_encoder_has_a_forward_of_its_own(kind):
    with pytest.raises(TypeError, match="abstract"):
        kind()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("image_encoder", nn.Linear(2, 2)),
        ("image_encoder", GRUTextEncoder(3, 8)),
        ("text_encoder", 3),
        ("text_encoder", MeanPooling()),
        ("similarity", MeanPooling()),
        ("tokenizer", MeanPooling()),
    ],
)
def test_parts_of_a_wrong_kind(name, value):
    model = make()
    parts = {key: getattr(model, key) for key in ("image_encoder", "text_encoder", "similarity", "tokenizer")}
    with pytest.raises(TypeError, match=f"{name}: a {type(value).__name__}, expected an itmatch"):
        MatchingModel(**{**parts, name: value})


def test_spec():
    model = make()
    spec = json.loads(json.dumps(model.spec))
    again = MatchingModel.from_spec(spec)
    assert again.spec == model.spec
    assert isinstance(again.similarity, HardAligningSimilarity)
    assert again.tokenizer(["a dog"]) == model.tokenizer(["a dog"])
    assert make(tokenizer=False).spec["tokenizer"] is None
    again.load_state_dict(model.state_dict())
    assert torch.equal(again.score(images(), TEXTS), model.score(images(), TEXTS))


@pytest.mark.parametrize("tokenizer", [True, False])
def test_a_folder_gives_the_same_scores_bit_by_bit(tmp_path, tokenizer):
    model = make(tokenizer)
    model.train()
    captions = tokens(make())
    assert model.save_pretrained(tmp_path / "a" / "model") is None
    assert model.training
    again = MatchingModel.from_pretrained(str(tmp_path / "a" / "model"))
    assert not any(module.training for module in again.modules())
    assert torch.equal(again.score(images(), captions), model.score(images(), captions))
    assert again.spec == model.spec
    if tokenizer:
        assert torch.equal(again.score(images(), TEXTS), model.score(images(), TEXTS))
    assert type(MatchingModel.from_pretrained(tmp_path / "a" / "model")) is MatchingModel  # a Path as well


def test_what_is_in_the_folder(tmp_path):
    model = make()
    model.save_pretrained(tmp_path)
    assert sorted(os.listdir(tmp_path)) == ["README.md", "config.json", "model.safetensors"]
    config = json.loads((tmp_path / "config.json").read_text("utf-8"))
    assert config.pop("itmatch_version")
    assert config == model.spec
    weights = safetensors.torch.load_file(tmp_path / "model.safetensors")
    assert set(weights) == set(model.state_dict())
    for name, value in model.state_dict().items():
        assert torch.equal(weights[name], value), name
    for path in tmp_path.iterdir():  # a pickle begins with 0x80; torch.save makes a zip
        assert path.read_bytes()[:2] not in (b"\x80\x02", b"\x80\x04", b"\x80\x05", b"PK")


def test_saving_again_replaces_the_weights_and_keeps_the_card(tmp_path):
    make().save_pretrained(tmp_path)
    (tmp_path / "README.md").write_text("written by hand\n")
    other = chan_gru(WORDS, region_dim=6, embed_dim=16, word_dim=4)
    other.save_pretrained(tmp_path)
    assert (tmp_path / "README.md").read_text() == "written by hand\n"
    again = MatchingModel.from_pretrained(tmp_path)
    assert torch.equal(again.score(images(), TEXTS), other.score(images(), TEXTS))


@pytest.mark.parametrize("fails", ["weights", "config"])
def test_a_failing_write_leaves_the_folder_as_it_was(tmp_path, monkeypatch, fails):
    make().save_pretrained(tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    torch.manual_seed(5)
    other = chan_gru(WORDS, region_dim=6, embed_dim=16)

    def full_disk(*_, **__):
        raise OSError("No space left on device")

    def half_written(model, path, **_):
        Path(path).write_bytes(b"half")
        full_disk()

    if fails == "weights":
        monkeypatch.setattr(safetensors.torch, "save_model", half_written)
    else:
        monkeypatch.setattr(json, "dumps", full_disk)
    with pytest.raises(OSError, match="No space left"):
        other.save_pretrained(tmp_path)
    monkeypatch.undo()
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    assert torch.equal(MatchingModel.from_pretrained(tmp_path).score(images(), TEXTS), make().score(images(), TEXTS))


def edit_config(folder, change):
    path = folder / "config.json"
    config = json.loads(path.read_text("utf-8"))
    change(config)
    path.write_text(json.dumps(config), "utf-8")


@pytest.mark.parametrize(
    ("damage", "error", "message"),
    [
        (lambda d: (d / "model.safetensors").unlink(), FileNotFoundError, "{}: no model.safetensors"),
        (
            lambda d: (d / "config.json").unlink(),
            FileNotFoundError,
            "{}: no config.json",
        ),
        (lambda d: (d / "config.json").write_text("{}"), ValueError, "{}/config.json: no image_encoder, text_encoder"),
        (lambda d: (d / "config.json").write_text("{..."), ValueError, "{}/config.json:1: not json"),
        (lambda d: edit_config(d, lambda c: c.pop("similarity")), ValueError, "config.json: no similarity;"),
        (
            lambda d: edit_config(d, lambda c: c["similarity"].update(class_path="itmatch.nn.MeanPooling")),
            ValueError,
            "similarity: itmatch.nn.MeanPooling is no itmatch.nn.similarity.base.Similarity",
        ),
        (
            lambda d: edit_config(d, lambda c: c["image_encoder"].update(class_path="torch.nn.Linear")),
            ValueError,
            "image_encoder: torch.nn.Linear is no itmatch.nn.encoders.base.ImageEncoder",
        ),
        (
            lambda d: edit_config(d, lambda c: c["tokenizer"].update(class_path="subprocess.Popen", init_args={})),
            ValueError,
            "tokenizer: subprocess.Popen is no itmatch.data.tokenizers.base.Tokenizer",
        ),
        (
            lambda d: edit_config(d, lambda c: c["similarity"]["init_args"].update(pooling={"class_path": "no.Such"})),
            ValueError,
            "similarity.pooling: no class 'no.Such'",
        ),
        (
            lambda d: edit_config(d, lambda c: c.update(image_encoder=3)),
            ValueError,
            "config.json: image_encoder: a int, expected an itmatch",
        ),
        (
            lambda d: edit_config(d, lambda c: c["image_encoder"]["init_args"].update(embed_dim=16)),
            ValueError,
            "{}/config.json: embedding sizes differ: image 16, text 8",
        ),
        (
            lambda d: edit_config(d, lambda c: c["image_encoder"]["init_args"].update(in_features=7)),
            ValueError,
            "{}/model.safetensors: 'image_encoder.fc.weight' is torch.float32 of shape (8, 6), the model",
        ),
    ],
)
def test_a_damaged_folder(tmp_path, damage, error, message):
    make().save_pretrained(tmp_path)
    damage(tmp_path)
    with pytest.raises(error) as caught:
        MatchingModel.from_pretrained(tmp_path)
    assert message.format(tmp_path) in str(caught.value)


def test_no_such_folder(tmp_path):
    for missing in (tmp_path / "none", str(tmp_path / "none"), "./none", "a/b/c"):
        with pytest.raises(FileNotFoundError, match="no such folder"):
            MatchingModel.from_pretrained(missing)


def test_a_file_in_the_place_of_a_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("best.ckpt").write_bytes(b"")
    with pytest.raises(NotADirectoryError, match=r"^best.ckpt: a file, expected a folder of save_pretrained; Match"):
        MatchingModel.from_pretrained("best.ckpt")


def test_weights_on_another_device_are_found():
    assert make().device == torch.device("cpu")
    assert make().to("meta").device.type == "meta"
