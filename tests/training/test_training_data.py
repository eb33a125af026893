import warnings

import pytest
import torch

from itmatch.data import RelationScenes, SizeAugmentation, Vocabulary, WordTokenizer
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
    monkeypatch.setattr("itmatch.training.data.is_distributed", lambda: True)
    given = []
    monkeypatch.setattr("itmatch.training.data.gather_values", lambda value: given.append(value) or [value] * 2)
    small().setup("fit")
    assert len(given) == 2  # train and val
    assert given[0].startswith("6 images with 30 captions (digest ")
    monkeypatch.setattr("itmatch.training.data.gather_values", lambda value: [value, value, "5 images"])
    with pytest.raises(ValueError, match=r"the split 'train' \(.*\) differs .* process 2 has 5 images"):
        small().setup("fit")


def test_the_digest_of_a_split_is_of_its_captions_too(monkeypatch):
    given = []
    monkeypatch.setattr("itmatch.training.data.is_distributed", lambda: True)
    monkeypatch.setattr("itmatch.training.data.gather_values", lambda value: given.append(value) or [value])
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
    data = small(num_workers=4)
    with pytest.raises(OSError, match=r"num_workers: 4 processes .* need 128 file handles, and 24 are allowed"):
        data.val_dataloader()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"batch_size": 0}, "batch_size 0"),
        ({"eval_batch_size": 0}, "eval_batch_size 0"),
        ({"predict_stage": "dev"}, "'dev'"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        MatchingData(RelationScenes("easy", num_train=4, num_val=2, num_test=2), **arguments)
