"""The photos of images whose features lie elsewhere, for pictures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from itmatch.data.sources.layout import mapping_beside
from itmatch.formats.files import user_path


def photos_of(image_ids: Sequence[str], folder: str | Path, lists: Path) -> list[str]:
    """For each image the path of its photo, or nothing where the folder has none.

    The photo has the id for a name, with an ending or without one, or the name that ``id_mapping.json`` beside the
    lists gives the id. It is looked for among the files of the folder, so that no id leads to another place.

    Args:
        image_ids: names of the images.
        folder: of the photos.
        lists: folder of the ids.

    Raises:
        FileNotFoundError: no such folder.
    """
    folder = user_path(folder)
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder}: no such folder, expected that of the photos")
    files = sorted(path.name for path in folder.iterdir())
    there = {Path(name).stem: name for name in files} | {name: name for name in files}
    mapping = mapping_beside(lists) or {}
    names = (Path(mapping.get(image, image)).name for image in image_ids)
    return [str(folder / there[name]) if name in there else "" for name in names]
