"""A matching system: image encoder + text encoder + similarity."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from huggingface_hub import ModelHubMixin
from torch import Tensor, nn
from typing_extensions import Self

from itmatch._version import __version__
from itmatch.batch import Captions, Fragments, Regions
from itmatch.data import ImageTextSplit, Tokenizer
from itmatch.extractor import Extractor
from itmatch.formats.files import user_path, write_text, written_beside, written_together
from itmatch.models._inputs import Images, batches_of, check_no_photos, region_batches
from itmatch.models.bounds import bounded_by
from itmatch.models.card import CARD, TAGS, card_fields
from itmatch.models.folders import DOWNLOAD_ARGUMENTS, WEIGHTS_NAME, folder_or_name, model_file, settings_and_sizes
from itmatch.models.parts import PARTS, built_parts, in_places
from itmatch.models.photos import takes_photos
from itmatch.models.weights import load_weights
from itmatch.nn import ImageEncoder, Similarity, TextEncoder
from itmatch.ops.checks import check_kind, check_kind_or_none, check_whole
from itmatch.spec import Spec

if TYPE_CHECKING:
    from itmatch.evaluation import EvaluationProtocol


class MatchingModel(nn.Module, ModelHubMixin, library_name="itmatch", tags=TAGS, model_card_template=CARD):
    """Scores images against captions; works without Lightning.

    Training calls the model with a batch, ``model(regions, captions)``. The methods :meth:`encode_images`,
    :meth:`encode_texts` and :meth:`score` are for use after training: they switch to evaluation mode, need no
    gradient, and go through the input in batches.

    Args:
        image_encoder: Regions -> Fragments.
        text_encoder: Captions -> Fragments, of the same size.
        similarity: two Fragments -> scores (I, T).
        tokenizer: turns strings into token ids; without it captions have to come as :class:`Captions`.
        extractor: makes regions of photos (:class:`itmatch.vision.RegionExtractor`); without it images have to come as
            features of their regions, but for CLIP and SigLIP, which read photos themselves. Its weights are not
            saved: they come from its name, or its folder, at the first photo.

    Example:
        >>> import torch
        >>> from itmatch.models import chan_gru
        >>> from itmatch.data import Vocabulary
        >>> model = chan_gru(Vocabulary.build([["a", "black", "dog"]], min_count=1), region_dim=16, embed_dim=8)
        >>> model.score(torch.randn(3, 36, 16), ["a dog", "a black dog"]).shape
        torch.Size([3, 2])
    """

    def __init__(
        self,
        image_encoder: ImageEncoder,
        text_encoder: TextEncoder,
        similarity: Similarity,
        tokenizer: Tokenizer | None = None,
        extractor: Extractor | None = None,
    ) -> None:
        super().__init__()
        self.image_encoder: ImageEncoder = check_kind("image_encoder", image_encoder, ImageEncoder)
        self.text_encoder: TextEncoder = check_kind("text_encoder", text_encoder, TextEncoder)
        self.similarity: Similarity = check_kind("similarity", similarity, Similarity)
        self.tokenizer: Tokenizer | None = check_kind_or_none("tokenizer", tokenizer, Tokenizer)
        self.extractor: Extractor | None = extractor
        sizes = [_embed_dim(self.image_encoder, "image_encoder"), _embed_dim(self.text_encoder, "text_encoder")]
        if sizes[0] != sizes[1]:
            raise ValueError(
                f"embedding sizes differ: image {sizes[0]}, text {sizes[1]}; give both encoders the same embed_dim"
            )

    def __setattr__(self, name: str, value: Any) -> None:
        """Keep the extractor, which may be a module, out of the modules: its weights are none of the model's."""
        if name == "extractor":
            object.__setattr__(self, name, check_kind_or_none(name, value, Extractor))
        else:
            super().__setattr__(name, value)

    @property
    def spec(self) -> dict[str, Spec | None]:
        """The parts as plain data, as they are now; :meth:`from_spec` makes the same model with fresh weights."""
        return {name: None if (part := getattr(self, name)) is None else part.spec for name in PARTS}

    @property
    def takes_photos(self) -> bool:
        """Whether it takes photos: it has an extractor, or reads their pixels itself."""
        return takes_photos(self.image_encoder, self.extractor)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next((p.device for p in self.parameters()), torch.device("cpu"))

    def forward(self, regions: Regions, captions: Captions) -> Tensor:
        """Scores (I, T) of every image with every caption."""
        scores: Tensor = self.similarity(self.image_encoder(regions), self.text_encoder(captions))
        return scores

    def encode_images(self, images: Images, *, batch_size: int = 128) -> Fragments:
        """Fragments of images, on the device of the model.

        Args:
            images: Regions; or features (I, R, F) in which every region is real; or a list with the features (R_i, F)
                of each image, of any number of regions. Tensors or numpy arrays. Or photos: a path, an image of
                Pillow, or a list of those; they are read and made regions 16 at a time at most.
            batch_size: images that are encoded at a time.

        Raises:
            FileNotFoundError: a photo, or the model of the extractor, is not there.
            ValueError: photos, and the model has no extractor, or one that makes features of another size; a photo that
                cannot be read.
        """
        check_whole("batch_size", batch_size)
        batches = region_batches(images, self.image_encoder, self.extractor, batch_size)
        return self._encode(self.image_encoder, batches)

    def encode_texts(self, texts: Captions | str | Sequence[str], *, batch_size: int = 512) -> Fragments:
        """Fragments of captions, on the device of the model.

        Args:
            texts: one string or several (the model then needs a tokenizer), or Captions; there may be none.
            batch_size: captions that are encoded at a time.

        Raises:
            TypeError, ValueError: one of them is a photo, or empty; strings, and the model has no tokenizer.
        """
        check_whole("batch_size", batch_size)
        if not isinstance(texts, Captions):
            check_no_photos(texts)
            texts = self._own_tokenizer().batch([texts] if isinstance(texts, str) else texts)
        starts = range(0, max(1, len(texts)), batch_size)  # once for no rows too, which gives the right sizes
        return self._encode(self.text_encoder, (texts[start : start + batch_size] for start in starts))

    def _own_tokenizer(self) -> Tokenizer:
        if self.tokenizer is None:
            raise ValueError("this model has no tokenizer: give Captions, or set model.tokenizer")
        return self.tokenizer

    def _encode(self, encoder: nn.Module, batches: Iterable[Regions | Captions]) -> Fragments:
        with self._inference():
            return Fragments.cat([encoder(batch.to(self.device)) for batch in batches])

    def score(
        self, images: Fragments | Images, texts: Fragments | Captions | str | Sequence[str], *, chunk_size: int = 64
    ) -> Tensor:
        """Scores (I, T) of every image with every caption; encodes what is not yet encoded.

        Args:
            images: Fragments of :meth:`encode_images`, or what that method takes.
            texts: Fragments of :meth:`encode_texts`, or what that method takes.
            chunk_size: images that are scored at a time; the result does not depend on it. Beside their scores
                with all captions it takes about as much memory as the captions, once more.
        """
        image = images if isinstance(images, Fragments) else self.encode_images(images)
        text = texts if isinstance(texts, Fragments) else self.encode_texts(texts)
        check_whole("chunk_size", chunk_size)
        with self._inference():
            starts = range(0, max(1, len(image)), chunk_size)
            return torch.cat([self.similarity(image[start : start + chunk_size], text) for start in starts])

    def align(self, image: Fragments | Images, text: Fragments | Captions | str) -> Tensor:
        """How the regions of one image meet the words of one caption, (R, W), for pictures; not all models can say it.

        Raises ``NotImplementedError`` where similarity or encoders know no single regions and words.
        """
        images = image if isinstance(image, Fragments) else self.encode_images(image)
        texts = text if isinstance(text, Fragments) else self.encode_texts(text)
        with self._inference():
            return in_places(self.similarity.align(images, texts), self.image_encoder, self.text_encoder)

    def evaluate(
        self, split: ImageTextSplit, protocol: EvaluationProtocol | None = None, *, batch_size: int = 128
    ) -> dict[str, float]:
        """Figures of a split, in percent: ``i2t_r1`` ... ``rsum``, and those of the protocol if one is given.

        Args:
            split: images and captions, as from ``source.split("test")``; a source is a TypeError.
            protocol: what to measure; None: recalls of the whole split.
            batch_size: images, and captions, that are encoded at a time.

        Raises:
            ValueError: the model has no tokenizer, the split has no captions, or the protocol is not for such a split.
        """
        from itmatch.evaluation import Evaluator  # here, since its metric imports much

        tokenizer, size = self._own_tokenizer(), check_whole("batch_size", batch_size)
        check_kind("split", split, ImageTextSplit).check_pairs("an evaluation")
        if protocol is not None:
            protocol.check(torch.as_tensor(split.caption_image), split.num_images)
        evaluator = Evaluator(self)
        with self._inference():
            for batch in batches_of(split, tokenizer, size):
                evaluator.add(batch.to(self.device))
            return evaluator.compute(split, protocol)

    @contextmanager
    def _inference(self) -> Iterator[None]:
        modes = [(module, module.training) for module in self.modules()]  # a frozen part may be in another mode
        self.eval()
        try:
            with torch.no_grad():
                yield
        finally:
            for module, training in modes:
                module.training = training

    def save_pretrained(self, save_directory: str | Path, **kwargs: Any) -> str | None:
        """Write ``model.safetensors``, ``config.json`` and, where there is none, ``README.md``.

        They take their places together, when all are written: a folder that was good stays good if writing fails.

        Args:
            save_directory: folder, made if missing.
            kwargs: ``push_to_hub``, ``repo_id`` and what else ``huggingface_hub.ModelHubMixin`` takes;
                ``model_card_kwargs={"data": ..., "figures": ...}`` says what it was trained on and reached.

        Returns:
            The URL of the commit if the model was pushed to the Hub.

        Raises:
            OSError: a file could not be written; names it.
        """
        from safetensors.torch import save_model

        folder = user_path(save_directory)
        push = {key: kwargs.pop(key) for key in tuple(kwargs) if key not in ("config", "model_card_kwargs")}
        config = {"itmatch_version": __version__, **self.spec}
        with written_together():
            with written_beside(folder / WEIGHTS_NAME) as beside:
                save_model(self, str(beside), metadata={"format": "pt"})
            write_text(folder / "config.json", json.dumps(config, indent=1, ensure_ascii=False))
            if not (folder / "README.md").exists():  # a model card that somebody wrote is kept
                card = self.generate_model_card(**card_fields(self, kwargs.get("model_card_kwargs")))
                write_text(folder / "README.md", str(card))
        if push.pop("push_to_hub", False):
            return self.push_to_hub(repo_id=push.pop("repo_id", None) or folder.name, **push)
        return None

    @classmethod
    def from_spec(cls, spec: Mapping[str, Any], where: str = "spec", *, trusted_modules: Sequence[str] = ()) -> Self:
        """The model that :attr:`spec` describes, with fresh weights.

        Args:
            spec: the parts by name, as plain data.
            where: what it was read from, for error messages.
            trusted_modules: modules whose classes may be used beside those of this library and those imported already.

        Raises:
            ValueError: a part is missing, has another name, or is not admitted (:func:`itmatch.spec.build`).
        """
        parts = built_parts(spec, where, trusted_modules)
        try:
            return cls(**parts)
        except (TypeError, ValueError) as error:  # something else in the place of a part, or sizes that differ
            raise ValueError(f"{where}: {error}") from error

    @classmethod
    def from_pretrained(
        cls, pretrained_model_name_or_path: str | Path, *, trusted_modules: Sequence[str] = (), **kwargs: Any
    ) -> Self:
        """The model that :meth:`save_pretrained` wrote, in evaluation mode.

        A model from elsewhere runs no code of its own: only classes of this library are built, those of modules that
        are imported already, and those of ``trusted_modules``; and no more is allocated than its weights can fill.

        Args:
            pretrained_model_name_or_path: a folder, or a name on the Hugging Face Hub.
            trusted_modules: modules that may be imported because the model names them, such as one of your own.
            kwargs: ``revision``, ``cache_dir``, ``force_download``, ``local_files_only``, ``token`` for the Hub.

        Raises:
            FileNotFoundError: there is no such folder, or it has no weights.
            NotADirectoryError: it is a file.
            ValueError: its ``config.json`` is none of this library, or names what is not admitted.
        """
        unknown = sorted(set(kwargs) - DOWNLOAD_ARGUMENTS)
        if unknown:
            raise TypeError(
                f"from_pretrained: no argument {unknown[0]!r}; change the parts of the model that it returns"
            )
        name = folder_or_name(pretrained_model_name_or_path)
        config, weights = (model_file(name, part, kwargs) for part in ("config.json", WEIGHTS_NAME))
        settings, sizes = settings_and_sizes(config, weights)
        with bounded_by(sizes, str(config)):
            model = cls.from_spec(settings, str(config), trusted_modules=trusted_modules)
        load_weights(model, weights)
        return model.eval()


def _embed_dim(encoder: ImageEncoder | TextEncoder, where: str) -> int:
    return check_whole(f"{where}: embed_dim of {type(encoder).__qualname__}", getattr(encoder, "embed_dim", None))
