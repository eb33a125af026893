import pytest
import torch
from helpers_training import doubled, small_data, small_trainer
from lightning.pytorch import Callback, seed_everything
from lightning.pytorch.callbacks import ModelCheckpoint

from itmatch.batch import Batch, Fragments
from itmatch.data import RelationScenes
from itmatch.losses import (
    CenterHingeLoss,
    EmbeddingLoss,
    HardNegativeTripletLoss,
    InfoNCELoss,
    Loss,
    Matches,
    MemoryLoss,
    Objective,
    ScoreLoss,
    paired,
)
from itmatch.models import MatchingModel, chan_gru
from itmatch.nn import (
    CosineSimilarity,
    GraphMatchingSimilarity,
    GRUTextEncoder,
    HardAligningSimilarity,
    MeanPooling,
    RegionEncoder,
    TextualRelationGraph,
    VisualRelationGraph,
)
from itmatch.training import MatchingData, MatchingTask
from itmatch.training.step import compute_loss, encode


def pooled_task(data, objective, *, image=True, text=True, similarity=None, dropout=0.0, **kwargs):
    return MatchingTask(
        RegionEncoder(data.feature_dim, 8, pooling=MeanPooling() if image else None, dropout=dropout),
        GRUTextEncoder(data.vocabulary, 8, word_dim=6, pooling=MeanPooling() if text else None, dropout=dropout),
        similarity or HardAligningSimilarity(),
        objective=objective,
        **kwargs,
    )


def several(**kwargs):
    terms = {
        "triplet": HardNegativeTripletLoss(margin=0.05),
        "queue": MemoryLoss(HardNegativeTripletLoss(margin=0.2), 8, size=24),
    }
    return Objective({**terms, "center": CenterHingeLoss()}, weights={"center": 0.5}, **kwargs)


class Recorder(Callback):
    def __init__(self):
        self.logged = []

    def on_train_batch_end(self, trainer, *_):
        self.logged.append({k: float(v) for k, v in trainer.callback_metrics.items()})


class Watching(EmbeddingLoss):
    def __init__(self):
        super().__init__()
        self.given = []

    def forward(self, image, text, groups=None):
        self.given.append((image, text, groups))
        return (image - text).square().sum()


class NoScores(CosineSimilarity):
    def forward(self, image, text):
        raise AssertionError("nobody reads the scores")


def first_batch(data):
    data.setup("fit")
    return next(iter(data.train_dataloader()))


def test_a_loss_of_vectors_gets_one_pair_a_caption():
    data, objective = small_data(), Watching()
    batch = first_batch(data)
    task = pooled_task(data, objective, similarity=NoScores())
    result = compute_loss(task.model, objective, batch)
    image, text, groups = objective.given[0]
    of_images = task.model.image_encoder(batch.regions).pooled
    assert torch.equal(text, task.model.text_encoder(batch.captions).pooled)
    assert torch.equal(groups, batch.caption_image)
    assert len(set(groups.tolist())) < len(groups)  # an image comes twice in this batch
    for n, place in enumerate(batch.caption_image.tolist()):
        assert torch.equal(image[n], of_images[batch.image_index.tolist().index(place)])
    assert result.matches.scores is None
    assert result.terms == {"": result.loss}


def test_terms_get_what_they_read():
    class Scores(ScoreLoss):
        def forward(self, scores, positives=None):
            given.append((scores, positives))
            return scores.sum()

    given = []
    data, watching = small_data(), Watching()
    batch = first_batch(data)
    objective = Objective({"vectors": watching, "scores": Scores()}, weights={"scores": 0.5})
    task = pooled_task(data, HardNegativeTripletLoss())
    result = compute_loss(task.model, objective, batch)
    scores, positives = given[0]
    assert result.matches.scores is scores
    torch.testing.assert_close(scores, task.model(batch.regions, batch.captions))
    assert torch.equal(positives, batch.positives())
    assert torch.equal(watching.given[0][2], batch.caption_image)
    assert result.loss == result.terms["vectors"] + 0.5 * result.terms["scores"]


