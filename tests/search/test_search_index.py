"""Index: what is built is found again, by exactly the scores of the model, for every system."""

import json
import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers_search import BUILDERS, SCENES, TOKENIZER, part, save_clip, system

from itmatch.batch import Fragments
from itmatch.data import Collator, ImageDataset, ImageTextSplit
from itmatch.models import MatchingModel, clip_dual_encoder
from itmatch.models.fingerprint import fingerprint
from itmatch.nn import patches_of
from itmatch.search import Engine, Index


@pytest.fixture(scope="module")
def split():
    return SCENES.split("test")


@pytest.fixture
def index(tmp_path, split):
    return Index.build(system(), split, tmp_path / "index")


def stored(collection):
    return collection.fragments()[slice(None)].to(dtype=torch.float32)


def ranking(scores, top):
    """What a stable sort of scores (N, n) finds first."""
    return scores.argsort(dim=1, descending=True, stable=True)[:, :top]


def regions_of(split, rows):
    return Collator(TOKENIZER)([ImageDataset(split)[row] for row in rows]).regions


def check_equals_the_model(index, split, queries=7):
    model = index.model
    images, captions = stored(index.images), stored(index.captions)
    scores = model.score(images, captions)  # of all that is stored
    texts = captions[torch.arange(queries)]
    found = index.search(texts, top=9, kind="images")
    assert found.kind == "images"
    torch.testing.assert_close(found.scores, scores[:, :queries].T.gather(1, found.rows), atol=2e-6, rtol=1e-5)
    assert torch.equal(found.rows, ranking(model.score(images, texts).T, 9))
    found = index.search(images[torch.arange(queries)], top=9, kind="captions")
    torch.testing.assert_close(found.scores, scores[:queries].gather(1, found.rows), atol=2e-6, rtol=1e-5)
    assert torch.equal(found.rows, ranking(scores[:queries], 9))
    hits = index.search(split.captions[:queries], top=3)
    assert hits.exact == [True] * queries
    expected = model.score(images, model.encode_texts(split.captions[:queries])).T
    assert torch.equal(hits.rows, ranking(expected, 3))
    assert hits.ids[1] == [index.images.ids[row] for row in hits.rows[1]]


@pytest.mark.parametrize("name", BUILDERS)
def test_search_finds_what_the_model_scores_best(name, tmp_path, split):
    model = system(name)
    index = Index.build(model, split, tmp_path / "index", batch_size=8)
    check_equals_the_model(index, split)
    hits = index.search(regions_of(split, range(4)), top=5)
    expected = model.score(model.encode_images(regions_of(split, range(4))), stored(index.captions))
    assert torch.equal(hits.rows, ranking(expected, 5))
    again = Index.open(tmp_path / "index")
    assert torch.equal(again.search(split.captions[:3], top=4).scores, index.search(split.captions[:3], top=4).scores)
    assert fingerprint(again.model) == fingerprint(model)


def test_clip(tmp_path, tiny_bert):
    model = clip_dual_encoder(save_clip(tmp_path / "clip", tiny_bert))
    pixels = torch.randn(6, 3, 24, 24, generator=torch.Generator().manual_seed(1))
    texts = ["a black dog", "a white cat", "a dog", "a cat", "black", "white"]
    split = ImageTextSplit(patches_of(pixels, 8).numpy(), texts, np.arange(6))
    index = Index.build(model, split, tmp_path / "index")
    check_equals_the_model(index, split, queries=4)
    assert index.images.fragments().pooled is not None


@pytest.mark.parametrize("name", ["chan", "vse_infty", "hire"])
def test_recalls_are_those_of_the_evaluation(name, tmp_path, split):
    model = system(name)
    index = Index.build(model, split, tmp_path / "index")
    figures = model.evaluate(split)
    image_of = torch.as_tensor(split.caption_image)
    by_text = index.search(stored(index.captions), top=10, kind="images").rows
    by_image = image_of[index.search(stored(index.images), top=10, kind="captions").rows]
    for k in (1, 5, 10):
        found = (by_text[:, :k] == image_of[:, None]).any(1).double().mean() * 100
        assert figures[f"t2i_r{k}"] == pytest.approx(float(found))
        found = (by_image[:, :k] == torch.arange(split.num_images)[:, None]).any(1).double().mean() * 100
        assert figures[f"i2t_r{k}"] == pytest.approx(float(found))


