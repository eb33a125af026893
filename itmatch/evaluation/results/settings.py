"""Runs of one setting, which differ in their seed alone, as one line of a table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from itmatch.evaluation.results.figures import spread_over
from itmatch.evaluation.results.forms import ResultRow
from itmatch.evaluation.results.groups import RunGroup
from itmatch.evaluation.results.runs import StoredRanks, StoredRun


@dataclass(frozen=True)
class Setting:
    """What becomes one line of each group.

    Args:
        label: how tables name it.
        runs: one, or several with different seeds.
    """

    label: str
    runs: tuple[StoredRun, ...]

    def named(self, label: str) -> Setting:
        """The same with another label."""
        return replace(self, label=label)

    def row(self, group: RunGroup) -> ResultRow | None:
        """Its figures in a group, of several runs mean and standard deviation; None if it has none there.

        A figure that not all of its runs there have is left out.
        """
        found = [(run, figures) for run, figures in group.members if run in self.runs]
        if not found:
            return None
        common = [name for name in found[0][1] if all(name in figures for _, figures in found)]
        spread = {name: spread_over([figures[name] for _, figures in found]) for name in common}
        marks = [f"{len(found)} seeds"] if len(found) > 1 else []
        marks += ["last weights"] if any("last_weights" in run.figures for run, _ in found) else []
        label = f"{self.label} ({', '.join(marks)})" if marks else self.label
        return ResultRow(label, spread, runs=len(found))

    def ranks(self, group: RunGroup) -> list[StoredRanks]:
        """The ranks of its runs in a group; none if one of them has none."""
        found = [run.ranks for run, _ in group.members if run in self.runs]
        stored = [ranks for ranks in found if ranks is not None]
        return stored if len(stored) == len(found) else []


def settings_of(runs: Sequence[StoredRun], *, over_seeds: bool) -> tuple[list[Setting], list[str]]:
    """The settings of runs, and what is to be said of them: which runs might be one setting, and which are alone.

    Args:
        runs: in their order.
        over_seeds: runs that differ in their seed alone are one setting; otherwise each has its own.
    """
    settings, alone = _over_seeds(runs)
    if over_seeds:
        return settings, alone
    alike = [", ".join(run.label for run in setting.runs) for setting in settings if len(setting.runs) > 1]
    told = f"{'; '.join(alike)}: alike but for their seeds, --over-seeds shows their mean and standard deviation"
    return [Setting(run.label, (run,)) for run in runs], [told] if alike else []


def _over_seeds(runs: Sequence[StoredRun]) -> tuple[list[Setting], list[str]]:
    """Runs of one setting together, and what is to be said of those that are alone.

    Runs are of one setting if their configurations differ in ``seed_everything`` and in the paths that they write to
    alone. No two of them have the same seed: a repetition says nothing about seeds.
    """
    found: list[list[StoredRun]] = []
    told = []
    for run in runs:
        alike = [members for members in found if run.setting is not None and members[0].setting == run.setting]
        same = next((one for members in alike for one in members if one.seed == run.seed), None)
        if run.setting is None:
            told.append(f"{run.label}: no config.yaml, so its setting is not known and it has a line of its own")
        elif run.seed is None:
            told.append(f"{run.label}: no seed in its config.yaml, so it has a line of its own")
        elif same is not None:
            told.append(f"{run.label}: the setting and the seed ({run.seed}) of {same.label}; it has a line of its own")
        elif alike:
            alike[0].append(run)
            continue
        found.append([run])
    return [Setting(members[0].label, tuple(members)) for members in found], told
