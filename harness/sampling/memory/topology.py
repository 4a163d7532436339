"""Nodes, zones, CPUs and the memmap of a running kernel, and which bytes of it to copy at a stop.

Found once; ``Topology.stale`` tells from a copy whether anything has changed since (a CPU gone,
memory added), in which case it must be found again.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from harness.errors import MemoryReadError, MissingSymbolError
from harness.sampling.memory.gather import Gather
from harness.sampling.memory.kernel import GuestKernel
from harness.sampling.memory.layout import Layout

_SUBSECTION_SHIFT = 21
"""Kernel: SUBSECTION_SHIFT in include/linux/mmzone.h."""
_SECTION_HAS_MEM_MAP = 1 << 1
_SECTION_FLAGS = 0xFFF
"""The low bits of section_mem_map are flags; the map itself is page-aligned."""
_MAX_NODES = 1024
_MAX_ZONEREFS = 8192
_ZONEREF_BYTES = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class CpuPlace:
    """Where in the copy one CPU's part of a zone lies."""

    cpu: int
    pcp_address: int
    """Virtual address of the per_cpu_pages, which its list heads point back to."""
    pcp: int
    zonestat: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ZonePlace:
    """A populated zone: what does not change, and where in the copy the rest lies."""

    number: int
    node: int
    zone_type: int
    name: str
    address: int
    start_pfn: int
    spanned_pages: int
    copy: int
    """Offset of its struct zone in the copy."""
    cpus: tuple[CpuPlace, ...]

    @property
    def end_pfn(self) -> int:
        return self.start_pfn + self.spanned_pages


@dataclass(frozen=True, slots=True, kw_only=True)
class NodePlace:
    """A node, and where in the copy the wait queue of its kswapd lies."""

    node: int
    address: int
    """Of its pglist_data."""
    queue_address: int
    """Of the list head, which points to itself while nobody waits."""
    queue: int | None
    """None: this kernel's pglist_data has no such queue where it was looked for."""

    def kswapd_waits(self, copy: bytes) -> bool | None:
        """Kernel: include/linux/wait.h, ``waitqueue_active`` of kswapd_wait."""
        if self.queue is None:
            return None
        return int.from_bytes(copy[self.queue : self.queue + 8], "little") != self.queue_address


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """Pageblock flags of one memory section."""

    first_pfn: int
    copy: int
    size_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ZonelistPlace:
    node: int
    fallback: bool
    copy: int
    entries: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Topology:
    nodes: tuple[NodePlace, ...]
    zones: tuple[ZonePlace, ...]
    cpus: tuple[tuple[int, int], ...]
    """Online CPUs and their nodes."""
    usages: tuple[Usage, ...]
    zonelists: tuple[ZonelistPlace, ...]
    vmemmap: int
    """Virtual address that the struct page of pfn 0 has, or would have."""
    frames: NDArray[np.int64]
    """(first pfn, pages) of every stretch of pages in a zone that has a memmap."""
    runs: NDArray[np.int64]
    """The same, cut where the memmap is not contiguous in RAM: see ``scan.RUN_*``."""
    trace_counter: int | None
    """Offset in the copy."""
    guards: tuple[tuple[int, bytes], ...]
    """Offsets in the copy, and what must stand there for all of this to be still true."""

    def stale(self, copy: bytes) -> bool:
        """Whether the machine has changed since."""
        return any(copy[at : at + len(was)] != was for at, was in self.guards)


