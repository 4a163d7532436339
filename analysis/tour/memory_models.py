"""What the stops about memory models show: the way from a frame to its struct page, four times."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from analysis.capture.snapshot import Snapshot
from analysis.compare.claim import Claim, Scope, Verdict
from analysis.compare.rule import exact
from analysis.compare.static.layout.capture import eras, model_of
from analysis.compare.static.layout.inputs import placement
from analysis.compare.static.layout.memmap import boot_memmap, struct_page
from analysis.errors import MissingInputError
from analysis.figures.tour_memory_models import Array, draw
from analysis.model.layout import memory_model, struct_page_place
from analysis.model.layout.eras_layout import LayoutEra
from analysis.model.layout.nodes import NodeSpan
from analysis.model.layout.sections import present_sections
from analysis.tour.evidence import BootEvidence, StopEvidence
from analysis.tour.finding import Exhibit, Finding, Plate
from analysis.tour.listings import made, pick
from analysis.tour.struct_pages import (
    Finder,
    Outside,
    frames_of,
    free_frames,
    read_outside,
)

_MEMMAP = re.compile(
    r"memblock_alloc_(?="
    r"(?:try|exact)_nid_raw: .* (?:sparse_init_nid|free_area_init|memmap_alloc|alloc_node_mem_map)"
    r"[\w.]*\+|try_nid: .* alloc_node_mem_map[\w.]*\+)\w+: (\d+) bytes"
)
"""What else these callers ask for is cleared (not ``_raw``), or in 5.10 asked for elsewhere."""
_VIRTUAL_BYTES = 4
_SHOWN_SYMBOLS = 16
_TELLING = ("mem_map", "pg_data_map", "mem_section", "vmemmap_populate")


def _scope(boot: BootEvidence) -> Scope:
    return MappingProxyType({} if boot.label == "main" else {"boot": boot.label})


def _one_era(snapshot: Snapshot) -> LayoutEra:
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


def _model_claims(boot: BootEvidence, outside: Outside) -> Iterator[Claim]:
    snapshot = boot.snapshot()
    symbols = sorted({*outside.symbols, *outside.told})
    yield exact(
        "memory_model",
        _scope(boot),
        predicted=model_of(snapshot),
        observed=shown_model(symbols),
        unit="memory model",
        working=(f"kallsyms and vmcoreinfo have {', '.join(symbols)}",),
    )
    yield exact(
        "struct_page_bytes",
        _scope(boot),
        predicted=struct_page(snapshot, _one_era(snapshot)),
        observed=outside.struct_bytes,
        unit="bytes",
        working=("the configuration's words and counters, added up and rounded up",),
    )


def _frames_claim(boot: BootEvidence, outside: Outside, find: Finder) -> Claim:
    """Free blocks by their struct pages' addresses and the formula, against what the kernel's own
    pfn_to_page shows of every frame. What was in use at one of the readings, as the reader's own
    buffer is, says nothing of the moment between them."""
    pages = max(node.start_pfn + node.spanned_pages for node in outside.nodes)
    shown = free_frames(boot, pages)
    found, lost = frames_of(outside.heads, find, pages)
    missed = np.flatnonzero(shown & ~found)
    highest = max((head.order for head in outside.heads), default=0)
    claim = exact(
        "free_frames",
        _scope(boot),
        predicted=int((found & shown).sum()),
        observed=int(shown.sum()),
        unit="frames",
        why=f"free, but not by the formula: {len(missed)}, the first {_first(missed)}",
        working=(
            f"{len(outside.heads)} struct pages in the free lists, up to order {highest}",
            f"by the formula {int(found.sum())} frames",
            f"{int((found & ~shown).sum())} of them were in use at one of the two readings",
            f"blocks to which the formula gives no frame that they can begin at: {len(lost)}",
        ),
    )
    if not lost:
        return claim
    why = f"{len(lost)} of {len(outside.heads)} blocks have no frame by the formula"
    return replace(claim, verdict=Verdict.FAILS, why=why)


def _first(frames: NDArray[np.intp]) -> str:
    return f"{int(frames[0]):#x}" if len(frames) else "none"


def _memmap_claim(boot: BootEvidence, predicted_pages: int, steps: Sequence[str]) -> Claim:
    """What memblock gave for arrays of struct pages."""
    snapshot = boot.snapshot()
    sizes = [int(match[1]) for match in snapshot.dmesg.matching(_MEMMAP)]
    if not sizes:
        raise MissingInputError("dmesg: memblock_alloc … for the memmap (memblock=debug)")
    page = snapshot.page_size_bytes
    return exact(
        "memmap_bytes",
        _scope(boot),
        predicted=predicted_pages * page,
        observed=sum(-(-size // page) * page for size in sizes),
        unit="bytes",
        working=(*steps, f"memblock gave {' + '.join(map(str, sizes))} bytes"),
    )


def _flat(evidence: StopEvidence) -> Finding:
    boot = evidence.boot()
    snapshot, outside = boot.snapshot(), read_outside(boot)
    era = _one_era(snapshot)
    base = outside.pointers["mem_map"]
    size = outside.struct_bytes
    node = outside.nodes[0]
    if node.mem_map is None:
        raise MissingInputError("node_mem_map of node 0")
    pages, steps = boot_memmap(snapshot, era, memory_model.FLATMEM)
    claims = [
        *_model_claims(boot, outside),
        _frames_claim(boot, outside, lambda head: _array(head.address, base, 0, size)),
        exact(
            "mem_map",
            {},
            predicted=f"{node.mem_map - node.start_pfn * size:#x}",
            observed=f"{base:#x}",
            unit="address",
            working=(
                f"node 0 begins at frame {node.start_pfn}, its node_mem_map is {node.mem_map:#x}",
                f"less {node.start_pfn} struct pages of {size} bytes",
            ),
        ),
        _memmap_claim(boot, pages, steps),
    ]
    return Finding(claims=tuple(claims), exhibits=tuple(_exhibits(boot, outside)))


def _array(address: int, mem_map: int, first_pfn: int, size: int) -> int | None:
    return struct_page_place.array_pfn(address, mem_map, first_pfn, size)


def _discontig(evidence: StopEvidence) -> Finding:
    boot = evidence.boot()
    outside = read_outside(boot)
    snapshot = boot.snapshot()
    size = outside.struct_bytes
    pieces = [(int(start), int(length)) for start, length in boot.json("pieces")]
    page = snapshot.page_size_bytes

    def find(node: int, address: int) -> int | None:
        of = outside.node_of[node]
        assert of.mem_map is not None, "DISCONTIGMEM has an array for every node"
        return _array(address, of.mem_map, of.start_pfn, size)

    by_formula = [find(head.node, head.address) for head in outside.heads]
    # The last word of an m68k struct page is the virtual address of its frame, which is the
    # physical one: memory begins at 0.
    by_itself = [
        head.word(size - _VIRTUAL_BYTES, _VIRTUAL_BYTES, outside.byte_order) // page
        for head in outside.heads
    ]
    same = sum(one == two for one, two in zip(by_formula, by_itself, strict=True))
    first = outside.nodes[0]
    assert first.mem_map is not None
    astray = sum(
        _array(head.address, first.mem_map, first.start_pfn, size) != frame
        for head, frame in zip(outside.heads, by_itself, strict=True)
    )
    ranges = [(node, start // page, (start + length) // page) for node, (start, length)
              in enumerate(pieces)]  # fmt: skip
    largest = 1 << 10
    pages = sum(
        memory_model.flat_memmap_pages([each], largest, size, page) for each in _spans(ranges)
    )
    whole = memory_model.flat_memmap_pages(
        _spans([(0, ranges[0][1], ranges[-1][2])]), largest, size, page
    )
    claims = [
        *_model_claims(boot, outside),
        exact(
            "nodes",
            {},
            predicted=" ".join(f"{start:#x}-{end - 1:#x}" for _, start, end in ranges),
            observed=" ".join(
                f"{node.start_pfn:#x}-{node.start_pfn + node.spanned_pages - 1:#x}"
                for node in outside.nodes
            ),
            unit="frames",
            working=[f"a piece of {length >> 20} MiB at {start:#x}" for start, length in pieces],
        ),
        exact(
            "free_frames",
            {},
            predicted=len(outside.heads) if outside.heads else "none",
            observed=same,
            unit="blocks",
            working=(
                "frame = (address - node_mem_map) / size + node_start_pfn, and in page->virtual",
                f"by the array of node 0 alone {astray} of {len(outside.heads)} would go astray",
            ),
        ),
        _memmap_claim(
            boot,
            pages,
            (
                f"each node's array reaches to whole blocks of {largest} pages: {pages} pages",
                f"one array over the hole too would take {whole} pages",
            ),
        ),
    ]
    return Finding(claims=tuple(claims), exhibits=tuple(_exhibits(boot, outside)))


def _spans(ranges: Sequence[tuple[int, int, int]]) -> list[NodeSpan]:
    return [NodeSpan(*each) for each in ranges]


def _section_claims(boot: BootEvidence, outside: Outside) -> Iterator[Claim]:
    """Which sections have a memmap: those with memory in them."""
    snapshot = boot.snapshot()
    bits = outside.section_bits
    if bits is None:
        raise MissingInputError("SECTION_SIZE_BITS")
    each = (1 << bits) // snapshot.page_size_bytes
    place = placement(snapshot, _one_era(snapshot))
    predicted = present_sections(place.ranges, each)
    yield exact(
        "sections",
        _scope(boot),
        predicted=_numbers(list(predicted)),
        observed=_numbers([number for number, _ in outside.sections]),
        unit="sections",
        working=(*place.steps, f"a section has {each} frames"),
    )


def _numbers(numbers: Sequence[int]) -> str:
    return ", ".join(map(str, numbers)) or "none"


def _sparse(evidence: StopEvidence) -> Finding:
    boot = evidence.boot()
    outside = read_outside(boot)
    snapshot = boot.snapshot()
    bits, physical = outside.section_bits, outside.physical_bits
    if bits is None or physical is None:
        raise MissingInputError("SECTION_SIZE_BITS and MAX_PHYSMEM_BITS")
    size = outside.struct_bytes
    maps = {number: struct_page_place.coded_map(word) for number, word in outside.sections}
    each = (1 << bits) // snapshot.page_size_bytes

    def section(head_content: bytes) -> int:
        flags = int.from_bytes(head_content[:8], "little")
        return struct_page_place.section_of(flags, section_bits=bits, physical_bits=physical)

    def find(content: bytes, address: int) -> int | None:
        coded = maps.get(section(content))
        return None if coded is None else _array(address, coded, 0, size)

    found = [(section(head.content), find(head.content, head.address)) for head in outside.heads]
    agree = sum(pfn is not None and pfn // each == number for number, pfn in found)
    pages, steps = boot_memmap(snapshot, _one_era(snapshot), memory_model.SPARSEMEM)
    arrays = sorted(set(maps.values()))
    claims = [
        *_model_claims(boot, outside),
        *_section_claims(boot, outside),
        exact(
            "section_in_flags",
            {},
            predicted=len(outside.heads) or "none",
            observed=agree,
            unit="struct pages",
            working=(
                f"the topmost {physical - bits} bits of flags; a section has {each} frames",
                f"counted back to frame 0, the arrays of {len(maps)} sections begin at "
                + " ".join(f"{each:#x}" for each in arrays),
            ),
        ),
        _frames_claim(boot, outside, lambda head: find(head.content, head.address)),
        _memmap_claim(boot, pages, steps),
    ]
    return Finding(claims=tuple(claims), exhibits=tuple(_exhibits(boot, outside)))


def _vmemmap(evidence: StopEvidence) -> Finding:
    claims: list[Claim] = []
    exhibits: list[Exhibit] = []
    for label, boot in evidence.boots.items():
        outside = read_outside(boot)
        base, why = _vmemmap_base(boot, outside)
        size = outside.struct_bytes
        coded = {struct_page_place.coded_map(word) for _, word in outside.sections}
        claims += _model_claims(boot, outside)
        claims += _section_claims(boot, outside)
        claims.append(
            exact(
                "vmemmap",
                _scope(boot),
                predicted=f"{base:#x}",
                observed=" ".join(f"{each:#x}" for each in sorted(coded)) or "no section",
                unit="address",
                working=(why, f"all {len(outside.sections)} sections count from the same place"),
            )
        )
        claims.append(
            _frames_claim(boot, outside, _counted_from(base, size)),
        )
        if boot.arch == "x86_64":
            claims.append(_vmemmap_memmap(boot))
        exhibits += _exhibits(boot, outside, suffix="" if label == "x86_64" else f"_{label}")
    return Finding(claims=tuple(claims), exhibits=tuple(exhibits))


def _counted_from(base: int, size: int) -> Finder:
    return lambda head: _array(head.address, base, 0, size)


def _vmemmap_base(boot: BootEvidence, outside: Outside) -> tuple[int, str]:
    if boot.arch == "x86_64":
        return struct_page_place.x86_64_vmemmap(), "where four levels of page tables put it"
    snapshot = boot.snapshot()
    bits = snapshot.config.number("ARM64_VA_BITS")
    if bits is None:
        raise MissingInputError("CONFIG_ARM64_VA_BITS")
    memory = placement(snapshot, _one_era(snapshot)).memory
    base = struct_page_place.arm64_vmemmap(
        va_bits=bits,
        page_shift=snapshot.page_size_bytes.bit_length() - 1,
        struct_shift=(outside.struct_bytes - 1).bit_length(),
        memory_start=memory[0].start,
    )
    return base, f"{bits} bits of address, memory from {memory[0].start:#x}"


def _vmemmap_memmap(boot: BootEvidence) -> Claim:
    """What memblock gave: whole huge pages, as many as a node's sections need."""
    snapshot = boot.snapshot()
    era = _one_era(snapshot)
    pages, steps = boot_memmap(snapshot, era, memory_model.VMEMMAP)
    return _memmap_claim(boot, pages, steps)


