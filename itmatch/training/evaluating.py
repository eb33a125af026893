"""Validation, test and prediction of a matching model: the half of a task that any trained model needs."""

from __future__ import annotations

from typing import Any, Literal

import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor

from itmatch.batch import Batch, Fragments
from itmatch.data import Tokenizer
from itmatch.evaluation import EvaluationProtocol
from itmatch.evaluation.evaluator import Evaluator
from itmatch.evaluation.memory import GRANTED
from itmatch.extractor import Extractor, other_setting
from itmatch.models import MatchingModel
from itmatch.nn import Similarity
from itmatch.ops.checks import check_choice
from itmatch.training.data import MatchingData
from itmatch.training.divergence import FiniteWatch, told_as_divergence
from itmatch.training.limits import check_whole

_FEW = 3  # images of another look at scores
FRAGMENT_DTYPES = {None: None, "float16": torch.float16}


class EvaluatedModule(LightningModule):
    """Encodes a split, ranks all images and captions, and logs the recalls; :class:`MatchingTask` trains beside.

    Args:
        model: the parts that score.
        fragment_dtype: what fragments are kept in until they are scored, in float32 at least; None: as they are made.

    Attributes:
        protocol: what a test, or a validation that is asked for, measures; None: recalls of the whole split.
        top: how many of the best candidates of every query such a test, and a prediction, writes; None: none.
        memory: what scoring may take, see :class:`itmatch.evaluation.Evaluator`.
    """

    def __init__(self, model: MatchingModel, fragment_dtype: Literal["float16"] | None = None) -> None:
        super().__init__()
        self.model = model
        self.fragment_dtype = check_choice("fragment_dtype", fragment_dtype, "float16", None)
        self.protocol: EvaluationProtocol | None = None
        self.top: int | None = None
        self.memory: int | str = GRANTED
        self._others: tuple[MatchingModel, ...] = ()
        self._finite = FiniteWatch()
        self.evaluator = self._new_evaluator()

    def setup(self, stage: str) -> None:
        """Take the tokenizer and the extractor over from the data, or check that they agree."""
        data = getattr(self.trainer, "datamodule", None)
        tokenizer = getattr(data, "tokenizer", None)
        if self.model.tokenizer is None:
            self.model.tokenizer = tokenizer
        elif tokenizer is not None and tokenizer.fingerprint != self.model.tokenizer.fingerprint:
            raise ValueError(
                f"the data's tokenizer ({described(tokenizer)}) does not fit the model's "
                f"({described(self.model.tokenizer)}); build the data with tokenizer=model.tokenizer"
            )
        self._take_extractor(getattr(getattr(data, "source", None), "extractor", None))
        self._check_others()  # now that this model has a tokenizer
        if stage != "predict":  # which need not score
            FirstScores(self.model.similarity)

    def _take_extractor(self, given: Extractor | None) -> None:
        """Take over what has made the regions of the data; warn where those of the model were made otherwise."""
        if self.model.extractor is None:
            self.model.extractor = given
        elif given is not None and (other := other_setting(self.model.extractor.spec, given.spec)):
            told = f"{other[0]} is {other[2]!r}, not {other[1]!r}"
            rank_zero_warn(f"the regions of the data are not those that the model was trained on: {told}")

    def evaluate_with(self, *models: MatchingModel) -> None:
        """Evaluate as an ensemble with other models: the score of a pair is the mean of all their scores.

        The others are not trained and not written into checkpoints. Without any: this model alone again.

        Raises:
            ValueError: a model has another tokenizer than this one: one batch of captions is for all.
        """
        self._others = tuple(model.eval() for model in models)  # a tuple registers no modules
        self._check_others()
        self.evaluator = self._new_evaluator()

    def _new_evaluator(self) -> Evaluator:
        """For the models and settings as they are now, which somebody may have replaced since the last evaluation."""
        return Evaluator([self.model, *self._others], FRAGMENT_DTYPES[self.fragment_dtype], memory=self.memory)

    def _check_others(self) -> None:
        for number, model in enumerate(self._others):
            check_same_tokenizer(f"model {number} of the ensemble", model.tokenizer, self.model.tokenizer, "the first")

    def on_validation_epoch_start(self) -> None:
        """Begin anew, and see that what is asked for can be measured."""
        self.evaluator = self._new_evaluator()
        state = self.trainer.state.fn
        stage: Literal["val", "test"] = "test" if state == "test" else "val"
        check_whole(self.trainer, stage)
        dataset = self._dataset(stage)
        if self.protocol is not None and dataset is not None and state in ("test", "validate"):
            data = self.trainer.datamodule  # type: ignore[attr-defined]
            images = data.evaluated_images(stage) if isinstance(data, MatchingData) else dataset.num_images
            caption_image = torch.as_tensor(dataset.caption_image)
            self.protocol.check(caption_image[caption_image < images], images)
        for model in self._others:
            model.to(self.device)

    on_test_epoch_start = on_validation_epoch_start

    def validation_step(self, batch: Batch, batch_idx: int, dataloader_idx: int = 0) -> None:
        """Encode a batch of images or of captions, each once."""
        with told_as_divergence(self, self._finite):
            self.evaluator.add(batch)

    test_step = validation_step

    def on_validation_epoch_end(self) -> None:
        """Rank all images and captions, and log the recalls."""
        self._log_metrics("val")

    def on_test_epoch_end(self) -> None:
        """Rank all images and captions, and log the recalls."""
        self._log_metrics("test")

    def _dataset(self, prefix: str) -> Any:
        return getattr(getattr(self.trainer, "datamodule", None), "datasets", {}).get(prefix)

    def _log_metrics(self, prefix: str) -> None:
        if self.trainer.sanity_checking:
            return  # a few batches of each loader hold no complete set to rank
        dataset = self._dataset(prefix)
        asked = prefix == "test" or self.trainer.state.fn == "validate"  # not between epochs
        with told_as_divergence(self, self._finite):
            protocol, top = (self.protocol, self.top) if asked else (None, None)
            metrics = self.evaluator.compute(dataset, protocol, top=top)
        for name, value in metrics.items():  # all processes have the same; Lightning wants to be told how they agree
            self.log(f"{prefix}/{name}", value, prog_bar=name == "rsum", sync_dist=True, reduce_fx="max")

    def predict_step(self, batch: Batch, batch_idx: int, dataloader_idx: int = 0) -> tuple[Fragments, Tensor]:
        """Fragments of a batch of images or of captions, and their positions in the dataset.

        Raises:
            ValueError: the batch holds both, or neither.
        """
        with told_as_divergence(self, self._finite):
            if batch.regions is not None and batch.image_index is not None and batch.captions is None:
                return self.model.image_encoder(batch.regions).detach(), batch.image_index
            if batch.captions is not None and batch.caption_index is not None and batch.regions is None:
                return self.model.text_encoder(batch.captions).detach(), batch.caption_index
        found = "both" if batch.regions is not None else "neither"
        raise ValueError(f"a batch to predict holds images or captions, this one {found}")

    def ranked(self, predictions: Any, dataset: Any) -> Evaluator | None:
        """What finds what among the predictions of this process and of the others.

        None if nobody asked (``top``), or there are no captions to find anything with.
        """
        if self.top is None or not dataset.captions:
            return None
        evaluator = Evaluator(self.model, FRAGMENT_DTYPES[self.fragment_dtype], memory=self.memory)
        images, captions = predictions
        for fragments, index in images:
            evaluator.add_images(fragments, index)
        for fragments, index in captions:
            owner = torch.as_tensor(dataset.caption_image).to(index.device)
            evaluator.add_captions(fragments, index, owner[index])
        with told_as_divergence(self, self._finite):
            evaluator.find(dataset, self.top)
        return evaluator


