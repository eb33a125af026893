"""How a training starts: anew, from the weights of another model, or where an earlier one has stopped."""

import re
import shutil
from pathlib import Path

import pytest
import torch
from helpers_cli import error_of, on_precomp, run, write_precomp

from itmatch.models import MatchingModel
from itmatch.training import MatchingTask

pytestmark = pytest.mark.usefixtures("elsewhere")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Two folders of data, the second with another word; and a run on the first."""
    folder = tmp_path_factory.mktemp("made")
    write_precomp(folder / "one")
    recolour(write_precomp(folder / "two"))
    assert run(*on_precomp("fit", folder / "one", f"--trainer.logger.save_dir={folder}/runs")) == 0
    shutil.copy(folder / "runs/lightning_logs/version_0/checkpoints/last.ckpt", folder / "first.ckpt")
    return folder


def recolour(folder):
    """Every split has a word that the first one lacks, and lacks one that it has."""
    for path in folder.glob("*_caps.txt"):
        path.write_text(path.read_text().replace("red", "purple"))


def started(folder, *args):
    """A training that leaves the weights as they are."""
    return on_precomp("fit", folder, "--model.optimizer.lr=0", "--test_after_fit=false", *args)


def last():
    return MatchingTask.load_from_checkpoint(
        max(Path("runs").rglob("last.ckpt"), key=lambda path: path.stat().st_mtime_ns)
    )


def rows(model):
    """The embedding of every word."""
    return dict(zip(model.tokenizer.vocabulary.words, model.text_encoder.embed.weight.detach(), strict=True))


def test_weights_are_taken_over_and_words_by_what_they_are(made, capsys):
    assert run(*started(made / "two", "--init_from", made / "first.ckpt")) == 0
    assert "; 1 of 15 words are new to it (purple), which start as in a new model" in capsys.readouterr().out
    before, after = MatchingTask.load_from_checkpoint(made / "first.ckpt").model, last().model
    assert torch.equal(before.image_encoder.fc.weight, after.image_encoder.fc.weight)
    assert torch.equal(before.text_encoder.rnn.weight_hh_l0, after.text_encoder.rnn.weight_hh_l0)
    old, new = rows(before), rows(after)
    assert list(new) == [*old, "purple"]  # no word that the model knows is lost, "red" neither
    assert all(torch.equal(old[word], new[word]) for word in old)
    assert 0 < new["purple"].abs().max() < 0.1  # as a new table is
    assert torch.load(made / "first.ckpt", weights_only=True)["global_step"] == last_step() == 1


def last_step():
    path = max(Path("runs").rglob("last.ckpt"), key=lambda path: path.stat().st_mtime_ns)
    return torch.load(path, weights_only=True)["global_step"]


def test_a_vocabulary_that_is_given_stays_and_rows_follow_the_words(made):
    words = ["<pad>", "<start>", "<end>", "<unk>", "purple", "dog", "a"]
    folder = Path("model")
    MatchingTask.load_from_checkpoint(made / "first.ckpt").model.save_pretrained(folder)
    assert run(*started(made / "two", f"--init_from={folder}", f"--data.tokenizer.vocabulary={words}")) == 0
    old, new = rows(MatchingModel.from_pretrained(folder)), rows(last().model)
    assert list(new) == [*words, "<mask>"]
    assert all(torch.equal(old[word], new[word]) for word in new if word != "purple")


def test_the_configuration_says_how_the_model_is_built(made, capsys):
    assert run(*started(made / "one", "--init_from", made / "first.ckpt", "--model.similarity.query=regions")) == 0
    warned = capsys.readouterr().err
    assert "its model was built otherwise, and the configuration counts: model.similarity.init_args.query" in warned
    assert last().model.similarity.query == "regions"


def test_what_does_not_fit_is_told_with_the_file(made, capsys):
    wide = write_precomp(Path("wide"), features=7)
    start = ["--init_from", made / "first.ckpt"]
    message = error_of(capsys, *started(wide, *start))
    assert message == f"--init_from {made}/first.ckpt: its model takes 6 numbers per region, the data have 7"
    message = error_of(capsys, *started(made / "one", *start, "--model.text_encoder.word_dim=4"))
    assert re.match(r"--init_from .*first.ckpt: 'text_encoder.embed.weight' is .* \(14, 300\), .* \(14, 4\)", message)
    assert error_of(capsys, *started(made / "one", "--init_from=no.ckpt")) == "no.ckpt: no such file"


def test_a_run_that_started_so_is_repeated_tested_and_resumed(made, capsys):
    assert run(*on_precomp("fit", made / "two", "--init_from", made / "first.ckpt")) == 0
    folder = next(Path("runs").rglob("last.ckpt")).parents[1]
    shutil.rmtree(made / "gone", ignore_errors=True)
    again = ["--config", folder / "config.yaml"]
    capsys.readouterr()
    assert run("test", *again, "--ckpt_path", folder / "checkpoints/last.ckpt") == 0
    assert run("fit", *again) == 0
    assert "starts with its weights" in capsys.readouterr().out
    first, second = (
        torch.load(path, weights_only=True)["state_dict"] for path in sorted(Path("runs").rglob("last.ckpt"))
    )
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert run("fit", *again, "--ckpt_path", folder / "checkpoints/last.ckpt", "--trainer.max_epochs=2") == 0
    printed = capsys.readouterr()
    assert "goes on with its training at epoch 1, step 1" in printed.out
    assert "starts with its weights" not in printed.out


def test_going_on_with_what_was_finished_or_other_data_names_the_other_option(made, capsys):
    resumed = ["--ckpt_path", made / "first.ckpt", "--test_after_fit=false"]
    assert run(*on_precomp("fit", made / "one", *resumed, "--trainer.max_epochs=2")) == 0
    warned = capsys.readouterr().err
    assert "first.ckpt was finished; its optimizer, schedule and best figure go on from there; --init_from " in warned
    for path in (other := write_precomp(Path("other"))).glob("*_caps.txt"):
        path.write_text("".join(reversed(path.read_text().splitlines(keepends=True))))
    assert run(*on_precomp("fit", other, *resumed, "--trainer.max_epochs=2")) == 0
    warned = capsys.readouterr().err
    assert "was trained on other data ('4 images with 8 captions (digest " in warned
    assert "and finished; its optimizer" in warned


def test_a_run_that_was_stopped_goes_on_without_a_warning(made, capsys):
    stopped = on_precomp("fit", made / "one", "--trainer.max_epochs=3", "--test_after_fit=false")
    content = torch.load(made / "first.ckpt", weights_only=True) | {"max_epochs": 3}
    torch.save(content, "stopped.ckpt")
    assert run(*stopped, "--ckpt_path=stopped.ckpt") == 0
    printed = capsys.readouterr()
    assert printed.err == ""
    assert "at epoch 1, step 1" in printed.out
    assert re.findall("^epoch ([0-9])  ", printed.out, re.MULTILINE) == ["1", "2"]  # epoch 0 was another process's


def test_what_a_checkpoint_does_not_record_is_no_matter_of_warning(made, capsys):
    names = ["--model.text_encoder.vectors=vectors.txt", "--model.text_encoder.word_dim=3", "--test_after_fit=false"]
    Path("vectors.txt").write_text("dog 1 2 3\nred 1 2 3\n")
    assert run(*on_precomp("fit", made / "one", *names)) == 0
    folder = next(Path("runs").rglob("last.ckpt")).parents[1]
    assert "vectors.txt" in (folder / "config.yaml").read_text()
    capsys.readouterr()
    own = ["test", "--config", folder / "config.yaml", "--ckpt_path", folder / "checkpoints/last.ckpt"]
    assert run(*own) == 0
    assert capsys.readouterr().err == ""
    assert run(*own, "--model.text_encoder.word_dim=4") == 0
    assert capsys.readouterr().err.endswith("given: model.text_encoder.init_args.word_dim is 3, not 4\n")


@pytest.mark.parametrize("where", ["the same folder", "another folder"])
@pytest.mark.parametrize("new", ["captions to train on", "captions to validate on", "images to validate on", "nothing"])
def test_the_best_of_other_data_is_neither_kept_nor_replaced_nor_tested(made, capsys, recwarn, where, new):
    """A figure that no training reaches, on data of before: it counts on the same data alone."""
    data = write_precomp(Path("data"))
    assert run(*on_precomp("fit", data, "--checkpoint.dirpath=old", "--test_after_fit=false")) == 0
    old = Path("old/best.ckpt")
    content = torch.load("old/last.ckpt", weights_only=True)
    [state] = [state for state in content["callbacks"].values() if "best_model_path" in state]
    state["best_model_score"] = state["kth_value"] = torch.tensor(1e9)
    state["best_k_models"] = dict.fromkeys(state["best_k_models"], torch.tensor(1e9))
    torch.save(content, "old/last.ckpt")
    before = {path: path.read_bytes() for path in Path("old").iterdir()}
    if new.startswith("captions"):
        recolour(data) if "train" in new else (data / "dev_caps.txt").write_text("a dog\n" * 8)
    folder = "old" if where == "the same folder" else "new"
    resumed = [f"--checkpoint.dirpath={folder}", "--ckpt_path=old/last.ckpt", "--trainer.max_epochs=2"]
    resumed += ["--data.val_images=3"] * new.startswith("images")
    capsys.readouterr()
    assert run(*on_precomp("fit", data, *resumed)) == 0
    printed, told = capsys.readouterr(), [str(warning.message) for warning in recwarn]
    assert re.findall("^epoch .", printed.out, re.M) == ["epoch 1"]
    [best] = re.findall("best checkpoint: (.*)", printed.out)
    if new == "nothing":
        assert Path(best).samefile(old)
        assert not any("of other data" in text for text in told)
        return
    assert Path(best).samefile(f"{folder}/best{'-v1' if folder == 'old' else ''}.ckpt")
    assert torch.load(best, weights_only=True)["global_step"] == 2
    assert {path: path.read_bytes() for path in before} == before
    assert any("checkpoint is of other data: the best begins anew, and /" in text and str(old) in text for text in told)
    what = "trained" if "train" in new else "validated"
    assert f"old/last.ckpt was {what} on other data ('" in printed.err
    assert "its optimizer and schedule go on from there" in printed.err
