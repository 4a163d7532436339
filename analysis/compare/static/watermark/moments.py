"""Quantities that the kernel computed at one of several moments, and which one it was.

Watermarks and reserves are numbers from the past: the kernel computes them at boot, and again only
when something makes it. A capture does not say when that was last. So each possible moment gives a
complete set of numbers, for all zones; which set is in force is read off the *other* zones, never
off the number that is judged.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from analysis.compare.claim import Claim, Number, Scope
from analysis.compare.rule import exact, one_of, unknown

Key = tuple[int, str]
"""Node and zone; ``(0, "")`` for a number of the whole machine."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """One moment, or one way to compute, and what it gives for every zone."""

    name: str
    """Completes "as computed …"."""
    likely: bool
    """Whether this is what a kernel shows that nobody interfered with; the others are taken only
    where other zones show them."""
    values: Mapping[Key, Number]
    working: Mapping[Key, Sequence[str]] = field(default_factory=dict)

    def differs(self, other: Moment, key: Key) -> bool:
        return self.values[key] != other.values[key]


def judged(
    rule_id: str,
    moments: Sequence[Moment],
    observed: Mapping[Key, Number],
    *,
    unit: str,
    evidence: Mapping[Key, Number] | None = None,
) -> Iterator[Claim]:
    """A claim for each zone: exact, with the moment that the other zones show.

    ``evidence`` are further numbers that every moment has a value for: they say which moment it
    was, and are not judged. One that no moment gives says nothing.

    Where they show none, the likely moments decide; where these differ, or the kernel shows what
    only an unlikely one gives, the claim is unknown. A number that no moment gives fails.
    """
    assert moments, "a quantity without a moment has no prediction"
    says = {
        key: number
        for key, number in (evidence or {}).items()
        if any(moment.values[key] == number for moment in moments)
    }
    for key, shown in observed.items():
        yield _judge(rule_id, key, moments, {**observed, **says}, shown, unit)


def scope_of(key: Key) -> Scope:
    """The scope of a zone's claim."""
    return {"node": key[0], "zone": key[1]} if key[1] else {}


def _judge(
    rule_id: str,
    key: Key,
    moments: Sequence[Moment],
    observed: Mapping[Key, Number],
    shown: Number,
    unit: str,
) -> Claim:
    telling = [
        other
        for other in observed
        if other != key and any(moment.differs(moments[0], other) for moment in moments)
    ]
    agreeing = [
        moment
        for moment in moments
        if all(moment.values[other] == observed[other] for other in telling)
    ]
    likely = [moment for moment in agreeing if moment.likely]
    if not likely and not telling:
        likely = agreeing
    chosen = likely or agreeing or [moment for moment in moments if moment.likely] or moments
    options = [moment.values[key] for moment in chosen]
    working = _working(key, chosen)
    if shown not in options and not telling:
        unlikely = [moment for moment in moments if moment.values[key] == shown]
        if unlikely:
            return unknown(
                rule_id,
                scope_of(key),
                why=(
                    f"the kernel shows {shown}, as computed {unlikely[0].name}; nothing else in "
                    f"the capture says that it was, and as computed {chosen[0].name} it is "
                    f"{options[0]}"
                ),
                observed=shown,
                unit=unit,
                working=(*working, *_working(key, unlikely[:1])),
            )
    if len(set(options)) == 1:
        return exact(
            rule_id,
            scope_of(key),
            predicted=options[0],
            observed=shown,
            unit=unit,
            working=working,
        )
    named = "; or ".join(dict.fromkeys(f"as computed {moment.name}" for moment in chosen))
    return one_of(
        rule_id,
        scope_of(key),
        options=options,
        observed=shown,
        unit=unit,
        undecided=f"the capture does not say which it is: {named}",
        working=working,
    )


def _working(key: Key, moments: Iterable[Moment]) -> tuple[str, ...]:
    """The arithmetic of each different answer, once."""
    lines: list[str] = []
    seen: set[Number] = set()
    for moment in moments:
        if moment.values[key] not in seen:
            seen.add(moment.values[key])
            lines.append(f"as computed {moment.name}:")
            lines.extend(moment.working.get(key, ()))
    return tuple(lines)
