"""Gaussians of images and captions: the pooling, the score, and a training with them."""

import pytest
import torch
from lightning.pytorch import Trainer, seed_everything

from itmatch.batch import Fragments
from itmatch.data import RelationScenes
from itmatch.losses import ProbabilisticMatchingLoss, sampled_distances
from itmatch.models import MatchingModel
from itmatch.nn import (
    GaussianPooling,
    GaussianSimilarity,
    GeneralizedPooling,
    GRUTextEncoder,
    MaxPooling,
    MeanPooling,
    RegionEncoder,
)
from itmatch.training import MatchingData, MatchingTask


def small(**settings):
    torch.manual_seed(0)
    return GaussianPooling(6, **settings).double()


def test_both_halves_and_padding():
    pooling = small(mean=MaxPooling(), spread=MeanPooling())
    values, mask = torch.randn(3, 4, 6, dtype=torch.double), torch.arange(4) < torch.tensor([4, 1, 2])[:, None]
    dirty = values.masked_fill(~mask[..., None], torch.nan).requires_grad_()
    found = pooling(dirty, mask[..., None], dim=1)
    for row, length in enumerate([4, 1, 2]):
        real = values[row, :length]
        torch.testing.assert_close(found[row], torch.cat((real.amax(0), pooling.fc(real).mean(0))))
    found.sum().backward()
    assert dirty.grad.isfinite().all()
    assert not dirty.grad[~mask].any()
    empty = pooling(values[:1], torch.zeros(1, 4, 1, dtype=torch.bool), dim=1)
    assert not empty.any()


def test_starts_sure_and_learns_both():
    pooling = GaussianPooling(6)
    assert isinstance(pooling.mean, GeneralizedPooling)
    values = torch.randn(50, 3, 6)
    mean, log_variance = pooling(values, dim=1).chunk(2, 1)
    assert abs(log_variance.mean() + 7) < 0.5
    (mean.square().sum() + log_variance.exp().sum()).backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in pooling.parameters())


def test_gradcheck_and_half_precision():
    pooling = small()
    values = torch.randn(2, 3, 6, dtype=torch.double, requires_grad=True)
    mask = torch.tensor([[True] * 3, [True, False, False]])[..., None]
    assert torch.autograd.gradcheck(lambda x: pooling(x, mask, 1), values)
    exact = pooling.float()(values.detach().float(), mask, 1)
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(pooling(values.detach().bfloat16(), mask, 1), exact, atol=0.1, rtol=0)


def test_what_does_not_fit():
    with pytest.raises(ValueError, match=r"GaussianPooling: values \(2, 3, 4\), dim=1; expected \(N, L, 6\) and dim=1"):
        GaussianPooling(6)(torch.randn(2, 3, 4), dim=1)
    with pytest.raises(TypeError, match="spread: a Linear"):
        GaussianPooling(6, spread=torch.nn.Linear(2, 2))
    bare = Fragments(torch.randn(2, 3, 4))
    with pytest.raises(ValueError, match="no vector per image; both encoders need a GaussianPooling"):
        GaussianSimilarity()(bare, bare)


@pytest.mark.parametrize("distance", ["sampled", "wasserstein"])
@pytest.mark.parametrize("normalize", [True, False])
def test_scores_are_distances(distance, normalize):
    image, text = (Fragments(torch.randn(n, 2, 4), pooled=torch.randn(n, 8, dtype=torch.float64)) for n in (3, 5))
    scores = GaussianSimilarity(normalize=normalize, distance=distance)(image, text)
    assert scores.shape == (3, 5)
    for i in range(3):
        for t in range(5):
            means = [x.pooled[n][:4] / (x.pooled[n][:4].norm() if normalize else 1) for x, n in ((image, i), (text, t))]
            first, second = image.pooled[i][4:], text.pooled[t][4:]
            spread = first.exp().sum() + second.exp().sum()
            if distance == "wasserstein":
                spread = ((first / 2).exp() - (second / 2).exp()).square().sum()
            torch.testing.assert_close(scores[i, t], -((means[0] - means[1]).square().sum() + spread))
    expected = sampled_distances(image.pooled, text.pooled, normalize=normalize, distance=distance)
    assert torch.equal(scores, -expected)


def test_half_precision_scores():
    image, text = (Fragments(torch.randn(n, 2, 4), pooled=torch.randn(n, 8).bfloat16()) for n in (3, 5))
    with torch.autocast("cpu", torch.bfloat16):
        found = GaussianSimilarity()(image, text)
    wide = [Fragments(side.features, pooled=side.pooled.float()) for side in (image, text)]
    torch.testing.assert_close(found, GaussianSimilarity()(*wide))


def test_trains_and_reloads(tmp_path):
    seed_everything(0, verbose=False)
    data = MatchingData(RelationScenes("easy", num_train=16, num_val=8, num_test=8), batch_size=16)
    task = MatchingTask(
        RegionEncoder(data.feature_dim, 8, normalize=False, pooling=GaussianPooling(8)),
        GRUTextEncoder(data.vocabulary, 8, word_dim=6, normalize=False, pooling=GaussianPooling(8)),
        GaussianSimilarity(),
        objective=ProbabilisticMatchingLoss(),
        optimizer=lambda parameters: torch.optim.Adam(parameters, lr=0.01),
    )
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    trainer = Trainer(max_epochs=2, accelerator="cpu", enable_checkpointing=False, default_root_dir=tmp_path, **quiet)
    trainer.fit(task, data)
    assert float(trainer.callback_metrics["val/rsum"]) > 0
    task.model.save_pretrained(tmp_path / "model")
    again = MatchingModel.from_pretrained(tmp_path / "model")
    batch = next(iter(data.train_dataloader()))
    expected = task.model.eval()(batch.regions, batch.captions)
    assert torch.equal(again(batch.regions, batch.captions), expected)
