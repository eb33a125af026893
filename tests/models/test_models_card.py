"""The card that a saved model has."""

import re

import torch

from itmatch import Regions, SceneGraph
from itmatch.models import MatchingModel, chan_gru, cmsei_gru
from itmatch.nn import GRUTextEncoder, HardAligningSimilarity, RegionEncoder

WORDS = ["<pad>", "<start>", "<end>", "<unk>", *(f"word{i}" for i in range(30))]


def card(folder, model, **told):
    model.save_pretrained(folder, **told)
    return (folder / "README.md").read_text("utf-8")


def test_it_says_what_the_model_is_and_lacks_nothing(tmp_path):
    model = chan_gru(WORDS, region_dim=6, embed_dim=16, word_dim=4)
    text = card(tmp_path, model)
    assert "More Information Needed" not in text
    assert "{{" not in text
    assert f"{sum(p.numel() for p in model.parameters()):,} parameters" in text
    assert "itmatch.nn.HardAligningSimilarity" in text
    assert "It knows 30 words" in text  # what stands for padding, the frame and unknown words is none
    assert "word29" not in text  # no vocabulary in a card
    assert "## Data" not in text
    assert text.startswith("---\n")
    assert "library_name: itmatch" in text


def test_it_has_what_it_is_told(tmp_path):
    model = MatchingModel(RegionEncoder(4, 8), GRUTextEncoder(20, 8), HardAligningSimilarity())
    told = {"data": "Flickr8K, 6 000 photos", "figures": "rSum 315.8"}
    text = card(tmp_path, model, model_card_kwargs=told)
    assert "## Data\n\nFlickr8K, 6 000 photos\n" in text
    assert "## Figures\n\nrSum 315.8\n" in text
    assert "model.score(features, captions)" in text  # without a tokenizer it takes no strings
    assert "`captions` are `itmatch.Captions`: token ids" in text


def test_its_code_runs_with_what_it_names(tmp_path):
    features = torch.randn(2, 3, 6)
    boxes = torch.tensor([0.1, 0.1, 0.5, 0.5]).expand(2, 3, 4)
    graph = SceneGraph(torch.tensor([[0], [1]]), torch.tensor([0]), 2)
    regions = Regions(features, boxes=boxes, graph=graph)
    for make, told in (
        (chan_gru, "`features` are (I, R, 6), those of R regions of each of I images."),
        (cmsei_gru, "features (I, R, 6), those of R regions of each of I images, with `boxes` and `graph` as far as"),
    ):
        text = card(tmp_path / make.__name__, make(WORDS, region_dim=6, embed_dim=16, word_dim=4))
        assert told in text
        code = re.search(r"```python\n(.*?)```", text, re.DOTALL)[1]
        code = code.replace("this folder, or its name on the Hugging Face hub", str(tmp_path / make.__name__))
        names = {"features": features, "regions": regions}
        exec(code, names)
        assert names["scores"].shape == (2, 2)
        assert "\n\n\n" not in text
