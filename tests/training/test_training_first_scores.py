"""Scores that are transposed are found at the first batch, which has as many images as captions."""

from copy import deepcopy

import pytest
import torch
from helpers_training import fitted, small_data, small_task, small_trainer
from lightning.pytorch import Callback

from itmatch.batch import Fragments
from itmatch.nn import Similarity, VectorSimilarity
from itmatch.training.evaluating import FirstScores


class Turned(Similarity):
    """What gives (captions, images)."""

    def forward(self, image, text):
        return torch.einsum("ird,twd->ti", image.features, text.features)


class Drawing(VectorSimilarity):
    """Draws random numbers in evaluation mode too, and normalises over the batch."""

    seen = ()

    def forward(self, image, text):
        scores = super().forward(image, text)
        self.seen += ((*scores.shape, self.training, torch.is_grad_enabled()),)
        return scores + 0.1 * torch.rand_like(scores)


class Stepped(Callback):
    """Fails where a step has been taken."""

    def on_train_batch_end(self, *_):
        pytest.fail("the first batch says nothing")


@pytest.mark.parametrize("options", [{}, {"encode_chunk": 5}])
def test_scores_that_are_turned_over_are_told_of_before_the_first_step(tmp_path, options):
    data = small_data()
    trainer = small_trainer(tmp_path, callbacks=[Stepped()])
    with pytest.raises(ValueError, match=r"Turned returned \(2, 3\), expected \(3, 2\) \(images, captions\): they are"):
        trainer.fit(small_task(data, similarity=Turned(), **options), data)


def test_the_other_look_is_one_and_leaves_no_trace(tmp_path, monkeypatch):
    torch.manual_seed(0)
    task = fitted(tmp_path, similarity=Drawing(8), dropout=0.1)[0]
    seen, states = task.model.similarity.seen, task.state_dict()
    assert seen[:2] == ((16, 16, True, True), (3, 2, False, False))
    assert (3, 2, False, False) not in seen[2:]
    assert not task.model.similarity._forward_hooks
    monkeypatch.setattr(FirstScores, "__call__", lambda *_: None)
    torch.manual_seed(0)
    task = fitted(tmp_path, similarity=Drawing(8), dropout=0.1)[0]
    assert (3, 2, False, False) not in task.model.similarity.seen
    assert all(torch.equal(value, states[name]) for name, value in task.state_dict().items())


def test_scores_that_are_not_square_need_no_other_look(tmp_path):
    task, data, trainer = fitted(tmp_path)
    task.model.similarity = Drawing(8)
    trainer.test(task, data, verbose=False)
    assert (3, 2, False, False) not in task.model.similarity.seen
    assert not task.model.similarity._forward_hooks


def test_the_random_state_goes_on_as_it_would():
    similarity = Drawing(8)
    image, text = Fragments(torch.randn(4, 5, 8)), Fragments(torch.randn(4, 6, 8))
    drawn = []
    for _ in range(2):
        if not drawn:
            FirstScores(similarity)
        torch.manual_seed(0)
        similarity(image, text)
        drawn.append(torch.rand(3))
    assert [one[:2] for one in similarity.seen] == [(4, 4), (3, 2), (4, 4)]
    assert torch.equal(*drawn)


def test_a_copy_of_the_model_is_looked_at_once_too():
    similarity = Drawing(8)
    FirstScores(similarity)
    copied = deepcopy(similarity)
    image, text = Fragments(torch.randn(4, 5, 8)), Fragments(torch.randn(4, 6, 8))
    for _ in range(2):
        copied(image, text)
    assert [one[:2] for one in copied.seen] == [(4, 4), (3, 2), (4, 4)]


def test_two_images_say_nothing_and_an_error_is_told_again():
    similarity = Drawing(8)
    FirstScores(similarity)
    two = Fragments(torch.randn(2, 5, 8)), Fragments(torch.randn(2, 6, 8))
    similarity(*two)
    assert [one[:2] for one in similarity.seen] == [(2, 2)]  # one caption alone is more than some similarities take
    turned = Turned()
    FirstScores(turned)
    four = Fragments(torch.randn(4, 5, 8)), Fragments(torch.randn(4, 5, 8))
    for _ in range(2):
        with pytest.raises(ValueError, match="they are transposed"):
            turned(*four)
