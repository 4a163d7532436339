"""The day on which a kernel was built, in what /proc/version, uname -v and the log print.

Kernel: init/version.c, ``linux_banner`` and UTS_VERSION: ``#1 SMP Sun Sep 15 11:24:21 UTC 2019``;
Debian puts its own version and day in their place: ``#1 SMP Debian 6.1.170-1 (2026-03-01)``.
"""

from __future__ import annotations

import re
from datetime import date

_MONTHS = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"]
_DAY = re.compile(
    rf"#\d+.*? (?:Sun|Mon|Tue|Wed|Thu|Fri|Sat) ({'|'.join(_MONTHS)}) +(\d+) [\d:]+ .*?(\d{{4}})\b"
)
_DEBIAN = re.compile(r"#\d+ .*\((\d{4})-(\d\d)-(\d\d)\)")


def parse(text: str) -> date | None:
    """The first day of building that the text tells; None where it tells none."""
    for line in text.splitlines():
        try:
            if match := _DAY.search(line):
                return date(int(match[3]), _MONTHS.index(match[1]) + 1, int(match[2]))
            if match := _DEBIAN.search(line):
                return date(int(match[1]), int(match[2]), int(match[3]))
        except ValueError:
            continue
    return None
