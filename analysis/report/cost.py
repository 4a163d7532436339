"""What watching cost: how long a round took, and what it moved in the memory it watched."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
import pandas as pd

from analysis.compare.facts import Tables
from analysis.figures.facts import table


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplingCost:
    """The observer's effect, measured where nothing else was meant to happen."""

    window: str
    """Which rounds were looked at: ``phase null``, or ``the whole run``."""
    rounds: int
    dense_ms: float | None
    """Median duration of a dense round."""
    dense_p95_ms: float | None
    sparse_ms: float | None
    """Median duration of a round that reads the sparse sources too."""
    period_ms: float | None
    """Median time from the start of one unmarked round to that of the next."""
    busy_percent: float | None
    """Time inside rounds over all time of the window: an upper bound of the sampler's CPU use."""
    bytes_per_round: float | None
    quiet_rounds: int | None
    """Rounds whose two readings of buddyinfo are equal in every count; None without brackets."""
    bracketed_rounds: int
    moved_pages_median: float | None
    """Free pages gained or lost between the two readings of a round, summed over zones."""
    moved_pages_max: int | None


def sampling_cost(tables: Tables, *, stream_bytes: int | None = None) -> SamplingCost | None:
    """The cost in the ``null`` phase, or over all rounds when the run has none.

    ``stream_bytes`` is the size of the recorded sample stream. None when no round is recorded.
    """
    rounds = table(tables, "rounds")
    if rounds is None:
        return None
    everything = len(rounds)
    marks = table(tables, "marks")
    chosen, window = _null_window(rounds, marks)
    marked = set() if marks is None else set(marks["round"].astype(int))
    numbers = chosen["round"].to_numpy(dtype=np.int64)
    start_ns = chosen["t_ns"].to_numpy(dtype=np.int64)
    end_ns = chosen["t_end_ns"].to_numpy(dtype=np.int64)
    took_ms = (end_ns - start_ns) / 1e6
    sparse = chosen["sparse"].to_numpy(dtype=bool)
    # A marked round comes out of turn, and so shortens the wait before it and after.
    regular = np.array(
        [a not in marked and b not in marked for a, b in itertools.pairwise(numbers)],
        dtype=bool,
    )
    periods_ms = np.diff(start_ns)[regular] / 1e6
    span_ms = (end_ns[-1] - start_ns[0]) / 1e6
    quiet, moved_pages = _brackets(tables, set(numbers.tolist()))
    return SamplingCost(
        window=window,
        rounds=len(chosen),
        dense_ms=_median(took_ms[~sparse]),
        dense_p95_ms=float(np.percentile(took_ms[~sparse], 95)) if (~sparse).any() else None,
        sparse_ms=_median(took_ms[sparse]),
        period_ms=_median(periods_ms),
        busy_percent=float(100 * took_ms.sum() / span_ms) if span_ms > 0 else None,
        bytes_per_round=None if stream_bytes is None else stream_bytes / everything,
        quiet_rounds=int(quiet.sum()) if len(quiet) else None,
        bracketed_rounds=len(quiet),
        moved_pages_median=_median(moved_pages),
        moved_pages_max=int(moved_pages.max()) if len(moved_pages) else None,
    )


def _null_window(rounds: pd.DataFrame, marks: pd.DataFrame | None) -> tuple[pd.DataFrame, str]:
    """The rounds from the mark ``null/begin`` to ``null/end``, neither of the two included."""
    if marks is not None:
        begin = marks[marks["label"] == "null/begin"]["round"]
        end = marks[marks["label"] == "null/end"]["round"]
        if not begin.empty:
            last = int(end.iloc[0]) if not end.empty else int(rounds["round"].max()) + 1
            inside = rounds[(rounds["round"] > int(begin.iloc[0])) & (rounds["round"] < last)]
            if not inside.empty:
                return inside, "phase null"
    return rounds, "the whole run"


def _brackets(
    tables: Tables, chosen: set[int]
) -> tuple[np.ndarray[tuple[int], np.dtype[np.bool]], np.ndarray[tuple[int], np.dtype[np.int64]]]:
    """For each round with both readings: whether they are equal, and free pages that moved."""
    nothing = np.array([], dtype=bool), np.array([], dtype=np.int64)
    buddyinfo = table(tables, "buddyinfo")
    if buddyinfo is None:
        return nothing
    frame = buddyinfo[buddyinfo["round"].isin(chosen)]
    keys = ["round", "node", "zone", "order"]
    counts = frame.pivot(index=keys, columns="bracket", values="free_blocks")
    if not {"before", "after"} <= set(counts.columns):
        return nothing
    counts = counts.dropna().astype("int64")
    if counts.empty:
        return nothing
    change = (counts["after"] - counts["before"]).reset_index(name="blocks")
    change["pages"] = np.left_shift(
        change["blocks"].to_numpy(dtype=np.int64), change["order"].to_numpy(dtype=np.int64)
    )
    quiet = (change["blocks"] == 0).groupby(change["round"]).all()
    by_zone = change.groupby(["round", "node", "zone"], observed=True)["pages"].sum().abs()
    moved_pages = by_zone.groupby("round").sum()
    return quiet.to_numpy(dtype=bool), moved_pages.to_numpy(dtype=np.int64)


def _median(values: np.ndarray[tuple[int], np.dtype[np.generic]]) -> float | None:
    return float(np.median(values)) if len(values) else None  # type: ignore[type-var]
