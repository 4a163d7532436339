"""When releases came out, and so which of them a kernel built on some day can know."""

from __future__ import annotations

from datetime import date, timedelta

from analysis.model.release import Release

_DATES = {
    Release(4, 18): date(2018, 8, 12),
    Release(4, 19): date(2018, 10, 22),
    Release(4, 20): date(2018, 12, 23),
    Release(5, 0): date(2019, 3, 3),
    Release(5, 1): date(2019, 5, 5),
    Release(5, 2): date(2019, 7, 7),
    Release(5, 3): date(2019, 9, 15),
    Release(5, 4): date(2019, 11, 24),
    Release(5, 5): date(2020, 1, 26),
    Release(5, 6): date(2020, 3, 29),
    Release(5, 7): date(2020, 5, 31),
    Release(5, 8): date(2020, 8, 2),
    Release(5, 9): date(2020, 10, 11),
    Release(5, 10): date(2020, 12, 13),
    Release(5, 11): date(2021, 2, 14),
    Release(5, 12): date(2021, 4, 25),
    Release(5, 13): date(2021, 6, 27),
    Release(5, 14): date(2021, 8, 29),
    Release(5, 15): date(2021, 10, 31),
    Release(5, 16): date(2022, 1, 9),
    Release(5, 17): date(2022, 3, 20),
    Release(5, 18): date(2022, 5, 22),
    Release(5, 19): date(2022, 7, 31),
    Release(6, 0): date(2022, 10, 2),
    Release(6, 1): date(2022, 12, 11),
    Release(6, 2): date(2023, 2, 19),
    Release(6, 3): date(2023, 4, 23),
    Release(6, 4): date(2023, 6, 25),
    Release(6, 5): date(2023, 8, 27),
    Release(6, 6): date(2023, 10, 29),
    Release(6, 7): date(2024, 1, 7),
    Release(6, 8): date(2024, 3, 10),
    Release(6, 9): date(2024, 5, 12),
    Release(6, 10): date(2024, 7, 14),
    Release(6, 11): date(2024, 9, 15),
    Release(6, 12): date(2024, 11, 17),
    Release(6, 13): date(2025, 1, 19),
    Release(6, 14): date(2025, 3, 24),
    Release(6, 15): date(2025, 5, 25),
    Release(6, 16): date(2025, 7, 27),
    Release(6, 17): date(2025, 9, 28),
}
_AHEAD = timedelta(days=365)
"""A vendor takes a change at most so long before the release that brings it: most wait in a
maintainer's tree for weeks, few for longer than a year."""


def newest_known(built: date) -> Release | None:
    """The newest release of which a kernel built on a day may have changes; None: any.

    Kernel: kernel.org, the days on which 4.18 to 6.17 came out.
    Ignores: a change that a vendor had more than a year before the release that it came with.
    """
    for release, day in _DATES.items():
        if day - _AHEAD > built:
            return release
    return None
