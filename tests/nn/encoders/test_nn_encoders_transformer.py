"""TransformerTextEncoder, on models small enough to build here."""

import copy
import json
import pickle
import shutil

import pytest
import torch
from jsonargparse import ArgumentParser
from safetensors.torch import load_file, save_file

from itmatch.batch import Captions
from itmatch.nn.block import Block
from itmatch.nn.encoders.transformer import TransformerTextEncoder
from itmatch.nn.pooling import MeanPooling
from itmatch.ops.masking import lengths_to_mask
from itmatch.spec import build

SIZES = {"vocab_size": 50, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
BERT = {"model_type": "bert", "max_position_embeddings": 12, **SIZES}
MODELS = {
    "bert": BERT,
    "roberta": {"model_type": "roberta", "max_position_embeddings": 14, "pad_token_id": 1, **SIZES},
    "distilbert": {
        "model_type": "distilbert",
        "vocab_size": 50,
        "dim": 16,
        "n_layers": 1,
        "n_heads": 2,
        "hidden_dim": 32,
    },
    "t5": {"model_type": "t5", "vocab_size": 50, "d_model": 16, "d_kv": 8, "d_ff": 32, "num_layers": 1, "num_heads": 2},
}


def captions(lengths=(5, 3, 1), length=5):
    torch.manual_seed(0)
    return Captions(torch.randint(3, 50, (len(lengths), length)), lengths_to_mask(torch.tensor(lengths), length))


def encoder(model_name=None, *, config=BERT, **kwargs):
    torch.manual_seed(1)
    return TransformerTextEncoder(model_name, 8, config=config, **kwargs)


@pytest.fixture
def folder(tmp_path):
    from transformers import AutoConfig, AutoModel

    torch.manual_seed(2)
    settings = {key: value for key, value in BERT.items() if key != "model_type"}
    model = AutoModel.from_config(AutoConfig.for_model("bert", **settings))
    model.half().save_pretrained(tmp_path / "model")
    return tmp_path / "model", model.float()


@pytest.mark.parametrize("name", sorted(MODELS))
def test_padding_changes_nothing(name):
    ours, batch = encoder(config=MODELS[name], pooling=MeanPooling()).eval(), captions()
    expected = ours(batch)
    wide = torch.full((3, 9), 10**12)
    wide[:, :5] = batch.input_ids.masked_fill(~batch.mask, 10**12)
    mask = torch.zeros(3, 9, dtype=torch.bool)
    mask[:, :5] = batch.mask
    order = torch.tensor([2, 0, 1])
    found = ours(Captions(wide[order], mask[order]))
    torch.testing.assert_close(found.features[:, :5], expected.features[order], atol=1e-5, rtol=0)
    torch.testing.assert_close(found.pooled, expected.pooled[order], atol=1e-5, rtol=0)
    assert found.features[~mask[order]].eq(0).all()
    torch.testing.assert_close(found.features.norm(dim=-1), mask[order].float())
    for row, length in enumerate((5, 3, 1)):
        alone = ours(Captions(batch.input_ids[row : row + 1, :length], batch.mask[row : row + 1, :length]))
        torch.testing.assert_close(alone.features[0], expected.features[row, :length], atol=1e-5, rtol=0)


def test_padding_in_front_has_the_pad_id_of_the_model():
    ours, batch = encoder(config=MODELS["roberta"]).eval(), captions((3,), 3)
    front = Captions(torch.cat([torch.tensor([[9, 9]]), batch.input_ids], 1), torch.tensor([[False] * 2 + [True] * 3]))
    torch.testing.assert_close(ours(front).features[:, 2:], ours(batch).features, atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", sorted(MODELS))
@pytest.mark.parametrize("checkpointing", [False, True])
def test_every_parameter_has_a_finite_gradient(name, checkpointing):
    ours = encoder(config=MODELS[name], gradient_checkpointing=checkpointing)
    ours(captions()).features.pow(3).sum().backward()
    for key, parameter in ours.named_parameters():
        assert parameter.grad is not None, key
        assert parameter.grad.isfinite().all(), key


def test_bfloat16_is_for_the_transformer_alone():
    whole, half = encoder(config=MODELS["bert"]).eval(), encoder(config=MODELS["bert"], bf16=True).eval()
    half.load_state_dict(whole.state_dict())
    seen = {}
    for name in ("transformer.encoder.layer.0.attention.self.query", "fc"):
        half.get_submodule(name).register_forward_hook(lambda _, __, out, name=name: seen.update({name: out.dtype}))
    found, expected = half(captions()).features, whole(captions()).features
    assert list(seen.values()) == [torch.bfloat16, torch.float32]
    assert found.dtype == torch.float32
    assert not torch.equal(found, expected)
    torch.testing.assert_close(found, expected, atol=0.03, rtol=0)
    found.pow(3).sum().backward()
    assert {parameter.grad.dtype for parameter in half.parameters()} == {torch.float32}


def test_weights_of_a_folder(folder):
    path, model = folder
    ours, batch = encoder(path, config=None, normalize=False), captions()
    assert ours.transformer.training  # `from_pretrained` leaves it in evaluation mode
    assert {parameter.dtype for parameter in ours.parameters()} == {torch.float32}
    hidden = model.eval()(input_ids=batch.input_ids, attention_mask=batch.mask.long()).last_hidden_state
    expected = ours.fc(hidden).masked_fill(~batch.mask[..., None], 0)
    torch.testing.assert_close(ours.eval()(batch).features, expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", sorted(MODELS))
def test_rebuilt_from_spec(name):
    ours = encoder(config=MODELS[name], pooling=MeanPooling()).eval()
    _check_rebuilt(ours)


def test_rebuilt_from_spec_without_the_folder(folder):
    path, _ = folder
    ours = encoder(str(path), config=None, trainable=False).eval()
    shutil.rmtree(path)
    _check_rebuilt(ours)
    assert str(path) not in json.dumps(ours.spec["init_args"]["config"])


def _check_rebuilt(ours):
    spec, batch = json.loads(json.dumps(ours.spec)), captions()
    again = build(spec, Block).eval()
    assert {k: v.shape for k, v in again.state_dict().items()} == {k: v.shape for k, v in ours.state_dict().items()}
    again.load_state_dict(ours.state_dict())
    assert again.spec == ours.spec
    for other in (again, copy.deepcopy(ours), pickle.loads(pickle.dumps(ours))):
        assert torch.equal(other(batch).features, ours(batch).features)


def test_frozen():
    ours, batch = encoder(trainable=False), captions()
    assert not any(parameter.requires_grad for parameter in ours.transformer.parameters())
    assert ours.train().training
    assert not any(module.training for module in ours.transformer.modules())
    assert torch.equal(ours(batch).features, ours(batch).features)  # no dropout
    hidden = []
    ours.fc.register_forward_pre_hook(lambda module, inputs: hidden.append(inputs[0]))
    ours(batch).features.sum().backward()
    assert not hidden[0].requires_grad  # no graph behind it
    assert ours.fc.weight.grad is not None
    assert not encoder(trainable=False).eval().fc.training


def test_mode_of_a_trainable_transformer():
    ours = encoder()
    assert all(module.training for module in ours.modules())
    assert not any(module.training for module in ours.eval().modules())


def test_bf16_autocast():
    ours, batch = encoder().eval(), captions()
    with torch.autocast("cpu", torch.bfloat16):
        low = ours(batch).features.float()
    low.sum().backward()
    torch.testing.assert_close(low, ours(batch).features, atol=5e-2, rtol=0)
    assert ours.fc.weight.grad.isfinite().all()


def test_submodule_for_a_learning_rate_of_its_own():
    names = {name.split(".")[0] for name, _ in encoder().named_parameters()}
    assert names == {"transformer", "fc"}


def test_command_line(folder):
    parser = ArgumentParser(exit_on_error=False)
    parser.add_subclass_arguments(torch.nn.Module, "enc")
    for given in ({"model_name": str(folder[0])}, {"config": BERT}):
        path = "itmatch.nn.TransformerTextEncoder"
        config = parser.parse_object({"enc": {"class_path": path, "init_args": {"embed_dim": 8, **given}}})
        assert parser.instantiate(config).enc.transformer.config.vocab_size == 50


def test_missing_models(tmp_path, monkeypatch):
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    for name, tried in ((str(tmp_path), "holds none"), ("nobody/nothing", "not in the cache")):
        with pytest.raises(FileNotFoundError, match=tried) as caught:
            encoder(name, config=None)
        assert repr(name) in str(caught.value)
        assert "\n" not in str(caught.value)


def test_errors():
    with pytest.raises(ValueError, match="neither model_name nor config"):
        TransformerTextEncoder()
    refused = {"model_type": "bert", "hidden_size": 10, "num_attention_heads": 3}
    for config in ({"model_type": "no-such"}, {"hidden_size": 16}, refused):
        with pytest.raises(ValueError, match="no settings of a model_type"):
            encoder(config=config)
    ours = encoder()
    with pytest.raises(ValueError, match="captions of 13 tokens, expected at most 12"):
        ours(captions((13,), 13))
    with pytest.raises(ValueError, match="token id 50, expected ids below the vocabulary size 50"):
        ours(Captions(torch.tensor([[50]]), torch.ones(1, 1, dtype=torch.bool)))


def cut(path):
    path.write_bytes(path.read_bytes()[:-9])


def edited(change):
    def apply(path):
        content = json.loads(path.read_text())
        change(content)
        path.write_text(json.dumps(content))

    return apply


def with_nan(path):
    weights = load_file(path)
    weights["embeddings.LayerNorm.weight"][0] = float("nan")
    save_file(weights, path, metadata={"format": "pt"})


DAMAGE = {
    "cut weights": ("model.safetensors", cut, "holds none"),
    "weights of another size": ("config.json", edited(lambda c: c.update(hidden_size=32)), "holds none"),
    "a string for a number": ("config.json", edited(lambda c: c.update(num_hidden_layers="1")), "holds none"),
    "a list for a model": ("config.json", lambda path: path.write_text("[" * 5000), "holds none"),
    "NaN": ("model.safetensors", with_nan, "its weight embeddings.LayerNorm.weight holds a NaN or an infinity"),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_a_damaged_folder_is_named_in_one_line(tiny_bert, tmp_path, name):
    shutil.copytree(tiny_bert, tmp_path / "bert")
    file, damage, message = DAMAGE[name]
    damage(tmp_path / "bert" / file)
    with pytest.raises((FileNotFoundError, ValueError), match=f"{tmp_path / 'bert'}'.*{message}") as caught:
        TransformerTextEncoder(str(tmp_path / "bert"), 8)
    assert len(str(caught.value).splitlines()) == 1
