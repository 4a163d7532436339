"""Which runs are compared: groups named on a command line, found on disk.

A group is a sweep (each of its variants is one), a directory of runs (a sweep's variant), one run,
or ``NAME=PATH,PATH…`` with patterns.
"""

from __future__ import annotations

import glob
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from analysis.bundle import MANIFEST_NAME, SWEEP_NAME, read_sweep
from analysis.errors import SelectionError


@dataclass(frozen=True, slots=True, kw_only=True)
class Selected:
    """A group before its runs are read."""

    name: str
    paths: tuple[Path, ...]
    about: str = ""
    missing: tuple[str, ...] = ()
    """Runs of the group that a sweep has not or that failed, a line each."""
    question: str = field(default="", compare=False)


def select(arguments: Sequence[str]) -> list[Selected]:
    """The groups in the order in which they are named: the first is the base.

    Raises:
        SelectionError: no run is there, two groups have one name, or there is but one group.
        RecordError: a sweep's record is damaged.
    """
    found = [group for argument in arguments for group in _groups(argument)]
    names = [group.name for group in found]
    for name in names:
        if names.count(name) > 1:
            raise SelectionError(
                f"two groups are called {name!r}", fix=f"name them: A={name}-path B=…"
            )
    if len(found) < 2:
        raise SelectionError(
            "a comparison takes two groups of runs at least",
            fix="name two run directories, two directories of runs, or a sweep of two variants",
        )
    return found


def _groups(argument: str) -> list[Selected]:
    name, equals, patterns = argument.partition("=")
    if equals and "/" not in name:
        paths = [path for pattern in patterns.split(",") for path in _runs(pattern, argument)]
        return [Selected(name=name, paths=tuple(dict.fromkeys(paths)))]
    path = Path(argument)
    if (path / SWEEP_NAME).is_file():
        return _sweep(path)
    if path.is_dir() and (path.parent / SWEEP_NAME).is_file() and not _is_run(path):
        return [group for group in _sweep(path.parent) if group.name == path.name] or [
            Selected(name=path.name, paths=tuple(_runs(argument, argument)))
        ]
    return [Selected(name=path.name or argument, paths=tuple(_runs(argument, argument)))]


def _sweep(path: Path) -> list[Selected]:
    record = read_sweep(path)
    groups = []
    for variant in record.comparison["variants"]:
        name = str(variant["name"])
        runs = [record.find(name, repeat) for repeat in range(1, record.repeats + 1)]
        kept = [run for run in runs if run is not None and run.kept]
        missing = [
            f"{name}, repeat {repeat}: "
            + ("not run" if run is None else f"{run.outcome.value} {run.message}".strip())
            for repeat, run in enumerate(runs, start=1)
            if run is None or not run.kept
        ]
        for run in kept:
            if not _is_run(path / run.directory):
                raise SelectionError(
                    f"{path / run.directory}: the sweep's record names it, but it is no run",
                    fix=f"`mmscope sweep {record.name}` runs it again once sweep.json says so",
                )
        groups.append(
            Selected(
                name=name,
                paths=tuple(path / run.directory for run in kept),
                about=str(variant.get("about", "")),
                missing=tuple(missing),
                question=str(record.comparison.get("question", "")),
            )
        )
    return [group for group in groups if group.paths] or groups


def _runs(pattern: str, argument: str) -> list[Path]:
    """Run directories that a path or pattern means: itself, or all directly in it."""
    matches = [Path(match) for match in sorted(glob.glob(pattern))]  # noqa: PTH207 - may be absolute
    if not matches:
        raise SelectionError(
            f"{argument}: nothing is at {pattern}",
            fix="name a run directory, a sweep, or NAME=PATH,PATH…",
        )
    runs = []
    for match in matches:
        if _is_run(match):
            runs.append(match)
        elif match.is_dir():
            runs += sorted(inner for inner in match.iterdir() if _is_run(inner))
    if not runs:
        raise SelectionError(
            f"{argument}: no run directory is at {pattern} or in it",
            fix="runs are made by `mmscope run` and `mmscope sweep`",
        )
    return runs


def _is_run(path: Path) -> bool:
    return (path / MANIFEST_NAME).is_file()
