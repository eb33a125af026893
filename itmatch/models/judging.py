"""A model beside people: do its scores order pairs of images and captions as their ratings do?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch

from itmatch.data import ImageTextSplit
from itmatch.data.ratings import RatedPair
from itmatch.evaluation.agreement import Agreement, measure_agreement
from itmatch.evaluation.choices import check_finite_scores
from itmatch.evaluation.scores import FragmentScores
from itmatch.models.asking import encoded_captions, encoded_rows, find_rows, rows_of
from itmatch.models.matching import MatchingModel
from itmatch.ops.checks import check_whole


def judge_pairs(
    model: MatchingModel,
    split: ImageTextSplit,
    pairs: Sequence[RatedPair],
    *,
    average: bool = False,
    skip_unknown: bool = False,
    batch_size: int = 128,
    samples: int = 200,
    seed: int = 0,
) -> Agreement:
    """Kendall's tau of the scores of a model and the ratings of people, with a standard error over images.

    Args:
        model: with its tokenizer.
        split: has the images of the pairs, by their ids or by the last parts of their paths; its own captions are not
            read.
        pairs: what people have rated.
        average: a pair with several ratings counts once, with their mean; otherwise each rating counts, as is the
            custom with Flickr8K-Expert.
        skip_unknown: leave out pairs whose images are not in the split, and count them.
        batch_size: images, and captions, that are encoded at a time.
        samples: of the bootstrap, see :func:`itmatch.evaluation.measure_agreement`.
        seed: of the samples.

    Raises:
        ValueError: no pairs; an image is not in the split; all ratings, or all scores, are the same.
        NonFiniteError: a score is NaN or infinite.

    Example:
        >>> from itmatch.data import RelationScenes, Vocabulary
        >>> from itmatch.models import chan_gru
        >>> split = RelationScenes(num_test=4).split("test")
        >>> model = chan_gru(Vocabulary.build([["a", "red"]], min_count=1), region_dim=64, embed_dim=8)
        >>> rated = [RatedPair(name, "a red a", (rating, 2)) for rating, name in enumerate(split.image_ids)]
        >>> found = judge_pairs(model, split, rated)
        >>> found.ratings, found.pairs, found.images
        (8, 4, 4)
    """
    check_whole("batch_size", batch_size)
    if not pairs:
        raise ValueError("pairs: none, expected rated pairs of an image and a caption")
    names = [pair.image for pair in pairs]
    if skip_unknown:
        rows = {name: row for name, row in find_rows(split, names).items() if row is not None}
    else:
        rows = rows_of(split, names, "ratings")
    kept = [pair for pair in pairs if pair.image in rows]
    if not kept:
        raise ValueError(f"{split.name}: none of the {len(pairs)} rated pairs is of an image in it")
    ratings = [_ratings(pair, average=average) for pair in kept]
    counts = torch.tensor([len(given) for given in ratings])
    image = torch.tensor([rows[pair.image] for pair in kept])
    found = measure_agreement(
        _scores(model, split, kept, image, batch_size),
        torch.tensor([one for given in ratings for one in given], dtype=torch.float64),
        torch.arange(len(kept)).repeat_interleave(counts),
        image,
        samples=samples,
        seed=seed,
    )
    return replace(found, skipped=len(pairs) - len(kept))


def _ratings(pair: RatedPair, *, average: bool) -> tuple[float, ...]:
    if not pair.ratings:
        raise ValueError(f"pair of image {pair.image!r}: no ratings")
    return (sum(pair.ratings) / len(pair.ratings),) if average else pair.ratings


def _scores(
    model: MatchingModel, split: ImageTextSplit, pairs: Sequence[RatedPair], image: torch.Tensor, batch_size: int
) -> torch.Tensor:
    """(P,) the score of each pair; every image and every caption is encoded once."""
    used, place = torch.unique(image, return_inverse=True)
    texts = {text: number for number, text in enumerate(dict.fromkeys(pair.caption for pair in pairs))}
    images = encoded_rows(model, split, used.tolist(), batch_size)
    captions = encoded_captions(model, dict.fromkeys(texts), batch_size)
    text = torch.tensor([texts[pair.caption] for pair in pairs])
    with model._inference():
        scores = FragmentScores([(model.similarity, images, captions)]).pairs(
            place.to(model.device), text.to(model.device)
        )
    check_finite_scores(scores, "judge")
    return scores.cpu()
