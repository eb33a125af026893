"""What an explanation says is what the model says."""

import numpy as np
import pytest
import torch
from helpers_pages import SCENES, SYSTEMS, model_of
from PIL import Image

from itmatch import MatchingModel, Regions
from itmatch.data import Collator, HuggingFaceTokenizer
from itmatch.nn import (
    ClipImageEncoder,
    CosineSimilarity,
    GRUTextEncoder,
    RegionEncoder,
    Similarity,
    TransformerTextEncoder,
)
from itmatch.pages import explain
from itmatch.pages.words import shown_words


@pytest.fixture(scope="module")
def split():
    return SCENES.split("test")


@pytest.mark.parametrize("system", SYSTEMS)
def test_alignment_is_that_of_the_similarity(split, system):
    model = model_of(system)
    for image, caption in ((0, 0), (1, 7)):
        item, text = split.image(image), split.caption(caption)
        batch = Collator(model.tokenizer)([(item, text)])
        found = explain(model, item, text, picture=split.picture(image), names=split.names)
        image_side, text_side = model.encode_images(batch.regions), model.encode_texts(batch.captions)
        whole = model.similarity.align(image_side, text_side).detach().numpy()
        words = text.text.split()
        np.testing.assert_array_equal(found.alignment, whole[: len(item.features), 1 : 1 + len(words)])
        assert found.words == words
        assert found.joined == [False] * len(words)
        assert found.score == pytest.approx(float(model.score(image_side, text_side)))
        assert found.regions == [split.names.label(int(label)) for label in item.labels]
        np.testing.assert_array_equal(found.boxes, item.boxes)


@pytest.mark.parametrize("system", ["cmsei", "hire", "resg"])
def test_relations_are_those_that_the_model_takes(split, system):
    item = split.image(2)
    found = explain(model_of(system, min_confidence=0.0), item, split.captions[0], names=split.names)
    names = [split.names.predicate(int(predicate)) for predicate in item.relations[:, 1]]
    assert [(r.subject, r.name, r.object) for r in found.relations] == [
        (int(s), name, int(o)) for (s, _, o), name in zip(item.relations, names, strict=True)
    ]
    np.testing.assert_allclose([r.weight for r in found.relations], item.relation_scores, atol=1e-4)
    assert explain(model_of(system, min_confidence=1.0), item, split.captions[0]).relations == []
    assert explain(model_of("chan"), item, split.captions[0]).relations == []


def test_relations_of_both_sides_meet(split):
    model, item, text = model_of("resg", min_confidence=0.0), split.image(0), split.caption(0)
    batch = Collator(model.tokenizer)([(item, text)])
    found = explain(model, item, text, names=split.names)
    whole = model.align(model.encode_images(batch.regions), model.encode_texts(batch.captions)).numpy()
    regions, words = batch.regions.mask.shape[1], batch.captions.mask.shape[1]
    np.testing.assert_array_equal(found.relation_alignment, whole[regions:, words:])
    assert len(found.phrases) == len(text.relations)
    start, end = text.relations[0, 0].tolist()
    assert found.phrases[0].startswith(text.text[start:end])
    unparsed = explain(model, item, text.text)
    assert len(unparsed.phrases) == len(unparsed.words) - 1  # neighbours, without the frame


@pytest.mark.parametrize("system", ["cmsei", "resg", "chan"])
def test_fragments_of_an_index_will_do(split, system):
    settings = {"neighbours": 1} if system == "resg" else {}
    model, item, text = model_of(system, **settings), split.image(2), split.caption(10)
    regions = Collator(model.tokenizer)([item]).regions
    whole = explain(model, regions, text, names=split.names)
    columns = zip(item.relations.tolist(), item.relation_scores.tolist(), strict=True)
    relations = [(subject, predicate, target, score) for (subject, predicate, target), score in columns]
    known = {"boxes": item.boxes.numpy(), "labels": item.labels.tolist(), "names": split.names}
    fragments = model.encode_images(regions)
    for given in (relations, [(s, split.names.predicate(p), o, score) for s, p, o, score in relations]):
        kept = explain(model, fragments, text, relations=given, **known)
        np.testing.assert_array_equal(kept.alignment, whole.alignment)
        np.testing.assert_array_equal(kept.relation_alignment, whole.relation_alignment)
        assert (kept.regions, kept.score, kept.relations) == (whole.regions, whole.score, whole.relations)
    bare = explain(model, fragments, text)
    assert (bare.boxes, bare.regions[0], bare.relations) == (None, "region 1", [])
    with pytest.raises(ValueError, match=r"relations\[0\]: regions 0 and 99, expected 0"):
        explain(model, fragments, text, relations=[(0, "on", 99)])
    with pytest.raises(ValueError, match=rf"boxes: 1, expected {len(item.boxes)}, one per region"):
        explain(model, fragments, text, boxes=item.boxes[:1])
    with pytest.raises(ValueError, match=rf"labels: 0, expected {len(item.boxes)}, one per region"):
        explain(model, fragments, text, labels=[])


