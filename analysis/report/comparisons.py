"""``make comparisons``: what sweeps found, as one document.

``python -m analysis.report.comparisons SWEEP… --write docs/comparisons.md`` compares each sweep's
variants and writes conclusions, tables and figures.
"""

from __future__ import annotations

import argparse
import io
import sys
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from analysis.bundle import RecordError, read_sweep
from analysis.compare.groups.comparison import METHOD, Comparison, Held, compare
from analysis.compare.groups.conclusion import importance
from analysis.compare.groups.pair import Finding
from analysis.compare.groups.selection import select
from analysis.compare.groups.wording import amount, certainty, change
from analysis.errors import AnalysisError
from analysis.figures import compare_forest, compare_strips, compare_time
from analysis.figures.files import png_bytes, replace_file

_FIGURES = (compare_forest, compare_strips, compare_time)
_ABOUT = (
    "Each section is one `mmscope sweep NAME` and what `mmscope compare` says of it; sentences, "
    "tables and figures are made from the runs by `make comparisons`."
)
_ROWS = 16
_SYMBOLS = 12
_DPI = 90
_COLOURS = 48


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; 0 when every sweep could be compared."""
    parser = argparse.ArgumentParser(prog="comparisons", description=__doc__)
    parser.add_argument("sweeps", type=Path, nargs="+", help="directories of `mmscope sweep`")
    parser.add_argument("--write", type=Path, required=True, help="the Markdown file")
    asked = parser.parse_args(arguments)
    document: Path = asked.write
    figures = document.parent / document.stem
    try:
        parts = [_section(path, figures, document.parent) for path in asked.sweeps]
        figures.parent.mkdir(parents=True, exist_ok=True)
        replace_file(document, "\n".join([*_head(), *parts]).encode())
    except (AnalysisError, RecordError) as error:
        sys.stderr.write(f"comparisons: {error.render()}\n")
        return error.exit_code
    return 0


def _head() -> list[str]:
    return [
        "# Comparisons of kernel configurations",
        "",
        _ABOUT,
        "",
        METHOD,
        "",
    ]


def _section(path: Path, figures: Path, root: Path) -> str:
    found = compare(select([str(path)]))
    name = path.resolve().name
    record = read_sweep(path)
    lines = [f"## {name}", "", found.question, ""]
    lines += ["| group | runs | kernel | what it is |", "|---|---|---|---|"]
    for group in found.groups:
        configured = group.runs[0].configured
        lines.append(
            f"| {group.name} | {len(group.runs)} | {configured.release} ({configured.version}), "
            f"{configured.arch} | {group.about} |"
        )
    machine = found.groups[0].runs[0].configured.machine
    lines += ["", f"Machine: {', '.join(f'{key} {value}' for key, value in machine.items())}."]
    phases = ", ".join(str(phase["name"]) for phase in record.comparison["plan"]["phases"])
    lines += [f"Phases: {phases}. Swept {record.created[:10]}.", ""]
    for held in found.held:
        lines += _pair(held)
    lines += [f"- Note: {warning}" for warning in found.warnings]
    lines.append("")
    lines += _drawn(found, name, figures, root)
    return "\n".join(lines)


def _pair(held: Held) -> list[str]:
    pair = held.pair
    lines = [f"### {pair.second} against {pair.first}", ""]
    lines += [f"- {sentence}" for sentence in held.conclusion]
    lines.append("")
    shown = [each for each in held.configuration if each.kind != "other symbol"]
    others = len(held.configuration) - len(shown)
    if not held.configuration:
        lines += ["Nothing differs in configuration.", ""]
    else:
        told = [
            f"{each.kind} `{each.name}` {each.first or '-'} → {each.second or '-'}"
            for each in shown[:_SYMBOLS]
        ]
        more = len(shown) - len(told)
        tail = f"; {more} more of memory management" if more else ""
        tail += f"; {others} symbols of everything else" if others else ""
        lines += [f"Configuration: {'; '.join(told)}{tail}.", ""]
    differing = [each for each in pair.headlines if each.finding is Finding.DIFFERS]
    differing.sort(key=lambda each: -importance(each))
    if differing:
        lines += [
            f"| measure | {pair.first} | {pair.second} | change | 95 % interval | noise | p |",
            "|---|---:|---:|---:|---:|---:|---:|",
        ]
    for each in differing[:_ROWS]:
        unit = each.measure.unit
        interval = ""
        if each.difference_interval is not None and not each.constant:
            bounds = [amount(bound, unit, sign=True) for bound in each.difference_interval]
            interval = " to ".join(bounds)
        lines.append(
            f"| {each.measure} | {amount(each.first_mean, unit)} | "
            f"{amount(each.second_mean, unit)} | {change(each)} | {interval} | "
            f"{amount(each.noise or 0.0, unit)} | {certainty(each)} |"
        )
    if len(differing) > _ROWS:
        lines += ["", f"{len(differing) - _ROWS} more differ."]
    lines.append("")
    return lines


def _drawn(found: Comparison, name: str, figures: Path, root: Path) -> list[str]:
    figures.mkdir(parents=True, exist_ok=True)
    lines = []
    for module in _FIGURES:
        figure = module.draw(found)
        figure.set_dpi(_DPI)
        path = figures / f"{name}-{module.NAME.removeprefix('compare_')}.png"
        replace_file(path, _small(png_bytes(figure)))
        lines += [
            f"![{module.TITLE} of {name}]({path.relative_to(root)})",
            "",
            f"*{module.READING}*",
            "",
        ]
    return lines


def _small(png: bytes) -> bytes:
    """The same picture in few colours: a third of the size."""
    out = io.BytesIO()
    with Image.open(io.BytesIO(png)) as picture:
        picture.convert("RGB").quantize(_COLOURS).save(out, format="png", optimize=True)
    return out.getvalue()


if __name__ == "__main__":
    sys.exit(main())
