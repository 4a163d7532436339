"""``make conformance``: rules by kernels, as a table for people and for the README.

``python -m analysis.report.conformance DIRECTORY [--write README.md]`` judges every archive of
captures in a directory, prints the table, and exits 1 if a claim fails or a rule is not done.
"""

from __future__ import annotations

import argparse
import os
import sys
import textwrap
from collections.abc import Iterable, Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from analysis.compare.conformance import Conformance, Count, conformance
from analysis.compare.rule import BROKEN
from analysis.compare.static.registry import PARTS
from analysis.errors import AnalysisError, CaptureError
from analysis.figures.files import replace_file
from analysis.model.release import parse_release

BEGIN = "<!-- conformance: written by `make conformance` -->"
END = "<!-- /conformance -->"
_SHOWN_FAILURES = 20
_SHOWN_REASONS = 6


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; 0 when every claim holds or is unknown for a reason, and every rule is done."""
    parser = argparse.ArgumentParser(prog="conformance", description=__doc__)
    parser.add_argument("directory", type=Path, help="archives of captures, one a kernel")
    parser.add_argument("--write", type=Path, help="a Markdown file with the table's two marks")
    parser.add_argument("--details", type=Path, help="where the whole table goes, as Markdown")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    asked = parser.parse_args(arguments)
    console = Console(width=None if sys.stdout.isatty() else 140)
    try:
        found = conformance(archives_in(asked.directory), jobs=asked.jobs)
        if asked.write:
            embed(asked.write, summary_table(found))
        if asked.details:
            replace_file(asked.details, details(found).encode())
    except AnalysisError as error:
        sys.stderr.write(f"conformance: {error.render()}\n")
        return error.exit_code
    console.print(terminal_table(found))
    for line in complaints(found):
        console.print(line, highlight=False, markup=False)
    return 1 if complaints(found) else 0


def archives_in(directory: Path) -> list[Path]:
    """The archives of a directory, by release.

    Raises:
        CaptureError: there is none.
    """
    found = sorted(directory.glob("*.tar.*"), key=lambda path: _natural(path.name))
    if not found:
        raise CaptureError(
            f"{directory}: no archive of captures here", fix="take them with `make captures`"
        )
    return found


def summary_table(found: Conformance) -> str:
    """Parts of the model by kernels, in Markdown: claims that hold, unknown ones in brackets."""
    head = ["rules about", *(f"{kernel}" for kernel in found.kernels), "all"]
    lines = [
        f"{found.captures()} captures of {len(found.kernels)} kernels, {len(found.rules)} rules.",
        "",
        "| " + " | ".join(head) + " |",
        "|---" * len(head) + "|",
        "| *captures* | "
        + " | ".join(str(found.captures(kernel)) for kernel in found.kernels)
        + f" | {found.captures()} |",
    ]
    for part, rules in PARTS.items():
        ids = [rule.id for rule in rules]
        cells = [_short(found.count(ids, kernel)) for kernel in (*found.kernels, None)]
        lines.append(f"| {part} ({len(ids)}) | " + " | ".join(cells) + " |")
    totals = [_short(found.count(found.rules, kernel)) for kernel in (*found.kernels, None)]
    lines.append("| **all** | " + " | ".join(totals) + " |")
    return "\n".join(lines) + "\n"


def details(found: Conformance) -> str:
    """Every rule by kernels, and why claims are unknown, in Markdown."""
    head = ["rule", *found.kernels, "all"]
    lines = [
        "# Conformance",
        "",
        f"What each rule says of {found.captures()} captures of stock kernels: claims that hold /",
        "fail / are unknown. Written by `make conformance`.",
        "",
        "| " + " | ".join(head) + " |",
        "|---" * len(head) + "|",
    ]
    for rule in found.rules:
        cells = [_long(found.count([rule], kernel)) for kernel in (*found.kernels, None)]
        lines.append(f"| `{rule}` | " + " | ".join(cells) + " |")
    lines += ["", "## Why claims are unknown", ""]
    for rule in found.rules:
        reasons = found.reasons(rule)
        if reasons:
            lines.append(f"- `{rule}`")
            for why, number in reasons.most_common(_SHOWN_REASONS):
                lines.append(f"  - {number}: {why}")
            left = len(reasons) - _SHOWN_REASONS
            if left > 0:
                lines.append(f"  - and {left} more reasons")
    return "\n".join(lines) + "\n"


def embed(path: Path, table: str) -> None:
    """Puts the table between the two marks of a Markdown file.

    Raises:
        CaptureError: the file lacks a mark.
    """
    text = path.read_text(encoding="utf-8")
    head, begin, rest = text.partition(BEGIN)
    _, end, tail = rest.partition(END)
    if not begin or not end:
        raise CaptureError(f"{path}: lacks the line {END if begin else BEGIN}", fix="put it back")
    replace_file(path, f"{head}{BEGIN}\n{table}{END}{tail}".encode())


def complaints(found: Conformance) -> list[str]:
    """Failing claims and rules that are not done, a line each."""
    lines = []
    failing = list(found.failing())
    for result, claim in failing[:_SHOWN_FAILURES]:
        scope = ", ".join(f"{key} {value}" for key, value in claim.scope.items())
        lines.append(
            f"fails: {result.kernel} {result.capture}: {claim.id} ({scope}): predicted "
            f"{claim.predicted}, observed {claim.observed} {claim.unit}; {claim.why}"
        )
    if len(failing) > _SHOWN_FAILURES:
        lines.append(f"… and {len(failing) - _SHOWN_FAILURES} more")
    for rule in found.rules:
        lines += [f"broken: {rule}: {why}" for why in found.reasons(rule) if why.startswith(BROKEN)]
    for rule, share in found.undone().items():
        why = found.reasons(rule).most_common(1)
        lines.append(
            f"not done: {rule} is unknown on {share:.0%} of the captures with its inputs"
            + (f": {textwrap.shorten(why[0][0], 120)}" if why else "")
        )
    return lines


def terminal_table(found: Conformance) -> Table:
    """Rules by series of kernels (6.12 on all architectures): a terminal has room for that."""
    series: dict[str, list[str]] = {}
    for kernel in found.kernels:
        series.setdefault(str(parse_release(kernel)), []).append(kernel)
    table = Table(
        title=f"{len(found.rules)} rules on {found.captures()} captures: holds / fails / unknown",
        title_justify="left",
    )
    table.add_column("rule", no_wrap=True)
    for name, kernels in series.items():
        captures = sum(found.captures(kernel) for kernel in kernels)
        table.add_column(f"{name}\n{captures} captures", justify="right", no_wrap=True)
    table.add_column("all", justify="right", no_wrap=True)

    def row(name: str, rules: Sequence[str]) -> None:
        counts = [
            _sum(found.count(rules, kernel) for kernel in kernels) for kernels in series.values()
        ]
        table.add_row(name, *map(_coloured, (*counts, found.count(rules))))

    for rules in PARTS.values():
        for rule in rules:
            row(rule.id, [rule.id])
        table.add_section()
    row("all", found.rules)
    return table


def _sum(counts: Iterable[Count]) -> Count:
    holds, fails, unknown = (sum(part) for part in zip(*counts, strict=True))
    return holds, fails, unknown


def _coloured(count: Count) -> str:
    holds, fails, unknown = count
    if not sum(count):
        return ""
    colour = "bold red" if fails else "yellow" if unknown and not holds else "green"
    return f"[{colour}]{_long(count)}[/]"


def _long(count: Count) -> str:
    return "/".join(map(str, count)) if sum(count) else ""


def _short(count: Count) -> str:
    holds, fails, unknown = count
    text = f"{holds:,}"
    if unknown:
        text += f" ({unknown:,}?)"
    return f"{text} **{fails:,} fail**" if fails else text


def _natural(name: str) -> tuple[tuple[int, str], ...]:
    pieces = name.replace("-", ".").replace("+", ".").split(".")
    return tuple((int(piece), "") if piece.isdecimal() else (1 << 30, piece) for piece in pieces)


if __name__ == "__main__":
    sys.exit(main())
