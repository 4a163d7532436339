"""The judges of zones, on evidence of real kernels and on evidence that was altered."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from analysis.errors import MissingInputError
from analysis.figures.files import svg_bytes
from analysis.figures.tour_map import (
    Extent,
    ZoneExtent,
    draw,
    scale_of,
    short_address,
    uncovered,
)
from analysis.model.layout.hot_added import added_blocks, movable_zone
from analysis.model.layout.pfn import Span
from analysis.model.zone_room import ZoneRoom, largest_refill, rest, shares
from analysis.tour.evidence import open_stop
from analysis.tour.finding import Listing, Plate
from analysis.tour.zones import JUDGES
from analysis.verdict import Verdict
from tests.tour_evidence import FIXTURES, altered, failing, judged, kept, verdicts

STOPS = (
    "zones/dma",
    "zones/dma32",
    "zones/normal",
    "zones/highmem",
    "zones/movable",
    "zones/device",
)
MIB = 1 << 20


@pytest.mark.parametrize("stop", STOPS)
def test_everything_holds_on_the_kernel_that_has_the_zone(stop: str) -> None:
    finding = judged(stop)
    assert verdicts(finding) == {claim.id: {Verdict.HOLDS} for claim in finding.claims}
    assert any(isinstance(exhibit, Plate) for exhibit in finding.exhibits)
    assert any(isinstance(exhibit, Listing) and exhibit.marked for exhibit in finding.exhibits)


@pytest.mark.parametrize(
    ("stop", "file", "old", "new", "told"),
    [
        (
            "zones/dma", "main/capture/proc/zoneinfo", "present  3998", "present  3997",
            {"zone_present"},
        ),
        (
            "zones/dma", "main/capture/proc/zoneinfo",
            "protection: (0, 421, 421, 421, 421)", "protection: (0, 420, 421, 421, 421)",
            {"lowmem_reserve"},
        ),
        (
            "zones/normal", "main/capture/proc/zoneinfo", "start_pfn:           1048576",
            "start_pfn:           1048575", {"zone_start_pfn"},
        ),
        (
            "zones/highmem", "main/capture/dmesg",
            "HighMem  [mem 0x0000000036ffe000", "HighMem  [mem 0x0000000036fff000",
            {"zone_range"},
        ),
        (
            "zones/movable", "hot-dimm/capture/proc/zoneinfo", "managed  65536", "managed  65535",
            {"hot_managed"},
        ),
        (
            "zones/device", "main/capture/proc/zoneinfo", "spanned  32768", "spanned  32767",
            {"zone_spanned"},
        ),
    ],
)  # fmt: skip
def test_a_page_off_fails(
    stop: str, file: str, old: str, new: str, told: set[str], tmp_path: Path
) -> None:
    assert failing(altered(stop, tmp_path, file, old, new)) == told


def test_pages_from_another_zone_fail(tmp_path: Path) -> None:
    before = "main/user-before-zoneinfo.txt"
    finding = altered("zones/dma", tmp_path, before, "nr_free_pages 3808", "nr_free_pages 99999")
    assert failing(finding) == {"zone_serves"}


def room(free: int, low: int, reserve: int = 0, batch: int = 1) -> ZoneRoom:
    return ZoneRoom(node=0, zone="DMA32", free_pages=free, low=low, reserve=reserve, batch=batch)


def test_a_zone_gives_what_is_above_its_watermark_and_reserve() -> None:
    zones = [room(1000, 100), room(500, 50, 450), room(300, 10)]
    assert shares(400, zones) == (400, 0, 0)
    assert shares(1000, zones) == (900, 0, 100)
    assert shares(5000, zones) == (900, 0, 290)


def test_a_zone_below_its_watermark_gives_nothing() -> None:
    assert shares(10, [room(50, 100), room(50, 10)]) == (0, 10)


def test_what_is_left_is_known_to_a_batch() -> None:
    assert rest(room(1000, 100, 5, batch=63)) == (43, 105)
    assert rest(room(1000, 100, 5)) == (105, 105)
    assert rest(replace(room(1000, 100, 5, batch=63), drift=2)) == (41, 107)
    # from 6.7 on a list may double its batch five times
    assert rest(room(1000, 1000, 0, batch=largest_refill(15, 5))) == (521, 1000)


def test_blocks_that_were_there_at_boot_are_not_added() -> None:
    at_boot = [Span(MIB, 255 * MIB)]
    assert added_blocks([0, 1, 2, 5], 128 * MIB, at_boot) == (2, 5)


def test_the_zone_of_added_blocks_spans_the_gap_between_them() -> None:
    zone = movable_zone(0, (2, 5), 128 * MIB, 4096)
    assert (zone.start_pfn, zone.spanned_pages, zone.present_pages) == (65536, 131072, 65536)
    assert movable_zone(0, (), 128 * MIB, 4096).spanned_pages == 0


def test_a_small_zone_beside_a_large_one_can_be_seen() -> None:
    scale = scale_of([0, 16 * MIB, 64 << 30])
    assert scale.at(16 * MIB) > 0.05
    assert scale.at(64 << 30) == pytest.approx(1.0)
    assert scale.at(8 * MIB) == pytest.approx(scale.at(16 * MIB) / 2)


def test_addresses_are_written_as_sizes_where_that_is_exact() -> None:
    assert [short_address(a) for a in (0, 16 * MIB, 4 << 30, 0x1000)] == [
        "0",
        "16M",
        "4G",
        "0x1000",
    ]


def test_a_zone_is_named_where_no_other_lies_in_it() -> None:
    outer = ZoneExtent(node=0, zone="DMA32", start=16 * MIB, end=1024 * MIB, present_pages=9)
    inner = ZoneExtent(node=0, zone="Device", start=768 * MIB, end=896 * MIB, present_pages=0)
    scale = scale_of([16 * MIB, 768 * MIB, 896 * MIB, 1024 * MIB])
    assert uncovered(outer, [outer, inner], scale) == Extent(start=16 * MIB, end=768 * MIB)
    assert uncovered(inner, [outer, inner], scale) == Extent(start=768 * MIB, end=896 * MIB)


def test_the_map_names_each_zone_with_its_pages() -> None:
    zones = [
        ZoneExtent(node=0, zone="DMA", start=4096, end=16 * MIB, present_pages=98),
        ZoneExtent(node=1, zone="Normal", start=4 << 30, end=5 << 30, present_pages=262144),
    ]
    memory = [Extent(start=4096, end=2 << 30, label="System RAM")]
    drawn = svg_bytes(draw(zones, memory)).decode()
    for text in ("DMA", "Normal", "98", "262\u202f144", "node 1", "System RAM", "4G"):
        assert f">{text}<" in drawn, text


def test_a_zone_that_is_empty_holds_but_for_where_it_begins() -> None:
    """Normal, on a machine whose memory all lies below."""
    finding = JUDGES["zones/normal"](kept("zones/dma"))
    by_verdict = verdicts(finding)
    assert by_verdict["zones_populated"] == by_verdict["zone_spanned"] == {Verdict.HOLDS}
    assert by_verdict["zone_start_pfn"] == {Verdict.UNKNOWN}


def test_a_zone_that_the_kernel_has_not_got_is_named() -> None:
    with pytest.raises(MissingInputError, match="the zone HighMem, which this kernel has not got"):
        JUDGES["zones/highmem"](kept("zones/dma"))


@pytest.mark.parametrize("left", ["movablecore", "hot-dimm"])
def test_one_of_the_two_machines_shows_movable_by_itself(left: str, tmp_path: Path) -> None:
    path = tmp_path / "zones-movable"
    shutil.copytree(FIXTURES / "zones-movable" / left, path / left)
    finding = JUDGES["zones/movable"](open_stop("zones/movable", path))
    assert {claim.verdict for claim in finding.claims} == {Verdict.HOLDS}
    assert all(claim.scope.get("boot", left) == left for claim in finding.claims)
    assert finding.exhibits


def test_no_machine_at_all_shows_nothing(tmp_path: Path) -> None:
    shutil.copytree(FIXTURES / "zones-movable" / "hot-dimm", tmp_path / "other")
    record = tmp_path / "other" / "boot.json"
    record.write_text(record.read_text().replace('"hot-dimm"', '"other"'))
    with pytest.raises(MissingInputError, match="the boots of zones/movable"):
        JUDGES["zones/movable"](open_stop("zones/movable", tmp_path))
