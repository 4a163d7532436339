"""A struct page, and what the kernel tells of it: zone and node, map count, /proc/kpageflags."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from analysis.model.eras_struct_page import PageEra

KPF_NAMES: Mapping[int, str] = {
    0: "LOCKED", 1: "ERROR", 2: "REFERENCED", 3: "UPTODATE", 4: "DIRTY", 5: "LRU", 6: "ACTIVE",
    7: "SLAB", 8: "WRITEBACK", 9: "RECLAIM", 10: "BUDDY", 11: "MMAP", 12: "ANON", 13: "SWAPCACHE",
    14: "SWAPBACKED", 15: "COMPOUND_HEAD", 16: "COMPOUND_TAIL", 17: "HUGE", 18: "UNEVICTABLE",
    19: "HWPOISON", 20: "NOPAGE", 21: "KSM", 22: "THP", 23: "OFFLINE", 24: "ZERO_PAGE",
    25: "IDLE", 26: "PGTABLE", 32: "RESERVED", 33: "MLOCKED", 34: "MAPPEDTODISK", 35: "PRIVATE",
    36: "PRIVATE_2", 37: "OWNER_PRIVATE", 38: "ARCH", 39: "UNCACHED", 40: "SOFTDIRTY",
    41: "ARCH_2", 42: "ARCH_3",
}  # fmt: skip
"""Bits of /proc/kpageflags. Kernel: include/uapi/linux/kernel-page-flags.h and
include/linux/kernel-page-flags.h; 5.10 to 6.1, and but for ``_RENAMED`` 6.12, 7.2 and 7.3."""
_RENAMED = {34: "OWNER_2"}
"""In 6.12, 7.2 and 7.3."""
KPF = {name: bit for bit, name in KPF_NAMES.items()}
_COPIED = {
    "LOCKED": "locked", "SLAB": "slab", "ERROR": "error", "DIRTY": "dirty",
    "UPTODATE": "uptodate", "WRITEBACK": "writeback", "LRU": "lru", "REFERENCED": "referenced",
    "ACTIVE": "active", "RECLAIM": "reclaim", "SWAPBACKED": "swapbacked",
    "UNEVICTABLE": "unevictable", "MLOCKED": "mlocked", "HWPOISON": "hwpoison",
    "UNCACHED": "uncached", "RESERVED": "reserved", "MAPPEDTODISK": "mappedtodisk",
    "PRIVATE": "private", "PRIVATE_2": "private_2", "OWNER_PRIVATE": "owner_priv_1",
    "ARCH": "arch_1", "ARCH_2": "arch_2", "ARCH_3": "arch_3",
}  # fmt: skip
"""Flags that are shown as they stand: ours by the kernel's. No kernel has all of them."""
_MAPPING_ANON, _MAPPING_KSM = 1, 3
_BUDDY, _OFFLINE, _TABLE = 0x80, 0x100, 0x200
_TYPES = {0xF0: "BUDDY", 0xF1: "OFFLINE", 0xF2: "PGTABLE", 0xF5: "SLAB"}
"""Types of pages by number, which stands in the topmost byte; 6.12, 7.2 and 7.3."""
_COUNTS_FROM = -1 << 24
"""Below it a count is a type; 6.12, 7.2 and 7.3."""
_ORDER_MASK = 0xFF
_TYPE_BASE, _TYPE_MASK = 0xF0000000, 0xF0000000
_RESERVED_MAPCOUNTS = -128
"""A count below it is a type (PAGE_MAPCOUNT_RESERVE)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StructPage:
    """The words of one struct page; ``page_type`` shares its word with ``mapcount``."""

    flags: int
    refcount: int
    mapcount: int
    """``_mapcount``: -1 where nobody maps it."""
    mapping: int
    compound_head: int
    """Bit 0 set in a tail page; the rest is then its head's address, or a mask that leads to it
    (see ``head_address``)."""
    compound_mapcount: int
    """Of a compound page's first tail: how often the whole is mapped, less one."""
    large_mapcount: int = -1
    """Of a compound page's first tail: how many entries map it or parts of it, less one."""

    @property
    def page_type(self) -> int:
        return self.mapcount & 0xFFFFFFFF

    @property
    def is_tail(self) -> bool:
        return bool(self.compound_head & 1)

    @property
    def is_anon(self) -> bool:
        return bool(self.mapping & _MAPPING_ANON)

    def has(self, flag: str, bits: Mapping[str, int]) -> bool:
        """Whether ``PG_flag`` is set; ``bits`` numbers the kernel's flags."""
        return flag in bits and bool(self.flags >> bits[flag] & 1)

    def has_type(self, bit: int) -> bool:
        """Kernel: include/linux/page-flags.h, PageType: a type's bit is cleared; 5.10 to 6.1."""
        return self.page_type & (_TYPE_MASK | bit) == _TYPE_BASE

    @property
    def type_number(self) -> int:
        """Kernel: include/linux/page-flags.h, enum pagetype; 6.12, 7.2 and 7.3. Where a page has
        no type, the count of those that map it stands there instead."""
        return self.page_type >> 24


