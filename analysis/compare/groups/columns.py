"""Fields of the tables by round, and rounds by moment."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import pandas as pd

from analysis.compare.facts import Tables
from analysis.compare.groups.moment import BOOT, END, Calendar
from analysis.compare.zones import frame

IDLE = ("null", "after")
"""Phases in which nothing is asked for."""
_UNEVENTFUL = frozenset({"idle", "before"})


def by_round(tables: Tables, table: str, value: str = "value") -> pd.DataFrame:
    """A table of fields as one row a round and one column a field; empty where there is none."""
    found = frame(tables, table)
    if found is None:
        return pd.DataFrame()
    wide = found.pivot_table(
        index="round", columns="field", values=value, aggfunc="sum", observed=True
    )
    wide.columns = [str(name) for name in wide.columns]
    return wide.astype(float)


def at(column: pd.Series[float], number: int) -> float | None:
    """The value in a round, or in the last before it that has one."""
    upto = column[column.index <= number].dropna()
    return float(upto.iloc[-1]) if len(upto) else None


def moments(calendar: Calendar) -> Iterator[tuple[str, int]]:
    """After boot, each mark at which a load has done something, and the end."""
    yield BOOT, calendar.boot
    for moment in calendar.moments:
        phase, _, action = moment.name.partition(": ")
        if phase not in IDLE and action.split()[0] not in _UNEVENTFUL:
            yield moment.name, moment.round
    yield END, calendar.end


def spans(calendar: Calendar) -> Iterator[tuple[str, int, int]]:
    """The whole run from boot to end, then each phase: name, first and last round."""
    yield "whole run", calendar.boot, calendar.end
    for span in calendar.spans:
        if span.phase not in IDLE:
            yield span.phase, span.begin, span.end


def within(column: pd.Series[float], begin: int, end: int) -> pd.Series[float]:
    """The values of the rounds from begin to end that have one."""
    return column[(column.index >= begin) & (column.index <= end)].dropna()


def summed(
    wide: pd.DataFrame, fields: Iterable[str] | Callable[[str], bool]
) -> pd.Series[float] | None:
    """The sum of fields by round; None where the kernel has none of them."""
    if callable(fields):
        names = [name for name in wide.columns if fields(name)]
    else:
        names = [name for name in fields if name in wide.columns]
    if not names:
        return None
    total: pd.Series[float] = wide[names].sum(axis=1, min_count=1)
    return total
