"""What is known in host memory of tensors elsewhere. Tensors on ``meta`` have no values: whoever looked would fail."""

import pytest
import torch

from itmatch.batch import Batch, Captions, Fragments, Regions, SceneGraph
from itmatch.hostcopies import followed, keep, known_copy, on_host, real_places, sent

META = torch.device("meta")
MASK = torch.tensor([[True, True, False], [True, False, False]])


def test_a_tensor_in_host_memory_is_its_own_copy():
    assert on_host(MASK) is MASK
    assert known_copy(MASK) is MASK
    assert sent(MASK, MASK.device) is MASK
    assert keep(MASK, ~MASK) is not MASK
    assert on_host(MASK) is MASK


def test_what_is_sent_is_known():
    there = sent(MASK, META)
    assert there.device == META
    assert on_host(there) is MASK
    assert known_copy(there.clone()) is None


def test_what_is_made_of_masks_is_known():
    there = sent(MASK, META)
    both = followed(torch.logical_and, there, followed(torch.logical_not, there))
    assert torch.equal(on_host(both), MASK & ~MASK)
    assert known_copy(followed(torch.logical_and, there, torch.ones(2, 3, dtype=torch.bool, device=META))) is None


@pytest.mark.parametrize("changed", ["there", "here"])
def test_a_copy_is_forgotten_when_either_changes(changed):
    here = MASK.clone()
    there = sent(here, META)
    assert known_copy(there) is here
    (there if changed == "there" else here).logical_not_()
    assert known_copy(there) is None


def test_places_of_what_is_real():
    assert real_places(MASK).tolist() == [0, 1, 3]
    places = real_places(sent(MASK, META))
    assert places.device == META
    assert on_host(places).tolist() == [0, 1, 3]


def batch():
    graph = SceneGraph(torch.tensor([[0], [1]]), torch.tensor([0]), 2, confidence=torch.tensor([0.5]))
    regions = Regions(torch.rand(2, 3, 4), MASK.clone(), torch.rand(2, 3, 4), graph=graph)
    captions = Captions(torch.tensor([[1, 2, 0], [3, 0, 0]]), MASK.clone())
    index = torch.arange(2)
    return Batch(regions, captions, index, index, index)


def test_a_batch_takes_all_but_features_and_boxes_along():
    here = batch()
    there = here.to("meta")
    assert known_copy(there.regions.mask) is here.regions.mask
    assert known_copy(there.captions.input_ids) is here.captions.input_ids
    assert known_copy(there.regions.graph.row) is here.regions.graph.row
    assert known_copy(there.regions.graph.confidence) is here.regions.graph.confidence
    assert known_copy(there.regions.features) is None
    assert known_copy(there.regions.boxes) is None


def test_rows_and_levels_of_a_batch_are_known():
    there = batch().to("meta")
    assert torch.equal(known_copy(there.captions[1:].mask), MASK[1:])
    assert torch.equal(known_copy(there.captions[sent(torch.tensor([1, 0]), META)].mask), MASK[[1, 0]])
    relation = torch.tensor([[False, True, False], [False, False, False]])
    fragments = Fragments(torch.rand(2, 3, 4), MASK, is_relation=relation).to("meta")
    assert torch.equal(known_copy(fragments.objects().mask), MASK & ~relation)
    assert torch.equal(known_copy(fragments.relations().mask), MASK & relation)
    joined = Fragments.cat([fragments, fragments])
    assert torch.equal(known_copy(joined.mask), torch.cat([MASK, MASK]))


def test_in_inference_mode_too():
    with torch.inference_mode():
        mask = torch.ones(2, 3, dtype=torch.bool)
        assert known_copy(sent(mask, META)) is mask