class _Survey:
    """Builds a Topology, adding to ``gather`` as it goes."""

    def __init__(self, kernel: GuestKernel, layout: Layout, gather: Gather) -> None:
        self.kernel = kernel
        self.layout = layout
        self.gather = gather
        self.space = kernel.space
        self.btf = kernel.btf
        self.guards: list[tuple[int, bytes]] = []

    def guard(self, address: int, size_bytes: int) -> bytes:
        """Reads a stretch, and watches that it stays as it is."""
        was = self.space.read(address, size_bytes)
        self.guards.append((self.gather.add(address, size_bytes), was))
        return was

    def nodes(self) -> dict[int, int]:
        """Online nodes and the addresses of their pglist_data."""
        if "node_data" not in self.kernel.symbols:
            return {0: self.kernel.symbol("contig_page_data")}
        mask = self.guard(
            self.kernel.info.symbol("node_online_map"), self.kernel.info.sizes["nodemask_t"]
        )
        pointers = self.kernel.symbol("node_data")
        return {node: self.space.u64(pointers + 8 * node) for node in _bits(mask)[:_MAX_NODES]}

    def node_places(self, nodes: dict[int, int]) -> Iterator[NodePlace]:
        queue = self.btf.find("pglist_data", "kswapd_wait")
        for node, pgdat in nodes.items():
            address, copy = 0, None
            if queue is not None:
                address = pgdat + queue.offset + self.btf.offset("wait_queue_head", "head")
                copy = self.gather.add(address, 8)
            yield NodePlace(node=node, address=pgdat, queue_address=address, queue=copy)

    def cpus(self) -> dict[int, int]:
        """Online CPUs and their per-cpu offsets."""
        mask = self.guard(self.kernel.symbol("__cpu_online_mask"), self.btf.size("cpumask"))
        offsets = self.kernel.symbol("__per_cpu_offset")
        return {cpu: self.space.u64(offsets + 8 * cpu) for cpu in _bits(mask)}

    def cpu_node(self, offset: int) -> int:
        """Kernel: the per-cpu numa_node, CONFIG_USE_PERCPU_NUMA_NODE_ID (both architectures)."""
        symbol = self.kernel.symbols.get("numa_node")
        return 0 if symbol is None else self.space.u32((symbol + offset) & (1 << 64) - 1)

    def zones(self, nodes: dict[int, int], cpus: dict[int, int]) -> Iterator[ZonePlace]:
        node_zones = self.btf.member("pglist_data", "node_zones")
        count = self.btf.length_of(node_zones.type_id)
        fields = self.layout.zone_fields
        number = 0
        for node, pgdat in nodes.items():
            for zone_type in range(count):
                address = pgdat + node_zones.offset + zone_type * self.layout.zone_bytes
                data = self.space.read(address, self.layout.zone_bytes)
                self.watch_zone(address)
                if not fields["present_pages"].read(data):
                    continue
                yield ZonePlace(
                    number=number,
                    node=node,
                    zone_type=zone_type,
                    name=self.space.text(self.layout.zone_name.read(data), 16),
                    address=address,
                    start_pfn=fields["start_pfn"].read(data),
                    spanned_pages=fields["spanned_pages"].read(data),
                    copy=self.gather.add(address, self.layout.zone_bytes),
                    cpus=tuple(self.cpu_place(data, cpu, at) for cpu, at in cpus.items()),
                )
                number += 1

    def watch_zone(self, address: int) -> None:
        fields = self.layout.zone_fields
        watched = [fields[name] for name in ("start_pfn", "spanned_pages", "present_pages")]
        for field in (*watched, self.layout.zone_pcp, self.layout.zone_zonestat):
            self.guard(address + field.offset, field.size_bytes)

    def cpu_place(self, zone: bytes, cpu: int, offset: int) -> CpuPlace:
        wrap = (1 << 64) - 1
        pcp = (self.layout.zone_pcp.read(zone) + offset) & wrap
        zonestat = (self.layout.zone_zonestat.read(zone) + offset) & wrap
        return CpuPlace(
            cpu=cpu,
            pcp_address=pcp,
            pcp=self.gather.add(pcp, self.layout.pcp_bytes),
            zonestat=self.gather.add(zonestat, self.layout.zonestat_bytes),
        )

    def sections(self) -> Iterator[tuple[int, int, int]]:
        """(number, section_mem_map, address of its mem_section_usage) of present sections.

        *Kernel:* CONFIG_SPARSEMEM_EXTREME, include/linux/mmzone.h: an array of pointers to pages
        full of mem_sections.
        """
        info = self.kernel.info
        size = info.sizes["mem_section"]
        per_root = info.page_size_bytes // size
        roots = info.length("mem_section")
        table = self.guard(info.symbol("mem_section"), 8 * roots)
        map_at = self.btf.offset("mem_section", "section_mem_map")
        usage_at = self.btf.offset("mem_section", "usage")
        for root, pointer in enumerate(struct.unpack(f"<{roots}Q", table)):
            if not pointer:
                continue
            page = self.guard(pointer, per_root * size)
            for index in range(per_root):
                (section_map,) = struct.unpack_from("<Q", page, index * size + map_at)
                (usage,) = struct.unpack_from("<Q", page, index * size + usage_at)
                if section_map & _SECTION_HAS_MEM_MAP and usage:
                    yield root * per_root + index, section_map, usage

    def zonelists(self, nodes: dict[int, int]) -> Iterator[ZonelistPlace]:
        """Kernel: struct zonelist; ZONELIST_FALLBACK is the first, NOFALLBACK the second."""
        lists = self.btf.member("pglist_data", "node_zonelists")
        size_bytes = self.btf.size("zonelist")
        for node, pgdat in nodes.items():
            for index in range(self.btf.length_of(lists.type_id)):
                address = pgdat + lists.offset + index * size_bytes
                entries = 0
                limit = min(_MAX_ZONEREFS, size_bytes // _ZONEREF_BYTES)
                while entries < limit and self.space.u64(address + entries * _ZONEREF_BYTES):
                    entries += 1
                terminated = min(entries + 1, limit)
                yield ZonelistPlace(
                    node=node,
                    fallback=index == 0,
                    copy=self.gather.add(address, terminated * _ZONEREF_BYTES),
                    entries=entries,
                )


def survey(kernel: GuestKernel, layout: Layout) -> tuple[Topology, Gather]:
    """Looks over the running kernel; the guest may run meanwhile.

    Raises:
        MemoryReadError: what is found contradicts itself.
        MissingSymbolError: a symbol or member that cannot be done without is missing.
    """
    kernel.space.tables.clear()
    gather = Gather(kernel.space)
    work = _Survey(kernel, layout, gather)
    nodes, cpus = work.nodes(), work.cpus()
    zones = tuple(work.zones(nodes, cpus))
    if not zones:
        raise MemoryReadError(f"kernel {kernel.info.release} has no zone with pages yet")
    usages, valid, vmemmap = _memmap(work)
    frames = frame_ranges([(zone.start_pfn, zone.end_pfn) for zone in zones], valid)
    counter = kernel.symbols.get("trace_counter")
    place = gather.add(counter, 8) if counter is not None else None
    runs = _runs(kernel, frames, vmemmap, layout.page_bytes)
    zonelists = tuple(work.zonelists(nodes))
    node_places = tuple(work.node_places(nodes))
    # last, since everything above added to the page table entries that were used
    for slot, size_bytes in sorted(kernel.space.tables):
        start = slot - kernel.space.ram.base
        was = kernel.space.ram.array[start : start + size_bytes].tobytes()
        work.guards.append((gather.add_spans([(slot, size_bytes)]), was))
    gather.freeze()
    return (
        Topology(
            nodes=node_places,
            zones=zones,
            cpus=tuple((cpu, work.cpu_node(offset)) for cpu, offset in cpus.items()),
            usages=usages,
            zonelists=zonelists,
            vmemmap=vmemmap,
            frames=frames,
            runs=runs,
            trace_counter=place,
            guards=tuple(work.guards),
        ),
        gather,
    )


def _memmap(work: _Survey) -> tuple[tuple[Usage, ...], list[tuple[int, int]], int]:
    """Pageblock flags, pfn ranges that have a memmap, and the memmap's base."""
    info, layout = work.kernel.info, work.layout
    page_shift = info.page_size_bytes.bit_length() - 1
    section_shift = info.number("SECTION_SIZE_BITS") - page_shift
    blocks = max(1, (1 << section_shift) >> layout.pageblock_order)
    flag_bytes = -(-blocks * layout.pageblock.bits // 8)
    flags_at = work.btf.offset("mem_section_usage", "pageblock_flags")
    subsections = work.btf.find("mem_section_usage", "subsection_map")
    per_subsection = max(1, (1 << _SUBSECTION_SHIFT) >> page_shift)
    bases: set[int] = set()
    usages: list[Usage] = []
    valid: list[tuple[int, int]] = []
    for number, section_map, usage in work.sections():
        first = number << section_shift
        bases.add(section_map & ~_SECTION_FLAGS)
        usages.append(
            Usage(
                first_pfn=first,
                copy=work.gather.add(usage + flags_at, flag_bytes),
                size_bytes=flag_bytes,
            )
        )
        if subsections is None:
            valid.append((first, first + (1 << section_shift)))
            continue
        bitmap = work.guard(usage + subsections.offset, work.btf.size_of(subsections.type_id))
        for bit in _bits(bitmap):
            start = first + bit * per_subsection
            valid.append((start, start + per_subsection))
    if len(bases) != 1:
        raise MissingSymbolError(
            f"kernel {info.release} has no virtually contiguous memmap "
            f"(CONFIG_SPARSEMEM_VMEMMAP is needed)"
        )
    (base,) = bases
    stated = info.symbols.get("vmemmap", base)
    if stated != base:
        raise MemoryReadError(f"the memmap is at {base:#x} by mem_section, {stated:#x} by name")
    return tuple(usages), valid, base


def frame_ranges(zones: list[tuple[int, int]], valid: list[tuple[int, int]]) -> NDArray[np.int64]:
    """(first pfn, pages) of all that lies in a zone and has a memmap; sorted, disjoint, joined."""
    inside = [
        (max(start, zone_start), min(end, zone_end))
        for zone_start, zone_end in zones
        for start, end in valid
        if max(start, zone_start) < min(end, zone_end)
    ]
    joined: list[list[int]] = []
    for start, end in sorted(inside):
        if joined and start <= joined[-1][1]:
            joined[-1][1] = max(joined[-1][1], end)
        else:
            joined.append([start, end])
    return np.array([(start, end - start) for start, end in joined], np.int64).reshape(-1, 2)


def _runs(
    kernel: GuestKernel, frames: NDArray[np.int64], vmemmap: int, page_bytes: int
) -> NDArray[np.int64]:
    rows: list[tuple[int, int, int]] = []
    for first, pages in frames.tolist():
        pfn = first
        for start, size_bytes in kernel.space.spans(
            vmemmap + first * page_bytes, pages * page_bytes
        ):
            if size_bytes % page_bytes:
                raise MemoryReadError(
                    f"struct page has {page_bytes} bytes and lies across the memmap's pages"
                )
            rows.append((pfn, size_bytes // page_bytes, start - kernel.space.ram.base))
            pfn += size_bytes // page_bytes
    return np.array(rows, np.int64).reshape(-1, 3)


def _bits(mask: bytes) -> list[int]:
    bits = np.unpackbits(np.frombuffer(mask, np.uint8), bitorder="little")
    return [int(bit) for bit in np.flatnonzero(bits)]
