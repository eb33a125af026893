"""Protocols against hand-made cases, loops, and the published package."""

import json

import numpy as np
import pytest
import torch

from itmatch.evaluation import (
    Coco1K,
    Coco5K,
    Cxc,
    EccvCaption,
    Flickr30K,
    PlausibleMatch,
    ScoredSplit,
    SeveralProtocols,
    retrieval_metrics,
    retrieval_ranks,
    streamed_hits,
)


class Matrix(ScoredSplit):
    """A split whose scores are a matrix."""

    def __init__(self, scores, caption_image):
        super().__init__(caption_image, len(scores), [str(i) for i in range(len(scores))])
        self.scores = scores

    def ranks(self, images=slice(None)):
        chosen = torch.arange(self.num_images)[images]
        captions = torch.isin(self.caption_image, chosen)
        return retrieval_ranks(self.scores[images][:, captions], self.caption_image[captions] - chosen[0])

    def hits(self, relevance, places=10, images=None):
        rows = torch.arange(self.num_images)[slice(None) if images is None else images]
        captions = torch.isin(self.caption_image, rows).nonzero()[:, 0]
        return streamed_hits(
            lambda i, t: self.scores[rows[i]][:, captions[t]], rows, captions, relevance, places=places
        )


def split(images=10, seed=0):
    scores = torch.randn(images, 5 * images, generator=torch.Generator().manual_seed(seed))
    return Matrix(scores, torch.arange(5 * images) // 5)


def test_whole_sets():
    data = split()
    expected = retrieval_metrics(data.ranks())
    assert Flickr30K(num_images=10).measure(data) == expected
    assert Coco5K(num_images=10).measure(data) == expected


def test_folds_are_ranked_by_themselves_in_the_order_of_the_data():
    # in the second fold every image and caption finds its own; in the first the captions of the two images are swapped
    scores = torch.zeros(4, 20)
    for image, captions in enumerate((range(5, 10), range(5), range(10, 15), range(15, 20))):
        scores[image, list(captions)] = 1.0
    scores[2:, :10] = 5.0  # what the other folds score does not matter
    data = Matrix(scores, torch.arange(20) // 5)
    found = Coco1K(num_images=4, folds=2).measure(data)
    assert found["t2i_r1"] == found["i2t_r1"] == 50.0
    assert found["t2i_r5"] == 100.0  # of two images
    assert found["i2t_r5"] == 50.0  # five captions of the other image come first
    assert found["i2t_r10"] == 100.0
    assert found["rsum"] == pytest.approx(50 + 50 + 100 + 50 + 100 + 100)
    assert found["rsum_std"] == pytest.approx(150.0)  # 300 and 600
    assert Flickr30K(num_images=4).measure(data)["i2t_r1"] == 0.0


def test_the_wrong_set_is_named():
    with pytest.raises(ValueError, match="Coco1K: 10 images with 5 to 5 captions, expected 5000 with 5"):
        Coco1K().measure(split())
    with pytest.raises(ValueError, match="Flickr30K: 10 images"):
        Flickr30K().measure(split())
    with pytest.raises(ValueError, match="expected folds of equal size"):
        Coco1K(num_images=10, folds=3)


def write_annotations(folder, images=10):
    """Files in COCO's own ids, which are in no order."""
    rng = np.random.default_rng(0)
    captions, pictures = rng.permutation(1000)[: 5 * images], rng.permutation(1000)[:images] + 5000
    np.save(folder / "coco_test_ids.npy", captions)
    original = {int(c): [int(pictures[k // 5])] for k, c in enumerate(captions)}
    i2t = {int(pictures[i]): rng.choice(captions, 3, replace=False).tolist() for i in (1, 4, 8)}
    i2t[int(pictures[4])].append(99_999)  # annotated, and not in the test set: it is never found, and counts
    t2i = {int(captions[t]): rng.choice(pictures, 1 + t % 4, replace=False).tolist() for t in (0, 7, 30, 31)}
    for name, content in (
        ("original_caption_to_image", original),
        ("eccv_image_to_caption", i2t),
        ("eccv_caption_to_image", t2i),
        ("cxc_image_to_caption", i2t),
        ("cxc_caption_to_image", t2i),
    ):
        (folder / f"{name}.json").write_text(json.dumps(content))
    return captions.tolist(), pictures.tolist(), i2t, t2i


def figures(ranking, positives):
    count = len(positives)
    hit = [item in positives for item in ranking]
    average = sum(sum(hit[: k + 1]) / (k + 1) for k in range(count) if hit[k]) / count
    return [any(hit[:k]) for k in (1, 5, 10)] + [sum(hit[:count]) / count, average]


def test_annotations_of_a_folder(tmp_path):
    captions, pictures, i2t, t2i = write_annotations(tmp_path)
    data = split()
    eccv, cxc = EccvCaption(tmp_path).measure(data), Cxc(tmp_path).measure(data)
    for direction, scores, wanted, queries, answers in (
        ("i2t", data.scores, i2t, pictures, captions),
        ("t2i", data.scores.T, t2i, captions, pictures),
    ):
        rows = []
        for query, positives in wanted.items():
            order = scores[queries.index(query)].argsort(descending=True).tolist()
            rows.append(figures([answers[k] for k in order], set(positives)))
        r1, r5, r10, precision, average = (100 * torch.tensor(rows, dtype=torch.float64).mean(0)).tolist()
        assert eccv[f"eccv_{direction}_r1"] == pytest.approx(r1)
        assert eccv[f"eccv_{direction}_rprecision"] == pytest.approx(precision)
        assert eccv[f"eccv_{direction}_map_at_r"] == pytest.approx(average)
        assert [cxc[f"cxc_{direction}_r{k}"] for k in (1, 5, 10)] == pytest.approx([r1, r5, r10])


def test_annotations_that_do_not_fit_are_named(tmp_path):
    captions, *_ = write_annotations(tmp_path)
    with pytest.raises(ValueError, match=r"coco_test_ids\.npy: ids of 50 captions, the split has 20"):
        EccvCaption(tmp_path).measure(split(4))
    np.save(tmp_path / "coco_test_ids.npy", captions[::-1])
    data = split()
    data.caption_image = torch.arange(50) % 10
    with pytest.raises(ValueError, match="its captions are in another order"):
        EccvCaption(tmp_path).measure(data)
    named = split()
    _, pictures, *_ = write_annotations(tmp_path)
    named.image_ids = [f"COCO_val2014_{number:012d}.jpg" for number in pictures]
    assert EccvCaption(tmp_path).measure(named)
    named.image_ids[2:4] = named.image_ids[3:1:-1]
    with pytest.raises(ValueError, match=f"COCO's image {pictures[3]} is number 3 there and number 2 of the split"):
        EccvCaption(tmp_path).measure(named)
    with pytest.raises(FileNotFoundError, match=r"nowhere.*coco_test_ids\.npy: no such file"):
        Cxc(tmp_path / "nowhere").measure(split())


def test_plausible_matches_against_a_loop(tmp_path):
    _, pictures, *_ = write_annotations(tmp_path)
    rng = np.random.default_rng(1)
    shown = [set(rng.choice([3, 5, 9, 11], rng.integers(1, 4), replace=False).tolist()) for _ in pictures]
    shown[4] = shown[7] = set()
    content = {
        "categories": [{"id": c} for c in (3, 5, 9, 11)],
        "annotations": [{"image_id": p, "category_id": c} for p, s in zip(pictures, shown, strict=True) for c in s],
    }
    content["annotations"].append({"image_id": 1, "category_id": 3})  # of another split
    (tmp_path / "instances.json").write_text(json.dumps(content))
    data = split()
    found = PlausibleMatch(tmp_path / "instances.json", tmp_path).measure(data)
    check_together(data, tmp_path)
    for name, scores, swap in (("pmrp_i2t", data.scores, False), ("pmrp_t2i", data.scores.T, True)):
        values = []
        for distance in (0, 1, 2):
            for query, row in enumerate(scores):
                own = shown[query // 5 if swap else query]
                if not own:
                    continue
                others = [shown[k if swap else k // 5] for k in range(len(row))]
                fit = [bool(other) and len(own ^ other) <= distance for other in others]
                order = [k for k in row.argsort(descending=True).tolist() if others[k]]
                values.append(sum(fit[k] for k in order[: sum(fit)]) / sum(fit))
        assert found[name] == pytest.approx(100 * np.mean(values))
    (tmp_path / "other.json").write_text("{}")
    with pytest.raises(ValueError, match="no list 'categories'"):
        PlausibleMatch(tmp_path / "other.json", tmp_path).measure(split())


def check_together(data, folder):
    """One pass of five protocols gives what five passes of one do."""
    plain = [Coco1K(num_images=10), Coco5K(num_images=10)]
    annotated = [EccvCaption(folder), Cxc(folder), PlausibleMatch(folder / "instances.json", folder)]
    expected = retrieval_metrics(data.ranks())
    for member in plain:
        expected |= {f"{member.name}_{name}": value for name, value in member.measure(data).items()}
    for member in annotated:
        expected |= member.measure(data)
    assert SeveralProtocols([*plain, *annotated]).measure(data) == expected


@pytest.mark.slow
def test_the_published_package_gives_the_same_figures(tmp_path):
    """On the real annotations, with scores in which the annotated pairs stand out here and there."""
    pytest.importorskip("eccv_caption")
    from eccv_caption import Metrics

    metric = Metrics()
    ids = metric.coco_ids.tolist()
    images = [metric.coco_gts["t2i"][caption][0] for caption in ids[::5]]
    generator = torch.Generator().manual_seed(0)
    low = torch.randn(5000, 8, generator=generator), torch.randn(25000, 8, generator=generator)
    low[1][:] += 1.5 * low[0].repeat_interleave(5, 0)

    class Low(Matrix):
        def ranks(self, images=slice(None)):
            raise NotImplementedError

    data = Low(low[0] @ low[1].T, torch.arange(25000) // 5)
    found = EccvCaption().measure(data) | Cxc().measure(data)
    place = {image: row for row, image in enumerate(images)}
    column = {caption: k for k, caption in enumerate(ids)}
    numbers, pictures = np.array(ids), np.array(images)
    queries = {"i2t": set(metric.eccv_gts["i2t"]), "t2i": set(metric.eccv_gts["t2i"])}
    i2t = {q: numbers[data.scores[place[q]].topk(50).indices].tolist() for q in queries["i2t"]}
    t2i = {q: pictures[data.scores[:, column[q]].topk(50).indices].tolist() for q in queries["t2i"]}
    theirs = metric.eccv_metrics({"i2t": i2t, "t2i": t2i}, "all")
    for ours, name in (("map_at_r", "eccv_map_at_r"), ("rprecision", "eccv_rprecision"), ("r1", "eccv_r1")):
        for direction in ("i2t", "t2i"):
            assert found[f"eccv_{direction}_{ours}"] == pytest.approx(100 * theirs[name][direction])
    i2t = {q: numbers[data.scores[place[q]].topk(10).indices].tolist() for q in metric.cxc_gts["i2t"]}
    t2i = {q: pictures[data.scores[:, column[q]].topk(10).indices].tolist() for q in metric.cxc_gts["t2i"]}
    for k in (1, 5, 10):
        theirs = metric.cxc_recalls({"i2t": i2t, "t2i": t2i}, "all", K=k)
        for direction in ("i2t", "t2i"):
            assert found[f"cxc_{direction}_r{k}"] == pytest.approx(100 * theirs[direction])


def edited(name, change):
    def apply(folder):
        content = json.loads((folder / name).read_text())
        (folder / name).write_text(json.dumps(change(content)))

    return apply


def ids(change):
    return lambda folder: np.save(folder / "coco_test_ids.npy", change(np.load(folder / "coco_test_ids.npy")))


def first(content, value):
    return content | {next(iter(content)): value}


T2I, OWN = "cxc_caption_to_image.json", "original_caption_to_image.json"
BROKEN = {
    r"coco_test_ids\.npy: float64 of shape \(50,\), expected integers": ids(lambda a: a + 0.5),
    r"coco_test_ids\.npy: int64 of shape \(50, 1\), expected integers": ids(lambda a: a[:, None]),
    r"coco_test_ids\.npy: an id comes twice": ids(lambda a: np.where(a == a[3], a[4], a)),
    r"coco_test_ids\.npy: not a \.npy file": lambda f: (f / "coco_test_ids.npy").write_bytes(b"nothing of numpy"),
    rf"{OWN}: caption \d+ of coco_test_ids\.npy has no list of one image": edited(
        OWN, lambda c: dict(list(c.items())[1:])
    ),
    rf"{OWN}: \d+ has 7, expected a list of ids": edited(OWN, lambda c: first(c, 7)),
    rf"{T2I}: key 'x', expected an id": edited(T2I, lambda c: {"x": [1]}),
    rf"{T2I}: \d+ has \[-1\], expected a list of ids": edited(T2I, lambda c: first(c, [-1])),
    rf"{T2I}: \d+ has \[True\], expected a list of ids": edited(T2I, lambda c: first(c, [True])),
    rf"{T2I}: \d+ has \[nan\], expected a list of ids": edited(T2I, lambda c: first(c, [float("nan")])),
    rf"{T2I}: \d+ has \[1+\.\.\.1+\], expected a list of ids": edited(T2I, lambda c: first(c, [int("1" * 300)])),
    rf"{T2I}: 99999999 is not in the test set of .*coco_test_ids\.npy": edited(T2I, lambda c: {"99999999": [1]}),
    rf"{T2I}: no list has an id": edited(T2I, lambda c: {}),
    rf"{T2I}: holds a list, expected a dict": edited(T2I, list),
    rf"{T2I}:1: not json": lambda f: (f / T2I).write_text("{..."),
    rf"{T2I}: no such file": lambda f: (f / T2I).unlink(),
}


@pytest.mark.parametrize("message", BROKEN)
def test_broken_annotations_are_told_of_before_anything_is_encoded(tmp_path, message):
    write_annotations(tmp_path)
    data, protocol = split(), Cxc(tmp_path)
    protocol.check(data.caption_image, data.num_images)
    BROKEN[message](tmp_path)
    with pytest.raises((ValueError, FileNotFoundError), match=message) as caught:
        protocol.check(data.caption_image, data.num_images)
    assert str(caught.value).startswith(str(tmp_path))
    assert len(str(caught.value).splitlines()) == 1


INSTANCES = {"categories": [{"id": 3}, {"id": 5}], "annotations": [{"image_id": 1, "category_id": 3}]}
BROKEN_INSTANCES = {
    "no list 'annotations'": {"annotations": 3},
    r"categories\[1\] has the id 3 of categories\[0\]": {"categories": [{"id": 3}, {"id": 3}]},
    r"categories\[0\] has id None, expected an id": {"categories": [3]},
    r"annotations\[0\] has image_id '1', expected an id": {"annotations": [{"image_id": "1", "category_id": 3}]},
    r"annotations\[0\] has category_id 4, which is not among": {"annotations": [{"image_id": 1, "category_id": 4}]},
    "no object in any of the 10 images of the test set": {},
}


@pytest.mark.parametrize("message", BROKEN_INSTANCES)
def test_broken_instances_are_told_of_before_anything_is_encoded(tmp_path, message):
    write_annotations(tmp_path)
    (tmp_path / "instances.json").write_text(json.dumps(INSTANCES | BROKEN_INSTANCES[message]))
    data = split()
    with pytest.raises(ValueError, match=rf"instances\.json: {message}"):
        PlausibleMatch(tmp_path / "instances.json", tmp_path).check(data.caption_image, data.num_images)
