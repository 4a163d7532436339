"""``mmscope replay``: events replayed on the kernel's free lists, held to the page."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich import box
from rich.table import Table

from harness.cli.options import Json
from harness.cli.terminal import TerminalProgress, output_console
from harness.errors import UsageError

if TYPE_CHECKING:
    from analysis.replay.outcome import RunOutcome, WindowOutcome

_RULES = (
    "pcp=off, pcp_batch=N, pcp_high=N, mobility=off, fallback=reversed, steal=never|always, "
    "freed=head|tail, shuffle=on|on:SEED, nofragment=off, boost=off."
)
_WIDTH = 150
"""The table's width where no terminal sets one."""
_COLOURS = {"holds": "green", "fails": "bold red", "unknown": "yellow"}


def replay(
    directory: Annotated[
        Path,
        typer.Argument(help="A run directory with traced windows, or an exported request stream."),
    ],
    window: Annotated[
        list[str] | None,
        typer.Option("--window", help="Only this window; may be given more than once."),
    ] = None,
    what_if: Annotated[
        list[str] | None,
        typer.Option(
            "--what-if",
            metavar="RULE=VALUE",
            help="Run the requests under another rule, and show how fragmented memory would have "
            "been; may be given more than once. " + _RULES,
        ),
    ] = None,
    export: Annotated[
        Path | None,
        typer.Option(
            metavar="DIRECTORY", help="Write the window's requests and states as Parquet files."
        ),
    ] = None,
    as_json: Json = False,
    figures: Annotated[
        bool,
        typer.Option(help="Write figures/replay-* and replay.html into the run directory."),
    ] = True,
) -> None:
    """Replay a run's traced windows; exit 1 if any ends in another state than the kernel's.

    Each window begins with the free lists as the host read them in guest memory. Every traced
    event is applied to them, and the result is compared page by page with what was read later.
    Then the allocator model is told the requests alone, and chooses the pages itself.

    With --what-if the requests are run again under other rules of the allocator, which is never
    told what the kernel chose. --export writes them for other allocators; the directory that it
    writes can be given in place of a run.

    Example: `mmscope replay runs/replay-smoke-x86_64-20260101T120000Z --window anon`
    Example: `mmscope replay RUN --window anon --what-if mobility=off`
    """
    from harness.cli import what_if as counterfactual

    if what_if and export:
        raise UsageError("--what-if and --export are two things", fix="give one of them")
    if what_if:
        counterfactual.what_if(
            directory, what_if, tuple(window or ()), as_json=as_json, figures=figures
        )
        return
    if export:
        counterfactual.export(directory, tuple(window or ()), export)
        return
    if counterfactual.is_stream(directory):
        counterfactual.predict(directory, as_json=as_json)
        return
    from analysis.bundle import open_bundle
    from analysis.figures.files import replace_file
    from analysis.replay.outcome import replay_run
    from analysis.replay.predict import show_prediction

    progress = TerminalProgress()
    progress.stage("opening the run")
    bundle = open_bundle(directory)
    outcome = replay_run(
        bundle, only=tuple(window or ()), predict=show_prediction, stage=progress.stage
    )
    progress.close()
    shown = json.dumps(outcome.to_json(), indent=1)
    if not window:
        replace_file(directory / "replay.json", (shown + "\n").encode())
    if as_json:
        typer.echo(shown)
    else:
        _show(outcome)
    if figures:
        from analysis.report.replay_films import film_run

        page = film_run(bundle, outcome, stage=progress.stage)
        progress.close()
        if not as_json:
            typer.echo(f"page           {page}")
    if outcome.fails:
        raise typer.Exit(1)


def _show(outcome: RunOutcome) -> None:
    console = output_console(_WIDTH)
    first = outcome.windows[0].result.window
    table = Table(
        title=f"replay of {first.kernel} on {first.arch}, {first.cpus} cpus, {first.nodes} nodes",
        title_justify="left",
        box=box.SIMPLE_HEAD,
    )
    table.add_column("window", no_wrap=True)
    for heading in (
        "events",
        "lost",
        "pages\ndiffering",
        "blocks\ndiffering",
        "un-\nexplained",
        "exact\npfn %",
        "am-\nbiguous",
        "lists in\norder",
        "unusable\nindex error",
        "noise\nfloor",
        "null\nmodel",
    ):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("verdict", no_wrap=True)
    for one in outcome.windows:
        table.add_row(*_row(one))
    console.print(table)
    for one in outcome.windows:
        verdict = one.result.verdict.value
        if one.result.why:
            console.print(
                f"[{_COLOURS[verdict]}]{verdict}[/] {one.result.window.name}: "
                f"{_plain(one.result.why)}",
                highlight=False,
            )
    if outcome.events_per_s is not None:
        console.print(f"{outcome.events_per_s:,.0f} events/s replayed", highlight=False)


def _row(one: WindowOutcome) -> list[str]:
    shown = one.to_json()
    verdict = one.result.verdict.value
    counts = ("events", "lost", "pages_differing", "blocks_differing", "unexplained")
    errors = ("unusable_index_error", "noise_floor", "null_error")
    in_order = shown["lists_in_order"]
    return [
        str(shown["name"]),
        *(_number(shown[name], ",") for name in counts),
        _number(shown["pfn_match_pct"], ".4f"),
        _number(shown["ambiguous"], ","),
        "-" if in_order is None else "yes" if in_order else "no",
        *(_number(shown[name], ".3f") for name in errors),
        f"[{_COLOURS[verdict]}]{verdict}[/]",
    ]


def _number(value: object, form: str) -> str:
    return format(value, form) if isinstance(value, int | float) else "-"


def _plain(text: str) -> str:
    return text.replace("[", r"\[")
