"""Searching: images by images, and what is said where nothing can be found."""

import numpy as np
import pytest
import torch
from helpers_search import BUILDERS, SCENES, system

from itmatch.data import ImageTextSplit
from itmatch.search import Axes, Index

PLAIN = ("vse_pp", "vse_infty", "scan t2i", "scan i2t", "chan", "resg", "sets", "blocks", "best pair")  # no weights


@pytest.fixture(scope="module")
def split():
    return SCENES.split("test")


@pytest.mark.parametrize("name", BUILDERS)
def test_images_find_similar_images(name, tmp_path, split):
    model = system(name)
    index = Index.build(model, split, tmp_path / "index")
    every = index.images.fragments()[:]
    if name not in PLAIN:
        with pytest.raises(ValueError, match=r"similar: \w+ has weights that were learned of regions and words"):
            index.similar(every)
        return
    found = index.similar(every[:7], top=5)
    assert found.kind == "images"
    assert found.exact == [True] * 7
    wide = every.to(dtype=torch.float32)
    with torch.no_grad():
        scores = torch.stack([model.similarity(wide, wide[row : row + 1])[:, 0] for row in range(7)])
    assert torch.equal(found.rows, scores.argsort(dim=1, descending=True, stable=True)[:, :5])
    torch.testing.assert_close(found.scores, scores.gather(1, found.rows), atol=2e-6, rtol=1e-5)
    assert found.scores.std() > 0
    assert found[3][0].picture == index.images.pictures[found.rows[3, 0]]


@pytest.mark.parametrize("name", ["vse_infty", "chan"])
def test_an_image_finds_itself_first(name, tmp_path, split):
    index = Index.build(system(name), split, tmp_path / "index", engine=Axes(8))
    regions = [split.image(row).features for row in range(split.num_images)]
    hits = index.similar(regions, top=1)
    assert [ids[0] for ids in hits.ids] == split.image_ids
    if name == "vse_infty":  # a cosine
        torch.testing.assert_close(hits.scores, torch.ones(len(regions), 1), atol=2e-3, rtol=0)


def test_an_index_without_captions_says_so(tmp_path, split):
    gallery = ImageTextSplit(np.random.default_rng(0).normal(size=(3, 4, 64)).astype(np.float32))
    index = Index.build(system(), gallery, tmp_path / "index")
    with pytest.raises(ValueError, match=r"index: holds no captions, so images find none; index.similar"):
        index.search([split.image(0).features])
    with pytest.raises(ValueError, match="holds no captions"):
        index.search(index.images.fragments()[:], kind="captions")
    assert len(index.search("a dog", 2)[0]) == 2
    index.delete(index.images.ids)
    assert index.search([split.image(0).features]).ids == [[]]  # an empty index is no mistake