def test_a_loss_of_vectors_alone_trains_without_scores(tmp_path):
    seed_everything(0, verbose=False)
    data, recorder = small_data(), Recorder()
    task = pooled_task(data, CenterHingeLoss(), similarity=NoScores(), optimizer=lambda p: torch.optim.Adam(p, lr=0.01))
    trainer = small_trainer(tmp_path, max_epochs=4, callbacks=[recorder], log_every_n_steps=1, limit_val_batches=0)
    trainer.fit(task, data)
    assert set(recorder.logged[-1]) == {"train/loss", "train/lr", "train/grad_norm"}
    assert recorder.logged[-1]["train/loss"] < 0.9 * recorder.logged[0]["train/loss"]


@pytest.mark.parametrize("batch_size", [8, 20])
def test_the_logged_loss_is_per_pair(tmp_path, batch_size):
    logged = []
    for reduction in ("sum", "mean"):
        seed_everything(0, verbose=False)
        data, recorder = small_data(batch_size=batch_size), Recorder()
        terms = {"triplet": HardNegativeTripletLoss(reduction=reduction), "contrastive": InfoNCELoss()}
        task = pooled_task(data, Objective(terms, weights={"contrastive": 0.5}))
        small_trainer(tmp_path / reduction, max_steps=1, callbacks=[recorder], log_every_n_steps=1).fit(task, data)
        logged.append({name: value for name, value in recorder.logged[0].items() if "loss" in name})
    assert len(logged[0]) == 3
    assert logged[0] == pytest.approx(logged[1], rel=1e-5)


def test_each_term_is_logged(tmp_path):
    data, recorder = small_data(), Recorder()
    task = pooled_task(data, several(start={"queue": 1}))
    small_trainer(tmp_path, max_epochs=2, callbacks=[recorder], log_every_n_steps=1).fit(task, data)
    terms = [{name for name in step if name.startswith("train/loss_")} for step in recorder.logged]
    assert terms[0] == {"train/loss_triplet", "train/loss_center"}
    assert terms[-1] == {"train/loss_triplet", "train/loss_center", "train/loss_queue"}
    step = recorder.logged[-1]
    assert step["train/loss"] == pytest.approx(
        step["train/loss_triplet"] + step["train/loss_queue"] + 0.5 * step["train/loss_center"], rel=1e-5
    )
    assert "train/positive" in step
    assert task.objective.terms["queue"].seen == 80  # the captions of one epoch


@pytest.mark.parametrize(
    ("image", "text", "parts"),
    [(False, True, "image_encoder"), (True, False, "text_encoder"), (False, False, "image_encoder and text_encoder")],
)
def test_missing_vectors_are_told_of_at_the_first_step(image, text, parts):
    data = small_data()
    batch = first_batch(data)
    message = rf"CenterHingeLoss takes one vector .* none comes from {parts}; both encoders need `pooling=`"
    task = pooled_task(data, CenterHingeLoss(), image=image, text=text)
    with pytest.raises(ValueError, match=f"objective: {message}"):
        compute_loss(task.model, task.objective, batch)
    late = Objective({"triplet": HardNegativeTripletLoss(), "center": CenterHingeLoss()}, start={"center": 5})
    with pytest.raises(ValueError, match=f"objective, term 'center': {message}"):
        compute_loss(task.model, late, batch)


class Lengths(Loss):
    """Reads fragments, and has something to learn."""

    needs = frozenset({"fragments"})

    def __init__(self):
        super().__init__()
        self.factor = torch.nn.Parameter(torch.ones(()))

    def of(self, matches):
        image, text = matches.fragments
        assert matches.positives.shape == (len(image), len(text))
        return self.factor * (image.features.mean() - text.features.mean()).square()


