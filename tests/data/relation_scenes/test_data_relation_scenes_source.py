import hashlib
import itertools

import numpy as np
import pytest

from itmatch.data.relation_scenes.grammar import PASSIVES, parse_caption, relation_spans
from itmatch.data.relation_scenes.source import RelationScenes
from itmatch.ops.geometry import box_iou
from itmatch.spec import build

SIZES = {"num_train": 120, "num_val": 40, "num_test": 40}
CLEAN = {**SIZES, "noise": 0.0, "wrong_edges": 0}


def digest(dataset):
    parts = [np.stack([dataset.features[i] for i in range(dataset.num_images)]), dataset.boxes, dataset.labels]
    parts += [dataset.relations, dataset.relation_scores, dataset.caption_twin]
    found = hashlib.sha256("\n".join(dataset.captions).encode())
    for part in parts:
        found.update(np.ascontiguousarray(part).tobytes())
    return found.hexdigest()


def objects(source, image):
    """(size, colour, category) of every region, read off the features by their nearest sum of codes."""
    category, colour, size = source._codes()
    names = list(itertools.product(source.sizes, source.colours, source.categories))
    codes = (size[:, None, None] + colour[None, :, None] + category[None, None]).reshape(len(names), -1)
    distance = ((image.features.numpy()[:, None] - codes[None]) ** 2).sum(-1)
    return [names[i] for i in distance.argmin(1)]


def find(name, present):
    found = [i for i, (size, *rest) in enumerate(present) if [*rest] == [*name[1:]] and name.size in (None, size)]
    assert len(found) == 1, f"{name} names {len(found)} objects"
    return found[0]


def holds(source, image, statement):
    """Whether a statement is true of an image, from nothing but what a model is given."""
    present = objects(source, image)
    first, second = find(statement.subject, present), find(statement.object, present)
    if statement.predicate in source.predicates:
        return [first, source.predicates.index(statement.predicate), second] in image.relations.tolist()
    a, b = image.boxes[first], image.boxes[second]
    x, y = (a[:2] + a[2:] - b[:2] - b[2:]).tolist()
    return {
        "left of": x < 0 and a[2] < b[0],
        "right of": x > 0 and b[2] < a[0],
        "above": y < 0 and a[3] < b[1],
        "below": y > 0 and b[3] < a[1],
        "overlapping": float(box_iou(a[None], b[None])) > 0.5,
    }[statement.predicate]


def scene(source, image):
    """Boxes and edges by the names of the objects: what is left when the order of the regions is taken away."""
    present = objects(source, image)
    edges = zip(image.relations.tolist(), image.relation_scores.tolist(), strict=True)
    return (
        {name: tuple(box) for name, box in zip(present, image.boxes.tolist(), strict=True)},
        {(present[s], p, present[o]): round(score, 6) for (s, p, o), score in edges},
    )


@pytest.mark.parametrize("difficulty", ["easy", "medium", "hard"])
def test_equal_arguments_give_equal_data_and_another_seed_or_stage_gives_other_data(difficulty):
    source, again = RelationScenes(difficulty, **SIZES), build(RelationScenes(difficulty, **SIZES).spec)
    assert digest(source.split("train")) == digest(source.split("train")) == digest(again.split("train"))
    others = [source.split("val"), source.split("test"), RelationScenes(difficulty, **SIZES, seed=1).split("val")]
    assert len({digest(other) for other in others}) == 3


def test_a_split_does_not_depend_on_the_global_generator_nor_on_the_other_splits():
    np.random.seed(3)  # noqa: NPY002
    first = digest(RelationScenes(**SIZES).split("val"))
    np.random.seed(4)  # noqa: NPY002
    assert digest(RelationScenes(**{**SIZES, "num_train": 10}).split("val")) == first


