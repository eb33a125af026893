import warnings

import numpy as np
import pytest
import torch
from helpers_training import small_data

from itmatch.data import DataSource, ImageTextSplit, RelationScenes, SizeAugmentation, Vocabulary, WordTokenizer
from itmatch.training import MatchingData
from itmatch.training.loader import reserve_file_handles


def small(**kwargs):
    return MatchingData(RelationScenes("easy", num_train=6, num_val=4, num_test=4), batch_size=4, **kwargs)


def test_the_vocabulary_is_built_from_the_training_captions():
    data = small()
    assert isinstance(data.vocabulary, Vocabulary)
    assert "<mask>" in data.vocabulary
    rare = small(tokenizer=WordTokenizer(min_count=10**6))
    assert len(rare.vocabulary) == 5  # specials only: the argument reaches the building


def test_training_batches_are_pairs_and_evaluation_batches_are_not():
    data = small(eval_batch_size=3)
    data.setup("fit")
    batch = next(iter(data.train_dataloader()))
    assert len(batch.regions) == len(batch.captions) == 4
    assert bool(batch.positives().diagonal().all())
    images, captions = data.val_dataloader()
    assert sorted(i for b in images for i in b.image_index.tolist()) == list(range(4))
    assert all(b.captions is None for b in images)
    assert sorted(i for b in captions for i in b.caption_index.tolist()) == list(range(20))
    assert all(b.regions is None for b in captions)


def test_augmentation_is_for_training_only():
    data = small(
        augmentation=SizeAugmentation(
            region_drop=1.0, token_rate=1.0, token_drop=1.0, token_mask=0.0, token_replace=0.0
        )
    )
    data.setup("fit")
    batch = next(iter(data.train_dataloader()))
    assert batch.regions.mask.sum(1).tolist() == [1] * 4
    assert int(batch.captions.mask.sum(1).max()) == 3  # <start>, one word, <end>
    images, captions = (next(iter(loader)) for loader in data.val_dataloader())
    assert int(images.regions.mask.sum(1).min()) >= 4
    assert int(captions.captions.mask.sum(1).min()) > 3


def test_setup_reads_only_what_a_stage_needs():
    data = small(tokenizer=WordTokenizer(vocabulary=Vocabulary.build([RelationScenes.words()], 1).words))
    data.setup("test")
    assert set(data.datasets) == {"test"}
    data.test_dataloader()
    assert set(data.datasets) == {"test"}


class Captions(DataSource):
    """Four times each of some captions."""

    def __init__(self, **captions):
        self.captions = captions

    def split(self, stage):
        captions = self.captions[stage] * 4
        return ImageTextSplit(np.ones((1, 2, 8), np.float32), captions, np.zeros(len(captions), int), name=stage)


CHINESE = ["\u4e00\u53ea\u68d5\u8272\u7684\u72d7\u5728\u8dd1\u3002", "\u4e24\u53ea\u732b."]


def coverage_of(stage="fit", **captions):
    data = MatchingData(Captions(**captions))
    _ = data.vocabulary  # as a text encoder is built
    data.setup(stage)
    return data


def test_its_text_reads_nothing():
    data = small_data()
    assert str(data) == "MatchingData of RelationScenes"
    assert data.datasets == {}


def test_captions_that_are_unknown_to_the_tokenizer_are_refused():
    with pytest.raises(ValueError, match=r"^val: 100\.0 % of the tokens are unknown to WordTokenizer \(7 entries\)"):
        coverage_of(train=["a dog"], val=CHINESE)
    rare = MatchingData(Captions(train=CHINESE, val=CHINESE), WordTokenizer(min_count=5))
    _ = rare.vocabulary
    with pytest.raises(ValueError, match=r"^train: 100\.0 % .*captions without blanks between words \(Chinese"):
        rare.setup("fit")
    with pytest.raises(ValueError, match=r"^test: 100\.0 %"):
        coverage_of("test", train=["a dog"], test=CHINESE)


def test_the_share_of_unknown_words_is_told_once(recwarn, monkeypatch):
    told = []
    monkeypatch.setattr("itmatch.training.splits.rank_zero_info", told.append)
    data = coverage_of(train=["a dog", "a cat"], val=["a dog", "a cow"])
    assert told == ["train: 0.0 % of the tokens are unknown to WordTokenizer (8 entries)"]
    assert [str(warning.message).split(",")[0] for warning in recwarn] == [
        "val: 25.0 % of the tokens are unknown to WordTokenizer (8 entries)"
    ]
    recwarn.clear()
    data.setup("fit")
    assert not recwarn
    assert len(told) == 1


def test_a_tokenizer_that_a_model_may_still_bring_is_waited_for():
    class Characters(WordTokenizer):
        def words(self, text):
            return list(text)

    data = MatchingData(Captions(train=CHINESE, val=CHINESE))
    data.setup("fit")
    tokenizer = Characters(min_count=1)
    tokenizer.fit(CHINESE)
    data.offer_tokenizer(tokenizer)
    data.setup("fit")
    assert next(iter(data.train_dataloader())).captions.mask.sum() > 0