def test_a_loss_of_any_kind_trains(tmp_path):
    data, objective = small_data(), Objective({"triplet": HardNegativeTripletLoss(), "lengths": Lengths()})
    small_trainer(tmp_path).fit(pooled_task(data, objective), data)
    assert objective.terms["lengths"].factor != 1
    alone = pooled_task(data, Lengths(), similarity=NoScores())
    compute_loss(alone.model, alone.objective, first_batch(data)).loss.backward()
    assert all(parameter.grad is not None for parameter in alone.model.parameters())


def test_what_is_no_loss_is_refused():
    with pytest.raises(TypeError, match=r"objective: a MSELoss, expected an itmatch\.losses\.Loss"):
        pooled_task(small_data(), torch.nn.MSELoss())
    data = small_data()
    task = pooled_task(data, HardNegativeTripletLoss(reduction="none"))
    with pytest.raises(ValueError, match=r"objective: a loss of shape \(\d+,\), expected one number"):
        compute_loss(task.model, task.objective, first_batch(data))


def test_a_checkpoint_reloads_with_all_terms(tmp_path):
    data = small_data()
    task = pooled_task(data, several(ramp={"center": 3}))
    trainer = small_trainer(tmp_path)
    trainer.fit(task, data)
    trainer.save_checkpoint(tmp_path / "a.ckpt")
    again = MatchingTask.load_from_checkpoint(tmp_path / "a.ckpt", weights_only=True)
    assert again.objective.spec == task.objective.spec
    assert again.objective.terms["queue"].seen == 80
    for (name, ours), theirs in zip(task.state_dict().items(), again.state_dict().values(), strict=True):
        assert torch.equal(ours, theirs), name


@pytest.mark.parametrize("step", [8, 10])  # of 15: in the middle and at the end of the second epoch
def test_a_resumed_run_has_the_queue_of_an_uninterrupted_one(tmp_path, step):
    def run(ckpt_path=None, **kwargs):
        seed_everything(3, verbose=False)
        data = small_data()
        task = pooled_task(data, several(start={"queue": 1}, ramp={"queue": 1}), dropout=0.2)
        small_trainer(tmp_path, max_epochs=3, enable_checkpointing=True, limit_val_batches=0, **kwargs).fit(
            task, data, ckpt_path=ckpt_path
        )
        return task

    def keeping(every):
        return [ModelCheckpoint(dirpath=tmp_path, filename="kept", every_n_train_steps=every, save_top_k=1)]

    whole = run(callbacks=keeping(step))
    kept = tmp_path / "kept.ckpt"
    assert torch.load(kept, weights_only=True)["global_step"] == step
    resumed = run(str(kept), callbacks=keeping(1000))
    assert whole.objective.terms["queue"].seen == 160
    for (name, expected), found in zip(whole.state_dict().items(), resumed.state_dict().values(), strict=True):
        assert torch.equal(expected, found), name


class Counting(GRUTextEncoder):
    """A text encoder that notes how many captions it is given."""

    def forward(self, captions):
        self.seen = [*getattr(self, "seen", []), len(captions)]
        return super().forward(captions)


