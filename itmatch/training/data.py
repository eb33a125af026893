"""Loaders for training and evaluation, from any source of data."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NoReturn

import torch
from lightning.pytorch import LightningDataModule, Trainer
from torch import Tensor
from torch.utils.data import DataLoader

from itmatch.batch import Batch
from itmatch.data import (
    Collator,
    DataSource,
    ImageTextSplit,
    PairRelevance,
    SizeAugmentation,
    Stage,
    Tokenizer,
    Vocabulary,
    WordTokenizer,
    shuffle_captions,
)
from itmatch.ops.checks import check_choice, check_share, check_whole, check_whole_or_none
from itmatch.training.features import FeaturePlace, Place
from itmatch.training.limits import (
    Evaluated,
    captions_of_first,
    check_limit,
    fast_dev_batches,
    number_of_batches,
    overfits,
)
from itmatch.training.loader import TrainLoader, evaluation_loaders, reserve_file_handles
from itmatch.training.splits import check_coverage, check_same_everywhere, content_of, source_of, tell_of_what_one_lacks


class MatchingData(LightningDataModule):
    """Pairs for training; for evaluation each image once and each caption once, so that each is encoded once.

    Args:
        source: where the splits come from.
        tokenizer: turns captions into token ids. Left out: the tokenizer of the model if it has one, else a
            :class:`WordTokenizer` whose vocabulary is built from the training captions.
        batch_size: captions in a training batch, each with its image, on one process.
        eval_batch_size: images, or captions, in an evaluation batch.
        num_workers: processes that load data; 0 loads in the main process.
        augmentation: acts on training batches only.
        drop_last: leave out a last training batch that is not full.
        predict_stage: the split that ``predict`` encodes: "train", "val" or "test".
        keep_twins: training batches hold, beside each caption that has a ``caption_twin``, a caption of that twin image
            too, and both images: the negatives that differ in one relation. Take an even ``batch_size``; what is done
            with captions without a twin, :class:`itmatch.training.loader.TwinSampler` says.
        val_images: a validation is of the first images of its split, so many, with all their captions; None = all.
        test_images: the same of a test.
        relevance: how well each caption fits each image, for losses that want to know; or any function of positions in
            the training split, images (I,) and captions (T,), to numbers (I, T) from 0 to 1.
        shuffled_captions: share of the training captions that exchange their images, to see what wrong pairs cost.
        features: where they are while a run reads them. ``"map"``: those of a batch are read from where the source has
            them. ``"memory"``: each split is read once into host memory, which the workers share. ``"device"``: it is
            read once onto the device, where those of a batch are gathered; a loader carries numbers of rows alone.

    Example:
        >>> from itmatch.data import RelationScenes
        >>> data = MatchingData(RelationScenes(num_train=4, num_val=2, num_test=2), batch_size=4)
        >>> data.setup("fit")
        >>> batch = next(iter(data.train_dataloader()))
        >>> batch.positives().shape
        torch.Size([4, 4])
    """

    def __init__(
        self,
        source: DataSource,
        tokenizer: Tokenizer | None = None,
        batch_size: int = 128,
        eval_batch_size: int = 256,
        num_workers: int = 0,
        augmentation: SizeAugmentation | None = None,
        drop_last: bool = False,  # noqa: FBT001, FBT002 - Lightning data modules are called by keyword
        predict_stage: Stage = "test",
        keep_twins: bool = False,  # noqa: FBT001, FBT002
        val_images: int | None = None,
        test_images: int | None = None,
        relevance: PairRelevance | Callable[[Tensor, Tensor], Tensor] | None = None,
        shuffled_captions: float = 0.0,
        features: Place = "map",
    ) -> None:
        super().__init__()
        self.source = source_of(source)
        self.batch_size = check_whole("batch_size", batch_size)
        self.eval_batch_size = check_whole("eval_batch_size", eval_batch_size)
        self.num_workers = check_whole("num_workers", num_workers, least=0)
        self.augmentation = augmentation
        self.drop_last = drop_last
        self.predict_stage: Stage = check_choice("predict_stage", predict_stage, "train", "val", "test")
        self.keep_twins = keep_twins
        self.images = {
            "val": check_whole_or_none("val_images", val_images),
            "test": check_whole_or_none("test_images", test_images),
        }
        self.datasets: dict[str, ImageTextSplit] = {}
        self.relevance = relevance
        self.shuffled_captions = check_share("shuffled_captions", shuffled_captions)
        self.place = FeaturePlace(features)
        self.seed: int | None = None
        self._covered: set[str] = set()
        self._contents: dict[str, str] = {}
        self._tokenizer = tokenizer

    def __str__(self) -> str:
        """In a line, for error messages too; Lightning's reads all splits for it."""
        return f"{type(self).__name__} of {type(self.source).__name__}"

    @property
    def tokenizer(self) -> Tokenizer:
        """The tokenizer; its vocabulary is built on the first call if it has to be."""
        if self._tokenizer is None:
            model = getattr(getattr(self.trainer, "lightning_module", None), "model", None)
            self._tokenizer = getattr(model, "tokenizer", None) or WordTokenizer()
        if not self._tokenizer.fitted:
            self.dataset("train").check_pairs("a vocabulary")
            self._tokenizer.fit(self.dataset("train").captions)
        return self._tokenizer

    @property
    def vocabulary(self) -> Vocabulary | int:
        """What a word-based text encoder is built from: the vocabulary, or its size if the tokenizer has no words."""
        return self.tokenizer.vocabulary or self.tokenizer.vocab_size

    @property
    def feature_dim(self) -> int:
        """Size F of the region features: of a split that was read, else of the training split."""
        loaded = next(iter(self.datasets.values()), None) or self.dataset("train")
        return loaded.feature_dim

    def offer_tokenizer(self, tokenizer: Tokenizer) -> None:
        """Take a tokenizer, such as that of a checkpoint, in the place of one whose vocabulary is still to be built."""
        if self._tokenizer is None or not self._tokenizer.fitted:
            self._tokenizer = tokenizer

    def know_words(self, words: Sequence[str]) -> None:
        """Let a vocabulary that is still to be built begin with these words: none that a model knows is lost."""
        self._tokenizer = WordTokenizer() if self._tokenizer is None else self._tokenizer
        if isinstance(self._tokenizer, WordTokenizer):
            self._tokenizer.begin_with(words)

    def dataset(self, stage: Stage) -> ImageTextSplit:
        """The split of a stage ("train", "val" or "test"), read once."""
        if stage not in self.datasets:
            dataset = self.source.split(stage)
            if stage == "train" and self.shuffled_captions:
                dataset = shuffle_captions(dataset, self.shuffled_captions)
            wanted = self.images.get(stage)
            if wanted is not None and wanted > dataset.num_images:
                raise ValueError(f"{stage}_images: {wanted}, but {dataset.name} has {dataset.num_images} images")
            self.datasets[stage] = dataset
            tell_of_what_one_lacks(self.datasets, stage)
        return self.datasets[stage]

    def content(self, stage: Stage) -> str:
        """What is trained or evaluated with, in words; another one where ids, captions or sizes differ."""
        if stage not in self._contents:
            images = self.images.get(stage)
            first = "" if images is None else f"the first {images} of "
            self._contents[stage] = f"{first}{content_of(self.dataset(stage))}"
        return self._contents[stage]

    def evaluated_images(self, stage: Stage) -> int:
        """How many images of a split are evaluated or predicted, the first ones: all but for ``val_images`` and so on.

        With Lightning's ``fast_dev_run`` as many batches of images as it says.
        """
        images = self.images.get(stage) or self.dataset(stage).num_images
        quick = 0 if self.trainer is None else fast_dev_batches(self.trainer)
        return min(images, quick * self.eval_batch_size) if quick else images

    def check_limit(self, stage: Evaluated, trainer: Trainer) -> None:
        """Read a split, and refuse a limit of the trainer that would cut captions from their images.

        Raises:
            ValueError: see :func:`itmatch.training.limits.check_limit`; or the split is a gallery without captions.
        """
        dataset, images = self.dataset(stage), self.evaluated_images(stage)
        dataset.check_pairs("an evaluation")
        captions = len(captions_of_first(dataset, images))
        batches = number_of_batches(images, captions, self.eval_batch_size, trainer.world_size)
        check_limit(trainer, stage, batches)

    def splits_of(self, stage: str) -> tuple[Stage, ...]:
        """The splits that "fit", "validate", "test" or "predict" needs."""
        named: dict[str, tuple[Stage, ...]] = {"fit": ("train", "val"), "validate": ("val",), "test": ("test",)}
        return named.get(stage, (self.predict_stage,))

    def setup(self, stage: str) -> None:
        """Read the splits that a stage needs, and note the seed of the run.

        Raises:
            ValueError: a split is no good or has no captions, several processes have read other captions, features do
                not fit where they are to lie, a limit of the trainer cuts an evaluation, or the tokenizer knows next to
                nothing of the captions.
        """
        for name in self.splits_of(stage):
            check_same_everywhere(name, self.dataset(name))
            if stage != "predict":
                self.dataset(name).check_pairs("training" if name == "train" else "an evaluation")
            if stage != "predict" and name != "train" and self.trainer is not None:
                self.check_limit(name, self.trainer)
        if self.trainer is not None or (self._tokenizer is not None and self._tokenizer.fitted):  # else a model may
            for name in self.splits_of(stage):  # still bring a tokenizer of its own
                if name not in self._covered:
                    check_coverage(self.tokenizer, self.dataset(name))
                self._covered.add(name)
        for name in self.splits_of(stage):
            self.place.bring(name, self.dataset(name), self.trainer, self.num_workers)
        if stage == "fit" and isinstance(self.relevance, PairRelevance):
            self.relevance.setup(self.dataset("train"))
        if self.seed is None:
            seed = torch.initial_seed() % 2**31
            self.seed = seed if self.trainer is None else self.trainer.strategy.broadcast(seed)

    @classmethod
    def load_from_checkpoint(cls, *args: Any, **kwargs: Any) -> NoReturn:
        """Not to be had: a checkpoint holds the model and no data, and Lightning would build what the file names.

        Raises:
            TypeError: always.
        """
        raise TypeError("a checkpoint holds no data: build MatchingData(source), and hand it to the trainer")

    def train_dataloader(self) -> TrainLoader:
        """Batches of pairs, shuffled; with Lightning's ``overfit_batches`` in the same order in every epoch.

        Raises:
            ValueError: before :meth:`setup`.
        """
        if self.seed is None:
            raise ValueError("MatchingData: train_dataloader() before setup('fit'), which notes the seed")
        trainer: Any = self.trainer
        return TrainLoader(
            self.dataset("train"),
            self._collator("train"),
            self.seed,
            keep_twins=self.keep_twins,
            repeat=trainer is not None and overfits(trainer),
            limit=1.0 if trainer is None else trainer.limit_train_batches,
            batch_size=self.batch_size,
            drop_last=self.drop_last,
            **self._loading(),
        )

    def val_dataloader(self) -> list[DataLoader[Any]]:
        """Batches of images, then batches of captions, of the validation split."""
        return self._evaluation("val")

    def test_dataloader(self) -> list[DataLoader[Any]]:
        """Batches of images, then batches of captions, of the test split."""
        return self._evaluation("test")

    def predict_dataloader(self) -> list[DataLoader[Any]]:
        """Batches of images, then batches of captions, of ``predict_stage``."""
        return self._evaluation(self.predict_stage)

    def _evaluation(self, stage: Stage) -> list[DataLoader[Any]]:
        images, options = self.evaluated_images(stage), self._loading()
        collator = self._collator(stage)
        return evaluation_loaders(self.dataset(stage), images, collator, batch_size=self.eval_batch_size, **options)

    def _collator(self, stage: Stage) -> Collator:
        pin_memory = torch.cuda.is_available() and self.num_workers == 0  # others may not touch the GPU
        augmentation = self.augmentation if stage == "train" else None
        resident = self.place.resident(stage)
        return Collator(self.tokenizer, augmentation=augmentation, pin_memory=pin_memory, resident=resident)

    def _loading(self) -> dict[str, Any]:
        reserve_file_handles(self.num_workers)
        return {
            "num_workers": self.num_workers,
            "pin_memory": torch.cuda.is_available(),
            "persistent_workers": self.num_workers > 0,
        }

    def transfer_batch_to_device(self, batch: Batch, device: torch.device, dataloader_idx: int) -> Batch:
        """Copy a batch without waiting for the copy, and gather the features that are on the device already."""
        return self.place.sent(batch, self.datasets, device)

    def state_dict(self) -> dict[str, Any]:
        """The seed of the run, so that a resumed run shuffles as an uninterrupted one would have; and its data."""
        stages: list[Stage] = ["train", "val"] if "val" in self.datasets else ["train"]
        return {"seed": self.seed, **{stage: self.content(stage) for stage in stages}}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take the seed of the run over."""
        self.seed = state_dict["seed"]
