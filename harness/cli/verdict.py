"""The end of a run or a check: a verdict table for people, JSON for scripts."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import typer
from rich.table import Table

from harness.cli.terminal import TerminalProgress, output_console

_SHOWN_FAILURES = 12


def analyse_and_show(path: Path, progress: TerminalProgress, *, as_json: bool) -> bool:
    """Tables, claims, figures and report of a run directory; whether any claim fails."""
    from analysis.report.pipeline import analyse

    result = analyse(path, stage=progress.stage)
    progress.close()
    show_check(result.check, as_json=as_json, damage=result.damage)
    if not as_json:
        typer.echo(f"run directory  {path}")
        typer.echo(f"report         {result.report_path}")
    return bool(result.check["summary"]["fails"])


def show_check(check: Mapping[str, Any], *, as_json: bool, damage: Sequence[str] = ()) -> None:
    """Prints the claims' verdicts by family, and every claim that fails."""
    if as_json:
        typer.echo(json.dumps({**check, "damage": list(damage)}, indent=1))
        return
    console = output_console()
    claims: list[Mapping[str, Any]] = list(check["claims"])
    table = Table(title=f"model against {check['kernel']}", title_justify="left")
    table.add_column("claim")
    for verdict in ("holds", "fails", "unknown"):
        table.add_column(verdict, justify="right")
    families: dict[str, Counter[str]] = {}
    for claim in claims:
        families.setdefault(claim["id"], Counter())[claim["verdict"]] += 1
    unjudged = [family for family, counts in families.items() if counts.keys() == {"unknown"}]
    for family, counts in families.items():
        if family not in unjudged:
            table.add_row(family, *(_number(v, counts[v]) for v in ("holds", "fails", "unknown")))
    summary = check["summary"]
    table.add_section()
    table.add_row("all", *(_number(v, summary[v]) for v in ("holds", "fails", "unknown")))
    console.print(table)
    if unjudged:
        names = ", ".join(unjudged)
        console.print(f"[yellow]unknown[/] throughout (--json says why): {names}", highlight=False)
    failing = [claim for claim in claims if claim["verdict"] == "fails"]
    for claim in failing[:_SHOWN_FAILURES]:
        console.print(f"[red]fails[/] {describe(claim)}", highlight=False)
    if len(failing) > _SHOWN_FAILURES:
        console.print(f"… and {len(failing) - _SHOWN_FAILURES} more: mmscope check --json")
    for line in damage:
        console.print(f"[yellow]damaged[/] {line}", highlight=False, markup=True)


def describe(claim: Mapping[str, Any]) -> str:
    """A claim in one line: what, where, predicted, observed, why."""
    scope = ", ".join(f"{key} {value}" for key, value in claim["scope"].items())
    return (
        f"{claim['id']} ({scope}): predicted {claim['predicted']}, observed "
        f"{claim['observed']} {claim['unit']}; {claim['why']}"
    )


def _number(verdict: str, count: int) -> str:
    colour = {"holds": "green", "fails": "bold red", "unknown": "yellow"}[verdict]
    return f"[{colour}]{count}[/]" if count else "0"
