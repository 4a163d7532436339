"""Claims of exact replay: what the free lists must be after every event of a window."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from analysis.compare.claim import Claim, Scope, Verdict
from analysis.replay.comparison import Comparison
from analysis.replay.exact import Replay, WindowReplay

PAGES = "replay_pages"
NR_FREE = "replay_nr_free"
EVENTS = "replay_events"


def window_claims(results: Iterable[WindowReplay]) -> list[Claim]:
    """Claims about every window: pages by zone, counts by zone and order, unexplained events.

    Pages and blocks are compared at every memory sample, counts are shown for the last.

    A window that must not be trusted, or could not be replayed, makes its claims unknown.
    """
    return [claim for result in results for claim in _claims(result)]


def _claims(result: WindowReplay) -> Iterator[Claim]:
    scope: Scope = {"window": result.window.name}
    replay = result.replay
    if replay is None:
        yield _unknown(PAGES, scope, "pages differing", result)
        yield _unknown(NR_FREE, scope, "blocks", result)
        yield _unknown(EVENTS, scope, "events", result)
        return
    for comparison in replay.comparisons:
        yield from _comparison_claims(result, replay, comparison)
    unexplained = replay.ledger.unexplained
    entry = replay.ledger.first_unexplained()
    yield _claim(
        result,
        id=EVENTS,
        scope=scope,
        predicted=0,
        observed=unexplained,
        unit="unexplained events",
        is_exact=not unexplained,
        finding=f"first: {entry}",
    )


def _comparison_claims(
    result: WindowReplay, replay: Replay, comparison: Comparison
) -> Iterator[Claim]:
    """One sample of a window; a sample between its begin and its end is named in the scope."""
    moment = {} if comparison is replay.end else {"sample": comparison.label}
    for zone in replay.zones:
        scope: Scope = {
            "window": result.window.name,
            **moment,
            "node": zone.node,
            "zone": zone.name,
        }
        pages = int(comparison.pages_differing[zone.index])
        blocks = int(comparison.blocks_differing[zone.index].sum())
        named = [page for page in comparison.pages if zone.holds(page.pfn)]
        first = f", the first {named[0].pfn:#x}" if named else ""
        yield _claim(
            result,
            id=PAGES,
            scope=scope,
            predicted=0,
            observed=pages,
            unit="pages differing",
            is_exact=not pages and not blocks,
            finding=f"{pages} pages and {blocks} free blocks are not as replayed{first}",
        )
        if moment:
            continue  # Equal blocks are equal counts; a window may have a hundred samples.
        for order in range(replay.geometry.max_order + 1):
            predicted = int(comparison.predicted[zone.index, order])
            observed = int(comparison.observed[zone.index, order])
            yield _claim(
                result,
                id=NR_FREE,
                scope={**scope, "order": order},
                predicted=predicted,
                observed=observed,
                unit="blocks",
                is_exact=predicted == observed,
                finding=f"{observed - predicted:+} blocks",
            )


def _claim(
    result: WindowReplay,
    *,
    id: str,  # noqa: A002 - as in Claim
    scope: Scope,
    predicted: int,
    observed: int,
    unit: str,
    is_exact: bool,
    finding: str,
) -> Claim:
    """Doubts go before differences: they may be what made them."""
    if result.doubts:
        verdict, why = Verdict.UNKNOWN, "; ".join(result.doubts)
    elif is_exact:
        verdict, why = Verdict.HOLDS, ""
    else:
        verdict, why = Verdict.FAILS, finding
    return Claim(
        id=id,
        scope=scope,
        predicted=predicted,
        observed=observed,
        unit=unit,
        verdict=verdict,
        why=why,
    )


def _unknown(id: str, scope: Scope, unit: str, result: WindowReplay) -> Claim:  # noqa: A002
    return Claim(
        id=id,
        scope=scope,
        predicted=None,
        observed=None,
        unit=unit,
        verdict=Verdict.UNKNOWN,
        why=result.why,
    )
