"""The cost of sampling, from rounds whose cost is known."""

from __future__ import annotations

import pandas as pd
import pytest

from analysis.report.cost import sampling_cost
from tests.synthetic_tables import UMA, Shape, make_tables

MS = 1_000_000


def rounds(
    *durations_ms: int, period_ms: int = 100, sparse: frozenset[int] = frozenset()
) -> pd.DataFrame:
    starts_ns = [i * period_ms * MS for i in range(len(durations_ms))]
    return pd.DataFrame(
        {
            "round": pd.array(range(len(durations_ms)), dtype="Int64"),
            "t_ns": pd.array(starts_ns, dtype="Int64"),
            "t_end_ns": pd.array(
                [s + d * MS for s, d in zip(starts_ns, durations_ms, strict=True)], dtype="Int64"
            ),
            "sparse": pd.array([i in sparse for i in range(len(durations_ms))], dtype="boolean"),
        }
    )


def marks(**at: int) -> pd.DataFrame:
    labels = [name.replace("_", "/") for name in at]
    return pd.DataFrame(
        {"round": list(at.values()), "t_ns": [n * 100 * MS for n in at.values()], "label": labels}
    )


def buddyinfo(*rows: tuple[int, str, int, int, int]) -> pd.DataFrame:
    frame = pd.DataFrame(rows, columns=["round", "bracket", "node", "order", "free_blocks"])
    return frame.assign(zone="Normal")


def test_no_rounds_no_cost() -> None:
    assert sampling_cost({}) is None
    assert sampling_cost({"rounds": rounds()}) is None


def test_durations_are_split_by_kind_of_round() -> None:
    cost = sampling_cost({"rounds": rounds(10, 12, 30, 14, sparse=frozenset({2}))})
    assert cost is not None
    assert cost.window == "the whole run"
    assert (cost.dense_ms, cost.sparse_ms, cost.period_ms) == (12.0, 30.0, 100.0)
    assert cost.dense_p95_ms == pytest.approx(13.8)
    assert cost.busy_percent == pytest.approx(100 * 66 / 314)


def test_the_null_phase_is_preferred_without_its_marked_ends() -> None:
    tables = {"rounds": rounds(50, 50, 10, 10, 50, 50), "marks": marks(null_begin=1, null_end=4)}
    cost = sampling_cost(tables)
    assert cost is not None
    assert (cost.window, cost.rounds, cost.dense_ms) == ("phase null", 2, 10.0)


def test_a_null_phase_that_never_ended_lasts_to_the_end() -> None:
    cost = sampling_cost({"rounds": rounds(50, 50, 10, 10), "marks": marks(null_begin=1)})
    assert cost is not None
    assert cost.rounds == 2


def test_marked_rounds_do_not_count_as_the_period() -> None:
    table = rounds(5, 5, 5, 5, 5)
    table.loc[2, "t_ns"] = 101 * MS
    table.loc[2, "t_end_ns"] = 106 * MS
    cost = sampling_cost({"rounds": table, "marks": marks(x_1_idle=2)})
    assert cost is not None
    assert cost.period_ms == 100.0


def test_moved_pages_are_net_by_zone_and_quiet_means_every_count() -> None:
    tables = {
        "rounds": rounds(5, 5, 5),
        "buddyinfo": buddyinfo(
            (0, "before", 0, 0, 8), (0, "before", 0, 1, 4),
            (0, "after", 0, 0, 8), (0, "after", 0, 1, 4),
            (1, "before", 0, 0, 8), (1, "before", 0, 1, 4),
            (1, "after", 0, 0, 10), (1, "after", 0, 1, 3),
            (2, "before", 0, 0, 8), (2, "before", 0, 1, 4),
            (2, "after", 0, 0, 5), (2, "after", 0, 1, 3),
        ),
    }  # fmt: skip
    cost = sampling_cost(tables)
    assert cost is not None
    assert (cost.quiet_rounds, cost.bracketed_rounds) == (1, 3)
    assert (cost.moved_pages_median, cost.moved_pages_max) == (0.0, 5)


def test_without_brackets_nothing_is_said_about_moved_pages() -> None:
    tables = {"rounds": rounds(5), "buddyinfo": buddyinfo((0, "before", 0, 0, 8))}
    cost = sampling_cost(tables)
    assert cost is not None
    assert (cost.quiet_rounds, cost.moved_pages_max) == (None, None)


def test_the_tables_of_a_run_are_understood() -> None:
    cost = sampling_cost(make_tables(Shape(zones=UMA, rounds=200)), stream_bytes=8_000_000)
    assert cost is not None
    assert cost.window == "phase null"
    assert cost.bytes_per_round == 40_000
    assert cost.period_ms == pytest.approx(250, abs=5)
    assert cost.quiet_rounds == cost.bracketed_rounds == cost.rounds
