"""The numbers that reading the allocator's state needs, settled once for a kernel."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from harness.errors import MissingSymbolError
from harness.kernel.kconfig import is_set
from harness.record.memory import LOWMEM_RESERVES
from harness.sampling.memory.btf import Btf
from harness.sampling.memory.kernel import GuestKernel

_COSTLY_ORDER = 3
"""PAGE_ALLOC_COSTLY_ORDER: per-cpu lists hold orders up to this, and one huge order."""
_MIGRATETYPE_NAMES = {
    "MIGRATE_UNMOVABLE": "Unmovable",
    "MIGRATE_MOVABLE": "Movable",
    "MIGRATE_RECLAIMABLE": "Reclaimable",
    "MIGRATE_HIGHATOMIC": "HighAtomic",
    "MIGRATE_CMA": "CMA",
    "MIGRATE_ISOLATE": "Isolate",
}
"""The kernel's enumerators, and what it calls them in /proc/pagetypeinfo."""
_PAGE_FLAG = re.compile(r"^PG_(?!.*mask$)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """An integer in a struct."""

    offset: int
    size_bytes: int
    signed: bool

    def read(self, data: bytes, base: int = 0) -> int:
        """Its value in the struct that begins at ``base`` of the data."""
        start = base + self.offset
        return int.from_bytes(data[start : start + self.size_bytes], "little", signed=self.signed)


@dataclass(frozen=True, slots=True, kw_only=True)
class PageblockBits:
    """One pageblock's flags. Kernel: include/linux/pageblock-flags.h."""

    bits: int
    """NR_PAGEBLOCK_BITS: 4, and 8 where isolation has a bit of its own (from 6.17)."""
    migratetype_mask: int
    skip_bit: int
    isolate_bit: int
    """-1 where Isolate is a migratetype like the others."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """Offsets in bytes, unless a name says otherwise."""

    page_bytes: int
    page_flags: int
    page_lru: int
    page_mapping: int
    page_private: int
    page_type: int
    page_index: int
    """Where a page on a per-cpu list keeps its migratetype, -1 where it does not."""
    buddy_mask: int
    buddy_value: int
    """A page is the head of a free block when page_type & mask is this."""
    zone_bytes: int
    zone_fields: Mapping[str, Field]
    """ZONE's fields by name; those that the release lacks are absent."""
    zone_name: Field
    zone_pcp: Field
    zone_zonestat: Field
    zone_lock: Field | None
    lowmem_reserve: tuple[Field, ...]
    free_area: int
    free_area_bytes: int
    nr_free: Field
    pcp_bytes: int
    pcp_fields: Mapping[str, Field]
    pcp_lock: Field | None
    pcp_list: int
    pcp_lists: int
    pcp_types: int
    zonestat_bytes: int
    zonestat_fields: Mapping[str, Field]
    max_order: int
    pageblock_order: int
    pmd_order: int
    pageblock: PageblockBits
    migratetypes: tuple[str, ...]
    page_flag_bits: Mapping[str, int]
    zone_flag_bits: Mapping[str, int]
    node_shift: int
    zone_shift: int
    """Bit of page->flags at which the node and the zone number begin; -1 if unknown."""
    zone_mask: int

    @property
    def migratetype_isolate(self) -> int:
        return self.migratetypes.index("Isolate") if "Isolate" in self.migratetypes else -1

    def pcp_order(self, pindex: int) -> int:
        """Order of the blocks on a per-cpu list.

        *Kernel:* pindex_to_order in mm/page_alloc.c, 6.1 to 7.3.
        """
        if pindex >= self.pcp_types * (_COSTLY_ORDER + 1):
            return min(self.pmd_order, self.max_order)
        return pindex // self.pcp_types


def resolve_layout(kernel: GuestKernel, config: Mapping[str, str]) -> Layout:
    """``config`` is the kernel's .config, for what BTF does not say.

    Raises:
        MissingSymbolError: the kernel lacks a type or member that cannot be done without.
    """
    btf, info = kernel.btf, kernel.info
    release = release_numbers(info.release)
    types = btf.enumerators("migratetype")
    migratetypes = migratetype_names(types)
    max_order = info.length("zone.free_area") - 1
    page_shift = info.page_size_bytes.bit_length() - 1
    pmd_order = page_shift - 3  # one table of 8-byte entries, on x86_64 and every arm64 granule
    zone_types = btf.length_of(btf.member("zone", "lowmem_reserve").type_id)
    mask, value = buddy_type(info.number("PAGE_BUDDY_MAPCOUNT_VALUE"))
    node_shift, zone_shift, zone_mask = _zone_bits(config, zone_types)
    return Layout(
        page_bytes=btf.size("page"),
        page_flags=btf.offset("page", "flags"),
        page_lru=btf.offset("page", "lru"),
        page_mapping=btf.offset("page", "mapping"),
        page_private=btf.offset("page", "private"),
        page_type=btf.offset("page", "page_type"),
        # Kernel: set_pcppage_migratetype, in mm/page_alloc.c up to 6.9
        page_index=btf.offset("page", "index") if release < (6, 10) else -1,
        buddy_mask=mask,
        buddy_value=value,
        zone_bytes=btf.size("zone"),
        zone_fields=_zone_fields(btf),
        zone_name=_need(btf, "zone", "name"),
        zone_pcp=_need(btf, "zone", "per_cpu_pageset"),
        zone_zonestat=_need(btf, "zone", "per_cpu_zonestats"),
        zone_lock=_lock(btf, "zone"),
        lowmem_reserve=_elements(btf, "zone", "lowmem_reserve")[:LOWMEM_RESERVES],
        free_area=btf.offset("zone", "free_area"),
        free_area_bytes=btf.size("free_area"),
        nr_free=_need(btf, "free_area", "nr_free"),
        pcp_bytes=btf.size("per_cpu_pages"),
        pcp_fields=_pcp_fields(btf),
        pcp_lock=_lock(btf, "per_cpu_pages"),
        pcp_list=btf.offset("per_cpu_pages", "lists"),
        pcp_lists=btf.length_of(btf.member("per_cpu_pages", "lists").type_id),
        pcp_types=types["MIGRATE_PCPTYPES"],
        zonestat_bytes=btf.size("per_cpu_zonestat"),
        zonestat_fields=_zonestat_fields(btf),
        max_order=max_order,
        pageblock_order=pageblock_order(config, pmd_order, max_order),
        pmd_order=pmd_order,
        pageblock=pageblock_bits(btf),
        migratetypes=migratetypes,
        page_flag_bits=page_flag_bits(btf),
        zone_flag_bits=dict(btf.enumerators("zone_flags")),
        node_shift=node_shift,
        zone_shift=zone_shift,
        zone_mask=zone_mask,
    )


def release_numbers(release: str) -> tuple[int, int]:
    """``6.12.95+deb12-amd64`` → (6, 12).

    Raises:
        MissingSymbolError: it does not begin with two numbers.
    """
    match = re.match(r"(\d+)\.(\d+)", release)
    if match is None:
        raise MissingSymbolError(f"kernel release {release!r} does not begin with two numbers")
    return int(match[1]), int(match[2])


def migratetype_names(types: Mapping[str, int]) -> tuple[str, ...]:
    """Names of enum migratetype in the order of its values, those of no list left out."""
    count = types["MIGRATE_TYPES"]
    names = [""] * count
    for enumerator, value in types.items():
        if value < count and enumerator in _MIGRATETYPE_NAMES:
            names[value] = _MIGRATETYPE_NAMES[enumerator]
    if not all(names):
        raise MissingSymbolError(f"enum migratetype has values that are not known: {dict(types)}")
    return tuple(names)


def buddy_type(stated: int) -> tuple[int, int]:
    """(mask, value) of page_type by which a free block's head is known.

    *Kernel:* include/linux/page-flags.h. Up to 6.11 a type is a cleared bit in a word of ones,
    and a free page has no other; later it is the highest byte, 0xf0.
    """
    value = stated & 0xFFFF_FFFF
    return (0xFF00_0000, value) if value & 0xFF_FFFF == 0 else (0xFFFF_FFFF, value)


def pageblock_order(config: Mapping[str, str], pmd_order: int, max_order: int) -> int:
    """Kernel: include/linux/pageblock-flags.h, 6.1 to 7.3.

    CONFIG_PAGE_BLOCK_MAX_ORDER (from 6.17) caps it; CONFIG_HUGETLB_PAGE_SIZE_VARIABLE exists on
    neither architecture. 6.1 does not look at CONFIG_TRANSPARENT_HUGEPAGE, but selects it with
    HUGETLB_PAGE wherever stock kernels set either.
    """
    limit = min(max_order, int(config.get("CONFIG_PAGE_BLOCK_MAX_ORDER", max_order)))
    huge = is_set(config, "CONFIG_HUGETLB_PAGE") or is_set(config, "CONFIG_TRANSPARENT_HUGEPAGE")
    return min(pmd_order, limit) if huge else limit


def pageblock_bits(btf: Btf) -> PageblockBits:
    bits = btf.enumerators("pageblock_bits")
    if "NR_PAGEBLOCK_BITS" in bits:
        first, last = bits["PB_migrate"], bits["PB_migrate_end"]
        return PageblockBits(
            bits=bits["NR_PAGEBLOCK_BITS"],
            migratetype_mask=((1 << (last + 1)) - 1) & ~((1 << first) - 1),
            skip_bit=bits.get("PB_migrate_skip", -1),
            isolate_bit=-1,
        )
    count = btf.enumerator("pageblock_bits", "__NR_PAGEBLOCK_BITS")
    return PageblockBits(
        bits=1 << (count - 1).bit_length(),
        migratetype_mask=sum(1 << bits[f"PB_migrate_{number}"] for number in range(3)),
        skip_bit=bits.get("PB_compact_skip", -1),
        isolate_bit=bits.get("PB_migrate_isolate", -1),
    )


def page_flag_bits(btf: Btf) -> Mapping[str, int]:
    """Bits of page->flags by the kernel's name; aliases (PG_checked …) keep their own."""
    flags = btf.enumerators("pageflags")
    count = flags.get("__NR_PAGEFLAGS", 32)
    return {
        name.removeprefix("PG_"): bit
        for name, bit in flags.items()
        if _PAGE_FLAG.match(name) and 0 <= bit < count
    }


def _zone_bits(config: Mapping[str, str], zone_types: int) -> tuple[int, int, int]:
    """Kernel: include/linux/page-flags-layout.h with CONFIG_SPARSEMEM_VMEMMAP, 64-bit."""
    zone_bits = (zone_types - 1).bit_length()
    node_bits = int(config.get("CONFIG_NODES_SHIFT", "0"))
    return 64 - node_bits, 64 - node_bits - zone_bits, (1 << zone_bits) - 1


def _zone_fields(btf: Btf) -> Mapping[str, Field]:
    paths = {
        "start_pfn": "zone_start_pfn",
        "managed_pages": "managed_pages.counter",
        **{
            name: name
            for name in (
                "spanned_pages",
                "present_pages",
                "cma_pages",
                "watermark_boost",
                "nr_reserved_highatomic",
                "nr_free_highatomic",
                "nr_isolate_pageblock",
                "percpu_drift_mark",
                "flags",
            )
        },
    }
    fields = {name: _field(btf, "zone", path) for name, path in paths.items()}
    stats = _elements(btf, "zone", "vm_stat")
    fields["nr_free_pages"] = stats[btf.enumerator("zone_stat_item", "NR_FREE_PAGES")]
    fields["nr_free_cma"] = stats[btf.enumerator("zone_stat_item", "NR_FREE_CMA_PAGES")]
    marks = _elements(btf, "zone", "_watermark")
    for name, number in btf.enumerators("zone_watermarks").items():
        if number < len(marks):
            fields[f"watermark_{name.removeprefix('WMARK_').lower()}"] = marks[number]
    return {name: field for name, field in fields.items() if field is not None}


def _pcp_fields(btf: Btf) -> Mapping[str, Field]:
    names = (
        *("count", "high", "high_min", "high_max", "batch", "flags"),
        *("free_factor", "alloc_factor", "expire", "free_count"),
    )
    fields = {name: _field(btf, "per_cpu_pages", name) for name in names}
    return {name: field for name, field in fields.items() if field is not None}


def _zonestat_fields(btf: Btf) -> Mapping[str, Field]:
    differences = _elements(btf, "per_cpu_zonestat", "vm_stat_diff")
    return {
        "stat_threshold": _need(btf, "per_cpu_zonestat", "stat_threshold"),
        "diff_free_pages": differences[btf.enumerator("zone_stat_item", "NR_FREE_PAGES")],
        "diff_free_cma": differences[btf.enumerator("zone_stat_item", "NR_FREE_CMA_PAGES")],
    }


def _lock(btf: Btf, struct: str) -> Field | None:
    """The word of a lock that is zero when nobody has it.

    *Kernel:* struct qspinlock in include/asm-generic/qspinlock_types.h; with CONFIG_PREEMPT_RT
    the owner of an rt_mutex. Without CONFIG_SMP there is none, and a stop in the midst of the
    allocator shows only in the sample's checks.
    """
    queued = btf.find(struct, "lock.rlock.raw_lock")
    if queued is not None and btf.size_of(queued.type_id) >= 4:
        return Field(offset=queued.offset, size_bytes=4, signed=False)
    owner = btf.find(struct, "lock.lock.owner")
    return None if owner is None else Field(offset=owner.offset, size_bytes=8, signed=False)


def _need(btf: Btf, struct: str, path: str) -> Field:
    member = btf.member(struct, path)
    return Field(
        offset=member.offset,
        size_bytes=btf.size_of(member.type_id),
        signed=btf.is_signed(member.type_id),
    )


def _field(btf: Btf, struct: str, path: str) -> Field | None:
    return _need(btf, struct, path) if btf.find(struct, path) is not None else None


def _elements(btf: Btf, struct: str, path: str) -> tuple[Field, ...]:
    """The elements of an array of integers, or of structs that wrap one (atomic_long_t)."""
    member = btf.member(struct, path)
    element = btf.element_of(member.type_id)
    wrapped = btf.find_in(element, "counter")
    inner = wrapped.type_id if wrapped is not None else element
    size_bytes = btf.size_of(element)
    return tuple(
        Field(
            offset=member.offset + number * size_bytes,
            size_bytes=size_bytes,
            signed=btf.is_signed(inner),
        )
        for number in range(btf.length_of(member.type_id))
    )
