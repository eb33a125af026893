"""``itmatch data check``: says what folders and files of data hold, and what is wrong with them."""

from __future__ import annotations

from json import dumps
from pathlib import Path

from itmatch.data.check.paths import check_path
from itmatch.data.tokenizers.base import Tokenizer
from itmatch.data.tokenizers.characters import CharacterTokenizer
from itmatch.data.tokenizers.huggingface import HuggingFaceTokenizer
from itmatch.data.tokenizers.words import WordTokenizer


def check(paths: list[Path], *, features: Path | None = None, tokenizer: Path | None = None, json: bool = False) -> int:
    """Say what PATH holds, what is missing, and what is wrong; the exit status is 1 if `itmatch fit` could not run.

    Args:
        paths: folders of precomputed features, of photos with lists of captions, or with a file of features per image
            (.npy, or .npz with the arrays features or x (R, F), bbox or boxes, image_w and image_h, objects_id);
            json of captions (Karpathy's, COCO's own); vocabularies; .npy files; or word vectors.
        features: the features that a json of captions goes with, a file or a folder; or the folder of the photos.
        tokenizer: tell of the tokens that this one does not know: a vocabulary, "characters", or the name or folder
            of a pretrained tokenizer; the default is the vocabulary that training makes of the training captions.
        json: print all of it as json: a list with one report per PATH.
    """
    known = None if tokenizer is None else _tokenizer(tokenizer)
    reports = [check_path(path, known, features=features) for path in paths]
    if json:
        print(dumps([report.as_dict() for report in reports], indent=2, ensure_ascii=False))
    else:
        print("\n\n".join(str(report) for report in reports))
    return 0 if all(report.ready for report in reports) else 1


def _tokenizer(path: Path) -> Tokenizer:
    if str(path) == "characters":
        return CharacterTokenizer()
    if path.suffix in (".json", ".pkl", ".pickle"):
        return WordTokenizer(path)
    tokenizer = HuggingFaceTokenizer(str(path))
    tokenizer.fit([])  # so that a wrong name is told of now
    return tokenizer
