"""Checkpoints of the public layout, made here from the reference weights, give the reference numbers; others none."""

import argparse
import collections
import pickle
import sys
import types
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers_files import files_in, small_files
from helpers_python_2 import ordered, write_of_python_2

from itmatch.__main__ import main
from itmatch.batch import Captions, Fragments, Regions
from itmatch.data import Vocabulary
from itmatch.models import MatchingModel, convert_checkpoint, read_public_checkpoint
from itmatch.nn import RegionEncoder, SimilarityFiltration, SimilarityReasoning
from itmatch.ops import lengths_to_mask

REFERENCE = Path(__file__).parents[2] / "reference"
NORMS = {"no_imgnorm": False, "no_txtnorm": False}


def reference(name):
    with np.load(REFERENCE / f"{name}.npz", allow_pickle=False) as file:
        return {key: torch.from_numpy(file[key]) for key in file.files}


def state(data, part):
    prefix = f"{part}."
    return collections.OrderedDict((k.removeprefix(prefix), v) for k, v in data.items() if k.startswith(prefix))


def parallel(weights):
    return collections.OrderedDict((f"module.{name}", value) for name, value in weights.items())


def write(path, states, **options):
    content = {
        "epoch": 3,
        "model": states,
        "best_rsum": 400.5,
        "opt": argparse.Namespace(**NORMS | options),
        "Eiters": 10,
    }
    torch.save(content, path)
    return path


def gru(size, words=11, bidirectional=True, name="rnn"):
    """A text encoder with the names of the public code."""
    torch.manual_seed(5)
    recurrent = torch.nn.GRU(4, size, batch_first=True, bidirectional=bidirectional)
    weights = {"embed.weight": torch.randn(words, 4)}
    return weights | {f"{name}.{key}": value for key, value in recurrent.state_dict().items()}


SCAN = {"cross_attn": "t2i", "agg_func": "Mean", "lambda_softmax": 9.0, "raw_feature_norm": "clipped_l2norm"}
CHAN = {"coding_type": "VHACoding", "pooling_type": "MeanPooling"}


def linear(size, features=6):
    torch.manual_seed(6)
    return {"fc.weight": torch.randn(size, features), "fc.bias": torch.randn(size)}


@pytest.mark.parametrize("name", ["chan_basic", "chan_selfattention"])
@pytest.mark.parametrize("coding", ["VHA", "THA", "VSA"])
@pytest.mark.parametrize("pooling", ["lse", "mean", "max", "sum", "softmax"])
def test_chan_gives_the_public_scores(name, coding, pooling, tmp_path):
    data = reference(name)
    public = {"lse": "LSE"}.get(pooling, pooling.capitalize()) + "Pooling"
    options = {"coding_type": f"{coding}Coding", "pooling_type": public, "alpha": 0.1, "belta": 0.1}
    states = [parallel(state(data, "image_encoder")), state(data, "text_encoder"), {}, {"temperature": torch.ones(1)}]
    found = convert_checkpoint(write(tmp_path / "model_best.pth", states, **options), "chan")
    regions = Regions(data["regions"], lengths_to_mask(data["region_lengths"], data["regions"].shape[1]))
    captions = Captions(data["token_ids"], lengths_to_mask(data["token_lengths"], data["token_ids"].shape[1]))
    scores = found.model.score(regions, captions)
    public = data[f"scores.{coding}.{pooling}"]
    finite = public.isfinite()  # its softmax pooling multiplies 0 by infinity where a caption is padded
    torch.testing.assert_close(scores[finite], public[finite], atol=1e-5, rtol=1e-5)
    assert finite.any()
    assert scores.isfinite().all()
    assert found.unused == ["model[1].fc.weight", "model[1].fc.bias", "model[3].temperature"]
    assert found.notes == ["model[0]: the prefix `module.` of DataParallel is left out"]


@pytest.mark.parametrize("head", ["SGR", "SAF"])
def test_sgraf_gives_the_public_scores(head, tmp_path):
    data = reference(f"sgraf_{head.lower()}")
    states = [linear(32), gru(32, name="cap_rnn"), state(data, "similarity")]
    path = write(tmp_path / "model_best.pth.tar", states, module_name=head)
    found = convert_checkpoint(path, "sgraf")
    image, text = data["image_fragments"], data["text_fragments"]
    scores = found.model.score(
        Fragments(image, torch.ones(image.shape[:2], dtype=torch.bool)),
        Fragments(text, lengths_to_mask(data["token_lengths"], text.shape[1])),
    )
    torch.testing.assert_close(scores, data["scores"], atol=1e-5, rtol=1e-5)
    expected = {"SGR": SimilarityReasoning, "SAF": SimilarityFiltration}[head]
    assert type(found.model.similarity.head) is expected
    assert found.unused == []


