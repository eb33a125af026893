"""What a relation adds to a score: against images from which it was taken by hand."""

import re
from dataclasses import replace

import pytest
import torch
from helpers_pages import Elements

from itmatch.batch import Regions
from itmatch.data import Collator, RelationScenes, Vocabulary
from itmatch.errors import NonFiniteError
from itmatch.models import chan_gru, cmsei_gru, hire_gru, resg_gru
from itmatch.pages import Relation, RelationEffects, explain_relations

SOURCE = RelationScenes("easy", num_test=6)
SPLIT = SOURCE.split("test")


def a_model(system, **options):
    torch.manual_seed(0)
    vocabulary = Vocabulary.build([SOURCE.words()], min_count=1)
    model = system(vocabulary, region_dim=SPLIT.feature_dim, embed_dim=8, word_dim=8, **options)
    for parameter in model.parameters():  # what starts at 0 would hide the relations
        if not bool(parameter.any()):
            torch.nn.init.constant_(parameter, 0.3)
    return model


SYSTEMS = {
    "cmsei": lambda: a_model(cmsei_gru),
    "hire": lambda: a_model(hire_gru, num_predicates=len(SPLIT.names.predicates)),
    "resg": lambda: a_model(resg_gru, predicates=len(SPLIT.names.predicates)),
}


@pytest.mark.parametrize("system", SYSTEMS)
@pytest.mark.parametrize("batch_size", [1, 64])
def test_effects_are_those_of_images_without_a_relation(system, batch_size):
    model, item, text = SYSTEMS[system](), SPLIT.image(0), SPLIT.captions[0]
    found = explain_relations(model, item, text, names=SPLIT.names, batch_size=batch_size)

    def score(kept):
        scores = item.relation_scores if item.relation_scores is None else item.relation_scores[kept]
        some = replace(item, relations=item.relations[kept], relation_scores=scores)
        regions = Collator(model.tokenizer)([some]).regions
        return float(model.score(regions, [text]))

    count = len(item.relations)
    everything = torch.ones(count, dtype=torch.bool)
    assert found.score == pytest.approx(score(everything), abs=1e-5)
    assert found.without_any == pytest.approx(score(~everything), abs=1e-5)
    assert len(found.effects) == count > 1
    by_ends = {(one.subject, one.name, one.object): effect for one, effect in found.effects}
    for k, (subject, predicate, target) in enumerate(item.relations.tolist()):
        without = everything.clone()
        without[k] = False
        effect = by_ends[subject, SPLIT.names.predicate(predicate), target]
        assert effect == pytest.approx(found.score - score(without), abs=1e-5)
    assert any(abs(effect) > 1e-5 for _, effect in found.effects)  # relations count in these models


def test_strongest_first_and_as_text():
    found = explain_relations(SYSTEMS["cmsei"](), SPLIT.image(0), SPLIT.captions[0], names=SPLIT.names)
    sizes = [abs(effect) for _, effect in found.effects]
    assert sizes == sorted(sizes, reverse=True)
    lines = str(found).splitlines()
    assert lines[0].startswith("score ")
    assert len(lines) == 1 + len(found.effects)
    first = found.effects[0][0]
    called = [SPLIT.names.label(int(SPLIT.image(0).labels[place])) for place in (first.subject, first.object)]
    assert lines[1].endswith(f"  {called[0]} {first.name} {called[1]}")


def test_what_has_no_relations_is_told():
    item, text = SPLIT.image(0), SPLIT.captions[0]
    for system, options in ((chan_gru, {}), (cmsei_gru, {"semantic": False}), (hire_gru, {"semantic": False})):
        with pytest.raises(
            ValueError, match="this model reads no relations of an image: its RegionEncoder has no block"
        ):
            explain_relations(a_model(system, **options), item, text)
    model = SYSTEMS["cmsei"]()
    with pytest.raises(ValueError, match="image: without relations"):
        explain_relations(model, Regions(torch.ones(1, 3, SPLIT.feature_dim)), text)
    with pytest.raises(TypeError, match="image: Fragments, expected an item"):
        explain_relations(model, model.encode_texts([text]), text)


def test_a_score_that_is_no_number_is_told():
    model = SYSTEMS["cmsei"]()
    model.score = lambda image, text: torch.full((len(image), 1), torch.nan)
    with pytest.raises(NonFiniteError, match="the score of the image with this caption is NaN"):
        explain_relations(model, SPLIT.image(0), SPLIT.captions[0])


def effects_of(*sizes, regions=("dog", "cat")):
    """Effects of relations from the first region to the second."""
    named = [(Relation(0, f"near{place}", 1), size) for place, size in enumerate(sizes)]
    return RelationEffects(0.5, 0.25, named, list(regions))


def test_a_table_says_what_each_relation_adds():
    html = effects_of(0.2, -0.1, regions=("dog", None)).fragment()
    elements = Elements(html)
    assert [chip["data-ends"] for chip in elements.of_class("itm-effect")] == ["0 1", "0 1"]
    assert re.findall(r">(dog [^<]*)</button>", html) == ["dog near0 region 2", "dog near1 region 2"]
    assert re.findall(r"<td>([^<]*)</td>", html) == ["+0.2000", "-0.1000"]
    up, down = elements.of_class("itm-up")[0], elements.of_class("itm-down")[0]
    assert (up["x"], up["width"]) == ("50.0", "50.0")  # the strongest, from the middle to the right
    assert (down["x"], down["width"]) == ("25.0", "25.0")  # half of it, to the left
    assert "score 0.5000 with 2 relations of the image, 0.2500 without any" in html


def test_a_table_opens_for_the_weak_ones_and_bears_it_that_nothing_counts():
    html = effects_of(*[0.0] * 9).fragment()
    assert "<summary>1 that add less</summary>" in html
    assert "nan" not in html.lower()
    assert html.index("near7") < html.index("<details>") < html.index("near8")
    assert "<details>" not in effects_of(*[0.1] * 8).fragment()
    assert "<td>+0.0000</td>" in effects_of(-1e-9).fragment()
    assert "with 1 relation of" in effects_of(0.1).fragment()


def test_names_of_a_table_stay_text():
    hostile = "<img src=x onerror='alert(1)'>"
    effects = RelationEffects(0.5, 0.25, [(Relation(0, hostile, 0), 0.1)], [hostile])
    for html in (effects.fragment(), effects._repr_html_()):
        assert "<img" not in html
    assert effects.fragment().count("&lt;img") == 3