def test_splits_that_differ_in_what_they_have_are_told_of():
    class Half:
        def split(self, stage):
            return RelationScenes(num_train=4, num_val=2, num_test=2, text_graphs=stage != "val").split(stage)

    data = MatchingData(Half())
    with pytest.warns(UserWarning, match="'train' has caption_relations and 'val' has none"):
        data.setup("fit")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        data.setup("test")


def test_the_seed_of_the_run_is_kept_in_the_state():
    torch.manual_seed(11)
    data = small()
    data.setup("fit")
    assert data.seed == 11
    other = small()
    other.load_state_dict(data.state_dict())
    torch.manual_seed(12)
    other.setup("fit")
    assert other.seed == 11


def test_training_batches_keep_twins_together():
    data = small(keep_twins=True)
    data.setup("fit")
    train = data.dataset("train")
    for batch in data.train_dataloader():
        images, twins = (column[batch.caption_index.numpy()] for column in (train.caption_image, train.caption_twin))
        assert set(images) == set(twins)


def test_training_batches_need_a_set_up():
    with pytest.raises(ValueError, match=r"train_dataloader\(\) before setup\('fit'\)"):
        small().train_dataloader()


def test_processes_that_have_read_other_data_are_told_of(monkeypatch):
    monkeypatch.setattr("itmatch.training.splits.is_distributed", lambda: True)
    given = []
    monkeypatch.setattr("itmatch.training.splits.gather_values", lambda value: given.append(value) or [value] * 2)
    small().setup("fit")
    assert len(given) == 2  # train and val
    assert given[0].startswith("6 images with 30 captions (digest ")
    monkeypatch.setattr("itmatch.training.splits.gather_values", lambda value: [value, value, "5 images"])
    with pytest.raises(ValueError, match=r"the split 'train' \(.*\) differs .* process 2 has 5 images"):
        small().setup("fit")


def test_the_digest_of_a_split_is_of_its_captions_too(monkeypatch):
    given = []
    monkeypatch.setattr("itmatch.training.splits.is_distributed", lambda: True)
    monkeypatch.setattr("itmatch.training.splits.gather_values", lambda value: given.append(value) or [value])
    for text in (None, None, "another"):
        data = small()
        data.dataset("train").captions[1] = text or data.dataset("train").captions[1]
        data.setup("fit")
    first, again, other = given[::2]  # of the training split
    assert first == again != other


@pytest.mark.parametrize(("soft", "hard", "set_to"), [(1024, 4096, None), (100, 4096, 512), (200, 300, 300)])
def test_file_handles_of_loading_processes_are_reserved(soft, hard, set_to, monkeypatch):
    found = []
    monkeypatch.setattr("resource.getrlimit", lambda _: (soft, hard))
    monkeypatch.setattr("resource.setrlimit", lambda _, limits: found.append(limits))
    reserve_file_handles(4)
    assert found == ([] if set_to is None else [(set_to, hard)])
    reserve_file_handles(0)


def test_too_few_file_handles_are_told_of(monkeypatch):
    monkeypatch.setattr("resource.getrlimit", lambda _: (24, 24))
    monkeypatch.setattr("resource.setrlimit", lambda *_: None)  # a hard limit cannot be raised again
    data = small(num_workers=4)
    with pytest.raises(OSError, match=r"num_workers: 4 processes .* need 128 file handles, and 24 are allowed"):
        data.val_dataloader()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"batch_size": 0}, "batch_size: 0"),
        ({"eval_batch_size": 0}, "eval_batch_size: 0"),
        ({"predict_stage": "dev"}, "'dev'"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        MatchingData(RelationScenes("easy", num_train=4, num_val=2, num_test=2), **arguments)


def test_training_captions_alone_are_shuffled():
    data, shuffled = small_data(), small_data(shuffled_captions=0.5)
    moved = data.dataset("train").caption_image != shuffled.dataset("train").caption_image
    assert moved.mean() == 0.5
    assert np.array_equal(data.dataset("val").caption_image, shuffled.dataset("val").caption_image)
    assert data.content("train") != shuffled.content("train")  # a run does not go on with other pairs unnoticed
    with pytest.raises(ValueError, match="shuffled_captions"):
        small_data(shuffled_captions=2)


@pytest.mark.parametrize("source", ["data/f30k_precomp", 3, None])
def test_what_is_no_source_is_told_at_once(source):
    with pytest.raises(TypeError, match=r"^source: a \w+, expected an itmatch.data.DataSource, such as PrecompFolder"):
        MatchingData(source)


def test_a_negative_number_of_workers_is_named():
    with pytest.raises(ValueError, match=r"^num_workers: -1, expected a whole number, 0 or more$"):
        small(num_workers=-1)


def test_features_of_another_size_than_those_of_the_training_name_both_splits():
    class Sizes(DataSource):
        def split(self, stage):
            features = np.ones((3, 2, 4 if stage == "train" else 5), np.float32)
            return ImageTextSplit(features, ["a", "b", "c"], [0, 1, 2], name=f"folder/{stage}")

    data = MatchingData(Sizes())
    with pytest.raises(ValueError, match=r"^folder/val: features of size 5, expected 4 as in folder/train$"):
        data.setup("fit")