def test_padding_is_hidden():
    features, mask = torch.randn(1, 4, 64), torch.tensor([[True, False, True, False]])
    boxes = torch.rand(1, 4, 2).repeat(1, 1, 2).clamp(0, 1)
    found = explain(model_of("chan"), Regions(features, mask, boxes), "a red dog")
    assert found.alignment.shape == (2, 3)
    assert found.regions == ["region 1", "region 3"]
    np.testing.assert_array_equal(found.boxes, boxes[0, [0, 2]])


def test_pieces_of_words(tiny_bert):
    tokenizer = HuggingFaceTokenizer(tiny_bert)
    model = MatchingModel(
        RegionEncoder(8, 16), TransformerTextEncoder(tiny_bert, 16), model_of("chan").similarity, tokenizer
    )
    found = explain(model, Regions(torch.randn(1, 3, 8)), "A black cat runs.")
    assert found.words == ["A", "black", "cat", "run", "s", "."]
    assert found.joined == [False, False, False, False, True, False]  # a full stop is a word of its own
    whole = model.align(torch.zeros(1, 3, 8), "A black cat runs.")
    assert found.alignment.shape[1] == whole.shape[1] - 2  # [CLS] and [SEP]


def test_tokenizers_that_do_not_say_where_their_tokens_stand():
    tokenizer = model_of("chan").tokenizer
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(tokenizer), "spans", lambda self, texts: [[(0, 0)]])
        shown = shown_words(tokenizer, "a zebra", tokenizer(["a zebra"])[0])
    assert shown.names == ("a", "<unk>")
    assert shown_words(None, "a b", [4, 5]).names == ("token 4", "token 5")


def test_similarity_without_alignment(split):
    class Constant(Similarity):
        def forward(self, image, text):
            return image.features.new_zeros(len(image), len(text))

    model = model_of("chan")
    model.similarity = Constant()
    found = explain(model, split.image(0), "a red dog", names=split.names)
    assert found.alignment is None
    assert "does not say which region" in found.html()
    pytest.importorskip("matplotlib")
    assert len(found.figure().axes) == 2


def test_photos_for_clip_and_for_nobody_else(tmp_path, tiny_bert):
    path = tmp_path / "photo.png"
    Image.new("RGB", (40, 20), "red").save(path)
    small = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = {"text_config": {**small, "vocab_size": 20, "eos_token_id": 3}, "projection_dim": 16}
    config |= {"model_type": "clip", "vision_config": {**small, "image_size": 16, "patch_size": 8}}
    model = MatchingModel(
        ClipImageEncoder(config=config),
        GRUTextEncoder(20, 16),
        CosineSimilarity(),
        HuggingFaceTokenizer(tiny_bert),
    )
    found = explain(model, path, "a black dog")
    assert found.alignment.shape == (4, 3)
    np.testing.assert_allclose(found.boxes[0], [0.25, 0, 0.5, 0.5])  # of the square in the middle
    np.testing.assert_allclose(found.boxes[3], [0.5, 0.5, 0.75, 1])
    assert found.picture == str(path)
    with pytest.raises(FileNotFoundError, match=r"nothing\.png: no such file"):
        explain(model, tmp_path / "nothing.png", "a dog")
    with pytest.raises(ValueError, match=r"this model reads region features of 64 numbers, not photos: set model.ext"):
        explain(model_of("chan"), path, "a dog")


def test_one_image_in_every_form(split):
    model, item = model_of("chan"), split.image(1)
    boxes, labels = item.boxes, item.labels
    regions = Regions(item.features[None], boxes=boxes[None], labels=labels[None])
    expected = explain(model, regions, "a red dog", names=split.names)
    features = item.features
    forms = [features, features[None], [features], features.numpy(), features.numpy()[None], features.tolist()]
    forms += [features.numpy().astype(np.float64), [features[None].numpy()], (features,)]
    for form in forms:
        found = explain(model, form, ["a red dog"], boxes=boxes.numpy(), labels=labels.tolist(), names=split.names)
        np.testing.assert_array_equal(found.alignment, expected.alignment)
        np.testing.assert_array_equal(found.boxes, expected.boxes)
        assert (found.regions, found.score, found.text) == (expected.regions, expected.score, expected.text)
    for form in ([regions], [split.image(1)], [model.encode_images(regions)]):
        assert explain(model, form, "a red dog").score == expected.score
    assert explain(model, features, split.caption(0)).text == split.captions[0]
    assert explain(model, torch.ones(2, 64, dtype=torch.int64), [split.caption(0)]).regions[1] == "region 2"


