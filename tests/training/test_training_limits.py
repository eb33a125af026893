"""Evaluations of a part, and what becomes of Lightning's ways to ask for one."""

import json
from pathlib import Path

import pytest
import torch
from helpers_training import fitted, small_data, small_task, small_trainer
from lightning.pytorch import Callback
from torch.utils.data import DataLoader

from itmatch.data import CaptionDataset, Collator, ImageDataset
from itmatch.evaluation import Coco1K, retrieval_metrics, retrieval_ranks
from itmatch.training import RecallReport
from itmatch.training.limits import number_of_batches


class Seen(Callback):
    """The captions of each training epoch, batch by batch."""

    def __init__(self):
        self.epochs = []

    def on_train_epoch_start(self, trainer, module):
        self.epochs.append([])

    def on_train_batch_start(self, trainer, module, batch, batch_idx):
        self.epochs[-1].append((batch.caption_index.tolist(), batch.regions.features.sum().item()))


def of_first(task, dataset, images):
    """Figures of the first images with all their captions."""
    captions = [i for i, image in enumerate(dataset.caption_image) if image < images]
    features = [dataset.image(i).features for i in range(images)]
    scores = torch.cat([task.model.score(f[None], [dataset.captions[i] for i in captions]) for f in features])
    return retrieval_metrics(retrieval_ranks(scores, torch.as_tensor(dataset.caption_image[captions])))


@pytest.mark.parametrize("stage", ["val", "test"])
def test_a_part_is_the_first_images_with_all_their_captions(stage, tmp_path, capsys):
    task, _, _ = fitted(tmp_path)
    data = small_data(eval_batch_size=4, **{f"{stage}_images": 5})
    trainer = small_trainer(tmp_path, callbacks=[RecallReport(tmp_path)])
    (trainer.validate if stage == "val" else trainer.test)(task, data, verbose=False)
    expected = of_first(task, data.dataset(stage), 5)
    for name, value in expected.items():
        assert float(trainer.callback_metrics[f"{stage}/{name}"]) == pytest.approx(value), name
    assert f"{stage}: the first 5 of 8 images" in capsys.readouterr().out
    content = json.loads((tmp_path / f"{stage}_metrics.json").read_text())
    assert content["images"] == 5
    assert content["rsum"] == pytest.approx(expected["rsum"])


def test_a_whole_evaluation_is_not_called_a_part(tmp_path, capsys):
    task, data, _ = fitted(tmp_path)
    small_trainer(tmp_path, callbacks=[RecallReport(tmp_path)]).test(task, data, verbose=False)
    assert "images" not in json.loads((tmp_path / "test_metrics.json").read_text())
    assert capsys.readouterr().out.startswith("test: 8 images, 40 captions\n")


def test_a_protocol_sees_the_part(tmp_path):
    task, _, _ = fitted(tmp_path)
    task.protocol = Coco1K(num_images=6, folds=2)
    small_trainer(tmp_path).test(task, small_data(test_images=6), verbose=False)
    with pytest.raises(ValueError, match="5 images with 5 to 5 captions, expected 6"):
        small_trainer(tmp_path).test(task, small_data(test_images=5), verbose=False)


def test_more_images_than_there_are(tmp_path):
    data = small_data(val_images=9)
    with pytest.raises(ValueError, match=r"val_images: 9, but RelationScenes.* has 8 images"):
        data.setup("fit")
    with pytest.raises(ValueError, match="test_images: 0, expected a whole number, 1 or more"):
        small_data(test_images=0)


LIMITS = [("val", 1), ("val", 9), ("val", 0.5), ("test", 9), ("test", 0.99), ("test", 0)]


@pytest.mark.parametrize(("stage", "limit"), LIMITS)
def test_a_limit_that_cuts_captions_from_their_images_is_refused(stage, limit, tmp_path):
    data = small_data(eval_batch_size=4)  # 2 batches of images, 10 of captions
    task = small_task(data)
    trainer = small_trainer(tmp_path, **{f"limit_{stage}_batches": limit})
    message = "0 leaves nothing" if limit == 0 else f"{limit} of 10 batches would rank .*; data.{stage}_images N takes"
    with pytest.raises(ValueError, match=f"trainer.limit_{stage}_batches: {message}"):
        (trainer.fit if stage == "val" else trainer.test)(task, data)
    assert trainer.global_step == 0


@pytest.mark.parametrize("limit", [10, 11, 1.0, 0])
def test_a_limit_that_leaves_nothing_out_is_fine(limit, tmp_path):
    data = small_data(eval_batch_size=4)
    trainer = small_trainer(tmp_path, limit_val_batches=limit, limit_train_batches=1)
    trainer.fit(small_task(data), data)
    assert ("val/rsum" in trainer.callback_metrics) == (limit != 0)


def test_a_validation_of_nothing_is_refused(tmp_path):
    data = small_data()
    with pytest.raises(ValueError, match="limit_val_batches: 0 leaves nothing to evaluate"):
        small_trainer(tmp_path, limit_val_batches=0).validate(small_task(data), data)


def test_loaders_of_ones_own_are_looked_at_too(tmp_path):
    task, data, _ = fitted(tmp_path)
    dataset, collator = data.dataset("val"), Collator(data.tokenizer)
    loaders = [DataLoader(d(dataset), batch_size=4, collate_fn=collator) for d in (ImageDataset, CaptionDataset)]
    small_trainer(tmp_path).validate(task, loaders, verbose=False)
    with pytest.raises(ValueError, match="limit_val_batches: 3 of 10 val batches would rank images against captions"):
        small_trainer(tmp_path, limit_val_batches=3).validate(task, loaders, verbose=False)
    with pytest.warns(UserWarning, match="the val figures mean nothing"):
        small_trainer(tmp_path, fast_dev_run=True).validate(task, loaders, verbose=False)


@pytest.mark.parametrize("options", [{}, {"keep_twins": True}])
def test_overfitting_has_the_same_batches_in_every_epoch_and_validates_on_all(options, tmp_path):
    data, seen = small_data(eval_batch_size=4, **options), Seen()
    task = small_task(data)
    trainer = small_trainer(tmp_path, overfit_batches=2, max_epochs=3, callbacks=[seen])
    trainer.fit(task, data)
    assert [len(epoch) for epoch in seen.epochs] == [2, 2, 2]
    assert seen.epochs[0] == seen.epochs[1] == seen.epochs[2]
    images = {data.dataset("train").caption_image[i] for captions, _ in seen.epochs[0] for i in captions}
    assert len(images) > 8  # shuffled: 32 captions in the order of the file would be of 7 images
    assert float(trainer.callback_metrics["val/rsum"]) == pytest.approx(of_first(task, data.dataset("val"), 8)["rsum"])


def test_a_quick_run_measures_a_part_that_belongs_together(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    data = small_data(eval_batch_size=3)
    task = small_task(data)
    trainer = small_trainer(tmp_path, fast_dev_run=1, callbacks=[RecallReport()], logger=True)
    trainer.fit(task, data)
    assert float(trainer.callback_metrics["val/rsum"]) == pytest.approx(of_first(task, data.dataset("val"), 3)["rsum"])
    trainer.test(task, data, verbose=False)
    assert "test: the first 3 of 8 images" in capsys.readouterr().out
    assert not list(Path().iterdir())  # it leaves nothing behind


def test_the_number_of_batches_is_that_of_lightning():
    assert number_of_batches(8, 40, batch_size=4, processes=1) == 10
    assert number_of_batches(8, 40, batch_size=4, processes=3) == 4
    assert number_of_batches(8, 3, batch_size=4, processes=1) == 2
