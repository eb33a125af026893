"""GRUTextEncoder: agreement with the published code, vocabularies and vectors, padding, specs, the command line."""

import copy
import json
import pickle
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from jsonargparse import ArgumentParser

from itmatch.batch import Captions
from itmatch.nn.block import Block
from itmatch.nn.encoders.gru import GRUTextEncoder, WordList
from itmatch.nn.pooling import MeanPooling
from itmatch.ops.masking import lengths_to_mask
from itmatch.spec import build

REFERENCE = Path(__file__).parents[2] / "reference"
WORDS = ["<pad>", "<start>", "a", "dog", "cat"]


class Words:
    """Any object of this form is a vocabulary."""

    def __init__(self, words=WORDS):
        self.words = list(words)

    def __len__(self):
        return len(self.words)


def captions(lengths=(5, 3, 1), length=5, size=20):
    torch.manual_seed(0)
    return Captions(torch.randint(1, size, (len(lengths), length)), lengths_to_mask(torch.tensor(lengths), length))


def encoder(vocabulary=20, **kwargs):
    torch.manual_seed(1)
    return GRUTextEncoder(vocabulary, 8, **{"word_dim": 6, **kwargs})


@pytest.fixture
def vocabulary_file(tmp_path):
    path = tmp_path / "vocab.json"
    path.write_text(
        json.dumps(
            {
                "word2idx": {word: index for index, word in reversed(list(enumerate(WORDS)))},
                "idx2word": {str(index): word for index, word in enumerate(WORDS)},
                "idx": len(WORDS),
            }
        )
    )
    return path


@pytest.fixture
def vectors_file(tmp_path):
    path = tmp_path / "glove.txt"
    path.write_text("dog 1 2 3\nhorse 4 5 6\na 7 8 9\n")
    return path


@pytest.mark.parametrize("name", ["chan_basic", "chan_selfattention"])
def test_agrees_with_public_code(name):
    with np.load(REFERENCE / f"{name}.npz", allow_pickle=False) as file:
        data = {key: torch.from_numpy(file[key]) for key in file.files}
    ours = GRUTextEncoder(97, 32, word_dim=24)
    state = {key.removeprefix("text_encoder."): value for key, value in data.items() if key.startswith("text_encoder.")}
    loaded = ours.load_state_dict(state, strict=False)
    assert loaded.missing_keys == []
    assert set(loaded.unexpected_keys) == {"fc.weight", "fc.bias"}
    mask = lengths_to_mask(data["token_lengths"], data["token_ids"].shape[1])
    fragments = ours(Captions(data["token_ids"], mask))
    torch.testing.assert_close(fragments.features[mask], data["text_fragments"][mask], atol=1e-5, rtol=0)
    assert fragments.features[~mask].eq(0).all()


def test_no_word_of_a_list_is_taken_for_padding():
    """What is padding, the mask says alone: a list without <pad> may begin with a word."""
    ours = GRUTextEncoder(["a", "dog"], 8, word_dim=4)
    ids, mask = torch.tensor([[1, 0], [1, 1]]), torch.tensor([[True, True], [True, False]])
    features = ours(Captions(ids, mask)).features
    longer = ours(Captions(torch.tensor([[1, 0, 0], [1, 0, 0]]), torch.tensor([[1, 1, 0], [1, 0, 0]]).bool())).features
    torch.testing.assert_close(longer[:, :2], features, atol=1e-6, rtol=0)
    assert features[0, 1].norm() > 0.99  # of "a"
    assert not torch.allclose(features[0, 0], features[1, 0], atol=1e-4)  # "a" after "dog" was read


