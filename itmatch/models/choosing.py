"""A model before a test of understanding: right and wrong captions of images, scored."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import zip_longest

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from itmatch.data import ImageTextSplit
from itmatch.data.choices.rows import Choice, Triples
from itmatch.evaluation.choices import (
    ChoiceFigure,
    area_under_curve,
    check_finite_scores,
    chosen_right,
    group_hits,
    share,
)
from itmatch.evaluation.scores import FragmentScores
from itmatch.models.asking import encoded_captions, encoded_rows, rows_of
from itmatch.models.matching import MatchingModel
from itmatch.ops.checks import check_whole


def measure_choices(
    model: MatchingModel, split: ImageTextSplit, choices: Sequence[Choice], *, batch_size: int = 128, seed: int = 0
) -> list[ChoiceFigure]:
    """How often a model scores the right captions of an image above its wrong ones, by kind and over all.

    A question with right and wrong captions is answered well where every right one scores above every wrong one; a tie
    is wrong. Beside it stands the control: the same question about another image of the test, which shows what the
    captions alone give away. Where that is far from half, the test says little about images. Questions of one group
    also give Winoground's scores by text, by image and by group; single captions an area under the curve.

    Args:
        model: with its tokenizer.
        split: has the images of the questions, by their ids or by the last parts of their paths; its own captions are
            not read.
        choices: the questions.
        batch_size: images, and captions, that are encoded at a time.
        seed: of which other image a question is asked about.

    Returns:
        Figures by kind in alphabetical order; then over all, where there are several kinds.

    Raises:
        ValueError: an image is not in the split, or there are no questions.

    Example:
        >>> from itmatch.data import RelationScenes, Vocabulary
        >>> from itmatch.models import chan_gru
        >>> split = RelationScenes(num_test=4).split("test")
        >>> model = chan_gru(Vocabulary.build([["a", "red"]], min_count=1), region_dim=64, embed_dim=8)
        >>> asked = [Choice(name, ("a red",), ("red a",), "order") for name in split.image_ids]
        >>> [(one.kind, one.name, one.count) for one in measure_choices(model, split, asked)]
        [('order', 'accuracy', 4)]
    """
    check_whole("batch_size", batch_size)
    if not choices:
        raise ValueError("choices: none, expected questions")
    scores = _Scores(model, split, choices, batch_size, seed)
    kinds = sorted({choice.kind for choice in choices})
    figures = [one for kind in kinds for one in _figures(kind, _of_kind(choices, kind), scores)]
    return figures + (_figures("all", choices, scores) if len(kinds) > 1 or kinds == [""] else [])


def _of_kind(choices: Sequence[Choice], kind: str) -> list[Choice]:
    return [choice for choice in choices if choice.kind == kind]


class _Scores:
    """The scores of all captions of the questions with their own images, with other images, and within groups."""

    def __init__(
        self, model: MatchingModel, split: ImageTextSplit, choices: Sequence[Choice], batch_size: int, seed: int
    ) -> None:
        rows = rows_of(split, [choice.image for choice in choices], "questions")
        used = sorted(set(rows.values()))
        place = {row: number for number, row in enumerate(used)}
        self.image = {name: place[row] for name, row in rows.items()}
        relations = _relations(choices)
        self.text = {text: number for number, text in enumerate(relations)}
        order = torch.randperm(len(used), generator=torch.Generator().manual_seed(seed)).tolist()
        self.other = dict(zip(order, order[1:] + order[:1], strict=True))
        images = encoded_rows(model, split, used, batch_size)
        texts = encoded_captions(model, relations, batch_size)
        self.scores, self.model = FragmentScores([(model.similarity, images, texts)]), model
        self.device = model.device

    def of(self, asked: Sequence[tuple[int, str]]) -> Tensor:
        """Scores (N,) of images, by place, with texts."""
        images = torch.tensor([image for image, _ in asked], dtype=torch.int64, device=self.device)
        texts = torch.tensor([self.text[text] for _, text in asked], dtype=torch.int64, device=self.device)
        with self.model._inference():
            scores = self.scores.pairs(images, texts).cpu()
        check_finite_scores(scores, "choices")
        return scores

    def sides(self, choices: Sequence[Choice], *, blind: bool) -> tuple[Tensor, Tensor]:
        """Scores of the right (N, A) and of the wrong (N, B) captions."""
        images = [self.image[choice.image] for choice in choices]
        images = [self.other[image] for image in images] if blind else images
        sides = []
        for captions, missing in (([c.right for c in choices], torch.inf), ([c.wrong for c in choices], -torch.inf)):
            asked = [(image, text) for image, texts in zip(images, captions, strict=True) for text in texts]
            parts = torch.split(self.of(asked), [len(texts) for texts in captions])
            sides.append(pad_sequence(list(parts), batch_first=True, padding_value=missing))
        return sides[0], sides[1]


def _figures(kind: str, choices: Sequence[Choice], scores: _Scores) -> list[ChoiceFigure]:
    kind, figures = kind or "all", []
    whole = [choice for choice in choices if choice.right and choice.wrong]
    if whole:
        value, error = share(chosen_right(*scores.sides(whole, blind=False)))
        blind = share(chosen_right(*scores.sides(whole, blind=True))) if len(scores.other) > 1 else (None, None)
        figures.append(ChoiceFigure(kind, "accuracy", len(whole), value, error, *blind))
    groups: dict[str, list[Choice]] = {}
    for choice in whole:
        groups.setdefault(choice.group, []).append(choice)
    pairs = [pair for name, pair in groups.items() if name and len(pair) == 2]
    if pairs:
        asked = [(scores.image[one.image], two.right[0]) for pair in pairs for one in pair for two in pair]
        for name, hits in group_hits(scores.of(asked).view(-1, 2, 2)).items():
            figures.append(ChoiceFigure(kind, name, len(pairs), *share(hits)))
    single = [[c for c in choices if c.right and not c.wrong], [c for c in choices if c.wrong and not c.right]]
    if all(single):
        right, wrong = (scores.of([(scores.image[c.image], t) for c in s for t in c.right + c.wrong]) for s in single)
        figures.append(ChoiceFigure(kind, "auc", len(right) * len(wrong), *area_under_curve(right, wrong)))
    return figures


def _relations(choices: Sequence[Choice]) -> dict[str, Triples | None]:
    """Each caption once, with the relations that the first question gives it; None where none does."""
    found: dict[str, Triples | None] = {}
    for choice in choices:
        for text, table in zip_longest(choice.captions, choice.relations):
            if found.get(text) is None:
                found[text] = table
    return found
