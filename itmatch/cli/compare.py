"""``itmatch compare``: runs beside each other, and beside published results."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from itmatch.formats.figures import read_figures


def compare(
    runs: list[Path], *, published: str | None = None, form: str = "text", samples: int = 10_000, seed: int = 0
) -> None:
    """Print a table of the recalls of runs.

    Of two runs with test_ranks.npz beside their figures, on the same images, the difference in rSum follows, with its
    95 % interval by a paired bootstrap over the test images.

    Args:
        runs: folders of runs, or their test_metrics.json.
        published: published results too: flickr30k, coco_1k or coco_5k.
        form: text, markdown or latex.
        samples: of the bootstrap.
        seed: of the bootstrap.
    """
    if samples < 1:
        raise ValueError(f"--samples: {samples}, expected 1 or more")
    paths = [_metrics_file(path) for path in runs]
    figures = {str(given): read_figures(path) for given, path in zip(runs, paths, strict=True)}

    from itmatch.evaluation import published_results, results_table

    rows = {}
    if published:
        rows = {result.label: result.figures for result in published_results(published)}
    print(results_table(rows | figures, form))
    files = [_ranks_file(path) for path in paths]
    if len(paths) == 2:
        missing = [str(run) for run, file in zip(runs, files, strict=True) if not file.is_file()]
        if missing:
            print(f"no interval: {' and '.join(missing)} without test_ranks.npz, as of a whole split", file=sys.stderr)
        else:
            comment = "% " if form == "latex" else ""
            print(comment + _difference(files, [str(run) for run in runs], samples, seed))
    _tell_of_protocols(figures)


def _tell_of_protocols(figures: Mapping[str, Mapping[str, float]]) -> None:
    """Figures of folds, say, are no figures of a whole set."""
    everywhere = set.intersection(*(set(row) for row in figures.values()))
    for run, row in figures.items():
        own = sorted(set(row) - everywhere)
        if own:
            print(f"not of one protocol: {run} alone has {', '.join(own[:3])}", file=sys.stderr)


def _metrics_file(path: Path) -> Path:
    found = path / "test_metrics.json" if path.is_dir() else path
    if not found.is_file():
        raise FileNotFoundError(f"{found}: no such file; a run that was tested has one")
    return found


def _ranks_file(path: Path) -> Path:
    return path.with_name(path.name.removesuffix("metrics.json") + "ranks.npz")


def _difference(files: Sequence[Path], names: Sequence[str], samples: int, seed: int) -> str:
    import torch

    from itmatch.evaluation import paired_bootstrap
    from itmatch.evaluation.written import read_ranks

    one, other = (read_ranks(file) for file in files)
    if not torch.equal(one.caption_image, other.caption_image) or one.of != other.of:
        raise ValueError(f"{files[0]} and {files[1]} are not of the same images and captions")
    found = paired_bootstrap(one.ranks, other.ranks, one.caption_image, samples=samples, seed=seed)
    return (
        f"rSum of {names[0]} less that of {names[1]}: {found.difference:+.1f}, 95 % interval {found.low:+.1f} to "
        f"{found.high:+.1f}, p = {found.p_value:.2g} ({samples} samples of the test images)"
    )