@pytest.mark.parametrize("kwargs", [{}, {"num_layers": 2}, {"normalize": False}])
def test_padding_and_order_change_nothing(kwargs):
    ours, batch = encoder(pooling=MeanPooling(), **kwargs), captions()
    expected = ours(batch)
    wide = torch.full((3, 9), 999)  # outside the vocabulary, in padded positions
    wide[:, :5] = batch.input_ids.masked_fill(~batch.mask, 10**12)
    mask = torch.zeros(3, 9, dtype=torch.bool)
    mask[:, :5] = batch.mask
    order = torch.tensor([2, 0, 1])
    found = ours(Captions(wide[order], mask[order]))
    torch.testing.assert_close(found.features[:, :5], expected.features[order], atol=1e-6, rtol=0)
    torch.testing.assert_close(found.pooled, expected.pooled[order], atol=1e-6, rtol=0)
    assert found.features[~mask[order]].eq(0).all()
    assert found.features.shape == (3, 9, 8)
    for row, length in enumerate((5, 3, 1)):
        alone = ours(Captions(batch.input_ids[row : row + 1, :length], batch.mask[row : row + 1, :length]))
        torch.testing.assert_close(alone.features[0], expected.features[row, :length], atol=1e-6, rtol=0)


def test_directions_are_averaged():
    ours, batch = encoder(normalize=False), captions((4,), 4)
    output, _ = ours.rnn(ours.embed(batch.input_ids))
    torch.testing.assert_close(ours(batch).features, (output[..., :8] + output[..., 8:]) / 2, atol=1e-6, rtol=0)


def test_gradients():
    ours, batch = encoder(), captions()
    ours(batch).features.pow(3).sum().backward()
    for parameter in ours.parameters():
        assert parameter.grad.isfinite().all()
    used = batch.input_ids[batch.mask].unique()
    touched = ours.embed.weight.grad.abs().sum(1).gt(0).nonzero()[:, 0]
    assert torch.equal(touched, used)


def test_bf16_autocast():
    ours, batch = encoder(), captions()
    with torch.autocast("cpu", torch.bfloat16):
        low = ours(batch).features.float()
    low.sum().backward()
    torch.testing.assert_close(low, ours(batch).features, atol=5e-2, rtol=0)
    assert ours.embed.weight.grad.isfinite().all()


def test_dropout_acts_in_training_only():
    ours, batch = encoder(dropout=0.5), captions()
    assert not torch.equal(ours(batch).features, ours(batch).features)
    assert torch.equal(ours.eval()(batch).features, ours(batch).features)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        encoder(dropout=0.5, num_layers=1)


def test_published_start():
    weight = encoder().embed.weight
    assert 0.09 < weight.abs().max() <= 0.1


def test_kinds_of_vocabulary(vocabulary_file):
    for vocabulary in (5, WORDS, tuple(WORDS), Words(), vocabulary_file, str(vocabulary_file)):
        assert encoder(vocabulary).embed.num_embeddings == 5
    assert isinstance(Words(), WordList)
    assert encoder().word_dim == 6
    assert GRUTextEncoder(5, 8).word_dim == 300


@pytest.mark.parametrize("kind", ["list", "object", "file"])
def test_vectors_fill_the_rows_of_their_words(kind, vocabulary_file, vectors_file):
    vocabulary = {"list": WORDS, "object": Words(), "file": vocabulary_file}[kind]
    ours = GRUTextEncoder(vocabulary, 8, vectors=vectors_file)
    assert ours.word_dim == 3
    weight = ours.embed.weight.detach()
    assert weight[3].tolist() == [1, 2, 3]
    assert weight[2].tolist() == [7, 8, 9]
    others = weight[[0, 1, 4]].abs()
    assert others.max() <= 0.1
    assert others.min() > 0
    assert ours.embed.weight.requires_grad


@pytest.mark.parametrize("normalize", [True, False])
def test_rebuilt_from_spec_without_the_files(normalize, vocabulary_file, vectors_file):
    ours = GRUTextEncoder(
        vocabulary_file, 8, vectors=vectors_file, freeze_vectors=True, normalize=normalize, pooling=MeanPooling()
    )
    vocabulary_file.unlink()
    vectors_file.unlink()
    spec = json.loads(json.dumps(ours.spec))
    assert spec["init_args"]["vocabulary"] == 5
    assert spec["init_args"]["vectors"] is None
    assert spec["init_args"]["word_dim"] == 3
    again = build(spec, Block)
    assert {k: v.shape for k, v in again.state_dict().items()} == {k: v.shape for k, v in ours.state_dict().items()}
    again.load_state_dict(ours.state_dict())
    assert again.spec == ours.spec
    assert not again.embed.weight.requires_grad
    batch = captions(size=5)
    for other in (again, copy.deepcopy(ours), pickle.loads(pickle.dumps(ours))):
        assert torch.equal(other(batch).features, ours(batch).features)
        assert torch.equal(other(batch).pooled, ours(batch).pooled)