@pytest.mark.parametrize("direction", ["t2i", "i2t"])
@pytest.mark.parametrize("norm", ["clipped_l2norm", "softmax", "no_norm"])
@pytest.mark.parametrize("pooling", ["LogSumExp", "Mean"])
def test_scan_gives_the_public_scores(direction, norm, pooling, tmp_path):
    data = reference("scan")
    options = {"cross_attn": direction, "raw_feature_norm": norm, "agg_func": pooling}
    options |= {"t2i": {"lambda_softmax": 9.0, "lambda_lse": 6.0}, "i2t": {"lambda_softmax": 4.0, "lambda_lse": 5.0}}[
        direction
    ]
    path = write(tmp_path / "a.pth.tar", [linear(32), gru(32)], **options)
    image, text = data["image_fragments"], data["text_fragments"]
    scores = convert_checkpoint(path, "scan").model.score(
        Fragments(image, torch.ones(image.shape[:2], dtype=torch.bool)),
        Fragments(text, lengths_to_mask(data["token_lengths"], text.shape[1])),
    )
    torch.testing.assert_close(scores, data[f"scores.{direction}.{norm}.{pooling}"], atol=1e-5, rtol=1e-5)


def test_vse_infty_gives_the_public_image_vectors(tmp_path):
    data = reference("vse_infty")
    words = gru(32) | {f"gpool.{name}": value for name, value in state(data, "text_gpo").items()}
    found = convert_checkpoint(write(tmp_path / "a.pth", [state(data, "image_encoder"), words, {}]), "vse_infty")
    regions = Regions(data["regions"], lengths_to_mask(data["region_lengths"], data["regions"].shape[1]))
    image = found.model.encode_images(regions)
    torch.testing.assert_close(image.pooled, data["image_embedding"], atol=1e-5, rtol=1e-5)
    mask = lengths_to_mask(data["token_lengths"], data["text_features"].shape[1])
    pooled = found.model.text_encoder.pooling(data["text_features"], mask[..., None], dim=1)
    torch.testing.assert_close(pooled, data["text_pooled"], atol=1e-5, rtol=1e-5)
    assert found.unused == ["model[0].mlp.bns.1." + n for n in ("weight", "bias", "running_mean", "running_var")]


@pytest.mark.parametrize("dim", [None, 0])
def test_weight_normalisation_is_multiplied_out(dim, tmp_path):
    torch.manual_seed(0)
    layer = torch.nn.utils.parametrizations.weight_norm(torch.nn.Linear(6, 8), dim=dim)
    length, direction = layer.parametrizations.weight.original0, layer.parametrizations.weight.original1
    with torch.no_grad():
        length.mul_(3)
    weights = {"fc.weight_g": length.detach(), "fc.weight_v": direction.detach(), "fc.bias": layer.bias.detach()}
    states = [weights, gru(8)]
    model = convert_checkpoint(write(tmp_path / "a.pth", states, **SCAN), "scan").model
    x = torch.randn(2, 6)
    torch.testing.assert_close(model.image_encoder.fc(x), layer(x))


def test_a_model_with_its_words_takes_strings_after_a_round_trip_through_the_command(tmp_path, capsys):
    words = Vocabulary(["<pad>", "<start>", "<end>", "<unk>", "a", "dog"])
    words.to_json(tmp_path / "vocab.json")
    states = [linear(8), gru(8, words=6, bidirectional=False)]
    path = write(tmp_path / "a.pth.tar", states, **SCAN)
    arguments = ["convert", str(path), "--format", "scan", "--out", str(tmp_path / "model")]
    assert main([*arguments, "--vocabulary", str(tmp_path / "vocab.json")]) == 0
    assert "a word <mask> is added" in capsys.readouterr().out
    model = MatchingModel.from_pretrained(tmp_path / "model")
    assert model.text_encoder.rnn.bidirectional is False
    images = torch.randn(2, 3, 6)
    direct = convert_checkpoint(path, "scan").model
    ids = torch.tensor([[1, 4, 5, 2]])
    expected = direct.score(images, Captions(ids, torch.ones_like(ids, dtype=torch.bool)))
    torch.testing.assert_close(model.score(images, ["a dog"]), expected, rtol=0, atol=0)
    assert main(arguments) == 1
    assert "--overwrite" in capsys.readouterr().err


