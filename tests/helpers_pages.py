"""A small split with pictures, models on it, and what stands in a page."""

from html.parser import HTMLParser

import torch

from itmatch.data import RelationScenes, Vocabulary
from itmatch.models import chan_gru, cmsei_gru, hire_gru, resg_gru, scan_gru, sgraf_gru

SCENES = RelationScenes("easy", num_train=2, num_val=2, num_test=4, text_graphs=True)
SYSTEMS = {
    "chan": chan_gru,
    "scan": scan_gru,
    "sgraf": sgraf_gru,
    "cmsei": cmsei_gru,
    "hire": hire_gru,
    "resg": resg_gru,
}


def model_of(system, **settings):
    torch.manual_seed(0)
    words = Vocabulary.build([RelationScenes.words()], min_count=1)
    return SYSTEMS[system](words, region_dim=64, embed_dim=16, word_dim=8, **settings).eval()


class Elements(HTMLParser):
    """The elements of a page, each as its name and attributes, and its texts outside scripts and styles."""

    def __init__(self, page):
        super().__init__()
        self.found, self.texts, self._raw = [], [], False
        self.feed(page)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))
        self._raw = tag in ("script", "style")

    def handle_endtag(self, tag):
        self._raw = False

    def handle_data(self, data):
        if not self._raw:
            self.texts.append(data)

    def of_class(self, name):
        return [attributes for _, attributes in self.found if name in (attributes.get("class") or "").split()]

    def count(self, tag):
        return sum(found == tag for found, _ in self.found)
