"""``mmscope replay --what-if`` and ``--export``: counterfactuals, and request streams as files."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import typer
from rich import box
from rich.table import Table

from harness.cli.terminal import TerminalProgress, output_console
from harness.errors import UsageError

if TYPE_CHECKING:
    from analysis.replay.request_stream import RequestStream
    from analysis.replay.what_if import WhatIf, ZoneState

_WIDTH = 150
_STATES = (("real", "kernel"), ("as_recorded", "as recorded"), ("what_if", "what if"))


def require_options(options: Sequence[str]) -> None:
    """Raises UsageError for an option that is none, before any long work begins."""
    from analysis.model.allocator.policy import parse_policy

    try:
        parse_policy(options)
    except ValueError as error:
        raise UsageError(
            f"--what-if {error}", fix="see `mmscope replay --help` for what each means"
        ) from None


def is_stream(path: Path) -> bool:
    """Whether a path is an exported request stream rather than a run directory."""
    from analysis.replay.stream_files import is_request_stream

    return is_request_stream(path)


def streams(
    path: Path, windows: Sequence[str], progress: TerminalProgress
) -> Iterator[RequestStream]:
    """The request streams of a run's windows, or the one of an exported directory.

    Raises:
        UsageError: no window has such a name.
    """
    from analysis.bundle import open_bundle
    from analysis.replay.exact import replay_window
    from analysis.replay.request_stream import stream_of_window
    from analysis.replay.stream_files import read_stream
    from analysis.replay.window import open_replay_window

    if is_stream(path):
        progress.stage("reading the request stream")
        yield read_stream(path)
        return
    progress.stage("opening the run")
    bundle = open_bundle(path)
    names = [record.name for record in bundle.windows]
    for name in windows:
        if name not in names:
            raise UsageError(
                f"{path}: no window is called {name!r}", fix=f"choose among: {', '.join(names)}"
            )
    for record in bundle.windows:
        if windows and record.name not in windows:
            continue
        progress.stage(f"window {record.name}: reading its events")
        window = open_replay_window(bundle, record)
        replay = replay_window(window).replay
        yield stream_of_window(window, replay.timeline if replay else None)


def what_if(
    path: Path, options: Sequence[str], windows: Sequence[str], *, as_json: bool, figures: bool
) -> None:
    """Shows every window as it was and as it would have been."""
    from analysis.figures import what_if as figure
    from analysis.figures.files import save_figure
    from analysis.replay.what_if import run_what_if

    require_options(options)
    progress = TerminalProgress()
    shown: list[dict[str, object]] = []
    directory = (path if path.is_dir() else path.parent) / "figures"
    for stream in streams(path, windows, progress):
        found = run_what_if(stream, options, stage=progress.stage, note=progress.note)
        progress.close()
        written = None
        if figures:
            named = "-".join(option.replace("=", "-").replace(":", "-") for option in options)
            name = f"{figure.NAME}-{stream.name}-{named}"
            written = save_figure(figure.draw(found), directory, name).svg
        if as_json:
            shown.append({**found.to_json(), "figure": str(written) if written else None})
            continue
        _show(found)
        if written is not None:
            typer.echo(f"figure         {written}\n")
    if as_json:
        typer.echo(json.dumps({"what_if": shown}, indent=1))


def export(path: Path, windows: Sequence[str], directory: Path) -> None:
    """Writes the request stream of one window.

    Raises:
        UsageError: not exactly one window was named.
    """
    from analysis.replay.request_stream import follow
    from analysis.replay.stream_files import write_stream

    if not is_stream(path) and len(windows) != 1:
        raise UsageError(
            "--export writes the requests of one window", fix="name it with --window NAME"
        )
    progress = TerminalProgress()
    for stream in streams(path, windows, progress):
        progress.stage("finding the order in which contexts had their turns")
        followed = follow(stream)
        progress.stage(f"writing {directory}")
        write_stream(stream, followed, directory)
        progress.close()
        typer.echo(f"{len(stream.steps):,} steps of window {stream.name} written to {directory}")


def predict(path: Path, *, as_json: bool) -> None:
    """Predicts an exported request stream."""
    from analysis.memory.state import nr_free_of
    from analysis.replay.free_run import run_freely
    from analysis.replay.request_stream import follow
    from analysis.replay.unusable import state_error

    progress = TerminalProgress()
    (stream,) = streams(path, (), progress)
    progress.stage(f"predicting {len(stream.steps):,} steps")
    followed = follow(stream)
    progress.stage("the same without being set right")
    free = run_freely(stream, followed)
    progress.close()
    result, end = followed.result, followed.comparison
    last = None if stream.end is None else nr_free_of(stream.end)
    shown = {
        "name": stream.name,
        "arch": stream.arch,
        "kernel": stream.kernel,
        "requests": result.requests,
        "pfn_match_pct": result.match_pct,
        "ambiguous": result.ambiguous,
        "lists_in_order": end.lists_in_order if end else None,
        "pages_differing": end.pages_differing if end else None,
        "unusable_index_error": None if last is None else state_error(free.end, last),
        "null_error": None if last is None else state_error(nr_free_of(stream.begin), last),
    }
    if as_json:
        typer.echo(json.dumps({"windows": [shown]}, indent=1))
        return
    for name, value in shown.items():
        typer.echo(f"{name.replace('_', ' '):<22} {'-' if value is None else value}")


def _show(found: WhatIf) -> None:
    console = output_console(_WIDTH)
    stream, result = found.stream, found.followed.result
    table = Table(
        title=f"window {stream.name} of {stream.kernel} on {stream.arch}: "
        f"what if {' '.join(found.options)}",
        title_justify="left",
        box=box.SIMPLE_HEAD,
    )
    table.add_column("zone", no_wrap=True)
    table.add_column("rules", no_wrap=True)
    table.add_column("free\npages", justify="right", no_wrap=True)
    table.add_column("per-cpu\npages", justify="right", no_wrap=True)
    for order in found.orders:
        table.add_column(f"unusable\norder {order}", justify="right", no_wrap=True)
    table.add_column("largest\norder", justify="right", no_wrap=True)
    table.add_column("free blocks by order", justify="left", no_wrap=True)
    for zone in found.zones:
        for at, (name, words) in enumerate(_STATES):
            state: ZoneState | None = getattr(zone, name)
            if state is not None:
                last = at == len(_STATES) - 1
                table.add_row(zone.name, words, *_cells(state), end_section=last)
    console.print(table)
    drift = found.drift
    known = "the kernel's state at the end is not known"
    if drift is not None:
        known = (
            f"the model under the kernel's own rules, left to itself, ends with "
            f"{drift.pages_differing} pages and {len(drift.differing)} of {drift.lists} lists "
            f"otherwise than the kernel"
        )
    console.print(f"prediction {result.match_pct:.4f} % exact; {known}", highlight=False)
    for what, count in found.what_if.aside.items():
        console.print(f"  {count:,} {what}", highlight=False)


def _cells(state: ZoneState) -> list[str]:
    return [
        f"{state.free_pages:,}",
        f"{state.pcp_pages:,}",
        *(f"{index:.3f}" for index in state.unusable.values()),
        "-" if state.largest_order is None else str(state.largest_order),
        " ".join(str(blocks) for blocks in state.free_blocks),
    ]