def test_hits(index, split):
    hits = index.search("a small red dog", top=2)
    assert len(hits) == 1
    assert [hit.rank for hit in hits[0]] == [1, 2]
    assert hits[0][0].text is None
    assert hits[0][0].id in split.image_ids
    found = index.search(stored(index.images)[:1], kind="captions", top=1, alignments=True)
    row = int(found.rows[0, 0])
    assert found[0][0].text == split.captions[row] == index.captions.texts[row]
    assert found[0][0].id == str(row)
    expected = index.model.align(stored(index.images)[:1], index.captions.fragments([row])[:].to(dtype=torch.float32))
    torch.testing.assert_close(found.alignments[0][0], expected)
    data = json.loads(json.dumps(hits.to_dicts()))
    assert data[0]["hits"][0] == {"rank": 1, "id": hits.ids[0][0], "score": float(hits.scores[0, 0])} | {
        "text": None,
        "picture": split.picture(int(hits.rows[0, 0])),
    }
    picture = index.images.pictures[int(hits.rows[0, 0])]
    assert repr(hits[0][0]).endswith(f"score={hits[0][0].score:.4f}, picture=<svg ... {len(picture)} characters>)")
    assert repr(found[0][0]).endswith(f"text={found[0][0].text!r})")
    assert repr(replace(hits[0][0], picture="a.jpg")).endswith(", picture='a.jpg')")
    assert repr(hits) == "Hits(1 query, 2 images each)"
    assert repr(index.search([], top=3)) == "Hits(0 queries, 0 images each)"
    assert len(index.search([], top=3)) == 0
    assert index.search("a dog", top=1000).rows.shape == (1, split.num_images)


def test_unknown_words(index, split):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        hits = index.search(["a red zorgon", "a red dog"], top=2)
        assert index.search(stored(index.images)[:2], kind="captions").unknown == [[], []]
        assert index.search(TOKENIZER.batch(["zorgon"])).unknown == [[]]  # no text, so no word to tell
        assert index.search(["..."]).unknown == [[]]
    assert hits.unknown == [["zorgon"], []]
    assert [one["unknown"] for one in hits.to_dicts()] == hits.unknown
    with pytest.warns(UserWarning, match=r"knows no word of 'Zorgon quax!', .*; unknown: zorgon, quax") as told:
        assert index.search(["a dog", "Zorgon quax!"]).unknown == [[], ["zorgon", "quax"]]
    assert [warning.filename for warning in told] == [__file__]


def test_what_is_known_of_images(index, split):
    assert index.images.ids == split.image_ids
    assert index.captions.texts == split.captions
    assert index.images.texts is None
    assert index.captions.pictures is None
    for row in (0, 7, 29):
        item = split.image(row)
        torch.testing.assert_close(index.images.boxes(row), item.boxes)
        assert torch.equal(index.images.labels(row), item.labels)
        found = index.images.relations(row)
        assert [[a, SCENES.predicates.index(p), b] for a, p, b, _ in found] == item.relations.tolist()
        assert [weight for *_, weight in found] == pytest.approx(item.relation_scores.tolist())
        assert index.images.position(split.image_ids[row]) == row
    assert index.captions.boxes(0) is None
    with pytest.raises(KeyError, match="no id 'nothing' among 30 images"):
        index.images.position("nothing")


def test_fragments_are_those_of_the_encoder_in_half_precision(index, split):
    encoded = index.model.encode_texts(split.captions[:4])
    found = index.captions.fragments(slice(0, 4))
    assert found.values.dtype == torch.float16
    torch.testing.assert_close(found[:].features.float(), encoded.features.half().float(), atol=1e-3, rtol=0)
    chosen = index.captions.fragments([9, 2, 3])
    for place, row in enumerate((9, 2, 3)):
        assert torch.equal(chosen[place].features, index.captions.fragments([row])[:].features)


