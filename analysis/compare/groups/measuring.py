"""A run directory as numbers."""

from __future__ import annotations

from pathlib import Path

from analysis.compare.groups import blocks, boot, counters, slabs, usage
from analysis.compare.groups.measure import Measured
from analysis.compare.groups.run import MeasuredRun, Run, read_run
from analysis.compare.groups.series import series_of
from analysis.compare.groups.sheet import Sheet

_SOURCES = (boot, counters, blocks, slabs, usage)


def measures(run: Run) -> Measured:
    """Everything that is compared of a run."""
    sheet = Sheet()
    for source in _SOURCES:
        source.measure(run, sheet)
    return sheet.finish()


def measured_run(path: Path) -> MeasuredRun:
    """Reads and measures a run directory; its tables are let go.

    Raises:
        BundleError, ParseError, RecordError: as ``read_run``.
    """
    run = read_run(path)
    return MeasuredRun(
        path=path,
        seed=run.seed,
        configured=run.configured,
        measured=measures(run),
        series=series_of(run),
        damage=run.damage,
    )
