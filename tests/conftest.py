"""What holds for every test: nothing is fetched, and parallel workers do not fight over the cores."""

import os
import sys

os.environ["HF_HUB_OFFLINE"] = "1"  # read when transformers is first imported, so before any test is
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import pytest
import torch

PIECES = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "black", "white", "dog", "cat", "run", "##s", "."]

if "PYTEST_XDIST_WORKER" in os.environ:
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _threads_are_as_before():
    """A benchmark sets their number for its whole process."""
    before = torch.get_num_threads()
    yield
    if torch.get_num_threads() != before:
        torch.set_num_threads(before)


@pytest.fixture(autouse=True)
def _users_files_are_imported_anew():
    """Tests write files of the same name, ``my_similarity.py`` say, in folders of their own."""
    yield
    for name in [name for name in sys.modules if name.startswith("my_")]:
        del sys.modules[name]


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    """The working folder is an empty one, and what a command does to the search path of modules is undone."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("ITMATCH_DEBUG", raising=False)
    monkeypatch.setattr(sys, "path", list(sys.path))


@pytest.fixture(scope="session")
def tiny_bert(tmp_path_factory) -> str:
    """Folder of a BERT with random weights and its tokenizer, as ``save_pretrained`` writes it."""
    from transformers import BertConfig, BertModel, BertTokenizerFast

    folder = tmp_path_factory.mktemp("tiny_bert")
    (folder / "vocab.txt").write_text("\n".join(PIECES) + "\n")
    BertTokenizerFast(str(folder / "vocab.txt"), do_lower_case=True).save_pretrained(folder)
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        BertModel(BertConfig(vocab_size=len(PIECES), max_position_embeddings=16, **sizes)).save_pretrained(folder)
    return str(folder)
