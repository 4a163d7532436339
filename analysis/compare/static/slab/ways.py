"""Claims of many caches about a kernel whose rule may be one of several ways to compute.

One way holds for all caches of a kernel. So the first cache for which the ways differ tells which
of them are in force; it is then no test itself, and unknown, but all others are.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from analysis.compare.claim import Claim, Number, Scope, Verdict
from analysis.compare.rule import exact, unknown


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """What every way predicts of one cache."""

    scope: Scope
    options: tuple[Number, ...]
    """By way, in the same order for all rows."""
    observed: Number
    unit: str
    working: tuple[str, ...]
    """By way, or lines that are the same for all."""


def claims(
    rule_id: str, rows: Iterable[Row], *, undecided: str, same_for_all: bool = True
) -> Iterator[Claim]:
    """A claim for each row: exact where the ways still possible agree.

    ``undecided`` says why there are several. A row that shows what none of the possible ways gives
    fails, and rules none out. Unless the ways are the ``same_for_all``, no row tells of others.
    """
    possible: tuple[int, ...] | None = None
    for row in rows:
        if possible is None:
            possible = tuple(range(len(row.options)))
        options = {row.options[way] for way in possible}
        working = tuple(dict.fromkeys(row.working))
        if len(options) == 1:
            yield exact(
                rule_id,
                row.scope,
                predicted=options.pop(),
                observed=row.observed,
                unit=row.unit,
                working=working,
            )
            continue
        listed = " or ".join(sorted(map(str, options)))
        if row.observed not in options:
            yield Claim(
                id=rule_id,
                scope=row.scope,
                predicted=None,
                observed=row.observed,
                unit=row.unit,
                verdict=Verdict.FAILS,
                why=f"{undecided}: {listed} is possible, the kernel shows {row.observed}",
                working=working,
            )
            continue
        if same_for_all:
            possible = tuple(way for way in possible if row.options[way] == row.observed)
        tells = "; this one tells which is in force for the others" if same_for_all else ""
        yield unknown(
            rule_id,
            row.scope,
            why=f"{undecided}: {listed}{tells}",
            observed=row.observed,
            unit=row.unit,
            working=working,
        )
