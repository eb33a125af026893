import copy
import warnings
from types import SimpleNamespace

import pytest
import torch
from helpers_training import fitted, small_data, small_task, small_trainer
from lightning.pytorch import Callback, seed_everything
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import nn

from itmatch import losses
from itmatch.batch import Fragments
from itmatch.data import WordTokenizer
from itmatch.evaluation import EccvCaption, Flickr30K, retrieval_metrics, retrieval_ranks
from itmatch.losses import HardNegativeTripletLoss, ScoreLoss
from itmatch.models import MatchingModel, chan_gru, vse_infty_gru
from itmatch.nn import (
    CosineSimilarity,
    GeneralizedPooling,
    GRUTextEncoder,
    HardAligningSimilarity,
    MeanPooling,
    RegionEncoder,
    Similarity,
)
from itmatch.training import FragmentWriter, MatchingTask
from itmatch.training.checkpoints.writing import BestCheckpoint
from itmatch.training.divergence import COLLAPSE_STEPS
from itmatch.training.optimizers import parameter_groups
from itmatch.training.step import compute_loss, score_statistics


class Recorder(Callback):
    def __init__(self):
        self.logged = []

    def on_train_batch_end(self, trainer, *_):
        self.logged.append({k: float(v) for k, v in trainer.callback_metrics.items()})


def test_training_lowers_the_loss_and_logs_what_it_should(tmp_path):
    seed_everything(0, verbose=False)
    data = small_data()
    task = small_task(data, optimizer=lambda groups: torch.optim.AdamW(groups, lr=0.01))
    recorder = Recorder()
    trainer = small_trainer(tmp_path, max_epochs=4, callbacks=[recorder], log_every_n_steps=1)
    trainer.fit(task, data)
    names = {"train/loss", "train/positive", "train/hardest_negative", "train/grad_norm", "train/lr"}
    assert names <= set(recorder.logged[0])
    assert recorder.logged[0]["train/lr"] == pytest.approx(0.01)
    assert recorder.logged[-1]["train/loss"] < 0.8 * recorder.logged[0]["train/loss"]
    assert "val/rsum" in trainer.callback_metrics


def test_logged_recalls_are_those_of_the_full_score_matrix(tmp_path):
    task, data, trainer = fitted(tmp_path)
    trainer.test(task, data, verbose=False)
    dataset = data.dataset("test")
    images, captions = data.test_dataloader()
    image = Fragments.cat([task.model.encode_images(batch.regions) for batch in images])
    text = Fragments.cat([task.model.encode_texts(batch.captions) for batch in captions])
    expected = retrieval_metrics(retrieval_ranks(task.model.score(image, text), torch.as_tensor(dataset.caption_image)))
    for name, value in expected.items():
        assert float(trainer.callback_metrics[f"test/{name}"]) == pytest.approx(value), name
    kinds = {name for name in trainer.callback_metrics if "twin" in name}
    assert kinds == {"test/twin_accuracy", "test/twin_accuracy_spatial", "test/twin_accuracy_semantic"}


def test_warm_up_uses_all_negatives_first(tmp_path):
    seen = []

    class Watching(HardNegativeTripletLoss):
        def forward(self, scores, positives=None):
            seen.append((self.epoch, self.current_negatives))
            return super().forward(scores, positives)

    data = small_data()
    small_trainer(tmp_path, max_epochs=2).fit(small_task(data, objective=Watching(warmup_epochs=1)), data)
    assert set(seen) == {(0, "all"), (1, "hardest")}


def test_captions_of_one_image_are_positives_of_it():
    data = small_data()
    data.setup("fit")
    given = []

    class Watching(ScoreLoss):
        def forward(self, scores, positives=None):
            given.append(positives)
            return scores.sum()

    task = small_task(data, objective=Watching())
    task.log = task.log_dict = lambda *args, **kwargs: None
    batch = next(iter(data.train_dataloader()))
    task.training_step(batch, 0)
    assert torch.equal(given[0], batch.image_index[:, None] == batch.caption_image[None])
    assert int(given[0].sum()) > 16  # 80 captions of 16 images: some image comes twice in a batch of 16


