"""What a relation adds to a score: against images from which it was taken by hand."""

from dataclasses import replace

import pytest
import torch

from itmatch.batch import Regions
from itmatch.data import Collator, RelationScenes, Vocabulary
from itmatch.models import chan_gru, cmsei_gru, hire_gru, resg_gru
from itmatch.pages import explain_relations

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
    with pytest.raises(ValueError, match="reads none"):
        explain_relations(a_model(chan_gru), item, text)
    model = SYSTEMS["cmsei"]()
    with pytest.raises(ValueError, match="image: without relations"):
        explain_relations(model, Regions(torch.ones(1, 3, SPLIT.feature_dim)), text)
    with pytest.raises(TypeError, match="image: Fragments, expected an item"):
        explain_relations(model, model.encode_texts([text]), text)