def test_the_command_on_a_full_disk_and_with_a_home_folder(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("HOME", str(tmp_path))
    write(tmp_path / "a.pth.tar", [linear(8), gru(8, words=6, bidirectional=False)], **SCAN)
    arguments = ["convert", "~/a.pth.tar", "--format", "scan", "--out", "~/model"]
    assert main(arguments) == 0
    before = files_in(tmp_path / "model")
    capsys.readouterr()
    assert main(arguments) == 1
    assert f"{tmp_path}/model: there is a model already" in capsys.readouterr().err
    with small_files(len(before["model.safetensors"]) - 1):
        assert main([*arguments, "--overwrite"]) == 1
    assert capsys.readouterr().err == (
        f"itmatch: error: {tmp_path}/model/model.safetensors: cannot be written (File too large)\n"
    )
    assert files_in(tmp_path / "model") == before
    assert isinstance(MatchingModel.from_pretrained("~/model"), MatchingModel)


def test_bert_is_built_from_its_weights(tmp_path):
    from transformers import BertConfig, BertModel

    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=30, hidden_size=128, num_hidden_layers=2, num_attention_heads=2, intermediate_size=16
    )
    bert = BertModel(config).eval()
    text = {f"bert.{name}": value for name, value in bert.state_dict().items()}
    text |= {"linear.weight": torch.randn(8, 128), "linear.bias": torch.randn(8)}
    found = convert_checkpoint(write(tmp_path / "a.pth", [linear(8), text, {}, {}], **CHAN), "chan")
    ids = torch.tensor([[3, 4, 5]])
    expected = bert(ids).last_hidden_state @ text["linear.weight"].T + text["linear.bias"]
    words = found.model.encode_texts(Captions(ids, torch.ones_like(ids, dtype=torch.bool)))
    torch.testing.assert_close(words.features, torch.nn.functional.normalize(expected, dim=2).detach())
    assert found.unused == ["model[1].bert.pooler.dense.weight", "model[1].bert.pooler.dense.bias"]


class Malicious:
    def __init__(self, target):
        self.target = target

    def __reduce__(self):
        return Path.touch, (self.target,)


class System:
    def __reduce__(self):
        import os

        return os.system, ("touch hacked",)


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("payload", [lambda target: Malicious(target), lambda _: System()])
def test_a_malicious_file_is_refused_and_runs_nothing(payload, zipped, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    content = {"model": [{}, {}], "opt": argparse.Namespace(a=payload(tmp_path / "hacked"))}
    torch.save(content, "bad.pth", _use_new_zipfile_serialization=zipped)
    with pytest.raises(ValueError, match=r"bad\.pth: names \S+; only tensors"):
        read_public_checkpoint("bad.pth")
    assert main(["convert", "bad.pth", "--format", "chan", "--out", "model"]) == 1
    assert "nothing was run" in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bad.pth"]


def test_what_is_no_checkpoint_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"none\.pth: no such file"):
        read_public_checkpoint(tmp_path / "none.pth")
    (tmp_path / "text.pth").write_text("hello")
    with pytest.raises(ValueError, match=r"text\.pth: no checkpoint"):
        read_public_checkpoint(tmp_path / "text.pth")
    torch.save({"state_dict": {}}, tmp_path / "other.pth")
    with pytest.raises(ValueError, match="keys state_dict; expected a dict with `model`"):
        read_public_checkpoint(tmp_path / "other.pth")
    torch.save({"model": [{}, {}], "opt": [1]}, tmp_path / "list.pth")
    with pytest.raises(ValueError, match="`opt` is a list, expected a Namespace or a dict"):
        read_public_checkpoint(tmp_path / "list.pth")
    torch.save({"model": {"one": {}, "two": {}}, "opt": {}}, tmp_path / "names.pth")
    with pytest.raises(ValueError, match="keys model, opt; expected a dict with `model`, the state dicts of the parts"):
        read_public_checkpoint(tmp_path / "names.pth")
    path = write(tmp_path / "tensor.pth", [{}, {}], weight=torch.ones(1))
    with pytest.raises(ValueError, match=r"opt\.weight is a Tensor, expected a plain value"):
        read_public_checkpoint(path)
    path = write(tmp_path / "list.pth", [{"fc.weight": [1.0]}, {}])
    with pytest.raises(ValueError, match=r"model\[0\]\['fc.weight'\] is a list, expected a tensor"):
        read_public_checkpoint(path)