@pytest.mark.parametrize("loss", [losses.LadderLoss(), losses.AdaptiveMarginTripletLoss()])
def test_a_loss_that_reads_a_relevance_wants_it_from_the_data(tmp_path, loss):
    data = small_data()
    objective = losses.Objective({"triplet": HardNegativeTripletLoss(), "a": loss}, start={"a": 3})
    with pytest.raises(ValueError, match=f"objective: {type(loss).__name__} needs .*relevance"):
        small_trainer(tmp_path).fit(small_task(data, objective=objective), data)


def test_the_relevance_goes_by_positions_in_the_data(tmp_path):
    class Watching(losses.RelevanceLoss):
        def forward(self, scores, positives=None, *, relevance=None):
            given.append((positives, relevance))
            return scores.sum()

    def relevance(images, captions):
        return (images[:, None] == split.caption_image[captions]).float()

    given = []
    data = small_data(relevance=relevance)
    split = SimpleNamespace(caption_image=torch.as_tensor(data.dataset("train").caption_image))
    small_trainer(tmp_path).fit(small_task(data, objective=Watching()), data)
    assert len(given) == 5
    assert all(torch.equal(positives.float(), found) for positives, found in given)


@pytest.mark.parametrize(
    "objective",
    [losses.SoftMarginTripletLoss(warmup_epochs=1), losses.ComplementaryLoss(warmup_epochs=1)],
    ids=["soft", "complementary"],
)
def test_labels_of_pairs_are_kept_by_place_and_in_the_checkpoint(tmp_path, objective):
    data = small_data(shuffled_captions=0.5)
    task, trainer = small_task(data, objective=objective), small_trainer(tmp_path, max_epochs=3)
    trainer.fit(task, data)
    trainer.save_checkpoint(tmp_path / "last.ckpt")
    memory = objective.clean if isinstance(objective, losses.SoftMarginTripletLoss) else objective.memory
    places = torch.arange(data.dataset("train").num_captions)
    labels = memory.read(places).clone()
    assert len(labels.unique()) > 2
    again = MatchingTask.load_from_checkpoint(tmp_path / "last.ckpt").objective
    found = again.clean if isinstance(again, losses.SoftMarginTripletLoss) else again.memory
    assert torch.equal(found.read(places), labels)


def test_a_term_of_vectors_that_starts_late_keeps_what_makes_them_in_the_graph():
    """Or DistributedDataParallel takes the poolings' weights for unused."""
    data = small_data()
    data.setup("fit")
    model = MatchingModel(
        RegionEncoder(data.feature_dim, 6, pooling=GeneralizedPooling()),
        GRUTextEncoder(data.vocabulary, 6, word_dim=4, pooling=GeneralizedPooling()),
        HardAligningSimilarity(pooling=MeanPooling()),
    )
    terms = {"triplet": HardNegativeTripletLoss(), "center": losses.CenterHingeLoss()}
    batch = next(iter(data.train_dataloader()))
    late, never = losses.Objective(terms, start={"center": 1}), losses.Objective({"triplet": terms["triplet"]})
    result = compute_loss(model, late, batch)
    assert torch.equal(result.loss, compute_loss(model, never, batch).loss)
    result.loss.backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_terms_that_have_a_value_at_equal_scores_are_watched(tmp_path):
    """The others do not keep the triplet from being watched."""

    class Constant(Similarity):
        def forward(self, image, text):
            return 0 * CosineSimilarity()(image, text)

    data, terms = small_data(), {"triplet": HardNegativeTripletLoss(), "apart": losses.PositiveNegativeMarginLoss()}
    assert terms["apart"].collapse_value(losses.Matches(torch.eye(8))) is None
    trainer = small_trainer(tmp_path, max_epochs=-1, max_steps=COLLAPSE_STEPS + 20)
    with pytest.warns(UserWarning, match="the model has collapsed"):
        trainer.fit(small_task(data, similarity=Constant(), objective=losses.Objective(terms)), data)


def test_a_protocol_is_checked_before_anything_is_encoded(tmp_path):
    task, data, trainer = fitted(tmp_path)
    task.model.image_encoder.register_forward_pre_hook(lambda *_: pytest.fail("encoded"))
    for protocol, error in ((Flickr30K(), "8 images .* expected 1000"), (EccvCaption(tmp_path), "no such file")):
        task.protocol = protocol
        with pytest.raises((ValueError, FileNotFoundError), match=error):
            trainer.test(task, data, verbose=False)


