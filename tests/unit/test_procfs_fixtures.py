"""Every parser against texts that real kernels of four releases printed, and odd ones."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest

from analysis.errors import ParseError
from analysis.procfs import (
    buddyinfo,
    fragindex,
    meminfo,
    pagetypeinfo,
    pressure,
    slabinfo,
    task,
    vmstat,
    zoneinfo,
)
from tests.recorded_run import FIXTURES

SYNTHETIC = FIXTURES / "synthetic"
KERNELS = ("5.10", "6.1", "6.12", "7.2")
PARSERS: dict[str, Any] = {
    "buddyinfo": buddyinfo,
    "buddyinfo.after": buddyinfo,
    "pagetypeinfo": pagetypeinfo,
    "zoneinfo": zoneinfo,
    "slabinfo": slabinfo,
    "vmstat": vmstat,
    "numastat": vmstat,
    "meminfo": meminfo,
    "memory": pressure,
    "cpu": pressure,
    "io": pressure,
    "extfrag_index": fragindex,
    "unusable_index": fragindex,
}
BYTE_EXACT = {"buddyinfo", "pagetypeinfo", "slabinfo", "vmstat", "numastat", "memory", "cpu"}
CAPTURED = [
    path
    for path in sorted(FIXTURES.glob("*/round*/**/*"))
    if path.is_file() and path.name in PARSERS
]


def read(kernel: str, name: str) -> str:
    return (FIXTURES / f"{kernel}-x86_64-3nodes" / "round0" / name).read_text()


def test_captures_are_there() -> None:
    assert len(CAPTURED) > 50


@pytest.mark.parametrize("path", CAPTURED, ids=lambda p: "-".join(p.parts[-4:]))
def test_captured_text_is_its_own_rendering(path: Path) -> None:
    module = PARSERS[path.name]
    text = path.read_text()
    record = module.parse(text)
    assert module.parse(module.render(record)) == record
    if path.name in BYTE_EXACT:
        assert module.render(record) == text


@pytest.mark.parametrize("path", sorted(SYNTHETIC.iterdir()), ids=lambda p: p.name)
def test_synthetic_text_is_its_own_rendering(path: Path) -> None:
    module = PARSERS["zoneinfo" if "zoneinfo" in path.name else path.name.partition("-")[0]]
    record = module.parse(path.read_text())
    assert module.parse(module.render(record)) == record


@pytest.mark.parametrize("kernel", KERNELS)
def test_buddyinfo_adds_up_to_pagetypeinfo(kernel: str) -> None:
    """On one kernel the two files tell of the same zones and orders."""
    buddy = buddyinfo.parse(read(kernel, "buddyinfo"))
    page = pagetypeinfo.parse(read(kernel, "pagetypeinfo"))
    assert {(row.node, row.zone) for row in buddy} == {(row.node, row.zone) for row in page.free}
    assert {len(row.free_blocks) for row in buddy} == {11}
    assert {len(row.free_blocks) for row in page.free} == {11}
    assert (page.pageblock_order, page.pages_per_block) == (9, 512)


@pytest.mark.parametrize(
    ("kernel", "watermarks", "distinct_fields"),
    [
        ("5.10", "free min low high", 68),
        ("6.1", "free boost min low high", 75),
        ("6.12", "free boost min low high promo", 81),
        ("7.2", "free boost min low high promo", 105),
    ],
)
def test_zoneinfo_keeps_the_fields_of_each_release(
    kernel: str, watermarks: str, distinct_fields: int
) -> None:
    info = zoneinfo.parse(read(kernel, "zoneinfo"))
    zone = next(zone for zone in info.zones if zone.cpus)
    assert list(zone.pages)[: len(watermarks.split())] == watermarks.split()
    names = {name.partition("[")[0] for zone in info.zones for name in zone.fields}
    names |= {name for stats in info.node_stats.values() for name in stats}
    names |= {name for zone in info.zones for cpu in zone.cpus for name in cpu.fields}
    assert len(names) == distinct_fields


def test_every_number_of_zoneinfo_is_kept() -> None:
    for kernel in KERNELS:
        text = read(kernel, "zoneinfo")
        info = zoneinfo.parse(text)
        kept = (
            sum(len(zone.fields) for zone in info.zones)
            + sum(len(stats) for stats in info.node_stats.values())
            + sum(len(cpu.fields) + 1 for zone in info.zones for cpu in zone.cpus)
        )
        # One field a line, but for the heads of zones and sections; protection has several.
        heads = sum(
            line.startswith("Node") or line in ("  per-node stats", "  pagesets")
            for line in text.splitlines()
        )
        more_protection = sum(len(zone.protection) - 1 for zone in info.zones)
        assert kept == len(text.splitlines()) - heads + more_protection


def test_node_statistics_belong_to_the_node() -> None:
    info = zoneinfo.parse(read("6.1", "zoneinfo"))
    assert set(info.node_stats) == {0, 2}
    assert "nr_slab_reclaimable" in info.node_stats[2]
    assert all("nr_slab_reclaimable" not in zone.fields for zone in info.zones)


def test_node_without_memory_has_zones_of_zeros() -> None:
    info = zoneinfo.parse(read("6.1", "zoneinfo"))
    zones = [zone for zone in info.zones if zone.node == 1]
    assert len(zones) == 5
    for zone in zones:
        assert not zone.cpus
        assert not zone.tail
        assert set(zone.fields.values()) == {0}


def test_node_statistics_may_follow_an_empty_zone() -> None:
    info = zoneinfo.parse((SYNTHETIC / "zoneinfo-first-zone-empty").read_text())
    assert set(info.node_stats) == {0, 2}
    assert info.node_stats[2]["nr_active_anon"] == 40
    assert [zone.zone for zone in info.zones if zone.cpus] == ["Normal", "Movable"]


def test_fields_of_the_newest_zoneinfo() -> None:
    info = zoneinfo.parse(read("7.2", "zoneinfo"))
    zone = next(zone for zone in info.zones if zone.cpus)
    assert list(zone.tail) == [
        "node_unreclaimable",
        "start_pfn",
        "reserved_highatomic",
        "free_highatomic",
    ]
    assert list(zone.cpus[0].fields) == [
        "count",
        "high",
        "batch",
        "high_min",
        "high_max",
        "vm stats threshold",
    ]
    assert zone.fields["protection[1]"] == zone.protection[1] > 0


def test_bound_is_a_bound() -> None:
    page = pagetypeinfo.parse((SYNTHETIC / "pagetypeinfo-bounds").read_text())
    bounds = [row for row in page.free if any(row.is_bound)]
    assert {(row.node, row.zone, row.migratetype) for row in bounds} == {
        (node, "Normal", kind) for node in (0, 1001) for kind in ("Unmovable", "Movable")
    }
    assert all(row.free_blocks[0] == 100000 and row.is_bound[0] for row in bounds)
    assert not any(itertools.chain(*(row.is_bound[1:] for row in page.free)))
    assert len(page.mixed) == len(page.blocks) == 4


def test_migrate_types_are_those_printed() -> None:
    old = pagetypeinfo.parse(read("5.10", "pagetypeinfo"))
    new = pagetypeinfo.parse(read("7.2", "pagetypeinfo"))
    assert "CMA" not in {row.migratetype for row in old.free}
    assert "CMA" in {row.migratetype for row in new.free}


def test_fragmentation_index_is_exact() -> None:
    rows = fragindex.parse((SYNTHETIC / "extfrag_index-negative").read_text())
    assert rows[0].values_milli == (*[-1000] * 6, -500, -250, -125, -62, -31)
    assert rows[1].values_milli == (*[-1000] * 4, 0, 167, 333, 611, 805, 902, 951)


@pytest.mark.parametrize("token", ["-0.500", "-1.250", "0.5", "1.-500", "0.-5", "nan", "1"])
def test_fragmentation_index_no_kernel_prints(token: str) -> None:
    with pytest.raises(ParseError, match="three decimals"):
        fragindex.parse(f"Node 0, zone      DMA {token} \n")


def test_meminfo_of_a_node() -> None:
    info = meminfo.parse(read("6.1", "node2/meminfo"))
    assert info.node == 2
    assert info.values["MemTotal"] > 0
    assert info.units["MemTotal"] == "kB"
    assert "HugePages_Total" not in info.units


def test_slabinfo_with_statistics() -> None:
    info = slabinfo.parse((SYNTHETIC / "slabinfo-statistics").read_text())
    assert info.version == "2.1 (statistics)"
    assert len(info.columns) == 11 + 9 + 4
    assert [cache.name for cache in info.caches] == [
        "dentry",
        "ext4 inode",
        "same_name",
        "same_name",
        "kmalloc-192",
    ]
    first = dict(zip(info.columns, info.caches[0].values, strict=True))
    assert (first["active_objs"], first["freemiss"]) == (4200, 1050)


def test_account_of_a_thread() -> None:
    stat = task.parse_stat(read("6.1", "kswapd0/stat"))
    assert stat.comm == "kswapd0"
    assert stat.stime_ticks >= 0
    assert task.parse_schedstat(read("6.1", "kswapd0/schedstat")).run_ns > 0
    status = task.parse_status(read("6.1", "kswapd0/status"))
    assert status.fields["Name"] == "kswapd0"
    assert status.voluntary_ctxt_switches > 0


def test_command_name_may_hold_anything() -> None:
    text = read("6.1", "kswapd0/stat").replace("(kswapd0)", "(a) S (b\nc))")
    assert task.parse_stat(text).comm == "a) S (b\nc)"
