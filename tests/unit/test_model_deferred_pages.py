"""Managed pages while struct pages are deferred, and what the day of building excludes."""

from __future__ import annotations

from datetime import date

import pytest

from analysis.model.deferred_pages import managed_while_deferred
from analysis.model.eras_pcp_sizes import AFTER_DEFERRAL_POSTED, pcp_sizes_era_of
from analysis.model.pcp_sizes import high_from_batch, pageset_batch, zone_batchsize
from analysis.model.release import Release
from analysis.model.release_dates import newest_known
from analysis.procfs.build_date import parse

SECTION = 32768  # 128 MiB of 4 KiB pages


def test_one_section_is_exact() -> None:
    # A server of 8 GiB: 1,040,862 pages in Normal after the deferral, 1,008,094 of them deferred.
    (there,) = managed_while_deferred(1_040_862, 1_008_094, SECTION)
    assert there == SECTION
    assert pageset_batch(zone_batchsize(there, 4096, limit_kib=512)) == 7
    assert high_from_batch(7) == 42


def test_further_sections_may_have_come_later() -> None:
    assert managed_while_deferred(200_000, 120_000, SECTION) == (80_000, 47_232, 14_464)


def test_nothing_there_or_nothing_deferred() -> None:
    assert managed_while_deferred(1000, 1000, SECTION) == (0,)
    assert managed_while_deferred(1000, 0, SECTION) == (1000,)


@pytest.mark.parametrize("arguments", [(10, 11, SECTION), (10, 1, 0)])
def test_what_cannot_be(arguments: tuple[int, int, int]) -> None:
    with pytest.raises(ValueError, match=r"section|deferred"):
        managed_while_deferred(*arguments)


def test_the_lists_are_sized_again_from_5_4_on() -> None:
    assert not pcp_sizes_era_of(Release(4, 18)).sized_after_deferral
    assert not pcp_sizes_era_of(Release(5, 3)).sized_after_deferral
    assert pcp_sizes_era_of(Release(5, 4)).sized_after_deferral
    taken_back = pcp_sizes_era_of(Release(4, 18), sized_after_deferral=True)
    assert taken_back.sized_after_deferral
    assert taken_back.batch_limit_kib == 512


@pytest.mark.parametrize(
    ("built", "newest"),
    [
        (date(2018, 9, 1), Release(5, 3)),  # 15 September 2019 is more than a year away
        (date(2019, 9, 15), Release(5, 9)),
        (date(2024, 10, 1), None),
        (date(2030, 1, 1), None),
    ],
)
def test_no_kernel_knows_releases_of_a_year_after_it_was_built(
    built: date, newest: Release | None
) -> None:
    assert newest_known(built) == newest


@pytest.mark.parametrize(
    ("text", "day"),
    [
        (
            "Linux version 4.18.0-80.el8.x86_64 (x) (gcc) #1 SMP Sun Sep 15 11:24:21 UTC 2019\n",
            date(2019, 9, 15),
        ),
        (
            "Linux made 5.3.18 #1 SMP Tue Jan  7 01:02:03 CET 2020 x86_64 GNU/Linux",
            date(2020, 1, 7),
        ),
        ("#1 SMP PREEMPT_DYNAMIC Debian 6.1.170-1 (2026-03-01)", date(2026, 3, 1)),
        ("#35-Ubuntu SMP PREEMPT_DYNAMIC Mon May 20 15:51:52 UTC 2024", date(2024, 5, 20)),
        ("#1 SMP Debian 5.1-1 (2026-13-01)\n#2 SMP Debian 5.1-1 (2026-12-01)", date(2026, 12, 1)),
        ("Linux version 6.12.95 (made) #1 SMP", None),
        ("", None),
    ],
)
def test_the_day_of_building(text: str, day: date | None) -> None:
    assert parse(text) == day


def test_the_change_was_posted_before_5_4() -> None:
    assert date(2019, 9, 15) < AFTER_DEFERRAL_POSTED < date(2019, 11, 24)