def test_a_collapsed_model_is_warned_of(tmp_path):
    class Constant(Similarity):
        def forward(self, image, text):
            return (image.features.sum() + text.features.sum()) * 0 + torch.ones(len(image), len(text))

        def align(self, image, text):
            return torch.zeros(1, 1)

    data = small_data()
    objective = HardNegativeTripletLoss(margin=0.2)
    trainer = small_trainer(tmp_path, max_epochs=COLLAPSE_STEPS // 5, limit_val_batches=0)
    with pytest.warns(UserWarning, match="the model has collapsed") as warned:
        trainer.fit(small_task(data, similarity=Constant(), objective=objective), data)
    assert sum("collapsed" in str(w.message) for w in warned) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        warnings.filterwarnings("ignore", ".*does not have many workers.*")
        small_trainer(tmp_path, max_epochs=1, limit_val_batches=0).fit(small_task(small_data()), data)


def test_score_statistics():
    scores = torch.tensor([[0.9, 0.5, 0.1], [0.2, 0.8, 0.7]])
    positives = torch.tensor([[True, True, False], [False, False, True]])
    statistics = score_statistics(scores, positives)
    assert float(statistics["train/positive"]) == pytest.approx((0.9 + 0.5 + 0.7) / 3)
    assert float(statistics["train/hardest_negative"]) == pytest.approx((0.1 + 0.8) / 2)
    assert "train/hardest_negative" not in score_statistics(scores[:, :1], positives[:, :1] | True)


class NoDifference(Similarity):
    """Every pair has the same score: of 8 images a caption finds its own among ten, and nothing else is found."""

    rsum = 100

    def forward(self, image, text):
        return 0 * CosineSimilarity()(image, text)


def test_an_evaluation_follows_the_model_as_it_is(tmp_path):
    task, data, trainer = fitted(tmp_path)

    def rsum():
        trainer.validate(task, data, verbose=False)
        return float(trainer.callback_metrics["val/rsum"])

    assert rsum() > NoDifference.rsum
    task.model.similarity, kept = NoDifference(), task.model.similarity
    assert rsum() == NoDifference.rsum
    task.model.similarity = kept
    alone = rsum()
    assert alone > NoDifference.rsum
    other = copy.deepcopy(task.model)
    task.evaluate_with(other)
    assert rsum() == alone
    task.model.similarity = other.similarity = NoDifference()
    assert rsum() == NoDifference.rsum
    task.evaluate_with()
    task.model = MatchingModel(other.image_encoder, other.text_encoder, kept, other.tokenizer)
    assert rsum() == alone
    task.fragment_dtype = "float16"
    rsum()
    assert task.evaluator.fragment_dtype == torch.float16


def test_training_selects_by_the_similarity_that_it_trains(tmp_path):
    data = small_data()
    task = small_task(data)
    task.model.similarity = NoDifference()
    trainer = small_trainer(tmp_path)
    trainer.fit(task, data)
    assert float(trainer.callback_metrics["val/rsum"]) == NoDifference.rsum


# ------------------------------------------------------------------------------------------------ learning rates


def test_learning_rates_by_part():
    data = small_data()
    task = small_task(
        data,
        optimizer=lambda groups: torch.optim.SGD(groups, lr=1.0),
        scheduler=lambda optimizer: torch.optim.lr_scheduler.StepLR(optimizer, 1, 0.5),
        lr_scale={"text_encoder": 0.1, "text_encoder.embed": 0.0},
    )
    configured = task.configure_optimizers()
    optimizer = configured["optimizer"]
    rate = {id(p): group["lr"] for group in optimizer.param_groups for p in group["params"]}
    assert rate[id(task.model.text_encoder.embed.weight)] == 0.0
    assert rate[id(task.model.text_encoder.rnn.weight_ih_l0)] == pytest.approx(0.1)
    assert rate[id(task.model.image_encoder.fc.weight)] == 1.0
    assert len(rate) == len(list(task.parameters()))
    assert configured["lr_scheduler"]["interval"] == "epoch"
    optimizer.step()
    configured["lr_scheduler"]["scheduler"].step()
    assert {group["lr"] for group in optimizer.param_groups} == {0.5, 0.05, 0.0}


def test_a_part_that_does_not_exist_is_an_error():
    parameters = [("model.text_encoder.rnn.weight", torch.nn.Parameter(torch.zeros(1)))]
    with pytest.raises(ValueError, match=r"no parameter begins with \['text_encoder.transformer'\].*text_encoder.rnn"):
        parameter_groups(parameters, {"text_encoder.transformer": 0.1})
    with pytest.raises(ValueError, match="no parameter begins"):  # the beginning of a name, not of a word
        parameter_groups(parameters, {"text_enc": 0.1})


def test_gradient_caching_refuses_encoders_that_normalise_over_the_batch():
    model = vse_infty_gru(9, region_dim=6, embed_dim=8, word_dim=4)
    MatchingTask.from_model(model)
    with pytest.raises(ValueError, match=r"encode_chunk: image_encoder\.mlp\.1 normalises over the batch"):
        MatchingTask.from_model(model, encode_chunk=4)


def test_frozen_parameters_are_left_out():
    frozen = torch.nn.Parameter(torch.zeros(1), requires_grad=False)
    trained = torch.nn.Parameter(torch.zeros(1))
    assert [group.parameters for group in parameter_groups([("model.a.b", frozen), ("model.a.c", trained)], {})] == [
        [trained]
    ]


@pytest.mark.parametrize("factor", [-0.1, float("nan"), float("inf")])
def test_factors_that_are_none(factor):
    with pytest.raises(ValueError, match=f"lr_scale: {factor} for 'a'"):
        parameter_groups([("model.a.b", torch.nn.Parameter(torch.zeros(1)))], {"a": factor})


# ---------------------------------------------------------------------------------------------------- checkpoints


def test_a_checkpoint_reloads_without_anything_else(tmp_path):
    options = {"gather_negatives": False, "encode_chunk": 3, "fragment_dtype": "float16"}
    task, data, trainer = fitted(tmp_path, lr_scale={"text_encoder": 0.5}, **options)
    trainer.save_checkpoint(tmp_path / "a.ckpt")
    content = torch.load(tmp_path / "a.ckpt", weights_only=True)
    assert content["hyper_parameters"]["similarity"]["class_path"].endswith("HardAligningSimilarity")
    reloaded = MatchingTask.load_from_checkpoint(tmp_path / "a.ckpt", weights_only=True)
    assert reloaded.lr_scale == {"text_encoder": 0.5}
    assert {name: getattr(reloaded, name) for name in options} == options
    assert reloaded.objective.spec == task.objective.spec
    assert reloaded.model.tokenizer.spec == data.tokenizer.spec
    for (name, ours), theirs in zip(task.state_dict().items(), reloaded.state_dict().values(), strict=True):
        assert torch.equal(ours, theirs), name
    texts = data.dataset("test").captions[:3]
    features = torch.stack([data.dataset("test").image(0).features])
    assert torch.equal(task.model.score(features, texts), reloaded.model.score(features, texts))


def test_a_model_built_in_python_reloads_too(tmp_path):
    words = ["<pad>", "<start>", "<end>", "<unk>", "a", "dog"]
    model = chan_gru(words, region_dim=4, embed_dim=8, word_dim=4)
    task = MatchingTask.from_model(model)
    trainer = small_trainer(tmp_path)
    trainer.strategy.connect(task)
    trainer.save_checkpoint(tmp_path / "a.ckpt")
    reloaded = MatchingTask.load_from_checkpoint(tmp_path / "a.ckpt")
    assert torch.equal(reloaded.model.image_encoder.fc.weight, model.image_encoder.fc.weight)
    assert reloaded.model.tokenizer(["a dog"]) == model.tokenizer(["a dog"])


def test_a_part_that_was_replaced_is_the_one_in_the_checkpoint(tmp_path):
    task = MatchingTask.from_model(chan_gru(9, region_dim=4, embed_dim=8, word_dim=4))
    task.model.similarity = HardAligningSimilarity(pooling=MeanPooling())
    task.model.similarity.query = "regions"
    trainer = small_trainer(tmp_path)
    trainer.strategy.connect(task)
    trainer.save_checkpoint(tmp_path / "a.ckpt")
    similarity = MatchingTask.load_from_checkpoint(tmp_path / "a.ckpt").model.similarity
    assert (type(similarity.pooling), similarity.query) == (MeanPooling, "regions")


def test_an_optimizer_that_a_checkpoint_cannot_rebuild_is_told_of(tmp_path):
    data = small_data()
    model = chan_gru(data.vocabulary, region_dim=data.feature_dim, embed_dim=8, word_dim=4)
    task = MatchingTask.from_model(model, optimizer=lambda groups: torch.optim.SGD(groups, lr=0.25, momentum=0.5))
    trainer = small_trainer(tmp_path)
    trainer.fit(task, data)
    trainer.save_checkpoint(tmp_path / "a.ckpt")
    with pytest.warns(UserWarning, match=r"trained with SGD \(lr 0.25, momentum 0.5.*goes on with the default, AdamW"):
        small_trainer(tmp_path).fit(MatchingTask.load_from_checkpoint(tmp_path / "a.ckpt"), data)
    given = MatchingTask.load_from_checkpoint(tmp_path / "a.ckpt", optimizer=task.optimizer)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*trained with SGD")
        small_trainer(tmp_path).fit(given, data)
    with pytest.raises(TypeError, match="takes no argument 'optimiser'"):
        MatchingTask.load_from_checkpoint(tmp_path / "a.ckpt", optimiser=task.optimizer)


def test_a_part_that_cannot_be_recorded_is_told_of_at_once():
    class Head(Similarity):
        def __init__(self, layer):
            super().__init__()
            self.layer = layer

        def forward(self, image, text):
            return torch.zeros(len(image), len(text))

        def align(self, image, text):
            return torch.zeros(1, 1)

    with pytest.raises(TypeError, match=r"layer=.*torch.nn.modules.linear.Linear.*itmatch.nn.Block"):
        MatchingTask(RegionEncoder(4, 8), GRUTextEncoder(9, 8), Head(nn.Linear(2, 2)))


def test_a_vocabulary_that_does_not_fit_the_checkpoint(tmp_path):
    _, data, trainer = fitted(tmp_path)
    trainer.save_checkpoint(tmp_path / "a.ckpt")
    other = small_data(tokenizer=WordTokenizer(min_count=30))
    with pytest.raises(ValueError, match=r"embed.weight has shape .* vocabulary does not fit the checkpoint"):
        small_trainer(tmp_path).test(small_task(other), other, ckpt_path=str(tmp_path / "a.ckpt"), verbose=False)
    words = data.vocabulary.words
    shuffled = small_data(tokenizer=WordTokenizer(vocabulary=words[:5] + words[5:][::-1]))
    with pytest.raises(ValueError, match="vocabulary does not fit the checkpoint"):
        small_trainer(tmp_path).test(small_task(shuffled), shuffled, ckpt_path=str(tmp_path / "a.ckpt"), verbose=False)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: next(iter(c["state_dict"].values())).fill_(float("nan")), "holds a NaN or an infinity in the check"),
        (lambda c: c["state_dict"].update({next(iter(c["state_dict"])): torch.zeros(1)}), "has shape .* has "),
        (lambda c: c["hyper_parameters"].update(encode_chunk=0), "encode_chunk: 0, expected a whole number, 1 or more"),
        (lambda c: c["hyper_parameters"].update(lr_scale=3), ".*"),
    ],
)
def test_what_is_wrong_in_a_checkpoint_is_told_with_its_file(tmp_path, change, message):
    _, _, trainer = fitted(tmp_path)
    trainer.save_checkpoint(tmp_path / "a.ckpt")
    checkpoint = torch.load(tmp_path / "a.ckpt", weights_only=True)
    change(checkpoint)
    torch.save(checkpoint, tmp_path / "a.ckpt")
    with pytest.raises(ValueError, match=message) as caught:
        MatchingTask.load_from_checkpoint(tmp_path / "a.ckpt")
    assert str(caught.value).startswith(f"{tmp_path / 'a.ckpt'}: ")
    if "shape" in message or "NaN" in message:  # also where Lightning loads it
        data = small_data()
        with pytest.raises(ValueError, match=rf"a\.ckpt: .*{message}"):
            small_trainer(tmp_path).test(small_task(data), data, ckpt_path=str(tmp_path / "a.ckpt"), verbose=False)


