"""The judges of the stops about memory models, on what kernels showed and on what none shows."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from analysis.errors import MissingInputError
from analysis.tour.finding import Finding, Plate
from analysis.verdict import Verdict
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


FIRST_RUN = r"\s*\[\s*\d+,\s*\d+\s*\],"


def test_what_was_free_only_between_two_readings_is_unknown(tmp_path: Path) -> None:
    """The kernel shows one block less than its free lists have, at both readings, and another at
    one of them only: something came and went."""
    finding = judged(
        "memory_models/vmemmap",
        tmp_path,
        ("x86_64/buddy.json", rf'(?s)("first": \[){FIRST_RUN}{FIRST_RUN}', r"\1"),
        ("x86_64/buddy.json", rf'(?s)("second": \[){FIRST_RUN}', r"\1"),
    )
    assert failing(finding) == set()
    unknown = [claim for claim in finding.claims if claim.verdict is Verdict.UNKNOWN]
    assert [(claim.id, dict(claim.scope)) for claim in unknown] == [
        ("free_frames", {"boot": "x86_64"})
    ]


PIECE = (
    "[    0.0] memblock_alloc_try_nid_raw: 2097152 bytes align=0x200000 nid=0 "
    "from=0x0000000001000000 max_addr=0x0000000000000001 vmemmap_populate_hugepages+0x166/0x1b0\n"
)


def _memmap(finding: Finding) -> dict[str, Verdict]:
    return {
        str(claim.scope["boot"]): claim.verdict
        for claim in finding.claims
        if claim.id == "memmap_bytes"
    }


@pytest.mark.parametrize(
    ("pieces", "verdict"),
    [(5, Verdict.HOLDS), (4, Verdict.FAILS), (6, Verdict.FAILS), (0, Verdict.UNKNOWN)],
)
def test_later_the_memmap_is_asked_for_in_pieces(
    pieces: int, verdict: Verdict, tmp_path: Path
) -> None:
    whole = r"^.*_nid_raw: \d+ bytes .* sparse_init_nid.*\n"
    finding = judged(
        "memory_models/vmemmap",
        tmp_path,
        ("x86_64/capture/dmesg", whole, PIECE * pieces),
        ("x86_64/capture/dmesg", whole, ""),
    )
    assert _memmap(finding) == {"x86_64": verdict}


@pytest.mark.parametrize(
    ("stop", "lacking", "change"),
    [
        (
            "memory_models/flatmem",
            "mem_map: this kernel",
            ("main/outside.json", r'"pointers":\{"mem_map":\d+', r'"pointers":{"other":1'),
        ),
        (
            "memory_models/discontigmem",
            "node_mem_map: this kernel",
            ("main/outside.json", r'("node":1,.*"mem_map":)\d+', r"\1null"),
        ),
        (
            "memory_models/sparsemem",
            "section numbers .* is built with SPARSEMEM_VMEMMAP",
            ("main/capture/config", r"\A", "CONFIG_SPARSEMEM_VMEMMAP=y\n"),
        ),
    ],
)
def test_a_kernel_of_another_memory_model_is_named(
    stop: str, lacking: str, change: Change, tmp_path: Path
) -> None:
    with pytest.raises(MissingInputError, match=lacking):
        judged(stop, tmp_path, change)


def test_where_an_unknown_release_puts_the_memmap_is_unknown(tmp_path: Path) -> None:
    finding = judged(
        "memory_models/vmemmap",
        tmp_path,
        ("arm64/boot.json", r'"release": "6.1', '"release": "6.9'),
    )
    unknown = {claim.id for claim in finding.claims if claim.verdict is Verdict.UNKNOWN}
    assert unknown == {"vmemmap", "free_frames"}
    assert failing(finding) == set()


def test_a_boot_named_by_another_architecture_is_told_by_its_nodes(tmp_path: Path) -> None:
    finding = judged(
        "memory_models/vmemmap",
        tmp_path,
        ("x86_64/boot.json", r'"arch": "x86_64"', '"arch": "arm"'),
    )
    assert {claim.scope["boot"] for claim in finding.claims} == {"2 nodes", "arm64"}
