"""What has made the features of a folder, as ``itmatch extract`` notes it beside them."""

from __future__ import annotations

import warnings
from pathlib import Path

from itmatch.extractor import Extractor, other_setting
from itmatch.formats.files import read_json
from itmatch.formats.messages import reason
from itmatch.spec import build, is_spec


def extractor_beside(where: Path) -> Extractor | None:
    """The extractor of ``{split}_extractor.json``; None where there is no such file, or one that cannot be built.

    Args:
        where: folder and name of the split.

    Raises:
        ValueError: the file is damaged, or describes something else.
    """
    path = Path(f"{where}_extractor.json")
    if not path.exists():
        return None
    spec = read_json(path)
    if not is_spec(spec):
        raise ValueError(f"{path}: no extractor in it, expected a class_path and its init_args")
    try:
        found: Extractor = build(spec, Extractor, str(path))
    except ValueError as error:  # such as a class of somebody's own, which a file may not have imported
        warnings.warn(f"{reason(error)}; models that are trained on it take no photos", stacklevel=4)
        return None
    return found


def same_extractor(known: Extractor | None, found: Extractor | None, where: Path) -> Extractor | None:
    """The extractor of the splits that were read and of one more.

    Raises:
        ValueError: they differ.
    """
    if known is not None and found is not None:
        differs = other_setting(found.spec, known.spec)
        if differs is not None:
            name, other, own = differs
            raise ValueError(f"{where}_extractor.json: {name} is {other!r}, that of another split is {own!r}")
    return known if found is None else found
