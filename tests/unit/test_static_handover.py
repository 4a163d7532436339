"""The rules of a boot over a capture made by hand: what holds, and what makes them unknown."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from analysis.capture.snapshot import Snapshot
from analysis.capture.source import Source
from analysis.compare.claim import Claim, Verdict
from analysis.compare.static.handover.rules import RULES

ZONEINFO = """\
Node 0, zone   Normal
  pages free     400
        min      1
        low      2
        high     3
        spanned  1024
        present  1024
        managed  1000
        protection: (0, 0)
      nr_free_pages 400
  pagesets
    cpu: 0
              count: 0
              high:  0
              batch: 1
  vm stats threshold: 2
  node_unreclaimable:  0
  start_pfn:           0
"""
DMESG = """\
Linux version 6.1.0-37-amd64 (x) #1 SMP
Early memory node ranges
  node   0: [mem 0x0000000000000000-0x00000000003fffff]
MEMBLOCK configuration:
 memory size = 0x400000 reserved size = 0x20000
 memory.cnt  = 0x1
 memory[0x0] [0x00000000-0x003fffff], 0x400000 bytes on node 0 flags: 0x0
 reserved.cnt  = 0x1
 reserved[0x0] [0x00010000-0x0002ffff], 0x20000 bytes flags: 0x0
memblock_reserve: [0x00100000-0x00101000] f+0x1/0x2
Built 1 zonelists, mobility grouping on.  Total pages: 1008
Memory: 3752K/4096K available (1K kernel code, 1K rwdata, 1K rodata, 1K init, 1K bss, \
136K reserved, 0K cma-reserved)
SLUB: HWalign=64, Order=0-3, MinObjects=0, CPUs=1, Nodes=1
Freeing unused kernel image (initmem) memory: 40K
Run /init as init process
"""
FILES = {
    "proc/version": "Linux version 6.1.0-37-amd64 (x) #1 SMP\n",
    "proc/zoneinfo": ZONEINFO,
    "proc/meminfo": "MemTotal: 4000 kB\n",
    "proc/cmdline": "nokaslr\n",
    "proc/iomem": "00000000-003fffff : System RAM\n  00010000-0001ffff : Kernel code\n",
    "proc/cpuinfo": "processor\t: 0\nflags\t\t: fpu\n",
    "config": "CONFIG_X86_64=y\nCONFIG_MEMCG=y\nCONFIG_SPARSEMEM=y\n",
    "dmesg": DMESG,
}
RULE = {rule.id: rule for rule in RULES}


def claims(rule_id: str, **changed: str) -> list[Claim]:
    files: Mapping[str, str] = FILES | {
        name.replace("_", "/", 1): text for name, text in changed.items()
    }
    source = Source(
        path=Path("made"),
        kind="capture",
        files={name: text.encode().__bytes__ for name, text in files.items()},
    )
    return RULE[rule_id].claims(Snapshot(source))


def test_what_is_handed_over_and_what_comes_later() -> None:
    # 1024 pages; 0x10 to 0x2f and, touched by one byte more than a page, 0x100 and 0x101 stay.
    (claim,) = claims("boot_managed")
    assert claim.predicted == 1024 - 32 - 2 + 10
    assert claim.verdict is Verdict.HOLDS


@pytest.mark.parametrize(
    ("rule_id", "predicted"),
    [
        ("memory_line_total", 4096),
        ("memory_line_reserved", 4096 - 4000 + 40),
        ("memory_line_cma", 0),
    ],
)
def test_lines(rule_id: str, predicted: int) -> None:
    (claim,) = claims(rule_id)
    assert (claim.verdict, claim.predicted) == (Verdict.HOLDS, predicted), claim.why
    assert claim.working


def test_available_is_what_is_left_without_page_tables() -> None:
    # 4096 - 136 KiB reserved, and 64 pages of 4 KiB for the vmalloc area.
    (claim,) = claims("memory_line_available")
    assert claim.predicted == 4096 - 136 - 256
    assert claim.verdict is Verdict.FAILS, "the line above says something else"


def test_a_random_vmalloc_area_leaves_two_possibilities() -> None:
    config = FILES["config"] + "CONFIG_RANDOMIZE_MEMORY=y\n"
    said = DMESG.replace("3752K/", "3704K/")
    (claim,) = claims("memory_line_available", config=config, proc_cmdline="quiet\n", dmesg=said)
    assert claim.verdict is Verdict.UNKNOWN
    assert "3700 or 3704" in claim.why


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("efi: EFI v2.70 by EDK II", "boot services"),
        ("software IO TLB: tearing down default memory pool", "IO TLB"),
        ("hv_balloon: Using Dynamic Memory protocol version 2.0", "balloon"),
    ],
)
def test_what_no_line_counts_makes_it_unknown(line: str, why: str) -> None:
    without_log = "\n".join(
        text for text in DMESG.splitlines() if "memblock" not in text and "[0x0]" not in text
    )
    without_log = without_log.replace("MEMBLOCK configuration:\n", "").replace(".cnt ", " ")
    (claim,) = claims("memory_line_reserved", dmesg=without_log + f"\n{line}\n")
    assert claim.verdict is Verdict.UNKNOWN
    assert why in claim.why


def test_memory_that_came_after_boot() -> None:
    more = ZONEINFO.replace("present  1024", "present  2048")
    for rule_id in ("boot_managed", "memory_line_total", "total_pages_line"):
        (claim,) = claims(rule_id, proc_zoneinfo=more)
        assert claim.verdict is Verdict.UNKNOWN
        assert "after boot" in claim.why


@pytest.mark.parametrize("rule_id", ["memblock_regions", "boot_managed", "memory_line_total"])
def test_a_log_without_the_boot(rule_id: str) -> None:
    (claim,) = claims(rule_id, dmesg="something else\n")
    assert claim.verdict is Verdict.UNKNOWN
    assert "dmesg" in claim.why


@pytest.mark.parametrize("rule_id", ["boot_managed", "memory_line_reserved"])
def test_messages_that_end_before_the_boot_does_leave_later_memory_open(rule_id: str) -> None:
    (claim,) = claims(rule_id, dmesg=DMESG[: DMESG.index("Freeing unused")])
    assert claim.verdict is Verdict.UNKNOWN
    assert "init" in claim.why
