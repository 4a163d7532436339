"""What the OOM killer prints: a table of tasks each time, and who was killed.

Kernel: mm/oom_kill.c, dump_tasks, dump_oom_summary (``dump_oom_victim`` in later releases) and
__oom_kill_process. Releases from 6.8 or so part rss into three further columns.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from analysis.errors import ParseError

_STAMP = re.compile(r"(?:<\d+>)?\[ *\d+\.\d+\] ?")
"""Not that of ``dmesg``: a row of the table begins as the id of a message's caller does."""
_HEAD = re.compile(r"\[ +pid +\] +(uid +tgid +total_vm +.*)$")
_ROW = re.compile(r"\[ *(\d+)\] +(-?\d.*)$")
_KILLED = re.compile(r"(Out of memory.*?): Killed process (\d+) \((.*?)\) ")
_TASKS = "Tasks state (memory values in pages):"


@dataclass(frozen=True, slots=True, kw_only=True)
class TableRow:
    """A task as the table shows it."""

    pid: int
    rss_pages: int
    page_table_bytes: int
    swap_entries: int
    oom_score_adj: int
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Kill:
    """One time that memory was out."""

    table: tuple[TableRow, ...]
    pid: int
    """Who was killed."""
    name: str
    lines: tuple[str, ...]
    """The table and the last word, as printed."""


def read_kills(log: str, *, source: str = "dmesg") -> tuple[Kill, ...]:
    """Every kill that the kernel's messages tell of, in order.

    Raises:
        ParseError: a table that breaks off, or a kill without one (vm.oom_dump_tasks is off).
    """
    kills: list[Kill] = []
    columns: list[str] = []
    rows: list[TableRow] = []
    lines: list[str] = []
    for number, line in enumerate(log.splitlines(), 1):
        text = _STAMP.sub("", line, count=1)
        if text.startswith(_TASKS):
            columns, rows, lines = [], [], [text]
        elif match := _HEAD.match(text):
            columns = match[1].split()
            lines.append(text)
        elif columns and (match := _ROW.match(text)):
            rows.append(_row(int(match[1]), match[2], columns, source, number, text))
            lines.append(text)
        elif match := _KILLED.match(text):
            if not rows:
                raise ParseError(source, number, text, "a table of tasks before it")
            lines.append(text)
            kills.append(
                Kill(table=tuple(rows), pid=int(match[2]), name=match[3], lines=tuple(lines))
            )
            columns, rows, lines = [], [], []
    return tuple(kills)


def _row(pid: int, rest: str, columns: list[str], source: str, number: int, text: str) -> TableRow:
    words = rest.split(maxsplit=len(columns) - 1)
    try:
        fields = dict(zip(columns, words, strict=True))
        return TableRow(
            pid=pid,
            rss_pages=int(fields["rss"]),
            page_table_bytes=int(fields["pgtables_bytes"]),
            swap_entries=int(fields["swapents"]),
            oom_score_adj=int(fields["oom_score_adj"]),
            name=fields["name"],
        )
    except (ValueError, KeyError):
        raise ParseError(source, number, text, "a number for each column of the table") from None
