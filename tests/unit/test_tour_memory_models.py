"""The judges of the stops about memory models, on what kernels showed and on what none shows."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from analysis.tour.finding import Plate
from tests.tour_evidence import FIXTURES, Change, failing, judged

STOPS = tuple(sorted(path.name.replace("-", "/", 1) for path in FIXTURES.glob("memory_models-*")))


def test_evidence_is_kept() -> None:
    kept = {"flatmem", "discontigmem", "sparsemem", "vmemmap"}
    assert {f"memory_models/{name}" for name in kept} <= set(STOPS)


@pytest.mark.parametrize("stop", STOPS)
def test_what_kernels_showed_holds(stop: str, tmp_path: Path) -> None:
    finding = judged(stop, tmp_path)
    assert failing(finding) == set()
    assert all(claim.predicted is not None for claim in finding.claims)
    for exhibit in finding.exhibits:
        if isinstance(exhibit, Plate):
            assert exhibit.draw().get_axes()


def _further(by: int) -> Callable[[re.Match[str]], str]:
    """A number that stands behind something, with ``by`` more."""
    return lambda match: match[1] + str(int(match[2]) + by)


CHANGES: list[tuple[str, str, Change]] = [
    # a struct page of another size
    (
        "memory_models/flatmem",
        "struct_page_bytes",
        ("main/outside.json", r'"struct_page_bytes":40', '"struct_page_bytes":44'),
    ),
    # every struct page one further: the formula is off by one frame
    (
        "memory_models/flatmem",
        "free_frames",
        (
            "main/outside.json",
            r'("pointers":\{"mem_map":)(\d+)',
            _further(40),
        ),
    ),
    (
        "memory_models/flatmem",
        "mem_map",
        (
            "main/outside.json",
            r'("pointers":\{"mem_map":)(\d+)',
            _further(40),
        ),
    ),
    (
        "memory_models/flatmem",
        "memmap_bytes",
        ("main/capture/dmesg", r"_raw: (\d+) bytes", "_raw: 10481664 bytes"),
    ),
    (
        "memory_models/flatmem",
        "memory_model",
        ("main/capture/config", r"^CONFIG_FLATMEM=y$", "CONFIG_DISCONTIGMEM=y"),
    ),
    # the second node's array one struct page further
    (
        "memory_models/discontigmem",
        "free_frames",
        (
            "main/outside.json",
            r'("node":1,.*"mem_map":)(\d+)',
            _further(36),
        ),
    ),
    # a loader that named the second piece elsewhere
    (
        "memory_models/discontigmem",
        "nodes",
        ("main/pieces.json", r"134217728", "167772160"),
    ),
    (
        "memory_models/discontigmem",
        "memmap_bytes",
        ("main/capture/dmesg", r"nid: 368640 bytes", "nid: 372736 bytes"),
    ),
    (
        "memory_models/discontigmem",
        "memory_model",
        ("main/outside.json", r'"symbols":\{', '"symbols":{"mem_map":1,'),
    ),
    # another section's number in the flags of a block's first page
    (
        "memory_models/sparsemem",
        "section_in_flags",
        (
            "main/outside.json",
            r'(,10,\d+,"[0-9a-f]{10})([0-9a-f]{2})',
            lambda m: f"{m[1]}{int(m[2], 16) ^ 0x20:02x}",
        ),
    ),
    # one section's array elsewhere
    (
        "memory_models/sparsemem",
        "free_frames",
        ("main/outside.json", r'("sections":.*\[2,)(\d+)', _further(4096)),
    ),
    (
        "memory_models/sparsemem",
        "memory_model",
        ("main/outside.json", r'"symbols":\{', '"symbols":{"vmemmap_populate":1,'),
    ),
    (
        "memory_models/vmemmap",
        "memory_model",
        ("x86_64/outside.json", r'"vmemmap_populate":', '"something_else":'),
    ),
    (
        "memory_models/vmemmap",
        "sections",
        ("x86_64/outside.json", r'"sections":\[\[0,\d+\],', '"sections":['),
    ),
    (
        "memory_models/vmemmap",
        "vmemmap",
        (
            "arm64/outside.json",
            r'("sections":\[\[8,)(\d+)',
            _further(0x1000),
        ),
    ),
    # one block's struct page elsewhere: a frame that its order cannot begin at
    (
        "memory_models/vmemmap",
        "free_frames",
        (
            "x86_64/outside.json",
            r"(\[1,\d,10,)(\d+)",
            _further(64),
        ),
    ),
    # a whole largest block further: a frame that it could begin at, and does not
    (
        "memory_models/vmemmap",
        "free_frames",
        (
            "arm64/outside.json",
            r"(\[0,\d,10,)(\d+)",
            _further(-64 * 1024 * 100),
        ),
    ),
]


@pytest.mark.parametrize(("stop", "claim", "change"), CHANGES)
def test_what_no_kernel_shows_fails(stop: str, claim: str, change: Change, tmp_path: Path) -> None:
    assert claim in failing(judged(stop, tmp_path, change))


def test_a_formula_that_finds_more_than_is_free_fails(tmp_path: Path) -> None:
    """The kernel shows one block less than its free lists have, at both readings."""
    run = r'(?s)("second": \[)\s*\[\s*\d+,\s*\d+\s*\],'
    first = (run.replace("second", "first"), r"\1")
    finding = judged(
        "memory_models/vmemmap",
        tmp_path,
        ("x86_64/buddy.json", *first),
        ("x86_64/buddy.json", run, r"\1"),
    )
    assert failing(finding) == {"free_frames"}