def test_a_damaged_file_is_told_of_whatever_breaks(tmp_path):
    for zipped in (True, False):
        path = write(tmp_path / "good.pth", [linear(8), gru(8)], cross_attn="t2i")
        content = torch.load(path, weights_only=False)
        torch.save(content, path, _use_new_zipfile_serialization=zipped)
        whole = path.read_bytes()
        for length in (1, 20, len(whole) // 3, len(whole) // 2, len(whole) - 30):
            (tmp_path / "cut.pth").write_bytes(whole[:length])
            with pytest.raises(ValueError, match=r"cut\.pth"):
                read_public_checkpoint(tmp_path / "cut.pth")
    loop = argparse.Namespace(model=[])
    loop.model.append(loop.model)
    torch.save({"model": [{}, {}], "opt": loop}, tmp_path / "loop.pth")
    with pytest.raises(ValueError, match="nested more than 20 deep"):
        read_public_checkpoint(tmp_path / "loop.pth")


@pytest.mark.parametrize(
    ("states", "options", "format", "message"),
    [
        ([linear(8), gru(8), {}, {"temperature": torch.ones(1)}], SCAN, "scan", r"has model\[3\]\.temperature, which"),
        ([linear(8), gru(8, name="cap_rnn")], SCAN, "scan", r"has model\[1\]\.cap_rnn"),
        ([linear(8) | {"feedforward.ln.weight": torch.ones(8)}, gru(8)], SCAN, "scan", r"has model\[0\]\.feedforward"),
        ([linear(8), gru(8)], {}, "scan", "no opt.cross_attn; is this a checkpoint of scan"),
        ([linear(8), gru(8)], {"cross_attn": "t2i"}, "scan", "no opt.lambda_softmax"),
        ([linear(8), gru(8)], SCAN, "vse_infty", r"no model\[0\]\.gpool"),
        ([linear(8), gru(8)], SCAN, "chan", "no opt.pooling_type"),
        (
            [linear(8), gru(8)],
            CHAN | {"coding_type": "VSACoding", "alpha": None},
            "chan",
            "opt.alpha is None",
        ),
        ([linear(8), gru(8)], CHAN | {"pooling_type": "LSEPooling"}, "chan", "no opt.belta"),
        ([linear(8), gru(8)], SCAN | {"cross_attn": ["t2i"]}, "scan", r"opt.cross_attn is \['t2i'\]"),
        ([linear(8), gru(8)], SCAN | {"agg_func": "LogSumExp", "lambda_lse": 0}, "scan", "opt.lambda_lse is 0"),
        ([{"fc.weight": torch.ones(8), "fc.bias": torch.ones(8)}, gru(8)], SCAN, "scan", "no model of scan can be"),
        ([linear(8), gru(8) | {"rnn.weight_hh_l0": torch.ones(3)}], SCAN, "scan", "no model of scan can be"),
    ],
)
def test_a_file_of_another_system_is_refused(states, options, format, message, tmp_path):
    path = write(tmp_path / "a.pth", states, **options)
    with pytest.raises(ValueError, match=message) as caught:
        convert_checkpoint(path, format)
    assert str(path) in str(caught.value)


def test_what_older_files_do_not_say_is_reported(tmp_path):
    torch.save({"model": [linear(8), gru(8)], "opt": argparse.Namespace(**SCAN)}, tmp_path / "a.pth")
    found = convert_checkpoint(tmp_path / "a.pth", "scan")
    assert found.notes == [f"opt.{name} is missing; taken as False" for name in NORMS]
    assert set(found.settings) == set(SCAN)


@pytest.mark.parametrize(
    ("states", "options", "message"),
    [
        ([linear(8), gru(8)], SCAN | {"cross_attn": "x"}, "opt.cross_attn is 'x', expected one of t2i, i2t"),
        ([linear(8), {"embed.weight": torch.ones(3, 4)}], SCAN, "no 'rnn.weight_hh_l0' in it"),
        ([linear(8) | {"fc.bias": torch.ones(3)}, gru(8)], SCAN, r"fc.bias has shape \(3,\), expected \(8,\)"),
        ([linear(8) | {"fc.bias": torch.full((8,), torch.nan)}, gru(8)], SCAN, r"model\[0\]\.fc\.bias holds a NaN"),
        ([{"fc.weight": torch.ones(8, 6)}, gru(8)], SCAN, r"model\[0\] has nothing for fc.bias"),
        ([{"backbone.conv": torch.ones(1)}, gru(8)], SCAN | {"precomp_enc_type": "backbone"}, "is 'backbone'; only"),
        ([linear(8)], SCAN, "1 state dicts, expected"),
    ],
)
def test_what_does_not_fit_is_named(states, options, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        convert_checkpoint(write(tmp_path / "a.pth", states, **options), "scan")


def test_formats_and_words_that_do_not_fit(tmp_path):
    path = write(tmp_path / "a.pth", [linear(8), gru(8)], **SCAN)
    with pytest.raises(ValueError, match="format: 'clip', expected 'chan'"):
        convert_checkpoint(path, "clip")
    with pytest.raises(ValueError, match=r"a\.pth: no 'sim_tranloc_w.weight' in it; is this a checkpoint of sgraf"):
        convert_checkpoint(path, "sgraf")
    Vocabulary(["<pad>", "<start>", "<end>", "<unk>", "a", "dog"]).to_json(tmp_path / "vocab.json")
    with pytest.raises(ValueError, match="11 words in its embedding, the vocabulary has 7"):
        convert_checkpoint(path, "scan", vocabulary=tmp_path / "vocab.json")
    with pytest.raises(ValueError, match="its text encoder is a GRU"):
        convert_checkpoint(path, "scan", text_model="bert")


def test_the_perceptron_of_regions_reads_no_padding():
    torch.manual_seed(0)
    encoder = RegionEncoder(6, 8, mlp=True)
    features, mask = torch.randn(3, 4, 6), torch.rand(3, 4) > 0.3
    mask[:, 0] = True
    expected = encoder(Regions(features, mask)).features
    found = encoder(Regions(features.masked_fill(~mask[..., None], 100.0), mask)).features
    torch.testing.assert_close(found, expected, rtol=0, atol=0)


def public_vse_pp(states, images, ids, lengths):
    """Scores as VSE++ defines them: cosines of the projected features with the last state of a GRU."""
    image = torch.nn.functional.normalize(images @ states[0]["fc.weight"].T + states[0]["fc.bias"], dim=1)
    rnn = torch.nn.GRU(4, len(states[0]["fc.bias"]), batch_first=True)
    rnn.load_state_dict({name.removeprefix("rnn."): value for name, value in states[1].items() if "rnn." in name})
    words = states[1]["embed.weight"][ids]
    last = torch.stack([rnn(words[i : i + 1, :length])[0][0, -1] for i, length in enumerate(lengths)])
    return image @ torch.nn.functional.normalize(last, dim=1).T


@pytest.mark.parametrize("photos", [False, True])
def test_vse_pp_gives_the_scores_of_its_definition(photos, tmp_path):
    """With a network that reads photos, the vectors that it makes are normalised first; of precomputed ones not."""
    states = [linear(8), gru(8, bidirectional=False)]
    images, ids, lengths = torch.randn(3, 6), torch.randint(0, 11, (4, 5)), [5, 2, 4, 1]
    expected = public_vse_pp(states, torch.nn.functional.normalize(images, dim=1) if photos else images, ids, lengths)
    network = {"cnn.features.module.0.weight": torch.randn(2, 3, 3, 3), "cnn.classifier.0.bias": torch.randn(2)}
    states[0] |= network if photos else {}
    options = {"measure": "cosine", "use_abs": False, "no_imgnorm": False, "cnn_type": "vgg19", "img_dim": 6}
    torch.save({"model": states, "opt": argparse.Namespace(**options)}, tmp_path / "model_best.pth.tar")
    found = convert_checkpoint(tmp_path / "model_best.pth.tar", "vse_pp")
    captions = Captions(ids, lengths_to_mask(torch.tensor(lengths), 5))
    scores = found.model.score(images[:, None], captions)
    torch.testing.assert_close(scores, expected.detach(), atol=1e-6, rtol=1e-5)
    assert found.unused == []
    assert found.notes == (
        ["model[0].cnn: the network (vgg19) is left out; the model takes its output, one vector per photo"]
        if photos
        else []
    )


def test_a_checkpoint_and_vocabulary_of_python_2(tmp_path, capsys):
    """VSE++'s published files are of Python 2: texts are bytes there, and the tensors lie behind the pickle."""
    states = [linear(8), gru(8, words=6, bidirectional=False)]
    network = {"cnn.module.conv1.weight": torch.randn(2, 3, 3, 3)}
    options = {"measure": "cosine", "use_abs": False, "no_imgnorm": False, "cnn_type": "resnet152", "margin": 0.2}
    content = {"epoch": 30, "model": [ordered(states[0] | network), ordered(states[1])], "best_rsum": 400.5}
    content |= {"opt": argparse.Namespace(**options), "Eiters": 10}
    path = write_of_python_2(tmp_path / "model_best.pth.tar", content)
    words = ["<pad>", "<start>", "<end>", "<unk>", "a", "dog"]
    text = [b"U" + bytes([len(word)]) + word.encode() for word in words]
    there = b"".join(word + b"K" + bytes([i]) for i, word in enumerate(text))
    back = b"".join(b"K" + bytes([i]) + word for i, word in enumerate(text))
    state = b"(U\x08word2idx}(" + there + b"uU\x08idx2word}(" + back + b"uU\x03idxK\x06d"
    vocabulary = tmp_path / "coco_vocab.pkl"
    vocabulary.write_bytes(b"\x80\x02c__main__\nVocabulary\n)\x81" + state + b"b.")
    out = tmp_path / "vse_pp"
    command = ["convert", path, "--format", "vse_pp", "--out", out, "--vocabulary", vocabulary]
    assert main([str(argument) for argument in command]) == 0
    assert "the network (resnet152) is left out" in capsys.readouterr().out
    images = torch.randn(3, 6)
    unit = torch.nn.functional.normalize(images, dim=1)
    expected = public_vse_pp(states, unit, torch.tensor([[1, 4, 5, 2]]), [4])
    found = MatchingModel.from_pretrained(out).score(images[:, None], ["a dog"])
    torch.testing.assert_close(found, expected.detach(), atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"measure": "order"}, "opt.measure is 'order', expected one of cosine"),
        ({"use_abs": True}, "opt.use_abs is on"),
        ({"no_imgnorm": True}, "opt.no_imgnorm is on"),
    ],
)
def test_vse_pp_with_other_scores_is_refused(change, message, tmp_path):
    options = {"measure": "cosine"} | change
    path = write(tmp_path / "a.pth.tar", [linear(8), gru(8, bidirectional=False)], **options)
    with pytest.raises(ValueError, match=message):
        convert_checkpoint(path, "vse_pp")
    with pytest.raises(ValueError, match=r"has model\[1\]\.gpool"):
        convert_checkpoint(write(path, [linear(8), gru(8) | {"gpool.x": torch.ones(1)}]), "vse_pp")