class FirstScores:
    """Looks whether a similarity gives (images, captions), where there are as many of both so that no shape tells.

    The first scores of a run are those of a square batch, mostly. A few images are then scored against one caption
    fewer, where :class:`Similarity` sees a result that is transposed. That is in evaluation mode, without a gradient,
    and gives the random state back.

    Args:
        similarity: whose next scores are looked at, once.
    """

    def __init__(self, similarity: Similarity) -> None:
        self._looked = False  # a copy of the similarity has a hook that cannot be taken off
        self._handle = similarity.register_forward_hook(self)

    def __call__(self, similarity: Similarity, given: tuple[Fragments, Fragments], scores: Tensor) -> None:
        """The hook; raises a ValueError for scores that are transposed."""
        if len(given) < 2:  # called with names
            return
        image, text = given[:2]
        square = len(image) == len(text)  # else the similarity has looked itself
        if self._looked or torch.compiler.is_compiling() or (square and len(image) < _FEW):  # a graph has no hooks
            return
        self._looked = True  # while it looks, too
        try:
            if square:
                _score_few(similarity, image, text)
        except ValueError:
            self._looked = False  # who goes on all the same hears of it again
            raise
        self._handle.remove()


def _score_few(similarity: Similarity, image: Fragments, text: Fragments) -> None:
    modes = [(module, module.training) for module in similarity.modules()]
    device = image.features.device
    with torch.no_grad(), torch.random.fork_rng([device] if device.type == "cuda" else []):
        try:
            similarity.eval()
            similarity(image[:_FEW].detach(), text[: _FEW - 1].detach())
        finally:
            for module, training in modes:
                module.training = training


def check_same_tokenizer(where: str, other: Tokenizer | None, own: Tokenizer | None, whose: str) -> None:
    """Raise if two models have different tokenizers: one batch of captions is for both."""
    if own is not None and other is not None and own.fingerprint != other.fingerprint:
        told = f"its tokenizer ({described(other)}) is not that of {whose} ({described(own)})"
        raise ValueError(f"{where}: {told}")


def described(tokenizer: Tokenizer) -> str:
    """A tokenizer in a few words, for error messages."""
    return f"{type(tokenizer).__name__} of {tokenizer.vocab_size} tokens"
