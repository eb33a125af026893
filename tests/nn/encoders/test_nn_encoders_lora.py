"""LoRA: a model begins as it is, learns its updates alone, and is saved and loaded as a whole."""

import sys

import pytest
import torch
from helpers_pretrained import save_dual_encoder

from itmatch.batch import Captions, Regions
from itmatch.losses import HardNegativeTripletLoss
from itmatch.models import MatchingModel, clip_dual_encoder
from itmatch.nn import HardAligningSimilarity, Lora, TransformerImageEncoder, TransformerTextEncoder, patches_of
from itmatch.spec import build

SIZES = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 16}
VIT = {"model_type": "vit", "image_size": 16, "patch_size": 8, **SIZES}
BERT = {"model_type": "bert", "vocab_size": 30, **SIZES}


def encoders(lora):
    torch.manual_seed(0)
    image = TransformerImageEncoder(embed_dim=8, config=VIT, lora=lora)
    return image, TransformerTextEncoder(embed_dim=8, config=BERT, lora=lora)


def inputs():
    generator = torch.Generator().manual_seed(1)
    regions = Regions(patches_of(torch.randn(4, 3, 16, 16, generator=generator), 8))
    return regions, Captions(torch.randint(30, (4, 5), generator=generator))


def test_it_begins_as_the_model_that_it_updates():
    plain, updated = encoders(None), encoders(Lora(rank=2))
    for whole, small, given in zip(plain, updated, inputs(), strict=True):
        weights = {name.replace(".base_layer", ""): value for name, value in small.state_dict().items()}
        whole.load_state_dict({name: value for name, value in weights.items() if "lora" not in name})
        torch.testing.assert_close(small.eval()(given).features, whole.eval()(given).features)


def trained(model):
    """The model after two steps, and what it was before."""
    before = {name: value.clone() for name, value in model.state_dict().items()}
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=0.05)
    model.train()
    for _ in range(2):
        loss = HardNegativeTripletLoss()(model(*inputs()))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return model.eval(), before


def test_the_updates_and_the_projection_are_learned_and_nothing_else():
    model, before = trained(MatchingModel(*encoders(Lora(rank=2)), HardAligningSimilarity()))
    changed = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    updates = {name for name in before if "lora_" in name}
    assert len(updates) == 2 * 2 * 2 * 2  # A and B of queries and values, in two layers of two encoders
    assert changed == updates | {
        f"{side}_encoder.fc.{part}" for side in ("image", "text") for part in ("weight", "bias")
    }


def test_saved_and_loaded(tmp_path):
    model, _ = trained(
        MatchingModel(*encoders(Lora(rank=2, alpha=3.0, targets=["v_proj", "value"])), HardAligningSimilarity())
    )
    model.save_pretrained(tmp_path)
    again = MatchingModel.from_pretrained(tmp_path)
    assert again.spec == model.spec
    assert torch.equal(again.score(*inputs()), model.score(*inputs()))
    assert all(torch.equal(value, model.state_dict()[name]) for name, value in again.state_dict().items())
    assert {name for name, p in again.named_parameters() if p.requires_grad} == {
        name for name, p in model.named_parameters() if p.requires_grad
    }
    assert not any("query" in name and "lora" in name for name in again.state_dict())


def test_what_does_not_fit(monkeypatch):
    with pytest.raises(
        ValueError, match=r"TransformerTextEncoder.lora: targets nope: BertModel has no such linear lay"
    ):
        TransformerTextEncoder(embed_dim=8, config=BERT, lora=Lora(targets=["nope"]))
    with pytest.raises(ValueError, match="TransformerTextEncoder: lora with trainable=False, expected one of them"):
        TransformerTextEncoder(embed_dim=8, config=BERT, lora=Lora(), trainable=False)
    with pytest.raises(TypeError, match="targets: one string, 'query'"):
        Lora(targets="query")
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(ImportError, match=r'TransformerImageEncoder.lora needs peft: pip install "itmatch\[lora\]"'):
        build({"class_path": "itmatch.nn.TransformerImageEncoder", "init_args": {"config": VIT, "lora": Lora().spec}})


@pytest.mark.parametrize("family", ["clip", "siglip"])
def test_both_towers_of_a_dual_encoder(family, tmp_path):
    folder = save_dual_encoder(family, tmp_path)
    model = clip_dual_encoder(folder, lora=Lora(rank=2))
    plain = clip_dual_encoder(folder)
    regions = Regions(patches_of(torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(1)), 8))
    captions = model.tokenizer.batch(["a red", "blue beside the left", "green", "white is left"])
    torch.testing.assert_close(model.score(regions, captions), plain.score(regions, captions))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=0.05)
    for _ in range(2):
        HardNegativeTripletLoss()(model.train()(regions, captions)).backward()
        optimizer.step()
    changed = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    updates = {name for name in before if "lora_" in name}
    assert {name.split(".")[0] for name in updates} == {"image_encoder", "text_encoder"}
    assert changed == updates | {name for name in before if ".projection." in name}
    model.save_pretrained(tmp_path / "saved")
    again = MatchingModel.from_pretrained(tmp_path / "saved")
    assert torch.equal(again.score(regions, captions), model.score(regions, captions))
    with pytest.raises(ValueError, match="ClipImageEncoder: lora with trainable=False, expected one of them"):
        clip_dual_encoder(folder, trainable=False, lora=Lora())