@pytest.mark.parametrize("shared", [0, 2, 5])
def test_captions_are_true_of_their_image_and_the_reversed_relation_is_false_of_the_twin(shared):
    source = RelationScenes(**CLEAN, shared_captions=shared)
    dataset = source.split("train")
    for index, text in enumerate(dataset.captions):
        image, twin = dataset.caption_image[index], dataset.caption_twin[index]
        statements = parse_caption(text)
        assert all(holds(source, dataset.image(image), statement) for statement in statements), text
        in_twin = [holds(source, dataset.image(image ^ 1), statement) for statement in statements]
        assert in_twin.count(False) == (twin >= 0), text
        assert twin == (-1 if index % 5 < shared else image ^ 1)
        kinds = {"semantic" if s.predicate in source.predicates else "spatial" for s in statements}
        assert dataset.caption_twin_kind[index] in (kinds if twin >= 0 else {""})
        if twin >= 0:
            false = statements[in_twin.index(False)].predicate
            assert (false in source.predicates) == (dataset.caption_twin_kind[index] == "semantic")


@pytest.mark.parametrize("difficulty", ["easy", "medium", "hard"])
def test_twins_differ_in_two_boxes_or_in_one_edge_and_in_nothing_else(difficulty):
    source = RelationScenes(difficulty, num_train=60, noise=0.0, edge_dropout=0.0, edge_rewiring=0.0)
    dataset = source.split("train")
    moved_regions = 0
    for image in range(0, dataset.num_images, 2):
        one, other = dataset.image(image), dataset.image(image + 1)
        rows = [sorted(map(tuple, item.features.tolist())) for item in (one, other)]
        assert rows[0] == rows[1]
        moved_regions += one.features.tolist() != other.features.tolist()
        (boxes, edges), (twin_boxes, twin_edges) = scene(source, one), scene(source, other)
        moved = [name for name in boxes if boxes[name] != twin_boxes[name]]
        changed = set(edges.items()) ^ set(twin_edges.items())
        if dataset.caption_twin_kind[image * 5] == "spatial":
            a, b = moved
            assert not changed
            assert (boxes[a], boxes[b]) == (twin_boxes[b], twin_boxes[a])
            assert a[0] == b[0], "only objects of one size may trade boxes"
        else:
            ((s, p, o), score), ((s2, p2, o2), score2) = changed
            assert not moved
            assert (s, p, o, score) == (o2, p2, s2, score2)
    assert moved_regions > 25  # of 30 pairs


def test_lost_edges_are_lost_in_both_twins():
    source = RelationScenes(**SIZES, noise=0.0, edge_dropout=0.3, edge_rewiring=0.3)
    dataset = source.split("train")
    same = 0
    for image in range(0, dataset.num_images, 4):  # semantic pairs come first in each period
        assert dataset.caption_twin_kind[image * 5] == "semantic"
        edges, twin = (scene(source, dataset.image(i))[1] for i in (image, image + 1))
        assert sorted(edges.values()) == sorted(twin.values())
        same += edges == twin
    assert 6 <= same <= 26  # of 30; half are expected


def test_position_never_enters_the_features():
    source = RelationScenes(**CLEAN)
    seen = {}
    for stage in ("train", "val"):
        dataset = source.split(stage)
        for image in map(dataset.image, range(dataset.num_images)):
            for name, feature, box in zip(objects(source, image), image.features, image.boxes, strict=True):
                seen.setdefault(name, []).append((feature, box))
    for entries in seen.values():
        assert all(bool((feature == entries[0][0]).all()) for feature, _ in entries)
    assert max(len({tuple(box.tolist()) for _, box in entries}) for entries in seen.values()) > 4


def test_features_scatter_around_their_codes_with_the_given_noise_and_fresh_in_each_twin():
    clean = RelationScenes(**CLEAN).split("train")
    noisy = RelationScenes(**{**CLEAN, "noise": 0.5}).split("train")
    scatter = [noisy.image(i).features - clean.image(i).features for i in range(clean.num_images)]
    assert abs(float(np.concatenate(scatter).std()) - 0.5) < 0.01
    assert not bool((scatter[0][0] == scatter[1][0]).any())


