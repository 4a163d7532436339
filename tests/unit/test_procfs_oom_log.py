"""The OOM killer's messages, of releases with and without the parts of rss."""

from __future__ import annotations

import pytest

from analysis.errors import ParseError
from analysis.procfs.oom_log import read_kills

OLD = """\
[    9.9] thrash invoked oom-killer: gfp_mask=0x140dca(GFP_HIGHUSER_MOVABLE), order=0
[   10.002523] Tasks state (memory values in pages):
[   10.002545] [  pid  ]   uid  tgid total_vm      rss pgtables_bytes swapents oom_score_adj name
[   10.002600] [     79]     0    79      360      234    32768        0         -1000 agent
[   10.002664] [    121]     0   121     7930     7801   102400        3          -300 two words
[   10.002688] oom-kill:constraint=CONSTRAINT_NONE,task=two words,pid=121,uid=0
[   10.002874] Out of memory: Killed process 121 (two words) total-vm:25576kB, anon-rss:24496kB
"""
NEW = """\
[   10.002523] Tasks state (memory values in pages):
[   10.002545] [  pid  ]   uid  tgid total_vm      rss rss_anon rss_file rss_shmem pgtables_bytes swapents oom_score_adj name
[   10.002600] [     79]     0    79      360      234       30      204         0    32768        0         -1000 agent
[   10.002874] Out of memory: Killed process 79 (agent) total-vm:25576kB, anon-rss:24496kB
"""  # noqa: E501


def test_both_tables() -> None:
    first, second = read_kills(OLD + NEW)
    assert [(row.pid, row.rss_pages, row.swap_entries) for row in first.table] == [
        (79, 234, 0),
        (121, 7801, 3),
    ]
    assert first.table[1].name == "two words"
    assert first.table[1].page_table_bytes == 102400
    assert (first.pid, first.name) == (121, "two words")
    assert [(row.pid, row.rss_pages, row.oom_score_adj) for row in second.table] == [
        (79, 234, -1000)
    ]


def test_no_kill_in_ordinary_messages() -> None:
    assert read_kills("[    0.0] Linux version 6.1\n[    1.0] [  T1] hello\n") == ()


def test_a_kill_without_its_table() -> None:
    with pytest.raises(ParseError, match="table"):
        read_kills(OLD.splitlines()[-1] + "\n")


def test_a_row_that_breaks_off() -> None:
    with pytest.raises(ParseError, match="column"):
        read_kills(OLD.replace("    7801   102400        3          -300 two words", "    7801"))
