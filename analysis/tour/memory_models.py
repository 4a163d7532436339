"""What the stops about memory models show: the way from a frame to its struct page, four times."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

from analysis.compare.claim import Claim
from analysis.compare.rule import exact, unknown
from analysis.compare.static.layout.capture import model_of
from analysis.compare.static.layout.memmap import boot_memmap
from analysis.errors import MissingInputError
from analysis.model.layout import memory_model, struct_page_place
from analysis.model.layout.nodes import NodeSpan
from analysis.tour.evidence import BootEvidence, StopEvidence
from analysis.tour.finding import Exhibit, Finding
from analysis.tour.memmap_exhibits import exhibits_of
from analysis.tour.memory_model_claims import (
    frames_claim,
    memmap_claim,
    model_claims,
    one_era,
    scope_of,
    section_claims,
)
from analysis.tour.struct_pages import Finder, read_outside
from analysis.tour.vmemmap_base import vmemmap_base

_VIRTUAL_BYTES = 4


def _flat(evidence: StopEvidence) -> Finding:
    boot = evidence.boot()
    snapshot, outside = boot.snapshot(), read_outside(boot)
    era = one_era(snapshot)
    base = outside.pointers.get("mem_map")
    node = outside.nodes[0]
    if base is None or node.mem_map is None:
        raise _not_of("mem_map", boot)
    size = outside.struct_bytes
    pages, steps = boot_memmap(snapshot, era, memory_model.FLATMEM)
    claims = [
        *model_claims(boot, outside),
        frames_claim(boot, outside, lambda head: _array(head.address, base, 0, size)),
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
        memmap_claim(boot, pages, steps),
    ]
    return Finding(claims=tuple(claims), exhibits=tuple(exhibits_of(boot, outside)))


def _not_of(name: str, boot: BootEvidence) -> MissingInputError:
    return MissingInputError(f"{name}: this kernel is built with {model_of(boot.snapshot())}")


def _array(address: int, mem_map: int, first_pfn: int, size: int) -> int | None:
    return struct_page_place.array_pfn(address, mem_map, first_pfn, size)


def _discontig(evidence: StopEvidence) -> Finding:
    boot = evidence.boot()
    outside = read_outside(boot)
    snapshot = boot.snapshot()
    size = outside.struct_bytes
    maps = {node.node: node.mem_map for node in outside.nodes if node.mem_map is not None}
    if len(maps) < len(outside.nodes):
        raise _not_of("node_mem_map", boot)
    pieces = [(int(start), int(length)) for start, length in boot.json("pieces")]
    page = snapshot.page_size_bytes

    def find(node: int, address: int) -> int | None:
        return _array(address, maps[node], outside.node_of[node].start_pfn, size)

    by_formula = [find(head.node, head.address) for head in outside.heads]
    # The last word of an m68k struct page is the virtual address of its frame, which is the
    # physical one: memory begins at 0.
    by_itself = [
        head.word(size - _VIRTUAL_BYTES, _VIRTUAL_BYTES, outside.byte_order) // page
        for head in outside.heads
    ]
    same = sum(one == two for one, two in zip(by_formula, by_itself, strict=True))
    first = outside.nodes[0].node
    astray = sum(
        find(first, head.address) != frame
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
        *model_claims(boot, outside),
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
        memmap_claim(
            boot,
            pages,
            (
                f"each node's array reaches to whole blocks of {largest} pages: {pages} pages",
                f"one array over the hole too would take {whole} pages",
            ),
        ),
    ]
    return Finding(claims=tuple(claims), exhibits=tuple(exhibits_of(boot, outside)))


def _spans(ranges: Sequence[tuple[int, int, int]]) -> list[NodeSpan]:
    return [NodeSpan(*each) for each in ranges]


def _sparse(evidence: StopEvidence) -> Finding:
    boot = evidence.boot()
    outside = read_outside(boot)
    snapshot = boot.snapshot()
    if model_of(snapshot) == memory_model.VMEMMAP:
        raise _not_of("section numbers in the flags of struct pages", boot)
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
    pages, steps = boot_memmap(snapshot, one_era(snapshot), memory_model.SPARSEMEM)
    arrays = sorted(set(maps.values()))
    claims = [
        *model_claims(boot, outside),
        *section_claims(boot, outside),
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
        frames_claim(boot, outside, lambda head: find(head.content, head.address)),
        memmap_claim(boot, pages, steps),
    ]
    return Finding(claims=tuple(claims), exhibits=tuple(exhibits_of(boot, outside)))


def _vmemmap(evidence: StopEvidence) -> Finding:
    claims: list[Claim] = []
    exhibits: list[Exhibit] = []
    shown: set[str] = set()
    for boot in evidence.boots.values():
        outside = read_outside(boot)
        base, why = vmemmap_base(boot, outside)
        size = outside.struct_bytes
        coded = {struct_page_place.coded_map(word) for _, word in outside.sections}
        claims += model_claims(boot, outside)
        claims += section_claims(boot, outside)
        if base is None:
            claims += [
                unknown("vmemmap", scope_of(boot), why=why[0], unit="address"),
                unknown("free_frames", scope_of(boot), why=why[0], unit="frames"),
            ]
        else:
            claims += [
                exact(
                    "vmemmap",
                    scope_of(boot),
                    predicted=f"{base:#x}",
                    observed=" ".join(f"{each:#x}" for each in sorted(coded)) or "no section",
                    unit="address",
                    working=(
                        *why,
                        f"all {len(outside.sections)} sections count from the same place",
                    ),
                ),
                frames_claim(boot, outside, _counted_from(base, size)),
            ]
        if boot.arch == "x86_64":
            claims.append(_vmemmap_memmap(boot))
        if boot.arch not in shown:
            shown.add(boot.arch)
            suffix = "" if boot.arch == "x86_64" else f"_{boot.arch}"
            exhibits += exhibits_of(boot, outside, suffix=suffix)
    return Finding(claims=tuple(claims), exhibits=tuple(exhibits))


def _counted_from(base: int, size: int) -> Finder:
    return lambda head: _array(head.address, base, 0, size)


def _vmemmap_memmap(boot: BootEvidence) -> Claim:
    """What memblock gave: whole huge pages, as many as a node's sections need."""
    snapshot = boot.snapshot()
    era = one_era(snapshot)
    pages, steps = boot_memmap(snapshot, era, memory_model.VMEMMAP)
    return memmap_claim(boot, pages, steps)


JUDGES: Mapping[str, Callable[[StopEvidence], Finding]] = MappingProxyType(
    {
        "memory_models/flatmem": _flat,
        "memory_models/discontigmem": _discontig,
        "memory_models/sparsemem": _sparse,
        "memory_models/vmemmap": _vmemmap,
    }
)
