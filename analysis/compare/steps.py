"""Marked steps of a packet-ring workload: every zone as observed, and as the model predicts it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from analysis.compare.facts import Facts, Tables
from analysis.compare.prediction import Request, managed_by_node, predict_zone
from analysis.compare.strays import Stray, percpu_pages, stray_of
from analysis.compare.zones import (
    Bracket,
    FreeBlocks,
    Mark,
    RoundZone,
    ZoneKey,
    brackets,
    marks,
)
from analysis.errors import ParseError
from analysis.model.fragmentation import free_pages
from analysis.model.stimulus import Drop, Prediction, Take, first_zone


@dataclass(frozen=True, slots=True, kw_only=True)
class ZoneStep:
    """One zone after one step."""

    label: str
    step: int
    """Index in the label."""
    node: int
    zone: str
    observed: Bracket
    previous: Bracket
    """At the mark before."""
    base: FreeBlocks
    """Before the first step."""
    prediction: Prediction
    null_prediction: FreeBlocks | None
    """What the model said of the mark before; None when it could not."""
    asked: bool
    """Whether any step of the series asks this zone."""
    takes: bool
    """Whether this step takes blocks, rather than giving them back."""
    strays: tuple[Stray, ...] = ()
    """What the per-cpu lists moved in this zone from the base up to this mark."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Series:
    """Steps of one phase from its mark ``0/before`` on."""

    base: Mark
    steps: tuple[tuple[Mark, Request], ...]


def zone_steps(tables: Tables, facts: Facts) -> list[ZoneStep]:
    """Every take and drop that was marked, for every zone that /proc/buddyinfo shows.

    Predictions start from /proc/pagetypeinfo in the round of ``<phase>/0/before`` and follow the
    labels from there; nothing observed later enters, with one exception: a label
    ``take/BLOCKS/ORDER`` without a node, on a machine with several, is given to the node whose
    first zone lost most of that many pages in that step.

    Raises:
        ParseError: a take or drop label that cannot be read.
    """
    zones = brackets(tables)
    percpu = percpu_pages(tables)
    return [
        step
        for series in _series(marks(tables))
        for step in _steps_of_series(tables, facts, zones, percpu, series)
    ]


def _series(labelled: Sequence[Mark]) -> list[_Series]:
    """Phases with rings in them, each from its last ``0/before``.

    Other workloads may have steps called ``drop`` too; only a phase that took a ring counts.
    """
    took = {mark.phase for mark in labelled if mark.action[:1] == ("take",)}
    found: list[tuple[Mark, list[tuple[Mark, Request]]]] = []
    open_at: dict[str, int] = {}
    for mark in labelled:
        if mark.index == 0 and mark.action == ("before",):
            open_at[mark.phase] = len(found)
            found.append((mark, []))
        elif (
            mark.action
            and mark.action[0] in ("take", "drop")
            and mark.phase in took & open_at.keys()
        ):
            found[open_at[mark.phase]][1].append((mark, _request(mark)))
    return [_Series(base=base, steps=tuple(steps)) for base, steps in found if steps]


def _request(mark: Mark) -> Request:
    assert mark.index is not None, "only indexed marks have actions"
    match mark.action:
        case ("take", blocks, order, *_) if blocks.isdecimal() and order.isdecimal():
            return Take(ring=mark.index, blocks=int(blocks), order=int(order))
        case ("drop", ring) if ring.isdecimal():
            return Drop(ring=int(ring))
    raise ParseError(
        f"mark of round {mark.round}",
        0,
        mark.label,
        "PHASE/INDEX/take/BLOCKS/ORDER[/NODE] or PHASE/INDEX/drop/INDEX-OF-TAKE",
    )