def named(prefix, weights):
    return {f"{prefix}{name}": value for name, value in weights.items()}


LAYOUTS = {
    "a list": lambda image, text: {"model": [image, text]},
    "a tuple": lambda image, text: {"model": (image, text)},
    "a dict of parts": lambda image, text: {"model": {"txt_enc": text, "img_enc": image}},
    "parts beside other things": lambda image, text: {
        "caption_encoder": text,
        "visual_encoder": image,
        "optimizer": {},
    },
    "one dict": lambda image, text: {"state_dict": named("txt_enc.", text) | named("img_enc.module.", image)},
}


@pytest.mark.parametrize("options", [argparse.Namespace, dict])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_gives_the_same_model(layout, options, tmp_path):
    content = LAYOUTS[layout](linear(8), gru(8)) | {"opt": options(**SCAN, **NORMS)}
    torch.save(content, tmp_path / "a.pth")
    found = convert_checkpoint(tmp_path / "a.pth", "scan")
    expected = convert_checkpoint(write(tmp_path / "b.pth", [linear(8), gru(8)], **SCAN), "scan").model.state_dict()
    assert found.model.state_dict().keys() == expected.keys()
    for name, value in found.model.state_dict().items():
        torch.testing.assert_close(value, expected[name], rtol=0, atol=0)