def test_a_tokenizer_that_differs_from_the_models_is_refused(tmp_path):
    task, _, _ = fitted(tmp_path)
    other = small_data(tokenizer=WordTokenizer(min_count=30))
    with pytest.raises(ValueError, match=r"data's tokenizer .* does not fit the model's"):
        small_trainer(tmp_path).test(task, other, verbose=False)


def test_fragments_are_written_with_the_ids_of_the_data(tmp_path):
    task, data, _ = fitted(tmp_path)
    trainer = small_trainer(tmp_path, callbacks=[FragmentWriter(tmp_path)])
    data.setup("predict")
    with pytest.raises(ValueError, match=r"FragmentWriter: predicts from a MatchingData, .* found None"):
        trainer.predict(task, data.predict_dataloader())


def test_data_without_a_tokenizer_takes_the_models(tmp_path):
    task, _, _ = fitted(tmp_path)
    data = small_data()
    small_trainer(tmp_path).test(task, data, verbose=False)
    assert data.tokenizer is task.model.tokenizer


def test_a_model_from_a_task_is_saved_and_loaded_bit_equal(tmp_path):
    task, data, _ = fitted(tmp_path)
    task.model.save_pretrained(tmp_path / "saved")
    loaded = MatchingModel.from_pretrained(tmp_path / "saved")
    features = data.dataset("test").image(1).features[None]
    texts = data.dataset("test").captions[:4]
    assert torch.equal(loaded.score(features, texts), task.model.score(features, texts))


