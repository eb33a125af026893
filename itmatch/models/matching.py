"""A matching system: image encoder + text encoder + similarity."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import ModelHubMixin
from torch import Tensor, nn
from typing_extensions import Self

from itmatch._version import __version__
from itmatch.batch import Captions, Fragments, Regions
from itmatch.data import CaptionItem, Collator, Tokenizer
from itmatch.models._inputs import Images, as_regions, no_captions
from itmatch.nn import Block, Similarity
from itmatch.ops.checks import check_whole
from itmatch.spec import Spec, build

WEIGHTS_NAME = "model.safetensors"


class MatchingModel(
    nn.Module,
    ModelHubMixin,
    library_name="itmatch",
    tags=["image-text-matching", "cross-modal-retrieval"],
):
    """Scores images against captions; works without Lightning.

    Training calls the model with a batch, ``model(regions, captions)``. The methods :meth:`encode_images`,
    :meth:`encode_texts` and :meth:`score` are for use after training: they switch to evaluation mode, need no
    gradient, and go through the input in batches.

    Args:
        image_encoder: Regions -> Fragments.
        text_encoder: Captions -> Fragments.
        similarity: two Fragments -> scores (I, T).
        tokenizer: turns strings into token ids; without it captions have to come as :class:`Captions`.

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
        image_encoder: Block,
        text_encoder: Block,
        similarity: Similarity,
        tokenizer: Tokenizer | None = None,
    ) -> None:
        super().__init__()
        self.image_encoder: Block = _part(image_encoder, Block, "image_encoder")
        self.text_encoder: Block = _part(text_encoder, Block, "text_encoder")
        self.similarity: Similarity = _part(similarity, Similarity, "similarity")
        self.tokenizer: Tokenizer | None = None if tokenizer is None else _part(tokenizer, Tokenizer, "tokenizer")

    @property
    def spec(self) -> dict[str, Spec | None]:
        """The parts as plain data; ``MatchingModel(**model.spec)`` is the same model with fresh weights."""
        parts = ("image_encoder", "text_encoder", "similarity", "tokenizer")
        return {name: None if (part := getattr(self, name)) is None else part.spec for name in parts}

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
                of each image, of any number of regions. Tensors or numpy arrays.
            batch_size: images that are encoded at a time.
        """
        return self._encode(self.image_encoder, as_regions(images, self.image_encoder), batch_size)

    def encode_texts(self, texts: Captions | Sequence[str], *, batch_size: int = 512) -> Fragments:
        """Fragments of captions, on the device of the model.

        Args:
            texts: strings (the model then needs a tokenizer) or Captions; there may be none.
            batch_size: captions that are encoded at a time.

        Raises:
            ValueError: strings were given and the model has no tokenizer, or one of them is empty.
        """
        captions = texts if isinstance(texts, Captions) else self._tokenize(texts)
        return self._encode(self.text_encoder, captions, batch_size)

    def _encode(self, encoder: Block, data: Regions | Captions, batch_size: int) -> Fragments:
        check_whole("batch_size", batch_size)
        with self._inference():
            starts = range(0, max(1, len(data)), batch_size)  # once for no rows too, which gives the right sizes
            return Fragments.cat([encoder(data[start : start + batch_size].to(self.device)) for start in starts])

    def score(
        self,
        images: Fragments | Images,
        texts: Fragments | Captions | Sequence[str],
        *,
        image_block: int = 64,
    ) -> Tensor:
        """Scores (I, T) of every image with every caption; encodes what is not yet encoded.

        Args:
            images: Fragments of :meth:`encode_images`, or what that method takes.
            texts: Fragments of :meth:`encode_texts`, or what that method takes.
            image_block: images that are scored at a time; the result does not depend on it. Beside their scores
                with all captions it takes about as much memory as the captions, once more.
        """
        image = images if isinstance(images, Fragments) else self.encode_images(images)
        text = texts if isinstance(texts, Fragments) else self.encode_texts(texts)
        check_whole("image_block", image_block)
        with self._inference():
            starts = range(0, max(1, len(image)), image_block)
            return torch.cat([self.similarity(image[start : start + image_block], text) for start in starts])

    def align(self, image: Fragments | Images, text: Fragments | Captions | str) -> Tensor:
        """How the regions of one image meet the words of one caption, (R, W), for pictures."""
        images = image if isinstance(image, Fragments) else self.encode_images(image)
        texts = text if isinstance(text, Fragments) else self.encode_texts([text] if isinstance(text, str) else text)
        with self._inference():
            return self.similarity.align(images, texts)

    def _tokenize(self, texts: Sequence[str]) -> Captions:
        if isinstance(texts, str):
            raise TypeError("texts: one string; give a list of captions")
        if self.tokenizer is None:
            raise ValueError("this model has no tokenizer: give Captions, or set model.tokenizer")
        for i, text in enumerate(texts):
            if not isinstance(text, str):
                raise TypeError(f"texts[{i}]: a {type(text).__qualname__}, expected a string")
            if not text.strip():
                raise ValueError(f"texts[{i}]: an empty caption")
        if not len(texts):
            return no_captions()
        captions = Collator(self.tokenizer)([CaptionItem(i, 0, text) for i, text in enumerate(texts)]).captions
        assert captions is not None  # a batch of captions has captions
        return captions

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
        """Write ``config.json`` and ``model.safetensors``; a folder that was good stays good if writing fails.

        Args:
            save_directory: folder, made if missing.
            kwargs: ``push_to_hub``, ``repo_id`` and what else ``huggingface_hub.ModelHubMixin`` takes.

        Returns:
            The URL of the commit if the model was pushed to the Hub.
        """
        folder = Path(save_directory)
        folder.mkdir(parents=True, exist_ok=True)
        push = {key: kwargs.pop(key) for key in tuple(kwargs) if key not in ("config", "model_card_kwargs")}
        with tempfile.TemporaryDirectory(prefix=".saving-", dir=folder) as beside:
            if (folder / "README.md").exists():  # a model card that somebody wrote is kept
                shutil.copy(folder / "README.md", beside)
            super().save_pretrained(beside, **kwargs)
            for name in (WEIGHTS_NAME, "config.json", "README.md"):
                os.replace(Path(beside) / name, folder / name)
        if push.pop("push_to_hub", False):
            return self.push_to_hub(repo_id=push.pop("repo_id", None) or folder.name, **push)
        return None

    def _save_pretrained(self, save_directory: Path) -> None:
        from safetensors.torch import save_model

        config = {"itmatch_version": __version__, **self.spec}
        save_model(self, str(save_directory / WEIGHTS_NAME), metadata={"format": "pt"})
        (save_directory / "config.json").write_text(json.dumps(config, indent=1, ensure_ascii=False), encoding="utf-8")

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | Path, **kwargs: Any) -> Self:
        """The model that :meth:`save_pretrained` wrote, in evaluation mode.

        Args:
            pretrained_model_name_or_path: a folder, or a name on the Hugging Face Hub.
            kwargs: ``revision``, ``cache_dir`` and what else ``huggingface_hub.ModelHubMixin`` takes.

        Raises:
            FileNotFoundError: there is no such folder, or it has no weights.
            ValueError: its ``config.json`` is none of this library.
        """
        name = str(pretrained_model_name_or_path)
        is_path = isinstance(pretrained_model_name_or_path, Path) or name.startswith((".", "/", "~")) or "\\" in name
        if (is_path or name.count("/") > 1) and not Path(name).is_dir():  # the hub has NAME and OWNER/NAME
            raise FileNotFoundError(f"{name}: no such folder")
        try:
            model: Self = super().from_pretrained(name, **kwargs)
        except json.JSONDecodeError as error:
            raise ValueError(f"{name}/config.json: no JSON ({error})") from error
        return model

    @classmethod
    def _from_pretrained(cls, *, model_id: str, **kwargs: Any) -> Self:
        from safetensors.torch import load_model

        download = {k: kwargs.pop(k) for k in tuple(kwargs) if k in _DOWNLOAD_ARGUMENTS}
        if Path(model_id).is_dir():
            weights = Path(model_id) / WEIGHTS_NAME
            if not weights.is_file():
                raise FileNotFoundError(f"{model_id}: no {WEIGHTS_NAME}; is this a folder of save_pretrained?")
        else:
            from huggingface_hub import hf_hub_download

            weights = Path(hf_hub_download(repo_id=model_id, filename=WEIGHTS_NAME, **download))
        missing = [name for name in ("image_encoder", "text_encoder", "similarity") if name not in kwargs]
        if missing:
            raise ValueError(f"{model_id}/config.json: no {', '.join(missing)}; is this an itmatch model?")
        model = cls(**kwargs)
        load_model(model, str(weights))
        return model.eval()


_DOWNLOAD_ARGUMENTS = frozenset({"revision", "cache_dir", "force_download", "local_files_only", "token"})


def _part(value: Any, expected: type, where: str) -> Any:
    part = build(value, expected, where)
    if not isinstance(part, expected):
        raise TypeError(
            f"{where}: a {type(part).__qualname__}, expected an {expected.__module__}.{expected.__qualname__}"
        )
    return part
