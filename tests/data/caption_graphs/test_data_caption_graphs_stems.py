import pytest

from itmatch.data.caption_graphs.stems import stems


@pytest.mark.parametrize(
    "pair",
    ["wear wearing", "wear wore", "wear worn", "man men", "Woman women", "person people", "foot feet", "leaf leaves",
     "knife knives", "dog dogs", "sniff sniffing", "ride rode", "be is", "have has", "fireman firemen", "glass glasses",
     "be be", "run running", "puppy puppies"],
)  # fmt: skip
def test_forms_of_one_word(pair):
    one, other = pair.split()
    assert stems(one) & stems(other)


@pytest.mark.parametrize("pair", ["man woman", "dog cat", "wear were", "in on", "bus be", "he her", "ball bale"])
def test_other_words(pair):
    one, other = pair.split()
    assert not stems(one) & stems(other)