def _steps_of_series(
    tables: Tables,
    facts: Facts,
    zones: Mapping[RoundZone, Bracket],
    percpu: Mapping[RoundZone, int],
    series: _Series,
) -> list[ZoneStep]:
    start = series.base.round
    keys = sorted((node, zone) for number, node, zone in zones if number == start)
    asked_zone, unplaced = _zone_of_rings(tables, facts, zones, series)
    steps: list[ZoneStep] = []
    for key in keys:
        base = zones[(start, *key)].before
        own = [request for _, request in series.steps if asked_zone.get(request.ring) == key]
        predictions = predict_zone(tables, facts, key, start, zones[(start, *key)], own)
        current = predictions[0]
        following = iter(predictions[1:])
        previous_round = start
        held: dict[int, int] = {}
        strays: list[Stray] = []
        for mark, request in series.steps:
            before_step = current
            requested_growth = 0
            if asked_zone.get(request.ring) == key:
                current = next(following)
                requested_growth = _requested_growth(request, held)
            if unplaced:
                current = Prediction(free_blocks=None, why=unplaced)
            observed = zones.get((mark.round, *key))
            previous = zones.get((previous_round, *key))
            if observed is not None and previous is not None:
                stray = stray_of(
                    mark.label,
                    free_growth=free_pages(observed.before) - free_pages(previous.before),
                    requested_growth=requested_growth,
                    percpu_growth=_growth(percpu, key, previous_round, mark.round),
                )
                strays += [] if stray is None else [stray]
                steps.append(
                    ZoneStep(
                        label=mark.label,
                        step=mark.index or 0,
                        node=key[0],
                        zone=key[1],
                        observed=observed,
                        previous=previous,
                        base=base,
                        prediction=current,
                        null_prediction=before_step.free_blocks,
                        asked=bool(own),
                        takes=isinstance(request, Take),
                        strays=tuple(strays),
                    )
                )
            previous_round = mark.round
    order_of_marks = {mark.label: place for place, (mark, _) in enumerate(series.steps)}
    return sorted(steps, key=lambda step: order_of_marks[step.label])


def _requested_growth(request: Request, held: dict[int, int]) -> int:
    """Free pages that a step gives back (or, negative, takes); ``held`` follows the rings."""
    if isinstance(request, Take):
        held[request.ring] = request.blocks << request.order
        return -held[request.ring]
    return held.pop(request.ring, 0)


def _growth(percpu: Mapping[RoundZone, int], key: ZoneKey, earlier: int, later: int) -> int | None:
    then, now = percpu.get((earlier, *key)), percpu.get((later, *key))
    return None if then is None or now is None else now - then


def _zone_of_rings(
    tables: Tables, facts: Facts, zones: Mapping[RoundZone, Bracket], series: _Series
) -> tuple[dict[int, ZoneKey], str]:
    """The zone that serves each ring, or why one is not known."""
    first = {
        node: zone
        for node, managed in managed_by_node(tables, series.base.round).items()
        if (zone := first_zone(managed)) is not None
    }
    found: dict[int, ZoneKey] = {}
    previous = series.base
    for mark, request in series.steps:
        if isinstance(request, Take):
            node = _node_of(mark, facts, zones, first, previous)
            if node is None or node not in first:
                return {}, f"{mark.label}: nothing says on which node the workload asked"
            found[request.ring] = (node, first[node])
        elif request.ring not in found:
            return {}, f"{mark.label}: no step {request.ring} took a ring"
        previous = mark
    return found, ""


def _node_of(
    mark: Mark,
    facts: Facts,
    zones: Mapping[RoundZone, Bracket],
    first: Mapping[int, str],
    previous: Mark,
) -> int | None:
    if len(mark.action) > 3 and mark.action[3].isdecimal():
        return int(mark.action[3])
    if mark.phase in facts.phase_nodes:
        return facts.phase_nodes[mark.phase]
    if len(first) == 1:
        return next(iter(first))
    lost: dict[int, int] = {}
    for node, zone in first.items():
        then = zones.get((previous.round, node, zone))
        now = zones.get((mark.round, node, zone))
        if then and now:
            lost[node] = free_pages(then.before) - free_pages(now.before)
    most = max(lost.values(), default=0)
    losers = [node for node, pages in lost.items() if pages == most > 0]
    return losers[0] if len(losers) == 1 else None