# ------------------------------------------------------------------------------------------------------- resuming


@pytest.mark.parametrize("when", ["end of an epoch", "mid-epoch"])
def test_a_resumed_run_ends_with_the_weights_of_an_uninterrupted_one(tmp_path, when):
    def run(max_epochs, ckpt_path=None, **kwargs):
        seed_everything(3, verbose=False)
        data = small_data()
        task = small_task(
            data, dropout=0.2, scheduler=lambda optimizer: torch.optim.lr_scheduler.StepLR(optimizer, 1, 0.7)
        )
        trainer = small_trainer(tmp_path, max_epochs=max_epochs, enable_checkpointing=True, **kwargs)
        trainer.fit(task, data, ckpt_path=ckpt_path)
        return task

    def keeping(**kwargs):
        return ModelCheckpoint(dirpath=tmp_path, filename="kept", **kwargs)

    if when == "mid-epoch":  # five steps an epoch: step 8 is in the middle of the second
        whole = run(3, callbacks=[keeping(every_n_train_steps=8, save_top_k=1)])
    else:
        whole = run(3)
        run(2, callbacks=[keeping()])
    torch.manual_seed(99)  # whatever was drawn before must not matter
    resumed = run(3, ckpt_path=str(tmp_path / "kept.ckpt"), callbacks=[keeping(every_n_train_steps=1000)])
    for (name, expected), found in zip(whole.state_dict().items(), resumed.state_dict().values(), strict=True):
        assert torch.equal(expected, found), name