def test_boxes_lie_in_the_image_and_overlap_clearly_or_not_at_all():
    dataset = RelationScenes("hard", **SIZES).split("train")
    overlaps = 0
    for image in map(dataset.image, range(dataset.num_images)):
        x1, y1, x2, y2 = image.boxes.unbind(1)
        assert bool(((x1 >= 0) & (x1 < x2) & (x2 <= 1) & (y1 >= 0) & (y1 < y2) & (y2 <= 1)).all())
        iou = box_iou(image.boxes, image.boxes).triu(1)
        assert bool(((iou == 0) | (iou > 0.5)).all())
        overlaps += int((iou > 0).sum())
    assert overlaps > 20


def test_every_word_is_listed_and_every_listed_word_is_used():
    dataset = RelationScenes(num_train=400).split("train")
    assert {word for caption in dataset.captions for word in caption.split()} == set(RelationScenes.words())
    assert RelationScenes.words() == sorted(set(RelationScenes.words()))


def test_nothing_but_the_relation_parts_first_from_second_twins():
    """Wording, edges and areas have the same distribution on both sides."""
    dataset = RelationScenes(num_train=1200).split("train")
    side = dataset.caption_image % 2
    starts = np.array(
        [parse_caption(c)[0].subject.category < parse_caption(c)[0].object.category for c in dataset.captions]
    )
    for fact in (starts, [len(c.split()) > 12 for c in dataset.captions], [" by " in c for c in dataset.captions]):
        fact = np.asarray(fact)
        assert abs(fact[side == 0].mean() - fact[side == 1].mean()) < 0.05
    present = (dataset.relations != -1).all(-1).sum(1)
    assert (present[::2] == present[1::2]).all()
    np.testing.assert_array_equal(np.sort(dataset.boxes[::2], 1), np.sort(dataset.boxes[1::2], 1))


def test_noise_settings_leave_the_scenes_and_captions_alone():
    plain, other = (
        RelationScenes(**SIZES, **settings).split("val")
        for settings in ({}, {"noise": 2.0, "edge_dropout": 0.5, "wrong_edges": 4, "confidence_spread": 0.9})
    )
    assert plain.captions == other.captions
    np.testing.assert_array_equal(plain.boxes, other.boxes)
    np.testing.assert_array_equal(plain.labels, other.labels)


def test_a_higher_corruption_rate_keeps_fewer_of_the_same_true_edges():
    kept = []
    for rate in (0.0, 0.2, 0.6):
        dataset = RelationScenes(**SIZES, wrong_edges=0, edge_dropout=rate / 2, edge_rewiring=rate).split("train")
        strong = dataset.relation_scores > 0.5
        kept.append(
            {(i, *edge) for i in range(dataset.num_images) for edge in dataset.relations[i][strong[i]].tolist()}
        )
    assert kept[0] > kept[1] > kept[2]
    assert abs(len(kept[2]) / len(kept[0]) - 0.7 * 0.4) < 0.1


def test_true_and_wrong_edges_are_told_apart_by_confidence_and_join_different_pairs():
    source = RelationScenes(**SIZES, max_relations=2, min_objects=6)
    dataset, clean = source.split("train"), RelationScenes(**CLEAN, max_relations=2, min_objects=6).split("train")
    for index in range(dataset.num_images):
        image, truth = dataset.image(index), clean.image(index)
        strong = image.relation_scores > 0.5
        assert sorted(image.relations[strong].tolist()) == sorted(truth.relations.tolist())
        assert int((~strong).sum()) == 2
        pairs = [frozenset(edge[::2]) for edge in image.relations.tolist()]
        assert len(set(pairs)) == len(pairs)
        assert all(len(pair) == 2 for pair in pairs)


@pytest.mark.parametrize(
    ("twins", "relations"),
    [
        (["horizontal"], {"left of", "right of"}),
        (["vertical"], {"above", "below"}),
        (["overlap"], {"overlapping"}),
        (["semantic"], set(RelationScenes.predicates)),
    ],
)
def test_kinds_of_twins_can_be_chosen(twins, relations):
    dataset = RelationScenes(num_val=80, twins=twins, two_relations=0.0).split("val")
    assert {parse_caption(caption)[0].predicate for caption in dataset.captions} == relations