def test_add_and_delete(tmp_path, split):
    model = system()
    index = Index.build(model, part(split, 0, 10), tmp_path / "index")
    index.add(part(split, 10, 20))
    index.add(part(split, 20, 30))
    assert index.images.ids == split.image_ids
    assert index.captions.texts == split.captions
    assert index.captions.ids == [str(i) for i in range(150)]
    check_equals_the_model(index, split)
    whole = Index.build(model, part(split, 0, 30), tmp_path / "whole")
    texts = split.captions[:20]
    torch.testing.assert_close(index.search(texts).scores, whole.search(texts).scores)
    with pytest.raises(ValueError, match=r"index: has 2 of the 2 images already: 'test-00005a', 'test-"):
        index.add(part(split, 10, 12))
    gone = index.search(texts[0], top=1).ids[0]
    index.delete(gone)
    assert len(index.images) == 29
    assert len(index.captions) == 145
    assert not index.images.has(gone[0])
    after = index.search(texts, top=29)
    assert all(gone[0] not in ids for ids in after.ids)
    check_equals_the_model(index, split)
    index.delete([index.images.ids[0], index.images.ids[27]])
    again = Index.open(tmp_path / "index")
    assert again.images.ids == index.images.ids
    assert len(again.images) == 27
    check_equals_the_model(again, split)
    with pytest.raises(KeyError, match="no id"):
        index.delete(gone)
    index.add(part(split, split.image_ids.index(gone[0]), split.image_ids.index(gone[0]) + 1))
    assert index.images.ids[-1] == gone[0]
    assert index.captions.ids[-1] == "154"


def test_another_reader_sees_what_it_has_opened_until_it_asks(tmp_path, split):
    writer = Index.build(system(), part(split, 0, 10), tmp_path / "index")
    reader = Index.open(tmp_path / "index")
    before = reader.search(split.captions[0], top=10)
    writer.add(part(split, 10, 20))
    writer.delete([before.ids[0][0]])
    assert torch.equal(reader.search(split.captions[0], top=10).scores, before.scores)
    assert reader.refresh()
    assert not reader.refresh()
    assert len(reader.images) == 19
    Index.build(system("scan t2i"), split, tmp_path / "index", overwrite=True)
    assert len(reader.search(split.captions[0], top=10).ids[0]) == 10
    with pytest.raises(ValueError, match="was built anew with another model or first stage; open it again"):
        reader.refresh()


def test_places_that_are_taken(tmp_path, split):
    model = system()
    Index.build(model, part(split, 0, 4), tmp_path / "index")
    with pytest.raises(FileExistsError, match="there is an index already; overwrite=True"):
        Index.build(model, part(split, 0, 4), tmp_path / "index")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("a")
    with pytest.raises(FileExistsError, match=r"holds 'thesis.txt', which is no index"):
        Index.build(model, part(split, 0, 4), tmp_path / "mine")
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["thesis.txt"]
    with pytest.raises(FileNotFoundError, match="no such folder"):
        Index.open(tmp_path / "nothing")
    with pytest.raises(FileNotFoundError, match="no index in it"):
        Index.open(tmp_path / "mine")


def test_another_model(tmp_path, index, split):
    assert Index.open(index.path, model=index.model).model is index.model
    with pytest.raises(ValueError, match=r"index: built with the model [0-9a-f]{12}, the model given is another one"):
        Index.open(index.path, model=system(seed=1))
    changed = MatchingModel.from_pretrained(index.path / "model-00000001")
    changed.similarity.pooling.temperature = 0.3
    changed.save_pretrained(index.path / "model-00000001")
    with pytest.raises(ValueError, match="its model folder holds another one"):
        Index.open(index.path)


def test_queries_that_are_none(index):
    with pytest.raises(ValueError, match='give kind="images" or kind="captions"'):
        index.search(Fragments(torch.randn(1, 2, 16)))
    with pytest.raises(ValueError, match="kind='captions', but texts look for images"):
        index.search("a dog", kind="captions")
    with pytest.raises(ValueError, match="top: 0, expected a whole number"):
        index.search("a dog", top=0)
    with pytest.raises(TypeError, match="queries: a int, expected texts, photos, Captions, Regions, features"):
        index.search(3)
    with pytest.raises(TypeError, match=r"queries\[1\]: a int, expected a text, as the others are"):
        index.search(["a dog", 3])
    with pytest.raises(TypeError, match=r"queries: a generator, expected texts"):
        index.recall(text for text in ["a dog"])
    with pytest.raises(TypeError, match=r"queries: a dict"):
        index.search({"a dog": 1})
    assert index.search(np.array(["a dog", "a zorgon"])).unknown == index.search(("a dog", "a zorgon")).unknown
    assert index.search(np.array(["a zorgon"])).unknown == [["zorgon"]]


