"""The page and the figures of a comparison of groups of runs."""

from __future__ import annotations

import re
import tempfile
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from analysis.compare.groups.comparison import METHOD, Comparison, Held
from analysis.compare.groups.conclusion import importance
from analysis.compare.groups.pair import Compared, Finding
from analysis.compare.groups.wording import amount, certainty, change
from analysis.figures import compare_forest, compare_strips, compare_time
from analysis.figures.files import replace_file, save_figure
from analysis.report import inline_svg

_FIGURES = (compare_forest, compare_strips, compare_time)
_QUIET = frozenset({Finding.NOISE, Finding.SAME, Finding.UNKNOWN})
_STYLE = re.compile(r"<style>\n(.*?)</style>", re.DOTALL)


def write_comparison(
    found: Comparison, *, page: Path | None = None, figures: Path | None = None
) -> None:
    """Draws the figures into a directory and writes the page, whichever is asked for.

    Raises:
        OSError: they cannot be written.
    """
    with tempfile.TemporaryDirectory(prefix="mmscope-figures-") as scratch:
        directory = figures or Path(scratch)
        drawn = []
        for module in _FIGURES:
            figure = module.draw(found)
            files = save_figure(figure, directory, module.NAME)
            headline = figure.texts[0].get_text().replace("\n", " ")
            drawn.append(
                {
                    "name": module.NAME,
                    "title": module.TITLE,
                    "reading": module.READING,
                    "body": inline_svg.embed(files, prefix=module.NAME, description=headline),
                }
            )
    if page is not None:
        page.parent.mkdir(parents=True, exist_ok=True)
        replace_file(page, render(found, drawn).encode("utf-8"))


def render(found: Comparison, figures: Iterable[Mapping[str, Any]] = ()) -> str:
    """The page as text: no scripts, nothing loaded from elsewhere."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("analysis.report", "."),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    base, *others = [group.name for group in found.groups]
    return environment.get_template("comparison.html").render(
        title=f"{', '.join(others)} against {base}",
        style=Markup(_report_style(environment)),  # noqa: S704 - our own template's
        question=found.question,
        warnings=found.warnings,
        pairs=[_pair(held) for held in found.held],
        figures=list(figures),
        groups=[
            {
                "name": group.name,
                "about": group.about,
                "release": group.runs[0].configured.release,
                "arch": group.runs[0].configured.arch,
                "seeds": [run.seed for run in group.runs],
                "runs": [run.path.name for run in group.runs],
            }
            for group in found.groups
        ],
        method=METHOD,
    )


def _report_style(environment: jinja2.Environment) -> str:
    """The look of a run's report: this page has the same."""
    assert environment.loader is not None
    source, _, _ = environment.loader.get_source(environment, "report.html")
    style = _STYLE.search(source)
    assert style is not None, "the report has a style"
    return style[1]


def _pair(held: Held) -> dict[str, Any]:
    pair = held.pair
    counts = Counter(each.finding for each in pair.headlines)
    differing = [
        each for each in pair.headlines if each.finding in (Finding.DIFFERS, Finding.SMALL)
    ]
    differing.sort(key=lambda each: (each.finding is Finding.SMALL, -importance(each)))
    details = [each for each in pair.details if each.finding is Finding.DIFFERS]
    details.sort(key=lambda each: (each.measure.subject, -importance(each)))
    return {
        "first": pair.first,
        "second": pair.second,
        "conclusion": held.conclusion,
        "counts": [(finding.value, counts[finding]) for finding in Finding if counts[finding]],
        "configuration": [each for each in held.configuration if each.kind != "other symbol"],
        "other_symbols": sum(each.kind == "other symbol" for each in held.configuration),
        "differing": [_row(each) for each in differing],
        "others": [_row(each) for each in pair.headlines if each not in differing],
        "details": [_row(each) for each in details],
    }


def _row(each: Compared) -> dict[str, Any]:
    unit = each.measure.unit
    row: dict[str, Any] = {
        "title": str(each.measure),
        "quiet": each.finding in _QUIET,
        "finding": f"{each.finding.value}: {each.why}" if each.why else each.finding.value,
    }
    row |= dict.fromkeys(("first", "second", "change", "interval", "noise", "g", "p"), "")
    if not each.first or not each.second:
        return row
    row["first"], row["second"] = amount(each.first_mean, unit), amount(each.second_mean, unit)
    row["change"] = change(each)
    if each.difference_interval is not None:
        row["interval"] = " to ".join(
            amount(bound, unit, sign=True) for bound in each.difference_interval
        )
    if each.noise is not None:
        row["noise"] = amount(each.noise, unit)
    if each.hedges_g is not None:
        row["g"] = f"{each.hedges_g:+.2g}"
    row["p"] = certainty(each)
    return row