@dataclass(frozen=True, slots=True, kw_only=True)
class PageView:
    """A struct page with those that it leads to: itself and itself where it is no compound."""

    page: StructPage
    head: StructPage
    first_tail: StructPage | None = None


def node_of(flags: int, *, nodes_shift: int, word_bits: int = 64) -> int:
    """The node in the top bits of a struct page's flags.

    Kernel: include/linux/page-flags-layout.h and mm.h, ``page_to_nid`` without a section number
        in the flags (SPARSEMEM_VMEMMAP, FLATMEM); 5.10 to 7.3.
    Ignores: nothing known.
    """
    return flags >> (word_bits - nodes_shift) if nodes_shift else 0


def zone_type_of(flags: int, *, nodes_shift: int, zones: int, word_bits: int = 64) -> int:
    """The zone's number in its node, below the node in a struct page's flags.

    ``zones``: how many kinds of zones the kernel is built with (MAX_NR_ZONES).

    Kernel: include/linux/page-flags-layout.h and mm.h, ``page_zonenum``; 5.10 to 7.3.
    Ignores: as ``node_of``.
    """
    width = (zones - 1).bit_length()
    return flags >> (word_bits - nodes_shift - width) & ((1 << width) - 1)


def head_address(page: StructPage, address: int, *, by_mask: bool) -> int:
    """The struct page of the head of that at ``address``: itself where it is no tail.

    ``by_mask``: see ``heads_by_mask``.

    Kernel: include/linux/page-flags.h, ``_compound_head``; 5.10 to 7.3.
    Ignores: the heads that 6.1 and 6.12 fake where hugetlbfs gave memmap back.
    """
    if not page.is_tail:
        return address
    return address & page.compound_head if by_mask else page.compound_head - 1


def tail_word(head: int, order: int, struct_bytes: int, *, by_mask: bool) -> int:
    """What leads from a tail of a compound page to its head at ``head``.

    Kernel: include/linux/page-flags.h and mm.h, ``set_compound_head``; 5.10 to 7.3.
    Ignores: nothing known.
    """
    if not by_mask:
        return head | 1
    whole = struct_bytes << order
    return (1 << 64) - whole | 1


def heads_by_mask(options: Iterable[str], struct_bytes: int) -> bool:
    """Whether tails of a kernel whose struct page has a ``compound_info`` lead to their heads by
    a mask for their own address, instead of by the head's.

    Kernel: include/linux/page-flags.h, ``compound_info_has_mask``; 7.2 and 7.3.
    Ignores: nothing known.
    """
    power_of_2 = not struct_bytes & (struct_bytes - 1)
    return "HUGETLB_PAGE_OPTIMIZE_VMEMMAP" in options and power_of_2


def folio_order(first_tail: StructPage) -> int:
    """Order of a compound page, by its first tail.

    Kernel: include/linux/mm.h, ``folio_order``; 6.12, 7.2 and 7.3.
    Ignores: nothing known.
    """
    return first_tail.flags & _ORDER_MASK


def map_count(view: PageView, bits: Mapping[str, int], era: PageEra) -> int:
    """How many page table entries map a page: what /proc/kpagecount says.

    A huge page that is mapped as a whole is counted once in its first tail, for all its pages.

    Kernel: mm/util.c, ``__page_mapcount``, and fs/proc/page.c, ``kpagecount_read``; 5.10 to 6.1.
        fs/proc/internal.h, ``folio_precise_page_mapcount``; 6.12, 7.2 and 7.3.
    Ignores: hugetlbfs, whose pages have the count of the whole only, until 6.1;
        CONFIG_NO_PAGE_MAPCOUNT.
    """
    page = view.page
    if era.folios:
        count = page.mapcount + 1 if page.mapcount >= _COUNTS_FROM else 0
        return count if view.first_tail is None else count + view.first_tail.compound_mapcount + 1
    if page.has("slab", bits) or page.mapcount < _RESERVED_MAPCOUNTS:
        return 0
    count = page.mapcount + 1
    if view.first_tail is None or not view.head.is_anon:
        return count
    count += view.first_tail.compound_mapcount + 1
    return count - view.first_tail.has("double_map", bits)


