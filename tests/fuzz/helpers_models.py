"""Targets: models, checkpoints, and what runs leave."""

import argparse
import contextlib
import io
import json

import helpers_binary_damage as binary
import helpers_text_damage as damage
import torch
from helpers_cli import DEMO
from helpers_targets import BYTES, JSON, Target, as_json, called, finite

from itmatch.batch import Fragments
from itmatch.data import Vocabulary
from itmatch.models import MatchingModel, chan_gru, convert_checkpoint
from itmatch.training import MatchingTask
from itmatch.training.output.fragments import read_fragments, write_fragments

WEIGHTS = (binary.safetensors_of, binary.safetensors_of, *BYTES)
TORCH = (binary.torch_of, binary.torch_of, binary.torch_of, *BYTES)
PIECES = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "black", "dog", "cat", "##s", "."]


def small_model():
    torch.manual_seed(0)
    vocabulary = Vocabulary.build([["a", "black", "dog"]], min_count=1)
    return chan_gru(vocabulary, region_dim=6, embed_dim=8, word_dim=3)


def write_model(folder):
    small_model().save_pretrained(folder)


def wrong_model(model):
    return finite(*model.state_dict().values())


def write_fragment_file(folder):
    features = torch.randn(4, 3, 5, generator=torch.Generator().manual_seed(0))
    mask = torch.tensor([[True, True, False]] * 4)
    fragments = Fragments(features, mask, pooled=features.mean(1))
    write_fragments(folder / "images.safetensors", fragments, torch.arange(4), ["a", "b", "c", "d"])


def wrong_fragments(found):
    fragments, index, ids = found
    if not len(fragments) == len(index) == len(ids):
        return "other numbers of rows, places and ids"
    if len(index) and int(index.min()) < 0:
        return "a negative place"
    bad = bool((fragments.mask.view(torch.uint8) > 1).any())
    return "a mask of neither True nor False" if bad else finite(fragments.features[fragments.mask])


def write_task(folder):
    """A checkpoint as a run writes it, without the hour of running."""
    model = small_model()
    task = MatchingTask.from_model(model)
    optimizer = torch.optim.AdamW(task.parameters())
    checkpoint = {
        "epoch": 1,
        "global_step": 7,
        "pytorch-lightning_version": "2.6.6",
        "state_dict": task.state_dict(),
        "loops": {},
        "callbacks": {
            "BestCheckpoint{'monitor': 'val/rsum'}": {"best_model_path": "best.ckpt", "best_model_score": None}
        },
        "optimizer_states": [optimizer.state_dict()],
        "lr_schedulers": [],
    }
    task.on_save_checkpoint(checkpoint)
    torch.save(checkpoint, folder / "last.ckpt")


def read_task(folder):
    return MatchingTask.load_from_checkpoint(folder / "last.ckpt", weights_only=True).model


def write_public(folder):
    torch.manual_seed(5)
    words = {"embed.weight": torch.randn(11, 4)}
    words |= {f"rnn.{k}": v for k, v in torch.nn.GRU(4, 8, batch_first=True, bidirectional=True).state_dict().items()}
    image = {"fc.weight": torch.randn(8, 6), "fc.bias": torch.randn(8)}
    options = argparse.Namespace(
        no_imgnorm=False, no_txtnorm=False, cross_attn="t2i", agg_func="Mean", lambda_softmax=9.0,
        raw_feature_norm="clipped_l2norm",
    )  # fmt: skip
    torch.save({"epoch": 3, "model": [image, words], "opt": options}, folder / "model_best.pth.tar")


def write_bert(folder):
    from transformers import BertConfig, BertModel, BertTokenizerFast

    folder = folder / "bert"
    folder.mkdir()
    (folder / "vocab.txt").write_text("\n".join(PIECES) + "\n")
    BertTokenizerFast(str(folder / "vocab.txt"), do_lower_case=True).save_pretrained(folder)
    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}
    BertModel(BertConfig(vocab_size=len(PIECES), max_position_embeddings=16, **sizes)).save_pretrained(folder)


def read_tokenizer(folder):
    from itmatch.data import HuggingFaceTokenizer

    tokenizer = HuggingFaceTokenizer(str(folder / "bert"), max_length=8)
    tokenizer.fit([])
    return tokenizer(["a black dog", "cats."]), tokenizer.spans(["a dog"]), tokenizer.pad_id, tokenizer.fingerprint


def write_serialized(folder):
    from itmatch.data import HuggingFaceTokenizer

    write_bert(folder)
    arguments = HuggingFaceTokenizer(str(folder / "bert"), max_length=8).spec["init_args"]
    as_json(folder / "serialized.json", arguments["serialized"])


def read_serialized(folder):
    from itmatch.data import HuggingFaceTokenizer

    content = json.loads((folder / "serialized.json").read_text())
    tokenizer = HuggingFaceTokenizer("serialized.json", max_length=8, serialized=content)
    tokenizer.fit([])
    return tokenizer(["a black dog", "cats."]), tokenizer.pad_id, tokenizer.special_ids, tokenizer.vocab_size


