"""The judges of the stops about compaction, on what a real kernel showed and on what none shows."""

from __future__ import annotations

from pathlib import Path

import pytest

from analysis.tour.finding import Plate
from analysis.verdict import Verdict
from tests.tour_evidence import Change, added, failing, judged

STOPS = ("compaction/direct", "compaction/kcompactd")


@pytest.mark.parametrize("stop", STOPS)
def test_what_kernels_showed_holds(stop: str, tmp_path: Path) -> None:
    finding = judged(stop, tmp_path)
    assert failing(finding) == set()
    for exhibit in finding.exhibits:
        if isinstance(exhibit, Plate):
            assert exhibit.draw().get_axes()


CHANGES: list[tuple[str, str, Change]] = [
    (
        "compaction/direct",
        "extfrag",
        ("main/indexes-before.txt", r"(DMA32 (?:-1\.000 )+ 0\.)\d{3}", r"\g<1>111"),
    ),
    (
        "compaction/direct",
        "unusable",
        ("main/indexes-before.txt", r"(DMA32 0\.000 0\.)\d{3}", r"\g<1>111"),
    ),
    (
        "compaction/direct",
        "suitable",
        ("main/trace.txt", r"(order=9 flags=\d+ idx=\d free=)\d+", r"\g<1>900"),
    ),
    (
        "compaction/direct",
        "suitable",
        ("main/trace.txt", r"(mm_compaction_suitable: .*order=9 ret=)continue", r"\g<1>success"),
    ),
    ("compaction/direct", "stalls", ("main/vmstat-after.txt", r"^compact_stall (\d+)$", added(1))),
    ("compaction/direct", "outcomes", ("main/vmstat-after.txt", r"^compact_fail (\d+)$", added(1))),
    (
        "compaction/direct",
        "migrated",
        ("main/trace.txt", r"mm_compaction_migratepages: nr_migrated=(\d+)", added(1)),
    ),
    ("compaction/direct", "gain", ("main/huge.txt", r"^\d+$", "1")),
    (
        "compaction/kcompactd",
        "begin",
        ("main/trace.txt", r"mm_compaction_kcompactd_sleep(?=: nid=0\n)", "proactive"),
    ),
    (
        "compaction/kcompactd",
        "end",
        (
            "main/trace.txt",
            r"(scored: .*\n.*mm_compaction_finished: .*ret=)continue",
            r"\g<1>success",
        ),
    ),
    (
        "compaction/kcompactd",
        "woken",
        ("main/vmstat-after.txt", r"^compact_daemon_wake (\d+)$", added(1)),
    ),
    (
        "compaction/kcompactd",
        "order",
        ("main/trace.txt", r"(kcompactd_wake: nid=0 order=)9", r"\g<1>10"),
    ),
    (
        "compaction/kcompactd",
        "migrated",
        ("main/vmstat-after.txt", r"^pgmigrate_success (\d+)$", added(1)),
    ),
]


@pytest.mark.parametrize(("stop", "claim", "change"), CHANGES)
def test_what_no_kernel_shows_fails(stop: str, claim: str, change: Change, tmp_path: Path) -> None:
    assert claim in failing(judged(stop, tmp_path, change))


def test_indexes_of_memory_that_moved_are_unknown(tmp_path: Path) -> None:
    moved = ("main/indexes-before.txt", r"\A(Node 0, zone +DMA +)(\d+)", added(1))
    finding = judged("compaction/direct", tmp_path, moved)
    unknown = {claim.id for claim in finding.claims if claim.verdict is Verdict.UNKNOWN}
    assert unknown == {"extfrag", "unusable"}
