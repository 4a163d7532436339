"""``mmscope check``: the model's claims about a run directory or a capture."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from harness.cli.options import Json
from harness.cli.verdict import show_check
from harness.errors import UsageError


def check(
    directory: Annotated[
        Path,
        typer.Argument(
            help="A run directory, a capture of /proc (flat, or as in the system, or a sosreport), "
            "or an archive of one."
        ),
    ],
    as_json: Json = False,
    explain: Annotated[
        str | None,
        typer.Option("--explain", help="Print one rule: inputs, arithmetic, kernel source."),
    ] = None,
) -> None:
    """Hold a run or a capture against the model; exit 1 if any claim fails.

    Example: `mmscope capture here --host && mmscope check here --explain watermark_low`
    """
    from analysis.report.check import check_source, explain_rule, rule_ids

    if explain is not None:
        if as_json:
            raise UsageError("--explain prints text for people", fix="leave out --json")
        _known(explain, rule_ids())
        typer.echo(explain_rule(directory, explain), nl=False)
        return
    result = check_source(directory)
    show_check(result.check, as_json=as_json, damage=result.damage)
    if result.check["summary"]["fails"]:
        raise typer.Exit(1)


def _known(rule: str, rules: Sequence[str]) -> None:
    if rule not in rules:
        near = difflib.get_close_matches(rule, rules, n=3)
        raise UsageError(
            f"--explain {rule}: there is no such rule",
            fix=f"did you mean {' or '.join(near)}?" if near else None,
            details={"rules": ", ".join(rules)},
        )
