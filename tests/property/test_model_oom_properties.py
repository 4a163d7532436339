"""What holds of every choice of the OOM killer."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from analysis.model.oom import OomEra, OomTask, oom_badness, oom_eras_of, oom_score, oom_victim
from analysis.model.release import Release

TOTAL = st.integers(1000, 1 << 30)
ERAS = st.sampled_from([oom_eras_of(Release(4, 19))[0], oom_eras_of(Release(6, 1))[0]])
TASKS = st.builds(
    OomTask,
    pid=st.integers(1, 1 << 22),
    rss_pages=st.integers(0, 1 << 28),
    swap_entries=st.integers(0, 1 << 20),
    page_table_bytes=st.integers(0, 1 << 28),
    oom_score_adj=st.integers(-1000, 1000),
    unkillable=st.booleans(),
)
PAGE = st.sampled_from([4096, 16384, 65536])


@given(st.lists(TASKS, max_size=20), TOTAL, PAGE, ERAS)
def test_nobody_has_more_points_than_the_victim(
    tasks: list[OomTask], total: int, page: int, era: OomEra
) -> None:
    chosen = oom_victim(tasks, total_pages=total, page_bytes=page, era=era)
    points = [oom_badness(task, total_pages=total, page_bytes=page, era=era) for task in tasks]
    alive = [each for each in points if each is not None]
    assert (chosen is None) == (not alive)
    if chosen is not None:
        mine = oom_badness(chosen, total_pages=total, page_bytes=page, era=era)
        assert mine == max(alive)


@given(TASKS, TOTAL, PAGE, ERAS, st.integers(1, 1 << 20))
def test_more_memory_never_means_fewer_points(
    task: OomTask, total: int, page: int, era: OomEra, more: int
) -> None:
    larger = replace(task, rss_pages=task.rss_pages + more)
    before = oom_badness(task, total_pages=total, page_bytes=page, era=era)
    after = oom_badness(larger, total_pages=total, page_bytes=page, era=era)
    assert (before is None) == (after is None)
    if before is not None and after is not None:
        assert after >= before
    assert oom_score(larger, total_pages=total, page_bytes=page, era=era) >= oom_score(
        task, total_pages=total, page_bytes=page, era=era
    )


@given(TASKS, TOTAL, PAGE)
def test_the_score_of_a_process_that_fits_is_between_0_and_2000(
    task: OomTask, total: int, page: int
) -> None:
    fits = replace(task, rss_pages=task.rss_pages % total, swap_entries=0, page_table_bytes=0)
    score = oom_score(fits, total_pages=total, page_bytes=page, era=oom_eras_of(Release(7, 3))[0])
    assert 0 <= score <= 2000
