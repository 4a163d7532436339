"""``mmscope compare``: groups of repeated runs held against each other."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.table import Table

from harness.cli.options import Json
from harness.cli.terminal import TerminalProgress, output_console

if TYPE_CHECKING:
    from analysis.compare.groups.comparison import Comparison, Held
    from analysis.compare.groups.pair import Compared

_WIDTH = 150
_ROWS = 30
_SYMBOLS = 14
_COLOURS = {"differs": "bold", "differs a little": "", "undecided": "yellow"}


def compare(
    groups: Annotated[
        list[str],
        typer.Argument(
            help="A sweep (each variant is a group), a directory of runs, a run, or "
            "NAME=PATH,PATH… with patterns. The first group is what the others are held against."
        ),
    ],
    as_json: Json = False,
    html: Annotated[
        Path | None, typer.Option("--html", help="Write a page of tables and figures there.")
    ] = None,
    figures: Annotated[
        Path | None, typer.Option("--figures", help="Write figures (SVG, PNG) to a directory.")
    ] = None,
    all_rows: Annotated[
        bool, typer.Option("--all", help="Also show what does not differ, and every detail.")
    ] = False,
) -> None:
    """Say what differs between configurations, what that did, and what is only noise.

    Example: `mmscope compare runs/slub-slab-slob --html slabs.html`
    """
    from analysis.compare.groups.comparison import compare as hold
    from analysis.compare.groups.comparison import to_json
    from analysis.compare.groups.selection import select

    progress = TerminalProgress()
    try:
        progress.stage("read the runs")
        found = hold(select(groups), note=progress.note)
        if html is not None or figures is not None:
            from analysis.report.comparison import write_comparison

            progress.stage("figures")
            write_comparison(found, page=html, figures=figures)
    finally:
        progress.close()
    if as_json:
        typer.echo(json.dumps(to_json(found), indent=1))
        return
    _show(found, all_rows=all_rows)
    if html is not None:
        typer.echo(f"page  {html}")


def _show(found: Comparison, *, all_rows: bool) -> None:
    console = output_console(_WIDTH)
    if found.question:
        console.print(f"[bold]{escape(found.question)}[/]", highlight=False)
    for group in found.groups:
        configured = group.runs[0].configured
        about = f" ({group.about})" if group.about else ""
        console.print(
            f"  {group.name}: {len(group.runs)} runs of {configured.release}, "
            f"{configured.arch}{about}",
            highlight=False,
            markup=False,
        )
    for held in found.held:
        _show_pair(held, all_rows=all_rows)
    for warning in found.warnings:
        console.print(f"[yellow]note[/] {escape(warning)}", highlight=False)


def _show_pair(held: Held, *, all_rows: bool) -> None:
    console = output_console(_WIDTH)
    pair = held.pair
    console.print(f"\n[bold]{escape(pair.second)} against {escape(pair.first)}[/]", highlight=False)
    shown = [each for each in held.configuration if each.kind != "other symbol"]
    for each in shown if all_rows else shown[:_SYMBOLS]:
        console.print(
            f"  {each.kind} {each.name}: {each.first or '-'} → {each.second or '-'}",
            highlight=False,
            markup=False,
        )
    further = len(held.configuration) - (len(shown) if all_rows else min(len(shown), _SYMBOLS))
    if further:
        console.print(f"  … and {further} more that differ (--json, --html)", highlight=False)
    rows = [*pair.headlines, *(pair.details if all_rows else ())]
    if not all_rows:
        rows = [each for each in rows if each.finding.value in _COLOURS]
        rows.sort(key=_rank)
    if rows:
        console.print(_table(pair.first, pair.second, rows if all_rows else rows[:_ROWS]))
    if not all_rows and len(rows) > _ROWS:
        console.print(f"  … and {len(rows) - _ROWS} more (--all)", highlight=False)
    for sentence in held.conclusion:
        console.print(f"• {sentence}", highlight=False, markup=False)


def _rank(each: Compared) -> tuple[int, float]:
    from analysis.compare.groups.conclusion import importance

    return list(_COLOURS).index(each.finding.value), -importance(each)


def _table(first: str, second: str, rows: Sequence[Compared]) -> Table:
    from analysis.compare.groups.wording import amount, certainty, change

    table = Table(title_justify="left", pad_edge=False)
    table.add_column("measure", max_width=70)
    for name in (first, second, "change", "95 % interval", "noise", "p"):
        table.add_column(name, justify="right")
    table.add_column("")
    for each in rows:
        unit = each.measure.unit
        style = _COLOURS.get(each.finding.value, "dim")
        cells = [str(each.measure)]
        if each.first and each.second:
            low_high = each.difference_interval
            cells += [
                amount(each.first_mean, unit),
                amount(each.second_mean, unit),
                change(each),
                ""
                if low_high is None
                else f"{amount(low_high[0], unit, sign=True)} … "
                f"{amount(low_high[1], unit, sign=True)}",
                "" if each.noise is None else amount(each.noise, unit),
                certainty(each),
                each.finding.value,
            ]
        else:
            cells += ["", "", "", "", "", "", f"unknown: {each.why}"]
        table.add_row(*(escape(cell) for cell in cells), style=style)
    return table
