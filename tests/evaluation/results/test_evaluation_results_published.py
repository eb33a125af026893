import re

import pytest

from itmatch.evaluation import bibtex, published_results


def test_every_figure_is_a_percentage_with_a_source_and_recalls_grow_with_k():
    found = published_results()
    assert len(found) > 20
    assert {result.protocol for result in found} == {"flickr30k", "coco_1k", "coco_5k"}
    for result in found:
        assert result.source
        for direction in ("i2t", "t2i"):
            recalls = [result.figures[name] for k in (1, 5, 10) if (name := f"{direction}_r{k}") in result.figures]
            assert recalls == sorted(recalls)
            assert 0 < recalls[0] < 100
    names = [(result.label, result.protocol) for result in found]
    assert len(set(names)) == len(names)


def test_one_protocol_and_an_unknown_one():
    assert {result.protocol for result in published_results("coco_5k")} == {"coco_5k"}
    partly = next(r for r in published_results("coco_5k") if r.label == "CHAN (bi-GRU)")
    assert "rsum" not in partly.figures
    with pytest.raises(ValueError, match="protocol: 'mnist', expected one of flickr30k, coco_1k, coco_5k"):
        published_results("mnist")


def test_every_result_has_an_entry():
    keys = [result.key for result in published_results()]
    entries = bibtex(keys)
    assert entries.count("@") == len(set(keys)) == 6
    for key in set(keys):
        entry = bibtex([key])
        year = re.search(r"year = \{(\d{4})\}", entry)[1]
        assert f"@inproceedings{{{key}," in entries
        assert all(f"{name} = {{" in entry for name in ("title", "author", "booktitle"))
        assert entry.count("{") == entry.count("}")
        sources = {result.source for result in published_results() if result.key == key}
        papers = [source for source in sources if re.search(r"\d{4}", source)]
        assert papers or all(source.startswith("public repository of") for source in sources)
        assert all(year in source for source in papers)
        authors = re.search(r"author = \{(\w+)", entry)[1]
        assert all(source.startswith(f"{authors} et al.") for source in papers)
    with pytest.raises(ValueError, match="key: 'nobody2020', expected one of faghri2018"):
        bibtex(["nobody2020"])
    with pytest.raises(TypeError, match="keys: one string, 'pan2023chan', expected a list"):
        bibtex("pan2023chan")