def _exhibits(boot: BootEvidence, outside: Outside, suffix: str = "") -> Iterator[Exhibit]:
    yield _plate(boot, outside, suffix)
    known = [(name, at, "kallsyms") for name, at in outside.symbols.items()]
    known += [(name, at, "vmcoreinfo") for name, at in outside.told.items()]
    lines = [f"{at:016x} {name} ({place})" for name, at, place in sorted(known)]
    marks = [number for number, (name, *_) in enumerate(sorted(known), 1) if name in _TELLING]
    yield made(f"symbols{suffix}", lines[:_SHOWN_SYMBOLS], marks)
    if found := pick(
        f"memmap{suffix}", boot.snapshot().text("dmesg"), _MEMMAP.pattern, marked=r"\d+ bytes"
    ):
        yield found


def _plate(boot: BootEvidence, outside: Outside, suffix: str) -> Plate:
    page = boot.snapshot().page_size_bytes
    arrays = list(_arrays(outside, page))
    return Plate(id=f"arrays{suffix}", draw=partial(draw, arrays, page_bytes=page))


def _arrays(outside: Outside, page: int) -> Iterator[Array]:
    """The arrays of struct pages: which frames each is for, and where it is."""
    size = outside.struct_bytes
    if outside.sections:
        assert outside.section_bits is not None
        each = (1 << outside.section_bits) // page
        for number, word in outside.sections:
            start = number * each
            yield Array(
                name=f"section {number}",
                first_pfn=start,
                frames=each,
                address=struct_page_place.coded_map(word) + start * size,
                struct_bytes=size,
            )
        return
    for node in outside.nodes:
        if node.mem_map is not None:
            yield Array(
                name=f"node {node.node}",
                first_pfn=node.start_pfn,
                frames=node.spanned_pages,
                address=node.mem_map,
                struct_bytes=size,
            )


JUDGES: Mapping[str, Callable[[StopEvidence], Finding]] = MappingProxyType(
    {
        "memory_models/flatmem": _flat,
        "memory_models/discontigmem": _discontig,
        "memory_models/sparsemem": _sparse,
        "memory_models/vmemmap": _vmemmap,
    }
)
