"""Counters that two files show: a node's vmstat, and lines of meminfo that count pages."""

from __future__ import annotations

from pathlib import Path

import pytest

from analysis.capture.snapshot import Snapshot
from analysis.capture.source import Source
from analysis.compare.claim import Claim, Verdict
from analysis.compare.static.identities.rules import RULES

ZONEINFO = """\
Node 0, zone   Normal
  per-node stats
      nr_inactive_anon 3
      nr_file_pages 7
  pages free     5
        min      1
        low      2
        high     3
        spanned  100
        present  100
        managed  90
        protection: (0)
      nr_free_pages 5
      nr_zone_inactive_anon 3
  pagesets
    cpu: 0
              count: 0
  vm stats threshold: 0
  start_pfn:           0
"""
NODE = "sys/devices/system/node"
VMSTAT = (
    "nr_free_pages 5\nnr_zone_inactive_anon 3\nnr_inactive_anon 3\nnr_file_pages 7\npageoutrun 0\n"
)
FILES = {
    "config": "CONFIG_X86_64=y\n",
    "proc/version": "Linux version 6.1.0 (x)\n",
    "proc/zoneinfo": ZONEINFO,
    "proc/zoneinfo.after": ZONEINFO,
    "proc/vmstat": VMSTAT,
    "proc/vmstat.after": VMSTAT,
    "proc/meminfo": "MemFree: 20 kB\n",
    "proc/meminfo.after": "MemFree: 20 kB\n",
    "sys/devices/system/cpu/online": "0\n",
    f"{NODE}/online": "0\n",
    f"{NODE}/node0/vmstat": VMSTAT + "numa_hit 9\n",
    f"{NODE}/node0/vmstat.after": VMSTAT + "numa_hit 9\n",
}


def claims(rule_id: str, **changed: str) -> list[Claim]:
    files = FILES | changed
    read = {name: text.encode().__bytes__ for name, text in files.items()}
    rule = next(rule for rule in RULES if rule.id == rule_id)
    return rule.claims(Snapshot(Source(path=Path("made"), kind="capture", files=read)))


def test_a_node_prints_its_own_counters_and_its_zones_together() -> None:
    found = {str(claim.scope["counter"]): claim.verdict for claim in claims("node_vmstat_counters")}
    names = ("nr_free_pages", "nr_zone_inactive_anon", "nr_inactive_anon", "nr_file_pages")
    assert found == dict.fromkeys(names, Verdict.HOLDS)


@pytest.mark.parametrize("line", ["nr_free_pages 5", "nr_file_pages 7"])
def test_one_page_off_fails_where_both_files_stood_still(line: str) -> None:
    off = VMSTAT.replace(line, f"{line[:-1]}9")
    files = {f"{NODE}/node0/vmstat": off, f"{NODE}/node0/vmstat.after": off}
    failed = [c for c in claims("node_vmstat_counters", **files) if c.verdict is Verdict.FAILS]
    assert [claim.scope["counter"] for claim in failed] == [line.split()[0]]


def test_a_part_of_a_page_cannot_be_a_count_of_pages() -> None:
    (claim,) = claims("meminfo_counters")
    assert claim.verdict is Verdict.HOLDS
    (claim,) = claims("meminfo_counters", **{"proc/meminfo": "MemFree: 21 kB\n"})
    assert (claim.verdict, claim.observed) == (Verdict.FAILS, 1)


def test_zones_and_node_may_differ_while_the_machine_runs() -> None:
    off = ZONEINFO.replace("nr_zone_inactive_anon 3", "nr_zone_inactive_anon 4")
    (claim,) = claims("zone_lru", **{"proc/zoneinfo": off, "proc/zoneinfo.after": off})
    assert claim.verdict is Verdict.FAILS
    later = ZONEINFO.replace("nr_inactive_anon 3", "nr_inactive_anon 5")
    (claim,) = claims("zone_lru", **{"proc/zoneinfo": off, "proc/zoneinfo.after": later})
    assert claim.verdict is Verdict.UNKNOWN


def _two_cpus(*, runs: int) -> dict[str, str]:
    """A zone after an OOM kill on 6.1 with two CPUs: its counter is 30 pages behind its lists."""
    zone = """\
Node 0, zone    DMA32
  pages free     38131
        min      402
        low      502
        high     602
        spanned  61440
        present  61402
        managed  48780
        protection: (0, 0, 0, 0, 0)
      nr_free_pages 38131
  pagesets
    cpu: 0
              count: 3
  vm stats threshold: 8
    cpu: 1
              count: 176
  vm stats threshold: 8
  start_pfn:           4096
"""
    blocks = "Node 0, zone    DMA32 21 34 20 17 6 10 13 10 2 4 32\n"
    counters = f"nr_free_pages 38131\npageoutrun {runs}\n"
    files = {"proc/zoneinfo": zone, "proc/vmstat": counters, "proc/buddyinfo": blocks}
    return files | {f"{name}.after": text for name, text in files.items()}


def test_cpus_keep_what_they_had_while_kswapd_was_awake() -> None:
    (claim,) = claims("buddy_free_pages", **_two_cpus(runs=53))
    assert (claim.verdict, claim.predicted, claim.observed) == (Verdict.HOLDS, 38131, 38161)
    (claim,) = claims("buddy_free_pages", **_two_cpus(runs=0))
    assert claim.verdict is Verdict.FAILS
