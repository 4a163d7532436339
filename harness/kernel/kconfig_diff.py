"""The symbols in which two kernels' configurations differ, as a table for people."""

from __future__ import annotations

from collections.abc import Iterable

from harness.record.config_diff import Difference, diff_configs

__all__ = ["Difference", "diff_configs", "render_diff"]

_WIDEST = 30
"""A longer value, such as a list of file names, is cut in the table."""


def render_diff(differences: Iterable[Difference], names: tuple[str, str]) -> str:
    """A table for people: a symbol a line, in the two groups; long values are cut."""
    differences = list(differences)
    if not differences:
        return f"{names[0]} and {names[1]} are configured alike\n"
    width = max(len(difference.symbol) for difference in differences)
    shown = [tuple(_show(value) for value in each.values) for each in differences]
    column = max(len(names[0]), *(len(values[0]) for values in shown))
    lines = []
    for group, title in (("memory", "memory management"), ("other", "everything else")):
        rows = [
            f"{each.symbol:{width}}  {values[0]:{column}}  {values[1]}"
            for each, values in zip(differences, shown, strict=True)
            if each.group == group
        ]
        if rows:
            heading = f"{title} ({len(rows)})"
            lines += [f"{heading:{width}}  {names[0]:{column}}  {names[1]}", *rows, ""]
    return "\n".join(lines[:-1]) + "\n"


def _show(value: str | None) -> str:
    if value is None:
        return "-"
    if len(value) > _WIDEST:
        return f"{value[: _WIDEST - 1]}…"
    return value if value else '""'