def test_state_dicts_alone_take_their_settings_from_the_command(tmp_path, capsys):
    torch.save([linear(8), gru(8)], tmp_path / "a.pth")
    with pytest.raises(ValueError, match=r"a\.pth: no opt\.agg_func|no opt\.cross_attn; name it with --options"):
        convert_checkpoint(tmp_path / "a.pth", "scan")
    command = ["convert", str(tmp_path / "a.pth"), "--format", "scan", "--out", str(tmp_path / "model"), "--options"]
    settings = ["cross_attn=t2i", "agg_func=Mean", "lambda_softmax=9", "raw_feature_norm=clipped_l2norm"]
    assert main([*command, *settings]) == 0
    assert "the file has no settings (opt)" in capsys.readouterr().out
    expected = convert_checkpoint(write(tmp_path / "b.pth", [linear(8), gru(8)], **SCAN), "scan").model
    ids, images = torch.tensor([[1, 4, 2]]), torch.randn(2, 3, 6)
    captions = Captions(ids, torch.ones_like(ids, dtype=torch.bool))
    scores = MatchingModel.from_pretrained(tmp_path / "model").score(images, captions)
    torch.testing.assert_close(scores, expected.score(images, captions))
    assert main([*command, "cross_attn", "--overwrite"]) == 2