def test_half_of_the_twins_are_semantic():
    kinds = RelationScenes().split("val").caption_twin_kind
    assert kinds.count("semantic") == kinds.count("spatial") == 500


@pytest.mark.parametrize("objects_", [4, 16])
def test_scenes_of_the_fewest_and_the_most_objects(objects_):
    source = RelationScenes(
        num_val=20, min_objects=objects_, max_objects=objects_, max_relations=200, wrong_edges=9, edge_rewiring=0.5
    )
    dataset = source.split("val")
    assert set(dataset.lengths.tolist()) == {objects_}
    assert all(dataset.image(i).features.shape == (objects_, 64) for i in range(20))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"difficulty": "extreme"}, "difficulty='extreme', expected one of easy, medium, hard"),
        ({"num_val": 3}, "num_val=3, expected an even number"),
        ({"num_train": 0}, "num_train=0, expected an even number"),
        ({"min_objects": 3}, "min_objects=3, max_objects=10, expected 4 <="),
        ({"max_objects": 17}, "max_objects=17, expected 4 <="),
        ({"noise": float("nan")}, "noise=nan, expected a finite number"),
        ({"edge_dropout": 1.5}, r"edge_dropout=1.5, expected a number in \[0, 1\]"),
        ({"shared_captions": 6}, r"shared_captions=6, expected 0..5 \(captions_per_image\)"),
        ({"twins": ["diagonal"]}, "twins=.'diagonal'., expected different ones of semantic, horizontal"),
        ({"twins": []}, "expected different ones"),
        ({"seed": -1}, "seed=-1, expected 0 or more"),
        ({"feature_dim": 0}, "feature_dim=0, expected 1 or more"),
    ],
)
def test_bad_arguments_raise_one_clear_line(arguments, message):
    with pytest.raises(ValueError, match=message) as error:
        RelationScenes(**arguments)
    assert "\n" not in str(error.value)


def test_text_graphs_are_where_the_words_are():
    source = RelationScenes(**SIZES, two_relations=0.5, text_graphs=True)
    dataset = source.split("val")
    seen = set()
    for index, caption in enumerate(dataset.captions):
        found = dataset.caption(index).relations.tolist()
        statements = parse_caption(caption)
        assert len(found) == len(statements)
        for spans, statement in zip(found, statements, strict=True):
            subject, phrase, other = (caption[start:end] for start, end in spans)
            assert (subject, other) == (statement.subject.category, statement.object.category)
            wordings = {statement.predicate, PASSIVES.get(statement.predicate)} | WORDINGS.get(
                statement.predicate, set()
            )
            assert phrase in wordings
            seen.add((phrase, spans[0] < spans[2]))
    turned = {phrase for phrase, forwards in seen if not forwards}
    assert turned == set(PASSIVES.values()) & {phrase for phrase, _ in seen}
    assert len(turned) > 5
    assert {"left of", "right of", "over"} <= {phrase for phrase, _ in seen}


WORDINGS = {"above": {"over"}, "below": {"under"}, "overlapping": {"overlapping with"}}


def test_text_graphs_change_nothing_else():
    plain, with_graphs = (RelationScenes(**SIZES, text_graphs=value).split("val") for value in (False, True))
    assert digest(plain) == digest(with_graphs)
    assert plain.caption(0).relations is None
    assert build(RelationScenes(**SIZES, text_graphs=True).spec).text_graphs


def test_the_spans_of_two_statements():
    caption = "there is a red dog to the left of the small pink cat while the red dog is chased by a blue boy"
    found = [[(start, caption[start:end]) for start, end in row] for row in relation_spans(caption)]
    assert found == [
        [(15, "dog"), (26, "left of"), (49, "cat")],
        [(91, "boy"), (74, "chased by"), (67, "dog")],
    ]
    with pytest.raises(ValueError, match="not of the grammar"):
        relation_spans("a dog")


def test_an_unknown_stage_and_a_caption_of_another_grammar_raise():
    with pytest.raises(ValueError, match="no stage 'dev'"):
        RelationScenes(**SIZES).split("dev")
    with pytest.raises(ValueError, match="not of the grammar"):
        parse_caption("a dog on a sofa")