def test_spec_of_a_subclass_with_other_arguments():
    class Small(GRUTextEncoder):
        def __init__(self, vocabulary=20):
            super().__init__(vocabulary, 8, word_dim=6)

    assert Small(WORDS).spec["init_args"] == {"vocabulary": 5}


def test_errors_in_a_batch():
    ours, batch = encoder(), captions()
    with pytest.raises(ValueError, match=r"token id 20 in row 1, expected ids below the vocabulary size 20"):
        ours(Captions(batch.input_ids.index_put((torch.tensor(1), torch.tensor(2)), torch.tensor(20)), batch.mask))
    holes = batch.mask.clone()
    holes[1, 0] = False
    with pytest.raises(ValueError, match="row 1 of the mask has padding before a real token"):
        ours(Captions(batch.input_ids, holes))


def test_errors_in_the_arguments(tmp_path, vocabulary_file, vectors_file):
    cases = [
        (TypeError, "vocabulary: None, expected the number", {"vocabulary": None}),
        (TypeError, "vocabulary: a float", {"vocabulary": 3.0}),
        (TypeError, "vocabulary: a bool", {"vocabulary": True}),
        (ValueError, "vocabulary: 0", {"vocabulary": 0}),
        (ValueError, "no words", {"vocabulary": []}),
        (FileNotFoundError, r"none\.json: no such file", {"vocabulary": tmp_path / "none.json"}),
        (ValueError, "not (json|UTF-8)", {"vocabulary": vectors_file}),
        (ValueError, "needs the words", {"vocabulary": 5, "vectors": vectors_file}),
        (ValueError, "of size 3, expected word_dim 6", {"vocabulary": WORDS, "vectors": vectors_file}),
    ]
    for kind, message, kwargs in cases:
        with pytest.raises(kind, match=message):
            encoder(**kwargs)
    vocabulary_file.write_text('{"word2idx": ["a", "b"]}')
    with pytest.raises(ValueError, match=r"vocab\.json: no 'word2idx' \(dict\)"):
        encoder(vocabulary_file)


class Model(torch.nn.Module):
    def __init__(self, encoder: Block):
        super().__init__()
        self.encoder = encoder


class Data:
    def __init__(self, words: int = 7):
        self.vocabulary = Words([str(word) for word in range(words)])


PATH = "itmatch.nn.GRUTextEncoder"


@pytest.mark.parametrize("kind", ["int", "none", "absent", "file", "list", "object"])
def test_command_line(kind, vocabulary_file):
    parser = ArgumentParser(exit_on_error=False)
    parser.add_subclass_arguments(torch.nn.Module, "enc")
    given = {"int": 5, "none": None, "file": str(vocabulary_file), "list": WORDS, "object": Words()}
    arguments = {"embed_dim": 8, "word_dim": 6} | ({} if kind == "absent" else {"vocabulary": given[kind]})
    config = parser.parse_object({"enc": {"class_path": PATH, "init_args": arguments}})
    if kind in ("none", "absent"):
        with pytest.raises((TypeError, ValueError), match="vocabulary: None"):
            parser.instantiate(config)
    else:
        assert parser.instantiate(config).enc.vocabulary_size == 5


@pytest.mark.parametrize("whole", [True, False])
def test_command_line_links_the_data_to_the_encoder(whole):
    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(Data, "data")
    parser.add_subclass_arguments(Model, "model")
    target = "model.init_args.encoder.init_args.vocabulary"
    if whole:
        parser.link_arguments("data.vocabulary", target, apply_on="instantiate")
    else:
        parser.link_arguments("data", target, compute_fn=lambda data: data.vocabulary, apply_on="instantiate")
    encoder = {"class_path": PATH, "init_args": {"embed_dim": 8, "word_dim": 6}}
    path = f"{__name__}.Model"
    config = parser.parse_object(
        {"data": {"words": 9}, "model": {"class_path": path, "init_args": {"encoder": encoder}}}
    )
    built = parser.instantiate(config).model.encoder
    assert built.vocabulary_size == 9
    assert built.spec["init_args"]["vocabulary"] == 9