def test_numpy_scalars_are_plain_values(tmp_path):
    options = {
        "lambda_softmax": np.float64(9),
        "margin": np.float32(0.2),
        "max_violation": np.bool_(1),
        "x": np.str_("é"),
    }
    content = {"model": [linear(8), gru(8)], "opt": argparse.Namespace(**NORMS | SCAN | options), "best": np.int64(3)}
    for zipped in (True, False):
        torch.save(content, tmp_path / "a.pth", _use_new_zipfile_serialization=zipped)
        found = read_public_checkpoint(tmp_path / "a.pth").options
        assert {name: found[name] for name in options} == {
            "lambda_softmax": 9.0, "margin": float(np.float32(0.2)), "max_violation": True, "x": "é",
        }  # fmt: skip
        assert type(found["lambda_softmax"]) is float
        convert_checkpoint(tmp_path / "a.pth", "scan")


SCALAR = np.float64(1).__reduce__()[0]  # of numpy.core.multiarray before numpy 2, then of numpy._core.multiarray


class Pointer:
    """A scalar of objects, whose bytes numpy itself would take for the place of one in memory."""

    def __reduce__(self):
        return SCALAR, (np.dtype("O"), b"\1\2\3\4\5\6\7\x08")


class Short:
    def __reduce__(self):
        return SCALAR, (np.dtype("f8"), b"\1")


@pytest.mark.parametrize(("value", "message"), [(Pointer(), "a numpy scalar of type 'O8'"), (Short(), "no checkpoint")])
def test_scalars_that_are_none(value, message, tmp_path):
    torch.save({"model": [{}, {}], "opt": {"a": value}}, tmp_path / "a.pth")
    with pytest.raises(ValueError, match=message):
        read_public_checkpoint(tmp_path / "a.pth")


def test_a_pickled_vocabulary_goes_with_a_checkpoint(tmp_path, monkeypatch):
    words = ["<pad>", "<start>", "<end>", "<unk>", "a", "dog"]
    module = types.ModuleType("vocab")
    module.Vocabulary = type("Vocabulary", (), {"__module__": "vocab"})
    monkeypatch.setitem(sys.modules, "vocab", module)
    vocabulary = module.Vocabulary()
    vocabulary.__dict__ |= {
        "word2idx": {w: i for i, w in enumerate(words)},
        "idx2word": dict(enumerate(words)),
        "idx": 6,
    }
    (tmp_path / "f30k_precomp_vocab.pkl").write_bytes(pickle.dumps(vocabulary, 2))
    path = write(tmp_path / "a.pth", [linear(8), gru(8, words=6, bidirectional=False)], measure="cosine")
    model = convert_checkpoint(path, "vse_pp", vocabulary=tmp_path / "f30k_precomp_vocab.pkl").model
    assert model.score(torch.randn(2, 1, 6), ["a dog"]).shape == (2, 1)