def test_one_id_is_not_read_letter_by_letter(index):
    images = len(index.images)
    index.delete(index.images.ids[3])
    assert len(index.images) == images - 1
    with pytest.raises(TypeError, match="ids: a int, expected"):
        index.delete(3)
    with pytest.raises(KeyError, match="no id 'nobody'"):
        index.delete("nobody")


def test_arguments_that_are_something_else(index, split, tmp_path):
    with pytest.raises(TypeError, match="source: a RelationScenes, expected one of its splits"):
        Index.build(index.model, SCENES, tmp_path / "new")
    with pytest.raises(TypeError, match="source: a int, expected an ImageTextSplit"):
        index.add(3)
    with pytest.raises(FileNotFoundError, match="folder: no such file"):
        index.add("folder")
    with pytest.raises(ValueError, match="batch_size: 0"):
        index.add(split, batch_size=0)
    with pytest.raises(TypeError, match="engine: a str, expected an itmatch"):
        Index.build(index.model, split, tmp_path / "new", engine="centroids")
    with pytest.raises(TypeError, match="model: a str, expected an itmatch"):
        Index.open(index.path, model="model")
    with pytest.raises(TypeError, match="engine: the class Engine, expected"):
        Index.open(index.path, engine=Engine)
    with pytest.raises(TypeError, match="row 'test-00000a', expected a number; position"):
        index.images.boxes("test-00000a")
    for rows in ("test-00000a", 3, [0.5]):
        with pytest.raises(TypeError, match=r"rows .*, expected a slice or a list of numbers"):
            index.images.fragments(rows)
    assert len(index.images.fragments([])) == 0
    with pytest.raises(TypeError, match=r"image 'test-00000a', expected a number, from 0 to 29"):
        split.image("test-00000a")
    with pytest.raises(TypeError, match=r"caption 'a dog', expected a number, from 0 to 149"):
        split.caption("a dog")
    with pytest.raises(TypeError, match="picture None, expected a number"):
        split.picture(None)
    with pytest.raises(IndexError, match="picture 30 of 30"):
        split.picture(30)
    assert not (tmp_path / "new").exists()
    assert index.images.boxes(index.search("a dog").rows[0, 0]) is not None


def test_numbers_that_float16_cannot_hold(tmp_path, split):
    model = system("vse_pp")
    model.image_encoder.normalize = False
    with torch.no_grad():
        for parameter in model.image_encoder.parameters():
            parameter.mul_(1e6)
    with pytest.raises(ValueError, match=r"image 'test-00000a': its encoding holds a number that is .*float16"):
        Index.build(model, split, tmp_path / "index")
    assert not any((tmp_path / "index").glob("*-*"))
    with pytest.raises(FileNotFoundError, match="no index in it"):
        Index.open(tmp_path / "index")


def test_a_gallery(tmp_path, split):
    """Images without captions are found by texts; captions of no image go when nobody's image does."""
    model, described = system(), part(split, 0, 4)
    features = np.stack([split.image(i).features.numpy() for i in range(4, 8)])
    gallery = ImageTextSplit(features, image_ids=split.image_ids[4:8])
    index = Index.build(model, gallery, tmp_path / "index")
    assert (len(index.images), len(index.captions)) == (4, 0)
    hits = index.search(["a red circle", "a blue square"], top=2)
    scores = model.score(features, ["a red circle", "a blue square"])
    assert hits.rows.tolist() == scores.topk(2, 0).indices.T.tolist()

    index.add(described)
    index.add(ImageTextSplit(features[:1], ["a query"], image_ids=["another"]))
    assert index.captions.image_serials().tolist() == [*(described.caption_image + 4), -1]
    index.delete([split.image_ids[3]])  # the last image before that query
    assert index.captions.image_serials()[-1] == -1