def serialized_of(data, random):
    """What a checkpoint records of a tokenizer, with a wrong value inside the tokenizer or beside it."""
    content = json.loads(data)
    if random.random() < 0.7:
        content["backend"] = damage.json_of(content["backend"].encode(), random).decode("utf-8", "surrogatepass")
        return json.dumps(content).encode()
    changed = damage.changed_value(content, random)
    return json.dumps(changed if isinstance(changed, dict) else {}).encode()


def read_bert(folder):
    from itmatch.nn import TransformerTextEncoder

    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        return TransformerTextEncoder(str(folder / "bert"), 4)


CONFIG = {
    "model": {
        "image_encoder": {"class_path": "itmatch.nn.RegionEncoder", "init_args": {"embed_dim": 8, "in_features": 6}},
        "text_encoder": {"class_path": "itmatch.nn.GRUTextEncoder", "init_args": {"embed_dim": 8, "word_dim": 4}},
        "similarity": {"class_path": "itmatch.nn.CosineSimilarity"},
        "lr_scale": {"text_encoder": 0.5},
    },
    "data": {
        "source": {
            "class_path": "itmatch.data.RelationScenes",
            "init_args": {"num_train": 4, "num_val": 2, "num_test": 2},
        },
        "batch_size": 4,
    },
    "trainer": {"max_epochs": 1, "logger": False},
}


def write_config(folder):
    import yaml

    (folder / "config.yaml").write_text(yaml.safe_dump(CONFIG))


def write_demo(folder):
    """The checkpoint of a run of the demo, and a second model."""
    called("fit", *DEMO, "--trainer.logger=false", f"--checkpoint.dirpath={folder}", "--test_after_fit=false")
    (checkpoint,) = folder.rglob("best.ckpt")
    checkpoint.rename(folder / "best.ckpt")
    MatchingTask.load_from_checkpoint(folder / "best.ckpt").model.save_pretrained(folder / "model")


def test_of(folder, *more):
    return called("test", *DEMO, "--trainer.logger=false", *more)


MODELS = [
    Target(
        "model folder: weights",
        "model.safetensors",
        write_model,
        MatchingModel.from_pretrained,
        {"model.safetensors": WEIGHTS},
        wrong_model,
    ),
    Target(
        "model folder: config.json",
        "config.json",
        write_model,
        MatchingModel.from_pretrained,
        {"config.json": (damage.settings_of, damage.settings_of, damage.settings_of, *BYTES)},
        wrong_model,
        ("model.safetensors",),
    ),
    Target(
        "fragments",
        "read_fragments",
        write_fragment_file,
        lambda f: read_fragments(f / "images.safetensors"),
        {"images.safetensors": WEIGHTS},
        wrong_fragments,
    ),
    Target("checkpoint", "last.ckpt", write_task, read_task, {"last.ckpt": TORCH}, wrong_model),
    Target(
        "public checkpoint",
        "convert",
        write_public,
        lambda f: convert_checkpoint(f / "model_best.pth.tar", "scan").model,
        {"model_best.pth.tar": TORCH},
        wrong_model,
    ),
    Target(
        "pretrained tokenizer",
        "folder",
        write_bert,
        read_tokenizer,
        {"bert/tokenizer.json": JSON, "bert/tokenizer_config.json": JSON},
        named=("/bert",),
    ),
    Target(
        "pretrained tokenizer", "serialized", write_serialized, read_serialized, {"serialized.json": (serialized_of,)}
    ),
    Target(
        "pretrained text encoder",
        "folder",
        write_bert,
        read_bert,
        {"bert/config.json": JSON, "bert/model.safetensors": WEIGHTS},
        wrong_model,
        ("/bert",),
    ),
    Target(
        "configuration",
        "config.yaml",
        write_config,
        lambda f: called("fit", "--config", f / "config.yaml", "--print_config"),
        {"config.yaml": (damage.yaml_of, damage.yaml_of, damage.yaml_of, *BYTES)},
        named=("model", "data", "trainer", "Option", "key"),
        seconds=0.5,
    ),
    Target(
        "a run with ckpt_path",
        "test",
        write_demo,
        lambda f: test_of(f, "--ckpt_path", f / "best.ckpt"),
        {"best.ckpt": TORCH},
        seconds=1,
    ),
    Target(
        "a run with ckpt_path",
        "test a folder",
        write_demo,
        lambda f: test_of(f, "--ckpt_path", f / "model"),
        {"model/model.safetensors": WEIGHTS, "model/config.json": (damage.settings_of, *BYTES)},
        named=("/model",),
        seconds=1,
    ),
    Target(
        "a run with ckpt_path",
        "resume",
        write_demo,
        lambda f: called(
            "fit",
            *DEMO,
            "--trainer.logger=false",
            "--trainer.max_epochs=2",
            "--checkpoint.save_top_k=0",
            "--checkpoint.save_last=false",
            "--test_after_fit=false",
            "--ckpt_path",
            f / "best.ckpt",
        ),
        {"best.ckpt": TORCH},
        seconds=1,
    ),
    Target(
        "a run with ensemble",
        "test",
        write_demo,
        lambda f: test_of(f, "--ckpt_path", f / "best.ckpt", f"--ensemble=[{f / 'model'}]"),
        {"model/model.safetensors": WEIGHTS, "model/config.json": (damage.settings_of, *BYTES)},
        named=("/model",),
        seconds=1,
    ),
]
