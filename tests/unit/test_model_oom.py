"""Points, scores and victims, by numbers worked out by hand."""

from __future__ import annotations

import pytest

from analysis.model.oom import OomTask, oom_badness, oom_eras_of, oom_score, oom_victim
from analysis.model.release import Release

OLD, NEW = oom_eras_of(Release(4, 19))[0], oom_eras_of(Release(6, 1))[0]
TOTAL = 52_682


def task(pid: int, rss: int, adj: int, *, tables: int = 0, swap: int = 0) -> OomTask:
    return OomTask(
        pid=pid, rss_pages=rss, swap_entries=swap, page_table_bytes=tables, oom_score_adj=adj
    )


def badness(each: OomTask, era: object = NEW) -> int | None:
    assert era in (OLD, NEW)
    return oom_badness(each, total_pages=TOTAL, page_bytes=4096, era=OLD if era is OLD else NEW)


def test_memory_swap_and_page_tables_count() -> None:
    assert badness(task(1, 4237, 0, tables=17 * 4096 + 4095, swap=5)) == 4237 + 17 + 5


def test_memory_is_cut_to_thousandths_before_it_is_multiplied() -> None:
    # 52682 / 1000 = 52, times 300: not 52682 * 300 / 1000 = 15804
    assert badness(task(1, 4237, 300, tables=17 * 4096)) == 4254 + 15_600
    assert badness(task(1, 100, -300)) == 100 - 15_600
    assert badness(task(1, 100, -300), OLD) == 1


def test_immune_processes_have_no_points() -> None:
    assert badness(task(1, 4237, -1000)) is None
    held = OomTask(
        pid=1, rss_pages=9, swap_entries=0, page_table_bytes=0, oom_score_adj=0, unkillable=True
    )
    assert badness(held) is None


@pytest.mark.parametrize("adj", [-1001, 1001])
def test_adjustment_out_of_range(adj: int) -> None:
    with pytest.raises(ValueError, match="oom_score_adj"):
        badness(task(1, 1, adj))


@pytest.mark.parametrize(
    ("rss", "adj", "new", "old"),
    [
        (0, 0, 666, 0),
        (10_405, 0, 798, 197),
        (19_854 - 15_600, 300, 917, 376),
        (7_825, -300, 568, 0),  # -7775 points: -147 thousandths, towards zero
        (TOTAL, 1000, 1991, 1987),
        (5, -1000, 0, 0),
    ],
)
def test_score_in_proc(rss: int, adj: int, new: int, old: int) -> None:
    each = task(1, rss, adj)
    shown = [oom_score(each, total_pages=TOTAL, page_bytes=4096, era=era) for era in (NEW, OLD)]
    assert shown == [new, old]


def test_no_memory_is_refused() -> None:
    with pytest.raises(ValueError, match="0 pages"):
        oom_score(task(1, 1, 0), total_pages=0, page_bytes=4096, era=NEW)


def test_most_points_lose_and_size_alone_does_not() -> None:
    tasks = [task(1, 10_405, 0), task(2, 4_254, 300), task(3, 6_304, 100), task(4, 50_000, -1000)]
    chosen = oom_victim(tasks, total_pages=TOTAL, page_bytes=4096, era=NEW)
    assert chosen is not None
    assert chosen.pid == 2


def test_of_equals_the_last_is_taken_and_once_was_the_first() -> None:
    tasks = [task(1, 100, 0), task(2, 100, 0), task(3, 50, 0)]
    for era, pid in ((NEW, 2), (OLD, 1)):
        chosen = oom_victim(tasks, total_pages=TOTAL, page_bytes=4096, era=era)
        assert chosen is not None
        assert chosen.pid == pid


def test_nobody_can_be_killed() -> None:
    assert oom_victim([task(1, 9, -1000)], total_pages=TOTAL, page_bytes=4096, era=NEW) is None
    assert oom_victim([], total_pages=TOTAL, page_bytes=4096, era=NEW) is None


def test_a_negative_sum_may_still_be_the_most() -> None:
    chosen = oom_victim([task(1, 9, -500)], total_pages=TOTAL, page_bytes=4096, era=NEW)
    assert chosen is not None
