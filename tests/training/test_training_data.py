import warnings

import pytest
import torch

from itmatch.data import RelationScenes, SizeAugmentation, Vocabulary, WordTokenizer
from itmatch.training import MatchingData


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
