"""Whether two words are forms of one: "wear" and "wearing", "man" and "men"."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

_FORMS = """
be am is are was were been being | have has had having | do does did done doing | go goes went gone
man men | woman women | child children | person people | foot feet | tooth teeth | goose geese | mouse mice | bus buses
bite bit bitten | bring brought | build built | buy bought | catch caught | come came | cut cutting | dig dug
draw drew drawn | drink drank drunk | drive drove driven | eat ate eaten | fall fell fallen | feed fed | feel felt
fight fought | find found | fly flew flown | get got gotten | give gave given | grow grew grown | hang hung
hear heard | hide hid hidden | hold held | keep kept | know knew known | lead led | leap leapt | leave left
lie lay lain lying | light lit | lose lost | make made | mean meant | meet met | ride rode ridden | ring rang rung
rise rose risen | run ran | say said | see saw seen | sell sold | send sent | shake shook shaken | shoot shot
show shown | sing sang sung | sit sat | sleep slept | slide slid | speak spoke spoken | spend spent | spin spun
stand stood | steal stole stolen | stick stuck | swim swam swum | swing swung | take took taken | teach taught
tell told | think thought | throw threw thrown | wear wore worn | weave wove woven | wind wound | write wrote written
"""
_LEMMAS: dict[str, set[str]] = {}
for _group in _FORMS.replace("\n", "|").split("|"):
    for _form in _group.split()[1:]:
        _LEMMAS.setdefault(_form, set()).add(_group.split()[0])


@lru_cache(maxsize=1 << 16)
def stems(word: str) -> frozenset[str]:
    """The stems that a word may have; two words with a common one are taken for forms of one word.

    Regular forms are Porter's stems, by ``nltk``; the irregular ones that captions have are a list.

    Example:
        >>> stems("Wearing") & stems("wear"), stems("leaves") & stems("leaf"), stems("firemen") & stems("fireman")
        (frozenset({'wear'}), frozenset({'leaf'}), frozenset({'fireman'}))
        >>> stems("man") & stems("woman")
        frozenset()
    """
    word = word.lower()
    forms = {word} | _LEMMAS.get(word, set())
    if word.endswith("men"):
        forms.add(word[:-3] + "man")
    if word.endswith("ves"):
        forms |= {word[:-3] + "f", word[:-3] + "fe"}
    return frozenset(_undoubled(_stemmer().stem(form)) for form in forms)


def _undoubled(stem: str) -> str:
    """Porter turns "sniffing" into "snif" and leaves "sniff" alone."""
    return stem[:-1] if len(stem) > 3 and stem[-1] == stem[-2] else stem


@lru_cache(maxsize=1)
def _stemmer() -> Any:
    from nltk.stem import PorterStemmer  # here, since importing nltk takes a while

    return PorterStemmer()
