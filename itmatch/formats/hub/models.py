"""Models of ``transformers``, tokenizers and processors, from a name of the hub or a folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from itmatch.formats.hub.asking import check_on_hub
from itmatch.formats.messages import reason


def load_pretrained(auto_class: str, name: str, kind: str, **options: Any) -> Any:
    """What ``from_pretrained`` of a class of ``transformers`` gives. No code of a repository is run.

    Args:
        auto_class: of ``transformers``, such as ``AutoModel``.
        name: of the Hugging Face hub, or a folder.
        kind: what it is, for error messages.
        **options: of ``from_pretrained``.

    Raises:
        FileNotFoundError: there is none, or a broken one.
        ImportError: it needs a package that is missing.
        ValueError: a weight is NaN or infinite.
    """
    import transformers  # here, since importing it takes seconds
    from transformers.utils import logging

    local, bars = Path(name).is_dir(), logging.is_progress_bar_enabled()
    if not local:
        check_on_hub(name, f"{kind} {name!r}")
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        part = getattr(transformers, auto_class).from_pretrained(
            name, local_files_only=local, trust_remote_code=False, **options
        )
    except ImportError as error:
        raise ImportError(f"{kind} {name!r}: {reason(error)}") from error
    except Exception as error:  # a damaged folder fails in many ways
        tried = "the folder holds none" if local else "none that can be loaded"
        raise FileNotFoundError(
            f"{kind} {name!r}: {tried} ({reason(error)}); give a name of the hub or a folder of save_pretrained"
        ) from error
    finally:
        if bars:
            logging.enable_progress_bar()  # type: ignore[no-untyped-call]
    for weight, value in part.named_parameters() if hasattr(part, "named_parameters") else ():
        if not bool(value.isfinite().all()):
            raise ValueError(f"{kind} {name!r}: its weight {weight} holds a NaN or an infinity")
    return part


def patch_and_image_size(config: Any) -> tuple[int, int]:
    """Pixels of a side of a patch that a vision model makes a state of in the end, and of an image.

    Args:
        config: the settings of the vision model, of ``transformers``.

    Raises:
        ValueError: it does not read images of one size in square patches.
    """
    patch, image = (getattr(config, name, None) for name in ("patch_size", "image_size"))
    if not isinstance(patch, int) or not isinstance(image, int):
        raise ValueError(
            f"a model of type {config.model_type!r} with image_size {image} and patch_size {patch}, expected squares "
            "of a whole number of pixels"
        )
    merged = len(getattr(config, "depths", [1])) - 1  # each stage of Swin but the first makes one patch of four
    return patch * 2**merged, image
