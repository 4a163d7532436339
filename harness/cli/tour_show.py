"""The tour on a terminal: a table of stops, and a stop with its evidence and the model's words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from rich.markup import escape
from rich.table import Table
from rich.text import Text

from analysis.compare.claim import Claim
from analysis.tour.finding import Listing
from analysis.tour.judge import JudgedStop, JudgedTour, machine_words
from analysis.tour.words import Language, StopWords, stop_words
from analysis.verdict import Verdict
from harness.cli.terminal import output_console

_WIDTH = 118
_SHOWN_IN_FULL = 3
_COLOURS = {
    "holds": "green",
    "fails": "bold red",
    "unknown": "yellow",
    "broken": "bold red",
    "not walked": "dim",
}


def show_tour(tour: JudgedTour, *, language: Language, whole: bool) -> None:
    """The table; before it, when few stops are asked for, each of them in full."""
    words = stop_words(language)
    if not whole and len(tour.stops) <= _SHOWN_IN_FULL:
        for stop in tour.stops:
            show_stop(stop, words.get(stop.name))
    console = output_console(_WIDTH)
    table = Table(title="the tour" if whole else None, title_justify="left")
    for name in ("stop", "verdict", "claims", "kernel", "s"):
        justify: Literal["right", "left"] = "right" if name == "s" else "left"
        table.add_column(name, justify=justify, no_wrap=True)
    for stop in tour.stops:
        table.add_row(
            stop.name,
            f"[{_COLOURS[stop.status]}]{stop.status}[/]",
            _counts(stop),
            "\n".join(_kernels(stop)),
            f"{stop.seconds:.0f}" if stop.walked else "",
        )
    console.print(table)
    for stop in tour.stops:
        if stop.complaint:
            console.print(f"[bold red]{stop.name}[/]: {escape(stop.complaint)}", highlight=False)
            for name, text in stop.details.items():
                console.print(escape(f"  {name}: {text}"), highlight=False)
            if stop.fix:
                console.print(escape(f"  fix: {stop.fix}"), highlight=False)
        for claim in stop.finding.claims if stop.finding and whole else ():
            if claim.verdict is not Verdict.HOLDS:
                console.print(f"{stop.name}: {_claim(claim)}", highlight=False)


def show_stop(stop: JudgedStop, words: StopWords | None) -> None:
    """A stop in full: what ran on what, the evidence, and each claim with its working."""
    console = output_console(_WIDTH)
    title = f"{stop.name} · {words.title}" if words else stop.name
    console.print(f"[bold]{escape(title)}[/]")
    for label, boot in (stop.evidence.boots if stop.evidence else {}).items():
        machine = machine_words(boot.record)
        console.print(
            escape(f"{label}: {boot.release} {boot.arch} · {machine} · up in {boot.boot_s:.1f} s"),
            highlight=False,
        )
        console.print(f"[dim]{escape(boot.cmdline)}[/]", highlight=False)
    if stop.finding is None:
        console.print()
        return
    for exhibit in stop.finding.exhibits:
        if isinstance(exhibit, Listing):
            caption = words.exhibits.get(exhibit.id, exhibit.id) if words else exhibit.id
            console.print(f"\n[italic]{escape(caption)}[/]", highlight=False)
            for number, line in enumerate(exhibit.text.splitlines(), start=1):
                told = number in exhibit.marked
                text = Text(("▸ " if told else "  ") + line, style="bold" if told else "")
                console.print(text, highlight=False)
    console.print()
    said = ""
    worked: set[str] = set()
    for claim in stop.finding.claims:
        sentence = words.claims.get(claim.id, claim.id) if words else claim.id
        if sentence != said:
            console.print(f"[italic]{escape(sentence)}[/]", highlight=False)
            said = sentence
        console.print(f"  {_claim(claim)}", highlight=False)
        for line in claim.working:
            if line not in worked:  # several claims come from the same inputs
                console.print(f"      [dim]{escape(line)}[/]", highlight=False)
        worked.update(claim.working)
    console.print()


def show_list(rows: Sequence[Mapping[str, Any]]) -> None:
    """The stops, what they boot, and whether the newest tour has them."""
    console = output_console(_WIDTH)
    table = Table()
    for name in ("stop", "boots", "newest tour"):
        table.add_column(name)
    for row in rows:
        boots = ", ".join(f"{each['kernel']} {each['arch']}" for each in row["boots"])
        table.add_row(str(row["name"]), boots, str(row["state"]))
    console.print(table)


def _claim(claim: Claim) -> str:
    scope = ", ".join(f"{key} {value}" for key, value in claim.scope.items())
    unit = f" {claim.unit}" if claim.unit else ""
    head = f"[{_COLOURS[claim.verdict.value]}]{claim.verdict.value}[/] "
    told = f"{claim.id}{f' ({scope})' if scope else ''}: "
    if claim.verdict is Verdict.HOLDS and claim.predicted == claim.observed:
        return head + escape(f"{told}model and kernel say {claim.observed}{unit}")
    if claim.verdict is Verdict.HOLDS:
        return head + escape(f"{told}model {claim.predicted}, kernel {claim.observed}{unit}")
    return head + escape(
        f"{told}model {claim.predicted}, kernel {claim.observed}{unit}; {claim.why}"
    )


def _counts(stop: JudgedStop) -> str:
    if stop.finding is None:
        return ""
    return " ".join(f"{count} {name}" for name, count in stop.counts.items() if count)


def _kernels(stop: JudgedStop) -> list[str]:
    if stop.evidence is None:
        return []
    return list(dict.fromkeys(f"{b.release} {b.arch}" for b in stop.evidence.boots.values()))
