"""Claims ``buddy_split`` and ``buddy_coalesce``: what block requests do to the free lists."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pandas as pd

from analysis.compare.claim import Claim, Scope, Verdict
from analysis.compare.facts import Facts, Tables
from analysis.compare.noise import noise_floor
from analysis.compare.prediction import EXACT_ORDER
from analysis.compare.steps import ZoneStep, zone_steps
from analysis.compare.strays import Stray
from analysis.compare.zones import FreeBlocks, ZoneKey

_STIMULUS_COLUMNS = (
    "step",
    "label",
    "node",
    "zone",
    "order",
    "observed_blocks",
    "predicted_blocks",
)


def buddy_claims(tables: Tables, facts: Facts) -> Iterator[Claim]:
    """One claim per step and order for the zone that is asked, one per step for any other zone.

    Observed is the first reading of /proc/buddyinfo in the marked round, the closest to the
    step; what reads on allocates too.

    Orders from 5 up are exact: equal holds, different fails. Different is unknown only where
    the order moved while the round was read, moved as much by itself between two marks of the
    null run, or where the per-cpu lists are seen to have moved pages that no step asked for
    since the phase's first mark: those are single pages, which this model does not follow. The
    prediction starts at the phase's first mark, so an error stays visible ever after.

    Orders below 5 are a prediction: the model's change added to the row at the mark before. It
    holds when the error is within the noise floor, and fails when it is worse, by more than the
    floor, than the null model, which says that nothing changes. In between, or without a null
    run, it is unknown.

    Zones that are not asked must keep their blocks of order 5 and up: the claim counts those that
    changed since the phase's first mark.

    Raises:
        ParseError: a take or drop label that cannot be read.
    """
    floors = noise_floor(tables)
    for step in zone_steps(tables, facts):
        floor = floors.get((step.node, step.zone))
        if step.asked:
            yield from asked_claims(step, floor)
        else:
            yield from _left_alone(step, floor)


def stimulus_table(tables: Tables, facts: Facts) -> pd.DataFrame:
    """Observed and predicted blocks, a row per step, node, zone and order.

    Columns: step (from 0), label, node, zone, order, observed_blocks (the first reading of the
    marked round), predicted_blocks (missing where the model cannot say; below order 5 the
    model's change added to the row at the mark before).

    Raises:
        ParseError: a take or drop label that cannot be read.
    """
    labels: dict[str, int] = {}
    rows = [
        (
            labels.setdefault(step.label, len(labels)),
            step.label,
            step.node,
            step.zone,
            order,
            observed,
            _predicted(step, order),
        )
        for step in zone_steps(tables, facts)
        for order, observed in enumerate(step.observed.before)
    ]
    table = pd.DataFrame(rows, columns=list(_STIMULUS_COLUMNS))
    integers = ("step", "node", "order", "observed_blocks", "predicted_blocks")
    return table.astype(dict.fromkeys(integers, "Int64"))


def _predicted(step: ZoneStep, order: int) -> int | None:
    rows = step.prediction.free_blocks, step.null_prediction
    if rows[0] is None:
        return None
    if order >= EXACT_ORDER:
        return rows[0][order]
    if rows[1] is None:
        return None
    return step.previous.before[order] + rows[0][order] - rows[1][order]


def asked_claims(step: ZoneStep, floor: FreeBlocks | None) -> Iterator[Claim]:
    """One claim per order about a zone that the step's phase asks for blocks."""
    for order, observed in enumerate(step.observed.before):
        predicted = _predicted(step, order)
        if predicted is None:
            verdict = Verdict.UNKNOWN
            why = step.prediction.why or "the model could not say what the step before left"
        elif order >= EXACT_ORDER:
            verdict, why = _judge_exact(
                predicted,
                observed,
                moved=observed != step.observed.after[order],
                floor=floor[order] if floor else 0,
                strays=step.strays,
            )
        else:
            unchanged = step.previous.before[order]
            verdict, why = _judge_prediction(
                error=abs(predicted - observed),
                null_error=abs(unchanged - observed),
                floor=floor[order] if floor else None,
            )
        yield _claim(step, {"order": order}, predicted, observed, verdict, why)


def _left_alone(step: ZoneStep, floor: FreeBlocks | None) -> Iterator[Claim]:
    orders = range(EXACT_ORDER, len(step.base))
    if not orders:
        return
    changed = sum(abs(step.base[order] - step.observed.before[order]) for order in orders)
    if step.prediction.free_blocks is None:
        verdict, why = Verdict.UNKNOWN, step.prediction.why
    else:
        verdict, why = _judge_exact(
            0,
            changed,
            moved=step.observed.before[EXACT_ORDER:] != step.observed.after[EXACT_ORDER:],
            floor=sum(floor[EXACT_ORDER:]) if floor else 0,
            strays=step.strays,
            reach=len(orders),
        )
    yield _claim(step, {"orders": f"{EXACT_ORDER}-{orders[-1]}"}, 0, changed, verdict, why)


def _judge_exact(
    predicted: int,
    observed: int,
    *,
    moved: bool,
    floor: int,
    strays: Sequence[Stray],
    reach: int = 1,
) -> tuple[Verdict, str]:
    """``reach``: orders counted together; a single page changes each by one block at most."""
    if predicted == observed:
        return Verdict.HOLDS, ""
    error = abs(predicted - observed)
    if moved:
        return Verdict.UNKNOWN, f"off by {error} blocks, but they moved while the round was read"
    if error <= floor:
        return (
            Verdict.UNKNOWN,
            f"off by {error} blocks, no more than the {floor} that the null run moves by itself",
        )
    if strays and error <= reach * sum(stray.size for stray in strays):
        return (
            Verdict.UNKNOWN,
            f"off by {error} blocks, but the model does not follow single pages, and "
            + "; ".join(map(str, strays)),
        )
    return Verdict.FAILS, f"off by {error} blocks; the null run moves at most {floor}"


def _judge_prediction(*, error: int, null_error: int, floor: int | None) -> tuple[Verdict, str]:
    numbers = f"error {error} blocks, null model {null_error}"
    if floor is None:
        return Verdict.UNKNOWN, f"{numbers}; no null run gives a noise floor"
    if error <= floor:
        return Verdict.HOLDS, ""
    if error > null_error + floor:
        return Verdict.FAILS, f"{numbers}, noise floor {floor}: worse than no model"
    return Verdict.UNKNOWN, f"{numbers}, noise floor {floor}: neither told apart nor refuted"


def _claim(
    step: ZoneStep,
    orders: Scope,
    predicted: int | None,
    observed: int,
    verdict: Verdict,
    why: str,
) -> Claim:
    where: ZoneKey = (step.node, step.zone)
    return Claim(
        id="buddy_split" if step.takes else "buddy_coalesce",
        scope={"label": step.label, "node": where[0], "zone": where[1], **orders},
        predicted=predicted,
        observed=observed,
        unit="blocks",
        verdict=verdict,
        why=why,
    )
