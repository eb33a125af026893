"""Runs in groups whose figures may be compared: the same images and captions, measured in the same way."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import torch

from itmatch.evaluation.coco.protocols import Cxc, EccvCaption, PlausibleMatch
from itmatch.evaluation.protocols import Coco1K, Coco5K, Flickr30K
from itmatch.evaluation.results.figures import PROTOCOL_TITLES, RECALLS, by_protocol
from itmatch.evaluation.results.runs import LABELS, StoredRanks, StoredRun
from itmatch.formats.messages import shown

_NAMES = {cls.__name__: cls.name for cls in (Flickr30K, Coco1K, Coco5K, EccvCaption, Cxc, PlausibleMatch)}
_WHOLE = (Flickr30K.name, Coco5K.name)  # their figures are those of the whole split
_BESIDE = (EccvCaption.name, Cxc.name, PlausibleMatch.name)  # their figures come beside those of the whole split
_IMAGES = {"flickr30k": 1000, "coco_1k": 5000, "coco_5k": 5000}  # of the test sets of published results


@dataclass
class RunGroup:
    """Figures that may be compared.

    Args:
        protocol: name; ``""`` for the recalls of a whole split.
        test_set: equal for the same images and captions; None if nothing is known of them.
        members: runs, each with its figures of this protocol.
        known_as: names of protocols that measure the same.
    """

    protocol: str
    test_set: str | None
    members: list[tuple[StoredRun, dict[str, float]]] = field(default_factory=list)
    known_as: set[str] = field(default_factory=set)

    @property
    def title(self) -> str:
        """Protocol and test set."""
        base, _, more = self.protocol.partition(" ")
        whole = " / ".join(PROTOCOL_TITLES[name] for name in sorted(self.known_as)) or "whole split"
        name = " ".join(filter(None, [PROTOCOL_TITLES.get(base, base) or whole, more]))
        run = self.members[0][0]
        ranks = next((run.ranks for run, _ in self.members if run.ranks), None)
        if self.test_set is None:
            return f"{name}, {run.stage}: images and captions not known"
        first = "the first " if "images" in run.figures else ""
        if ranks is not None:
            return f"{name}, {run.stage}: {first}{len(ranks.image_ids)} images, {len(ranks.caption_image)} captions"
        part = f", {first}{run.figures['images']:.0f} images" if first else ""
        return f"{name}, {run.stage}: data as config.yaml names them{part}"

    @property
    def names(self) -> list[str]:
        """All figures of the group."""
        return list(dict.fromkeys(name for _, figures in self.members for name in figures))

    @property
    def shown(self) -> list[str]:
        """The figures that tables show: the recalls and rSum, or all of a protocol that measures something else."""
        recalls = set(self.names) & set(RECALLS)
        own = self.protocol and "rsum" not in recalls and len(recalls) < len(self.names)
        return list(RECALLS) if recalls and not own else self.names

    def full_name(self, figure: str) -> str:
        """The name of a figure in ``test_metrics.json`` where several protocols were measured."""
        return f"{self.protocol.partition(' ')[0]}_{figure}" if self.protocol else figure

    def asked(self, figures: Sequence[str]) -> list[str]:
        """Its figures among some names, with or without the protocol before them; ``all`` is every figure."""
        return [name for name in self.names if {name, self.full_name(name), "all"} & set(figures)]

    def takes(self, protocol: str) -> bool:
        """Whether published results of a protocol may stand in this group."""
        if any(run.stage != "test" or "images" in run.figures for run, _ in self.members):
            return False
        images = {len(run.ranks.image_ids) for run, _ in self.members if run.ranks}
        same = protocol == self.protocol or (protocol in _WHOLE and not self.protocol)
        return same and images <= {_IMAGES[protocol]} and not self.known_as - {protocol}


def group_runs(runs: Sequence[StoredRun]) -> list[RunGroup]:
    """Groups of runs, in the order in which they come first; a run is in each group that it has figures for."""
    groups: dict[tuple[str, str | None], RunGroup] = {}
    for run, test_set in zip(runs, _test_sets(runs), strict=True):
        for protocol, known_as, figures in _parts(run):
            group = groups.setdefault((protocol, test_set), RunGroup(protocol, test_set))
            group.members.append((run, figures))
            group.known_as |= known_as
    return list(groups.values())


def titles_of(groups: Iterable[RunGroup]) -> list[str]:
    """A title for each group; those of equal ones are numbered."""
    titles = [group.title for group in groups]
    return [
        f"{title} (set {titles[: i + 1].count(title)} of {titles.count(title)})" if titles.count(title) > 1 else title
        for i, title in enumerate(titles)
    ]


def _test_sets(runs: Sequence[StoredRun]) -> list[str | None]:
    """What each run was tested on: by its ranks; without them, as a run with ranks on the same source of data."""
    found = []
    by_source: dict[str, set[str]] = {}
    for run in runs:
        ranks = run.ranks
        known = None
        if ranks is not None:
            known = json.dumps([ranks.image_ids, ranks.captions_digest, ranks.caption_image.tolist()])
            if run.source is not None:
                by_source.setdefault(run.source, set()).add(known)
        found.append(known)
    for i, run in enumerate(runs):
        if found[i] is None and run.source is not None:
            sets = by_source.get(run.source, set())
            found[i] = next(iter(sets)) if len(sets) == 1 else run.source
    return found


def _parts(run: StoredRun) -> list[tuple[str, set[str], dict[str, float]]]:
    """The protocols that a run has figures of: the name of each, other names, and the figures."""
    parts = by_protocol({name: value for name, value in run.figures.items() if name not in LABELS})
    main = parts.pop("", {})
    named = [(_NAMES.get(name, name), name, settings) for name, settings in run.protocols]
    details = {short: _details(settings) if short == Coco1K.name else "" for short, _, settings in named}
    protocol, known_as = "", set()
    if len(named) == 1 and not isinstance((run.config or {}).get("protocol"), list):
        short = named[0][0]
        known_as = {short} & set(_WHOLE)
        if short not in (*_WHOLE, *_BESIDE):
            protocol = short + details[short]
    elif "rsum_std" in main:
        protocol = Coco1K.name  # the one that writes it
    found = []
    for short, figures in parts.items():
        if short in _WHOLE and not protocol and _agree(figures, main):
            known_as, main = known_as | {short}, figures | main
        else:
            found.append((short + details.get(short, ""), set[str](), figures))
    return ([(protocol, known_as, main)] if main else []) + found


def _details(settings: Mapping[str, object]) -> str:
    folds = settings.get("folds", 5)
    return "" if folds == 5 else f" in {folds} folds"


def _agree(figures: Mapping[str, float], main: Mapping[str, float]) -> bool:
    return bool(main) and all(main.get(name, value) == value for name, value in figures.items())


def what_differs(groups: Iterable[RunGroup]) -> str:
    """In what the test sets of runs differ, where their ranks say so: of the first run and the first other one."""
    runs = [run for group in groups for run, _ in group.members if run.ranks]
    for other in runs[1:]:
        one, two = runs[0].ranks, other.ranks
        assert one is not None
        assert two is not None
        if told := _difference(one, two):
            return f"{runs[0].label} and {other.label}: {told}"
    return ""


def _difference(one: StoredRanks, two: StoredRanks) -> str:
    if len(one.image_ids) != len(two.image_ids):
        return f"{len(one.image_ids)} and {len(two.image_ids)} images"
    known, theirs = set(one.image_ids), set(two.image_ids)
    alone = [name for name in one.image_ids if name not in theirs]
    if alone:
        others = next((name for name in two.image_ids if name not in known), "none")
        count = f"{len(alone)} of the {len(one.image_ids)} images are others"
        return f"{count}, by their ids, {shown(alone[0])} and {shown(others)} for example"
    if one.image_ids != two.image_ids:
        place = next(i for i, name in enumerate(one.image_ids) if name != two.image_ids[i])
        names = f"{shown(one.image_ids[place])} and {shown(two.image_ids[place])}"
        return f"the same images in another order, from number {place} on, {names}"
    if len(one.caption_image) != len(two.caption_image):
        return f"the same images, {len(one.caption_image)} and {len(two.caption_image)} captions"
    if one.captions_digest != two.captions_digest:
        return "the same images, other captions"
    return "" if torch.equal(one.caption_image, two.caption_image) else "the captions go with other images"
