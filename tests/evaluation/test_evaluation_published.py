import pytest

from itmatch.evaluation import published_results


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