@pytest.mark.parametrize("chunk", [3, 16, 100])
@pytest.mark.parametrize("graphs", [False, True])
def test_gradient_caching_is_exact(chunk, graphs):
    """Dropout draws the same numbers in the second pass, so the gradient is that of the same chunks without caching."""
    data = MatchingData(RelationScenes("easy", num_train=16, text_graphs=graphs), batch_size=16)
    batch = first_batch(data)

    def gradients(encode_images, encode_texts, **options):
        torch.manual_seed(0)
        relations = [VisualRelationGraph(8, num_heads=2)] if graphs else None
        text_relations = [TextualRelationGraph(8, num_heads=2)] if graphs else None
        model = MatchingModel(
            RegionEncoder(data.feature_dim, 8, pooling=MeanPooling(), dropout=0.3, relations=relations),
            Counting(data.vocabulary, 8, word_dim=6, pooling=MeanPooling(), dropout=0.3, relations=text_relations),
            GraphMatchingSimilarity() if graphs else HardAligningSimilarity(),
        ).double()
        objective = Objective({"triplet": HardNegativeTripletLoss(), "center": CenterHingeLoss()})
        torch.manual_seed(1)
        if options:
            loss = compute_loss(model, objective, doubled(batch), **options).loss
        else:
            image = encode_images(model.image_encoder, doubled(batch.regions))
            text = encode_texts(model.text_encoder, doubled(batch.captions))
            scores, positives = model.similarity(image, text), batch.positives()
            vectors = paired(image.pooled, text.pooled, positives)[:2]
            loss = objective.of(Matches(scores, positives, *vectors, batch.caption_image))
        loss.backward()
        return loss, [p.grad for p in model.parameters()], model.text_encoder.seen

    def chunked(encoder, rows):
        return Fragments.cat([encoder(rows[i : i + chunk]) for i in range(0, len(rows), chunk)])

    loss, expected, seen = gradients(chunked, chunked)
    cached_loss, found, cached_seen = gradients(None, None, encode_chunk=chunk)
    assert cached_loss == loss
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-12)
    assert cached_seen == seen + seen[::-1]  # a second time each, the last one first
    assert max(seen) == min(chunk, 16)


def test_without_gradients_nothing_is_cached():
    data = small_data()
    batch = first_batch(data)
    encoder = Counting(data.vocabulary, 8, word_dim=6)
    with torch.no_grad():
        assert len(encode(encoder, batch.captions, 3)) == len(batch.captions)
    assert encoder.seen == [len(batch.captions)]


def test_training_in_chunks(tmp_path):
    """One epoch ends with the same weights, but for rounding."""
    weights = []
    for chunk in (None, 5):
        seed_everything(0, verbose=False)
        data = small_data()
        task = pooled_task(data, several(), encode_chunk=chunk)
        small_trainer(tmp_path).fit(task, data)
        weights.append(torch.cat([parameter.detach().flatten() for parameter in task.model.parameters()]))
    torch.testing.assert_close(*weights, rtol=1e-3, atol=1e-5)


def test_options_of_memory_are_checked():
    data = small_data()
    with pytest.raises(ValueError, match="encode_chunk: 0, expected a whole number, 1 or more"):
        pooled_task(data, several(), encode_chunk=0)
    with pytest.raises(ValueError, match="fragment_dtype: 'half', expected 'float16' or None"):
        pooled_task(data, several(), fragment_dtype="half")


def test_a_batch_that_lacks_a_side_is_told_of():
    data = small_data()
    data.setup("fit")
    task = MatchingTask.from_model(chan_gru(data.vocabulary, region_dim=data.feature_dim, embed_dim=8, word_dim=4))
    images, captions = (next(iter(loader)) for loader in data.val_dataloader())
    with pytest.raises(ValueError, match="compute_loss: a batch without captions, expected images and captions"):
        compute_loss(task.model, task.objective, images)
    with pytest.raises(ValueError, match="compute_loss: a batch without images, expected images and captions"):
        task.training_step(captions, 0)
    assert len(task.predict_step(images, 0)[0]) == 8
    assert len(task.predict_step(captions, 0)[0]) == 40
    with pytest.raises(ValueError, match="a batch to predict holds images or captions, this one both"):
        task.predict_step(next(iter(data.train_dataloader())), 0)
    with pytest.raises(ValueError, match="this one neither"):
        task.predict_step(Batch(), 0)


def test_a_loss_that_is_no_tensor_is_named():
    class Number(ScoreLoss):
        def forward(self, scores, positives=None):
            return 3.0

    data = small_data()
    data.setup("fit")
    task = pooled_task(data, Number())
    with pytest.raises(TypeError, match=r"^objective: a float, expected a torch.Tensor$"):
        compute_loss(task.model, task.objective, next(iter(data.train_dataloader())))
