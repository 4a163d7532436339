"""``mmscope tour``: every stop on a kernel booted for it, judged, shown and made into a book."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from harness.cli.options import Accel, Json
from harness.cli.terminal import TerminalProgress
from harness.cli.tour_boot import booter, prepare_stops
from harness.errors import UsageError
from harness.mortal import mortal
from harness.tour.record import StopRecord
from harness.tour.registry import STOPS, TOPICS
from harness.tour.runner import walk_all
from harness.tour.stop import Stop
from harness.tour.tours import DEFAULT_TOURS, State, Tour
from harness.tour.walk import failed_record, walk_stop

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

    Example: `mmscope tour zones/highmem`
    """
    chosen = select(stops or [])
    if show_list:
        _list(chosen, Tour.newest(tours), as_json=as_json)
        return
    progress = TerminalProgress()
    try:
        if judge_only is not None:
            if again or build:
                raise UsageError("--judge-only boots nothing", fix="leave out --again and --build")
            where = Tour.open(judge_only)
        else:
            where = _tour(tours, anew=again and not stops)
            _walk(chosen, where, jobs=jobs, again=again, build=build, accel=accel, on=progress)
        progress.stage("judge")
        judged = _judge(where, chosen)
        pages = []
        if (not stops) if html is None else html:
            progress.stage("page")
            pages = _write_pages(where, language)
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
    accel: Accel = None,
) -> None:
    """Walk one stop into a tour: what `mmscope tour` starts for each."""
    (stop,) = select([name])
    progress = TerminalProgress()
    record = walk_stop(
        stop, Tour(into), booter(accel, progress.note), stage=lambda text: progress.stage(text)
    )
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


def _walk(
    stops: Sequence[Stop],
    where: Tour,
    *,
    jobs: int,
    again: bool,
    build: bool,
    accel: str | None,
    on: TerminalProgress,
) -> None:
    wanted = [stop for stop in stops if again or where.state(stop) is not State.DONE]
    if done_before := len(stops) - len(wanted):
        on.stage(f"{done_before} walked already in {where.path}; --again walks anew")
    if not wanted:
        return
    on.stage("kernels and guest images")
    lacking = prepare_stops(wanted, build=build, note=on.note)
    ready = []
    for stop in wanted:
        error = lacking.get(stop.name)
        if error is None:
            ready.append(stop)
            continue
        where.install(stop, where.draft(stop), failed_record(stop, error))
        on.stage(f"{stop.name}: {error.message}")
    done = 0

    def ended(stop: Stop, record: StopRecord) -> None:
        nonlocal done
        done += 1
        said = record.complaint or f"walked in {record.seconds:.0f} s"
        on.stage(f"{stop.name}: {said} ({done} of {len(ready)})")

    walk_all(
        ready,
        where,
        _starter(where, accel),
        jobs=jobs,
        begun=lambda stop: on.stage(stop.name),
        ended=ended,
    )


def _starter(where: Tour, accel: str | None) -> Callable[[Stop], subprocess.Popen[bytes]]:
    def start(stop: Stop) -> subprocess.Popen[bytes]:
        argv = [sys.executable, "-m", "harness", "tour-stop", stop.name, str(where.path)]
        if accel:
            argv += ["--accel", accel]
        log = where.log_path(stop)
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("wb") as output:
            # In a session of its own: a Ctrl-C reaches us alone, and we end it in order.
            return subprocess.Popen(
                mortal(argv),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    return start


def _judge(where: Tour, stops: Sequence[Stop]) -> JudgedTour:
    from analysis.tour.judge import judge_tour

    return judge_tour(where.path, [stop.name for stop in stops])


def _write_pages(where: Tour, edition: Edition) -> list[Path]:
    from analysis.report.tour_page import write_pages

    return write_pages(where.path, ("en", "zh") if edition is Edition.BOTH else (edition.value,))


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
