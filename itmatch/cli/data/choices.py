"""``itmatch data choices``: makes questions of the relations between words of captions."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from itmatch.formats.messages import counted


def choices(
    folder: Path, splits: list[str], *, relations: str = "caption_relations", seed: int = 0, overwrite: bool = False
) -> None:
    """Write SPLIT_choices.jsonl into FOLDER: captions beside wrong ones with a relation turned round or replaced.

    It needs SPLIT_caps.txt, ids of the images, and the relations of the captions, which itmatch data parse writes.
    itmatch choose asks a model.

    Args:
        folder: of precomputed features.
        splits: such as dev and test.
        relations: the middle of the name of the file of relations.
        seed: of the predicates that are drawn.
        overwrite: replace a file that is there.
    """
    from itmatch.data import PrecompFolder
    from itmatch.data.choices.making import make_choices
    from itmatch.data.choices.rows import write_choices

    work = []
    for split in splits:
        path = folder / f"{split}_choices.jsonl"
        if path.exists() and not overwrite:
            raise FileExistsError(f"{path}: there is one already; --overwrite replaces it")
        data = PrecompFolder(folder, test=split, boxes=None, caption_relations=relations).split("test")
        if data.caption_relations is None:
            missing = folder / f"{split}_{relations}.npz"
            raise FileNotFoundError(f"{missing}: no such file; itmatch data parse writes it")
        images = [data.image_ids[image] for image in data.caption_image.tolist()]
        work.append((path, list(make_choices(images, data.captions, data.caption_relations, seed=seed))))
    for path, made in work:
        write_choices(path, made)
        kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(Counter(one.kind for one in made).items()))
        print(f"{path}: {counted(len(made), 'questions')} ({kinds or 'no caption has a relation to turn round'})")
