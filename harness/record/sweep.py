"""sweep.json: what a sweep compares, in which order it runs, and how each run ended.

::

    runs/slub-slab-slob/
      sweep.json             the comparison, the order, the runs
      slub/run-…/            run directories, by variant
      slab/run-…/

The file is rewritten whole whenever a run begins or ends, so that a sweep that was stopped at any
moment can go on.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from harness.errors import RecordError
from harness.record.manifest import OutcomeKind
from harness.record.rundir import write_atomic

SWEEP_NAME = "sweep.json"
SWEEP_SCHEMA = 1

KEPT = (OutcomeKind.COMPLETED, OutcomeKind.OOM_KILLED)
"""Outcomes after which a run need not be run again."""


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid")


class SweepRun(_Record):
    """One run of a sweep, as it went."""

    variant: str
    repeat: int
    """From 1."""
    seed: int
    directory: str = ""
    """Relative to the sweep; empty while it has none."""
    outcome: OutcomeKind = OutcomeKind.RUNNING
    message: str = ""
    wall_s: float | None = None

    @property
    def kept(self) -> bool:
        """Whether it has what a comparison needs."""
        return self.outcome in KEPT and bool(self.directory)


class SweepRecord(_Record):
    schema_version: int = SWEEP_SCHEMA
    name: str
    created: str
    mmscope: str
    comparison: dict[str, Any]
    """The definition, with every default."""
    repeats: int
    order: list[tuple[int, str]]
    """(repeat, variant) as they are run."""
    jobs: int = 1
    """Runs at once, in the last go."""
    runs: list[SweepRun] = []
    """The last attempt at each."""

    def find(self, variant: str, repeat: int) -> SweepRun | None:
        """The last attempt at one run."""
        for run in self.runs:
            if (run.variant, run.repeat) == (variant, repeat):
                return run
        return None

    def put(self, run: SweepRun) -> None:
        """Adds a run, in place of an earlier attempt at it."""
        self.runs = [
            other
            for other in self.runs
            if (other.variant, other.repeat) != (run.variant, run.repeat)
        ]
        self.runs.append(run)


def read_sweep(directory: Path) -> SweepRecord:
    """The record of a sweep's directory.

    Raises:
        RecordError: there is none, or it is not one.
    """
    path = directory / SWEEP_NAME
    try:
        record = SweepRecord.model_validate_json(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise RecordError(
            f"{path}: {error}", fix="point at a directory made by `mmscope sweep`"
        ) from None
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the file"
        raise RecordError(
            f"{path}: not the record of a sweep of schema {SWEEP_SCHEMA}: {where}: {first['msg']}",
            fix="sweep again into another directory: --runs DIRECTORY",
        ) from None
    if record.schema_version != SWEEP_SCHEMA:
        raise RecordError(
            f"{path}: schema {record.schema_version}, this mmscope reads {SWEEP_SCHEMA}",
            fix="use the mmscope release that made the sweep",
        )
    return record


def write_sweep(directory: Path, record: SweepRecord) -> None:
    """Replaces the record whole."""
    write_atomic(directory / SWEEP_NAME, (record.model_dump_json(indent=1) + "\n").encode())