ARRAY = np.ones((2, 64), np.float32)
WRONG = {
    r"image: shape \(2, 3, 64\), expected one image: \(regions, features\) or \(1, reg": {"image": np.ones((2, 3, 64))},
    r"image: shape \(64,\), expected one image": {"image": ARRAY[0]},
    "image: a list of 2, expected one image": {"image": [ARRAY, ARRAY]},
    "image: a list of 0, expected one image": {"image": []},
    "image: 2 images, expected one": {"image": Regions(torch.ones(2, 3, 64))},
    "image: a int, expected an item of a split, Regions": {"image": 3},
    "image: a NoneType, expected": {"image": None},
    "image: a Image, expected .* or the path of a photo": {"image": Image.new("RGB", (2, 2))},
    "image: a ndarray of <U3, expected an array of numbers": {"image": np.array([["dog"]])},
    "features of size 3, expected 64": {"image": np.ones((2, 3), np.float32)},
    "no valid fragment": {"image": ARRAY[:0]},
    "NaN or inf": {"image": ARRAY * np.nan},
    "text: 2 captions, expected one": {"text": ["a dog", "a cat"]},
    "text: 0 captions, expected one": {"text": []},
    "text: a int, expected a caption": {"text": 3},
    "text: a NoneType, expected": {"text": [None]},
    "names: a list, expected an itmatch": {"names": ["dog", "cat"]},
    "model: a dict, expected an itmatch": {"model": {}},
    "boxes: 1, expected 2, one per region": {"boxes": ARRAY[:1, :4]},
    r"boxes: shape \(2, 3\), expected \(2, 4\)": {"boxes": ARRAY[:, :3]},
    "boxes: NaN or inf at region 0": {"boxes": ARRAY[:, :4] * np.nan},
    r"boxes: shape \(\), expected": {"boxes": 3},
    "labels: 3, expected 2, one per region": {"labels": [1, 2, 3]},
    "labels: a list of <U3": {"labels": ["dog", "cat"]},
    "labels: torch.float64, expected whole numbers": {"labels": [0.5, 1.0]},
    "relations: given beside features; give Regions with a graph": {"relations": []},
    "boxes: given beside Regions, which have their own": {
        "image": Regions(torch.ones(1, 2, 64)),
        "boxes": ARRAY[:, :4],
    },
    "picture: a int, expected the path of a photo, or SVG": {"picture": 3},
    "picture: '<html>', expected SVG that begins with '<svg'": {"picture": "<html>"},
    "picture: nothing.png: no such file": {"picture": "nothing.png"},
    "picture: .*: a folder, expected a file": {"picture": "."},
}


@pytest.mark.parametrize("message", WRONG)
def test_arguments_that_are_something_else(message):
    arguments = {"model": model_of("chan"), "image": ARRAY, "text": "a dog", **WRONG[message]}
    with pytest.raises((TypeError, ValueError, FileNotFoundError), match=message) as told:
        explain(arguments.pop("model"), arguments.pop("image"), arguments.pop("text"), **arguments)
    assert "\n" not in str(told.value)


@pytest.mark.parametrize("relations", ["on", 3, [3], ["on"], [(0, 1)], [("a", "on", 1)], [(0, [], 1)]])
def test_relations_that_are_none(split, relations):
    model = model_of("cmsei")
    fragments = model.encode_images(Collator(model.tokenizer)([split.image(0)]).regions)
    with pytest.raises(TypeError, match=r"relations(\[0\])?: .*, expected a"):
        explain(model, fragments, "a dog", relations=relations)


def test_pictures_as_paths(tmp_path):
    Image.new("RGB", (4, 4)).save(tmp_path / "a.png")
    assert explain(model_of("chan"), ARRAY, "a", picture=tmp_path / "a.png").picture == str(tmp_path / "a.png")
    assert explain(model_of("chan"), ARRAY, "a", picture="<svg/>").picture == "<svg/>"


def test_what_cannot_be_explained(split):
    model = model_of("chan")
    with pytest.raises(ValueError, match="2 images, expected one"):
        explain(model, Regions(torch.randn(2, 3, 64)), "a dog")
    with pytest.raises(ValueError, match="empty caption"):
        explain(model, split.image(0), " ")
    model.tokenizer = None
    with pytest.raises(ValueError, match="no tokenizer"):
        explain(model, split.image(0), "a dog")
