"""``itmatch compare``: runs beside each other, and beside published results."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from itmatch.errors import UsageError
from itmatch.formats.messages import meant

if TYPE_CHECKING:
    from itmatch.evaluation.results.forms import ResultGroup
    from itmatch.evaluation.results.groups import RunGroup
    from itmatch.evaluation.results.published import PublishedResult
    from itmatch.evaluation.results.runs import StoredRanks
    from itmatch.evaluation.results.settings import Setting

_BEFORE = {"markdown": "- ", "latex": "% "}  # what stands before a line below the table


def compare(
    runs: list[Path],
    *,
    names: list[str] | None = None,
    over_seeds: bool = False,
    published: list[str] | None = None,
    figures: list[str] | None = None,
    form: Literal["text", "markdown", "latex", "csv", "bibtex"] = "text",
    samples: int = 10_000,
    seed: int = 0,
) -> None:
    """Print a table of the recalls of runs, in groups of one test set and protocol.

    A run has a line in each group that it has figures for. The best of a column in its group is bold, in plain text
    it has a * behind it. Of every two runs with test_ranks.npz, on the same images and captions, the difference in
    rSum follows, with its 95 % interval by a paired bootstrap over the test images.

    Args:
        runs: folders of runs, or their test_metrics.json.
        names: labels, one per run in their order; with --over-seeds one per setting.
        over_seeds: one line per setting: mean and standard deviation of runs that differ in their seed alone.
        published: published results too: flickr30k, coco_1k, coco_5k.
        figures: names of those to show instead of the recalls, such as i2t_medr, or all.
        form: of the table; bibtex prints the entries of the published results instead.
        samples: of the bootstrap.
        seed: of the bootstrap.
    """
    if samples < 1:
        raise ValueError(f"--samples: {samples}, expected 1 or more")
    from itmatch.evaluation.results.groups import group_runs
    from itmatch.evaluation.results.published import bibtex, published_results
    from itmatch.evaluation.results.runs import read_run
    from itmatch.evaluation.results.settings import settings_of
    from itmatch.evaluation.results.table import grouped_table

    read = [read_run(path) for path in runs]
    if names and not over_seeds:
        _check_names(names, [run.label for run in read], "run")
        read = [run.named(name) for run, name in zip(read, names, strict=True)]
    settings, told = settings_of(read, over_seeds=over_seeds)
    if names and over_seeds:
        _check_names(names, [setting.label for setting in settings], "setting")
        settings = [setting.named(name) for setting, name in zip(settings, names, strict=True)]
    try:
        results = [result for protocol in dict.fromkeys(published or []) for result in published_results(protocol)]
    except ValueError as error:
        raise UsageError(f"--published: {str(error).removeprefix('protocol: ')}") from error
    if form == "bibtex":
        if not results:
            raise UsageError("--form bibtex: the entries are those of published results; name some with --published")
        print(bibtex(result.key for result in results))
        return
    groups = group_runs(read)
    tables = _tables(groups, settings, results, figures or (["all"] if form == "csv" else []))
    print(grouped_table(tables, form))
    differences, missing = _differences(groups, settings, samples, seed)
    if differences and form in ("text", "markdown"):
        print()
    for line in differences:
        print(_BEFORE.get(form, "") + line, file=sys.stderr if form == "csv" else sys.stdout)
    for line in [*told, *_not_shown(groups, figures, everything=form == "csv"), *missing]:
        print(line, file=sys.stderr)


def _check_names(names: Sequence[str], of: Sequence[str], kind: str) -> None:
    if len(names) != len(of):
        raise UsageError(f"--names: {len(names)}, expected {len(of)}, one per {kind}: {', '.join(of)}")
    for name in names:
        if names.count(name) > 1:
            raise UsageError(f"--names: {name!r} twice, expected a different name per {kind}")


def _tables(
    groups: Sequence[RunGroup], settings: Sequence[Setting], results: Sequence[PublishedResult], figures: Sequence[str]
) -> list[ResultGroup]:
    """The groups with their lines, published results first; those that belong to no group have one of their own."""
    from itmatch.evaluation.results.figures import PROTOCOL_TITLES, RECALLS
    from itmatch.evaluation.results.forms import ResultGroup, ResultRow
    from itmatch.evaluation.results.groups import titles_of

    known = {name for group in groups for own in group.names for name in (own, group.full_name(own))}
    for name in figures:
        if name not in known | {"all"}:
            raise UsageError(f"--figures: no run has {name!r}; {meant(name, known | {'all'})}")
    found = []
    for group, title in zip(groups, titles_of(groups), strict=True):
        asked = group.asked(figures)
        if figures and not asked:  # which is told of
            continue
        papers = [result for result in results if group.takes(result.protocol)]
        rows = [ResultRow(result.label, result.figures, result.key) for result in papers]
        rows += [row for setting in settings if (row := setting.row(group))]
        found.append(ResultGroup(title, rows, asked if figures else group.shown))
    for protocol in dict.fromkeys(result.protocol for result in results):
        if not any(group.takes(protocol) for group in groups):
            rows = [ResultRow(one.label, one.figures, one.key) for one in results if one.protocol == protocol]
            found.append(ResultGroup(f"{PROTOCOL_TITLES[protocol]}, as published", rows, list(RECALLS)))
    return found


def _not_shown(groups: Sequence[RunGroup], figures: Sequence[str] | None, *, everything: bool) -> list[str]:
    """What is to be said of figures that the tables leave out: without being asked to, or a whole group."""
    from itmatch.evaluation.results.groups import titles_of

    if figures:
        titles = zip(groups, titles_of(groups), strict=True)
        return [
            f"not shown: {title}, which has none of --figures" for group, title in titles if not group.asked(figures)
        ]
    hidden = dict.fromkeys(group.full_name(name) for group in groups for name in group.names if name not in group.shown)
    return [f"not shown: {', '.join(hidden)} (--figures all)"] if hidden and not everything else []


def _differences(
    groups: Sequence[RunGroup], settings: Sequence[Setting], samples: int, seed: int
) -> tuple[list[str], list[str]]:
    """Differences of every two lines of the groups, and why there are none of others."""
    from itmatch.evaluation.results.groups import titles_of, what_differs

    lines: dict[str, list[str]] = {}
    missing: list[str] = []
    for group, title in zip(groups, titles_of(groups), strict=True):
        rows = [(row.label, setting.ranks(group)) for setting in settings if (row := setting.row(group))]
        if len(rows) < 2:
            continue
        if group.protocol:
            missing.append(f"no intervals for {title}: stored ranks are those of a whole split")
            continue
        without = [label for label, ranks in rows if not ranks]
        if without:
            missing.append(f"no interval: {' and '.join(without)} without test_ranks.npz, as of a whole split")
        ranked = [(label, ranks) for label, ranks in rows if ranks]
        if len(ranked) > 1:
            lines[title] = _pairs(ranked, samples, seed)
    if len(settings) > 1 and not lines and not missing:
        told = what_differs(groups)
        missing.append("no interval: no two lines are of one test set and protocol" + (f" ({told})" if told else ""))
    many = len(lines) > 1
    return [f"{title}: {line}" if many else line for title, found in lines.items() for line in found], missing


def _pairs(rows: Sequence[tuple[str, Sequence[StoredRanks]]], samples: int, seed: int) -> list[str]:
    from itmatch.evaluation.bootstrap import holm, pairwise_bootstrap

    image = rows[0][1][0].caption_image
    systems = [[stored.ranks for stored in ranks] for _, ranks in rows]
    pairs = pairwise_bootstrap(systems, image, samples=samples, seed=seed)
    together = holm([pair.result.p_value for pair in pairs])
    lines = []
    for pair, adjusted in zip(pairs, together, strict=True):
        one, other, found = rows[pair.first][0], rows[pair.second][0], pair.result
        by_holm = f", among {len(pairs)} pairs {adjusted:.2g}" if len(pairs) > 1 else ""
        lines.append(
            f"rSum of {one} less that of {other}: {found.difference:+.1f}, 95 % interval {found.low:+.1f} to "
            f"{found.high:+.1f}, p = {found.p_value:.2g}{by_holm} ({samples} samples of the test images)"
        )
    if len(pairs) > 1:
        lines.append(
            f"{len(pairs)} pairs: each interval and p is of its pair alone, and of many pairs a few differ by chance; "
            "p among all of them is by Holm's method"
        )
    return lines
