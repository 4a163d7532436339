"""Texts of tracefs, as real kernels print them."""

from __future__ import annotations

import pytest

from analysis.errors import ParseError
from analysis.procfs import trace_text

HEAD = """\
# tracer: nop
#
# entries-in-buffer/entries-written: 3/3   #P:1
#
#           TASK-PID     CPU#  |||||  TIMESTAMP  FUNCTION
#              | |         |   |||||     |         |
"""
LINES = """\
              dd-88      [000] .....     4.784443: wants_kswapd: (wakeup_kswapd+0x0/0x180) zone="DMA32" order=0 free=1374
 kworker/u2:1-e-23       [001] d..2.     4.800000: mm_compaction_begin: zone_start=0x1000 migrate_pfn=0x7200 free_pfn=0xc800 zone_end=0xffda, mode=async
         kswapd0-37      [000] .....     5.084814: mm_vmscan_kswapd_sleep: nid=0
"""  # noqa: E501


def test_events_with_their_fields() -> None:
    trace = trace_text.parse(HEAD + LINES)
    assert trace.whole
    wants, begin, sleep = trace.events
    assert (wants.task, wants.pid, wants.cpu, wants.name) == ("dd", 88, 0, "wants_kswapd")
    assert wants.fields["zone"] == "DMA32"
    assert wants.number("free") == 1374
    assert (begin.task, begin.pid, begin.cpu) == ("kworker/u2:1-e", 23, 1)
    assert begin.number("zone_end") == 0xFFDA
    assert begin.fields["mode"] == "async"
    assert sleep.time_s == 5.084814
    with pytest.raises(KeyError):
        sleep.number("order")


def test_what_was_overwritten_is_known() -> None:
    assert not trace_text.parse(HEAD.replace("3/3", "3/9") + LINES).whole


@pytest.mark.parametrize(
    "text",
    [LINES, HEAD + LINES + "garbage\n", HEAD + LINES.rstrip("\n"), ""],
    ids=["no head", "garbage", "cut", "empty"],
)
def test_malformed(text: str) -> None:
    with pytest.raises(ParseError):
        trace_text.parse(text)


STATS = """\
cpu0
entries: 704
overrun: 2
commit overrun: 1
bytes: 42004
oldest event ts:    11.170145
now ts:    12.948373
dropped events: 4
read events: 0
"""


def test_losses_of_a_cpu() -> None:
    (loss,) = trace_text.parse_stats(STATS)
    assert (loss.cpu, loss.lost) == (0, 7)


def test_stats_without_a_count() -> None:
    with pytest.raises(ParseError, match="dropped"):
        trace_text.parse_stats(STATS.replace("dropped events: 4\n", ""))
