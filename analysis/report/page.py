"""The page itself: everything known about a run put into one template."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jinja2

from analysis.figures.files import replace_file
from analysis.figures.gallery import DrawnPlate
from analysis.report import inline_svg
from analysis.report.cost import SamplingCost
from analysis.report.verdicts import NOTHING, VERDICTS, families, meanings, value_text

_ENDINGS = {
    "completed": ("good", "The run completed"),
    "oom-killed": ("fair", "The guest's OOM killer ended a workload"),
    "workload-failed": ("bad", "A workload failed"),
    "running": ("fair", "The run had not ended when this page was made"),
    "panicked": ("bad", "The guest's kernel crashed"),
    "timed-out": ("bad", "The guest stopped making progress"),
    "interrupted": ("bad", "The run was interrupted"),
    "failed": ("bad", "The run failed"),
    "killed": ("bad", "The run was killed"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportContext:
    """All that the page is made of; the mappings have the shape of the files they come from."""

    title: str
    check: Mapping[str, Any]
    """The JSON of ``mmscope check``."""
    manifest: Mapping[str, Any] | None = None
    """manifest.json; None for a capture, which has none."""
    ending: Mapping[str, Any] | None = None
    """How the run ended as far as anyone can tell; the manifest's own outcome if not given."""
    figures: Sequence[DrawnPlate] = ()
    cost: SamplingCost | None = None
    damage: Sequence[str] = ()
    """What is wrong with the recorded files (a stream cut short, a bad checksum)."""
    family_meanings: Mapping[str, str] = field(default_factory=meanings)
    """Claim family → one plain sentence about what it claims."""
    versions: Mapping[str, str] = field(default_factory=dict)
    """Program → version, of what made the page."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Ending:
    tone: str
    headline: str
    message: str
    fix: str


def render_report(context: ReportContext) -> str:
    """The page as text: no scripts, nothing loaded from elsewhere.

    Raises:
        ValueError: a claim has not the shape of a claim.
        OSError: a figure cannot be read.
    """
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("analysis.report", "."),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "size": size_text,
        "status": status_text,
        "number": number_text,
        "value": value_text,
    }
    groups = families(context.check["claims"], context.family_meanings)
    counts = {verdict: sum(group.count(verdict) for group in groups) for verdict in VERDICTS}
    figures = [
        {
            "name": plate.name,
            "title": plate.title,
            "reading": plate.reading,
            "body": inline_svg.embed(plate.files, prefix=plate.name, description=plate.finding),
        }
        for plate in context.figures
    ]
    return environment.get_template("report.html").render(
        title=context.title,
        kernel=context.check["kernel"],
        source=context.check["source"],
        manifest=context.manifest,
        ending=_ending(context),
        families=groups,
        counts=counts,
        total=sum(counts.values()),
        figures=figures,
        cost=context.cost,
        damage=list(context.damage),
        versions=context.versions,
    )


def write_report(context: ReportContext, path: Path) -> None:
    """Renders the page into ``path``, whole or not at all.

    Raises:
        ValueError, OSError: as ``render_report``; or the file cannot be written.
    """
    replace_file(path, render_report(context).encode("utf-8"))


def size_text(size_bytes: float) -> str:
    """``1536`` → ``1.5 KiB``."""
    size, unit = float(size_bytes), "B"
    for larger in ("KiB", "MiB", "GiB", "TiB"):
        if size < 1024:
            break
        size, unit = size / 1024, larger
    return f"{size:.0f} {unit}" if unit == "B" or size >= 100 else f"{size:.3g} {unit}"


def status_text(status: int | None) -> str:
    """An exit status in words: 0, an error number, a signal, or never ended."""
    if status is None:
        return "never ended"
    if status > 128:
        return f"{status} (signal {status - 128})"
    return str(status)


def number_text(value: float | None, unit: str = "") -> str:
    """Three digits that matter and a unit; a dash for what is not known."""
    if value is None:
        return NOTHING
    text = f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
    return f"{text} {unit}" if unit else text


def _ending(context: ReportContext) -> _Ending | None:
    outcome = context.ending
    if outcome is None and context.manifest is not None:
        outcome = context.manifest["outcome"]
    if outcome is None:
        return None
    kind = str(outcome["kind"])
    tone, headline = _ENDINGS.get(kind, ("bad", f"The run ended as {kind!r}"))
    return _Ending(
        tone=tone,
        headline=headline,
        message=str(outcome.get("message") or ""),
        fix=str(outcome.get("fix") or ""),
    )
