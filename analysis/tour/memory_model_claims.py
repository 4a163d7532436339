"""What the stops about memory models claim alike, whichever way leads from frame to struct page."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from analysis.capture.snapshot import Snapshot
from analysis.compare.claim import Claim, Scope, Verdict
from analysis.compare.rule import exact, unknown
from analysis.compare.static.layout.capture import eras, model_of
from analysis.compare.static.layout.inputs import placement
from analysis.compare.static.layout.memmap import struct_page
from analysis.errors import MissingInputError
from analysis.model.layout import memory_model
from analysis.model.layout.eras_layout import LayoutEra
from analysis.model.layout.sections import present_sections
from analysis.tour.evidence import BootEvidence
from analysis.tour.struct_pages import Finder, Outside, frames_of, free_frames

MEMMAP = re.compile(
    r"memblock_alloc_(?="
    r"(?:try|exact)_nid_raw: .* (?:sparse_init_nid|free_area_init|memmap_alloc|alloc_node_mem_map)"
    r"[\w.]*\+|try_nid: .* alloc_node_mem_map[\w.]*\+)\w+: (\d+) bytes"
)
"""What else these callers ask for is cleared (not ``_raw``), or in 5.10 asked for elsewhere."""
MEMMAP_PIECES = re.compile(
    r"memblock_alloc_try_nid_raw: (\d+) bytes.* vmemmap_populate_hugepages[\w.]*\+"
)
"""Later releases (7.2, 7.3) ask for each huge page of the memmap by itself when they map it, and
not for a node's share of it beforehand."""
_ARCHES = ("x86_64", "arm64")


def scope_of(boot: BootEvidence) -> Scope:
    """Which machine it is; boots that are named by their architecture may be of another one, and
    then differ in their nodes."""
    if boot.label == "main":
        return MappingProxyType({})
    if boot.label in _ARCHES and boot.label != boot.arch:
        count = len({zone.node for zone in boot.snapshot().zoneinfo.zones})
        return MappingProxyType({"boot": f"{count} node{'s' * (count > 1)}"})
    return MappingProxyType({"boot": boot.label})


def one_era(snapshot: Snapshot) -> LayoutEra:
    """The layout rules of the release; these stops boot kernels that are not in between two."""
    found = eras(snapshot)
    if not found:
        raise MissingInputError("the rules of this release")
    return found[-1]


def shown_model(symbols: Sequence[str]) -> str:
    """The memory model that a kernel's variables and functions are those of; each is compiled in
    under one model only."""
    has = set(symbols)
    if "vmemmap_populate" in has:
        return memory_model.VMEMMAP
    if "mem_section" in has:
        return memory_model.SPARSEMEM
    if "mem_map" in has:
        return memory_model.FLATMEM
    return memory_model.DISCONTIGMEM if "pg_data_map" in has else "none of them"


def model_claims(boot: BootEvidence, outside: Outside) -> Iterator[Claim]:
    snapshot = boot.snapshot()
    symbols = sorted({*outside.symbols, *outside.told})
    yield exact(
        "memory_model",
        scope_of(boot),
        predicted=model_of(snapshot),
        observed=shown_model(symbols),
        unit="memory model",
        working=(f"kallsyms and vmcoreinfo have {', '.join(symbols)}",),
    )
    yield exact(
        "struct_page_bytes",
        scope_of(boot),
        predicted=struct_page(snapshot, one_era(snapshot)),
        observed=outside.struct_bytes,
        unit="bytes",
        working=("the configuration's words and counters, added up and rounded up",),
    )


def frames_claim(boot: BootEvidence, outside: Outside, find: Finder) -> Claim:
    """Free blocks by their struct pages' addresses and the formula, against what the kernel's own
    pfn_to_page shows of every frame. What was free at one of the two readings alone, as the
    reader's own buffer is, may have been so between them or not."""
    pages = max(node.start_pfn + node.spanned_pages for node in outside.nodes)
    shown, either = free_frames(boot, pages)
    found, lost = frames_of(outside.heads, find, pages)
    missed, extra = np.flatnonzero(shown & ~found), np.flatnonzero(found & ~either)
    moved = int((found & either & ~shown).sum())
    highest = max((head.order for head in outside.heads), default=0)
    claim = exact(
        "free_frames",
        scope_of(boot),
        predicted=int(found.sum()) - moved,
        observed=int(shown.sum()),
        unit="frames",
        why=f"free, but not by the formula: {len(missed)}, the first {_first(missed)}; by the "
        f"formula alone: {len(extra)}, the first {_first(extra)}",
        working=(
            f"{len(outside.heads)} struct pages in the free lists, up to order {highest}",
            f"by the formula {int(found.sum())} frames",
            f"{moved} of them were in use at one of the two readings",
            f"blocks to which the formula gives no frame that they can begin at: {len(lost)}",
        ),
    )
    if lost:
        why = f"{len(lost)} of {len(outside.heads)} blocks have no frame by the formula"
        return replace(claim, verdict=Verdict.FAILS, why=why)
    if len(extra) and not len(missed) and not np.array_equal(shown, either):
        return unknown(
            claim.id,
            claim.scope,
            why=f"{len(extra)} frames were free when the host read, and at neither of the kernel's "
            "two readings, between which pages came and went",
            predicted=claim.predicted,
            observed=claim.observed,
            unit=claim.unit,
            working=claim.working,
        )
    if len(missed) or len(extra):  # as many of one as of the other would be equal numbers
        why = (
            f"{len(missed)} frames are free by the kernel alone, {len(extra)} by the formula alone"
        )
        return replace(claim, verdict=Verdict.FAILS, why=why)
    return claim


def _first(frames: NDArray[np.intp]) -> str:
    return f"{int(frames[0]):#x}" if len(frames) else "none"


def memmap_claim(boot: BootEvidence, predicted_pages: int, steps: Sequence[str]) -> Claim:
    """What memblock gave for arrays of struct pages."""
    snapshot = boot.snapshot()
    sizes = [int(match[1]) for match in snapshot.dmesg.matching(MEMMAP)]
    if not sizes:
        sizes = [int(match[1]) for match in snapshot.dmesg.matching(MEMMAP_PIECES)]
    if not sizes:
        why = "dmesg has no memblock_alloc … for the memmap that is known (memblock=debug)"
        return unknown("memmap_bytes", scope_of(boot), why=why, unit="bytes", lacking=True)
    page = snapshot.page_size_bytes
    return exact(
        "memmap_bytes",
        scope_of(boot),
        predicted=predicted_pages * page,
        observed=sum(-(-size // page) * page for size in sizes),
        unit="bytes",
        working=(*steps, f"memblock gave {' + '.join(map(str, sizes))} bytes"),
    )


def section_claims(boot: BootEvidence, outside: Outside) -> Iterator[Claim]:
    """Which sections have a memmap: those with memory in them."""
    snapshot = boot.snapshot()
    bits = outside.section_bits
    if bits is None:
        raise MissingInputError("SECTION_SIZE_BITS")
    each = (1 << bits) // snapshot.page_size_bytes
    place = placement(snapshot, one_era(snapshot))
    predicted = present_sections(place.ranges, each)
    yield exact(
        "sections",
        scope_of(boot),
        predicted=_numbers(list(predicted)),
        observed=_numbers([number for number, _ in outside.sections]),
        unit="sections",
        working=(*place.steps, f"a section has {each} frames"),
    )


def _numbers(numbers: Sequence[int]) -> str:
    return ", ".join(map(str, numbers)) or "none"