@pytest.mark.parametrize(
    "limit", [{}, {"limit_train_batches": 3}, {"limit_train_batches": 0.5}, {"overfit_batches": 3}]
)
@pytest.mark.parametrize("length", [{"max_epochs": 3}, {"max_steps": 8, "max_epochs": -1}])
def test_a_run_resumed_after_a_validation_is_exact_whatever_limits_it(tmp_path, limit, length):
    """Lightning counts the epochs of a run with max_steps otherwise; a limited epoch ends before its loader does."""

    def run(folder, ckpt_path=None):
        seed_everything(3, verbose=False)
        data = small_data()
        task = small_task(data, scheduler=lambda optimizer: torch.optim.lr_scheduler.StepLR(optimizer, 1, 0.7))
        keeping = BestCheckpoint(dirpath=tmp_path / folder, filename="{epoch}", save_top_k=-1)
        trainer = small_trainer(tmp_path, enable_checkpointing=True, callbacks=[keeping], **length, **limit)
        trainer.fit(task, data, ckpt_path=ckpt_path)
        return task

    whole, resumed = run("first"), run("second", tmp_path / "first" / "epoch=0.ckpt")
    for (name, expected), found in zip(whole.state_dict().items(), resumed.state_dict().values(), strict=True):
        assert torch.equal(expected, found), name


def test_embedding_sizes_that_differ():
    data = small_data()
    with pytest.raises(ValueError, match="embedding sizes differ: image 8, text 4"):
        MatchingTask(RegionEncoder(data.feature_dim, 8), GRUTextEncoder(data.vocabulary, 4), CosineSimilarity())


def test_scheduler_interval_is_checked():
    with pytest.raises(ValueError, match="'batch'"):
        MatchingTask(RegionEncoder(4, 8), GRUTextEncoder(9, 8), CosineSimilarity(), scheduler_interval="batch")
