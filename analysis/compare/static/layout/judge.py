"""Layout claims: predictions under every era that may be in force, beside what is shown."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping
from dataclasses import dataclass, field

from analysis.capture.snapshot import Snapshot
from analysis.compare.claim import Claim, Number, Scope
from analysis.compare.rule import exact, one_of, unknown
from analysis.compare.static.layout.capture import LayoutInputError, LayoutUnknownError, eras
from analysis.model.layout.eras_layout import LayoutEra


@dataclass(frozen=True, slots=True, kw_only=True)
class Predicted:
    value: Number
    working: tuple[str, ...] = field(default=())


ALL = ("all", "")
"""The key of a claim about the whole machine beside those about zones."""

Predictions = Mapping[Hashable, Predicted]


def judge(
    rule_id: str,
    snapshot: Snapshot,
    *,
    predict: Callable[[LayoutEra], Predictions],
    observed: Mapping[Hashable, Number],
    scope: Callable[[Hashable], Scope],
    unit: str,
    absent: Number = 0,
) -> Iterator[Claim]:
    """A claim for every key that is predicted or observed; ``absent`` stands for a missing one."""
    tables: list[Predictions] = []
    for era in eras(snapshot):
        try:
            tables.append(predict(era))
        except LayoutUnknownError as error:
            lacking = isinstance(error, LayoutInputError)
            yield unknown(rule_id, why=str(error), lacking=lacking)
            return
    keys = dict.fromkeys([*observed, *(key for table in tables for key in table)])
    for key in keys:
        found = [table.get(key, Predicted(value=absent)) for table in tables]
        working = found[0].working
        shown = observed.get(key, absent)
        values = {item.value for item in found}
        if len(values) == 1:
            yield exact(
                rule_id,
                scope(key),
                predicted=found[0].value,
                observed=shown,
                unit=unit,
                working=working,
            )
        else:
            yield one_of(
                rule_id,
                scope(key),
                options=values,
                observed=shown,
                unit=unit,
                undecided=f"which release's rule is in force in {snapshot.kernel} is not known",
                working=working,
            )


def single(key: Hashable) -> Scope:
    """The scope of a claim about the whole machine."""
    del key
    return {}


def per_node(key: Hashable) -> Scope:
    """The scope of a claim about a node."""
    assert isinstance(key, int)
    return {"node": key}


def per_zone(key: Hashable) -> Scope:
    """The scope of a claim about a node's zone."""
    assert isinstance(key, tuple)
    return {"node": key[0], "zone": key[1]}
