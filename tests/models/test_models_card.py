"""The card that a saved model has."""

from itmatch.models import MatchingModel, chan_gru
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
    assert f"It knows {len(model.tokenizer.vocabulary.words)} words" in text
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
