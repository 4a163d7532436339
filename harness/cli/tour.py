"""``mmscope tour``: every stop on a kernel booted for it, judged, shown and made into a book."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from harness.cli.options import Accel, GuestArch, Json, KernelConfig, KernelName, Modules
from harness.cli.terminal import TerminalProgress
from harness.cli.tour_boot import booter
from harness.cli.tour_kernel import other_kernel, tours_of
from harness.cli.tour_walk import TourWalk
from harness.errors import UsageError
from harness.kernel.own import NO_FILES
from harness.tour.registry import STOPS, TOPICS
from harness.tour.stop import Stop
from harness.tour.tours import DEFAULT_TOURS, State, Tour
from harness.tour.walk import walk_stop

if TYPE_CHECKING:
    from analysis.tour.judge import JudgedTour

_SUGGESTIONS = 6


class Edition(Enum):
    """The language of pages and of the terminal."""

    EN = "en"
    ZH = "zh"
    BOTH = "both"


def tour(
    stops: Annotated[
        list[str] | None,
        typer.Argument(help="Stops (zones/highmem) or topics (zones); all by default."),
    ] = None,
    kernel: KernelName = None,
    arch: GuestArch = None,
    modules: Modules = None,
    config: KernelConfig = None,
    jobs: Annotated[int, typer.Option("--jobs", min=1, max=8, help="Stops at a time.")] = 2,
    tours: Annotated[Path, typer.Option("--tours", help="Where tours are kept.")] = DEFAULT_TOURS,
    again: Annotated[
        bool,
        typer.Option(
            "--again/--resume",
            help="Walk anew what is named, or a whole new tour; else only what is not done yet.",
        ),
    ] = False,
    build: Annotated[
        bool, typer.Option("--build", help="Build custom kernels that are missing.")
    ] = False,
    judge_only: Annotated[
        Path | None, typer.Option("--judge-only", help="Judge this recorded tour; boot nothing.")
    ] = None,
    show_list: Annotated[bool, typer.Option("--list", help="List the stops and what is done.")] = (
        False
    ),
    html: Annotated[
        bool | None,
        typer.Option("--html/--no-html", help="Write the page. [default: when no stop is named]"),
    ] = None,
    language: Annotated[Edition, typer.Option("--lang", help="Of the page.")] = Edition.BOTH,
    accel: Accel = None,
    as_json: Json = False,
) -> None:
    """Walk the ground of kernel memory management, each stop on a real kernel booted for it.

    The newest tour goes on where it stands: a stop that is done is not booted again.

    With --kernel or --arch the stops are walked on that kernel instead of their own, in a tour of
    its own.

    Example: `mmscope tour zones/highmem`
    """
    chosen = select(stops or [])
    other = other_kernel(kernel, arch, modules, config)
    progress = TerminalProgress()
    try:
        if other is not None and judge_only is None:
            progress.stage("kernel and guest image")
            found = other.obtain(build=build, note=progress.note)
            chosen, left_out = other.move(chosen, stops or [], found)
            for line in left_out:
                progress.stage(f"left out: {line}")
            tours = tours_of(found, tours)
        if show_list:
            progress.close()
            _list(chosen, Tour.newest(tours), as_json=as_json)
            return
        if judge_only is not None:
            if again or build or other:
                raise UsageError(
                    "--judge-only boots nothing",
                    fix="leave out --again, --build, and the options of a kernel",
                )
            where = Tour.open(judge_only)
        else:
            where = _tour(tours, anew=again and not stops)
            TourWalk(tour=where, other=other, build=build, accel=accel, progress=progress).walk(
                chosen, jobs=jobs, again=again
            )
        progress.stage("judge")
        judged = _judge(where, chosen)
        pages = []
        if (not stops) if html is None else html:
            progress.stage("page")
            pages = _write_pages(where, language, progress.stage)
    finally:
        progress.close()
    if as_json:
        told = {**judged.to_json(), "pages": [str(path) for path in pages]}
        typer.echo(json.dumps(told, indent=1, ensure_ascii=False))
    else:
        from harness.cli.tour_show import show_tour

        show_tour(judged, language="zh" if language is Edition.ZH else "en", whole=not stops)
        typer.echo(f"evidence  {where.path}")
        for path in pages:
            typer.echo(f"page      {path}")
    raise typer.Exit(judged.exit_code)


def tour_stop(
    name: Annotated[str, typer.Argument()],
    into: Annotated[Path, typer.Argument()],
    kernel: KernelName = None,
    arch: GuestArch = None,
    modules: Modules = None,
    config: KernelConfig = None,
    accel: Accel = None,
) -> None:
    """Walk one stop into a tour: what `mmscope tour` starts for each."""
    chosen = select([name])
    other = other_kernel(kernel, arch, modules, config)
    progress = TerminalProgress()
    if other is not None:
        found = other.obtain(build=True, note=progress.note)
        chosen, _ = other.move(chosen, [name], found)
    boot = booter(accel, progress.note, other.files if other else NO_FILES)
    record = walk_stop(chosen[0], Tour(into), boot, stage=progress.stage)
    raise typer.Exit(record.exit_code)


def select(names: Sequence[str]) -> list[Stop]:
    """The stops that names and topics stand for, in the order of the tour; all for none.

    Raises:
        UsageError: there is no such stop or topic.
    """
    known = {stop.name for stop in STOPS}
    for name in names:
        if name not in known and not TOPICS.get(name):
            near = [stop for stop in sorted(known) if name.split("/")[0] in stop]
            raise UsageError(
                f"the tour has no stop or topic {name!r}",
                details={"near": ", ".join(near[:_SUGGESTIONS])} if near else None,
                fix="mmscope tour --list names them all",
            )
    return [stop for stop in STOPS if not names or stop.name in names or stop.topic in names]


def _tour(root: Path, *, anew: bool) -> Tour:
    newest = None if anew else Tour.newest(root)
    return newest or Tour.create(root)


def _judge(where: Tour, stops: Sequence[Stop]) -> JudgedTour:
    from analysis.tour.judge import judge_tour

    return judge_tour(where.path, [stop.name for stop in stops])


def _write_pages(where: Tour, edition: Edition, tell: Callable[[str], None]) -> list[Path]:
    from analysis.report.tour_page import write_pages

    return write_pages(
        where.path, ("en", "zh") if edition is Edition.BOTH else (edition.value,), tell=tell
    )


def _list(stops: Sequence[Stop], where: Tour | None, *, as_json: bool) -> None:
    rows = [
        {
            "name": stop.name,
            "state": (where.state(stop) if where else State.ABSENT).value,
            "boots": [
                {"label": part.label, "arch": part.arch, "kernel": part.kernel}
                for part in stop.boots
            ],
        }
        for stop in stops
    ]
    if as_json:
        typer.echo(json.dumps(rows, indent=1))
        return
    from harness.cli.tour_show import show_list

    show_list(rows)