def kpageflags(view: PageView, bits: Mapping[str, int], era: PageEra) -> int:
    """The word that /proc/kpageflags shows of a page.

    Kernel: fs/proc/page.c, ``stable_page_flags``; 5.10 to 6.1, 64-bit, without idle page tracking;
        6.12, 7.2 and 7.3, 64-bit.
    Ignores: hugetlbfs, the zero pages, and pages inside a free block.
    """
    if era.folios:
        return sum(1 << KPF[name] for name in _shown_of_folio(view, bits, era))
    page, head = view.page, view.head
    compound = view.first_tail is not None
    set_bits = {name for name, flag in _COPIED.items() if page.has(flag, bits)}
    if not page.has("slab", bits) and map_count(view, bits, era) > 0:
        set_bits.add("MMAP")
    # a tail's mapping is its own affair: what the page is, its head says
    if head.is_anon:
        set_bits.add("ANON")
    if head.mapping & _MAPPING_KSM == _MAPPING_KSM:
        set_bits.add("KSM")
    if compound:
        set_bits.add("COMPOUND_TAIL" if page.is_tail else "COMPOUND_HEAD")
        if head.has("lru", bits) or head.is_anon:
            set_bits.add("THP")
        if page.is_tail and head.has("slab", bits):
            set_bits.add("SLAB")
    for name, bit in (("BUDDY", _BUDDY), ("OFFLINE", _OFFLINE), ("PGTABLE", _TABLE)):
        if page.has_type(bit):
            set_bits.add(name)
    # kernel: PageSwapCache asks the head, and counts only for pages that swap can take
    if head.has("swapbacked", bits) and head.has("swapcache", bits):
        set_bits.add("SWAPCACHE")
    return sum(1 << KPF[name] for name in set_bits)


def _shown_of_folio(view: PageView, bits: Mapping[str, int], era: PageEra) -> set[str]:
    """What the releases show that ask the folio, which is the head, for nearly everything."""
    page, head = view.page, view.head
    shown = {name for name, flag in _COPIED.items() if head.has(flag, bits)} - {"HWPOISON"}
    mapped = head.mapcount if view.first_tail is None else view.first_tail.large_mapcount
    if mapped >= 0:
        shown.add("MMAP")
    if head.is_anon:
        shown.add("ANON")
        if era.ksm_is_anon or head.mapping & _MAPPING_KSM == _MAPPING_KSM:
            shown.add("KSM")
    if view.first_tail is not None:
        shown.add("COMPOUND_TAIL" if page.is_tail else "COMPOUND_HEAD")
        if view.first_tail.has("large_rmappable", bits):
            shown.add("THP")
    for asked, names in ((page, {"BUDDY"}), (head, {"OFFLINE", "PGTABLE", "SLAB"})):
        shown |= {_TYPES.get(asked.type_number, "")} & names
    if head.has("idle", bits):
        shown.add("IDLE")
    if page.has("hwpoison", bits):
        shown.add("HWPOISON")
    if head.has("swapbacked", bits) and head.has("swapcache", bits):
        shown.add("SWAPCACHE")
    return shown


def flag_names(word: int, era: PageEra | None = None) -> tuple[str, ...]:
    """Names of the bits of a word of /proc/kpageflags, lowest first.

    Kernel: as ``KPF_NAMES``.
    Ignores: nothing known.
    """
    names = KPF_NAMES if era is None or not era.folios else {**KPF_NAMES, **_RENAMED}
    return tuple(name for bit, name in names.items() if word >> bit & 1)


KIND_FLAGS = (
    "SLAB", "BUDDY", "MMAP", "ANON", "COMPOUND_HEAD", "COMPOUND_TAIL", "HUGE", "KSM", "THP",
    "OFFLINE", "PGTABLE", "RESERVED",
)  # fmt: skip
"""The flags that say what a page is; the others say what lately became of it."""


def kind_flags(*, anon: bool, huge: bool, first: bool, era: PageEra) -> frozenset[str]:
    """Those of ``KIND_FLAGS`` that a mapped page of a process has.

    ``huge``: it belongs to a transparent huge page, of which it is the ``first`` or another.

    Kernel: mm/memory.c and mm/huge_memory.c, ``do_anonymous_page``,
        ``__do_huge_pmd_anonymous_page``; mm/shmem.c; fs/proc/page.c; 5.10 to 6.1, 6.12, 7.2 and
        7.3.
    Ignores: hugetlbfs, pages that KSM merged, large folios of files and of less than a huge page.
    """
    flags = {"MMAP"}
    if anon:
        flags |= {"ANON", "KSM"} if era.ksm_is_anon else {"ANON"}
    if huge:
        flags |= {"THP", "COMPOUND_HEAD" if first else "COMPOUND_TAIL"}
    return frozenset(flags)


def compound_order_of(pages: int) -> int:
    """Order of the compound page that a huge page of so many pages is.

    Kernel: include/linux/huge_mm.h, HPAGE_PMD_ORDER; 5.10 to 7.3.
    Ignores: nothing known.
    """
    return (pages - 1).bit_length()
