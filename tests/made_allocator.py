"""A whole guest made by hand: one node, two zones, two CPUs, types, symbols, free lists, RAM.

Small, but laid out as a kernel lays it out, so that everything from finding the kernel to the
finished sample runs on it without a machine; and anything in it can be damaged.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from harness.kernel.package import Kernel
from tests.made_btf import MadeBtf
from tests.made_kernel import MadeRam, MadeTables, vmcoreinfo_text

MIB = 1 << 20
KERNEL = 0xFFFF_FFFF_8000_0000
KERNEL_AT, KERNEL_BYTES = 8 * MIB, 4 * MIB
VMEMMAP, VMEMMAP_AT = 0xFFFF_EA00_0000_0000, 16 * MIB
PAGES = 8192
MAX_ORDER, PAGEBLOCK_ORDER = 10, 9
ZONES = ((0, "DMA", 16, 4096), (1, "Normal", 4096, 8192))
CPUS = 2
BUILD_ID = "ab" * 20
WORD = 8


@dataclass(slots=True)
class Shape:
    """A struct's members and where they lie."""

    size: int
    at: Mapping[str, int]
    type_id: int


@dataclass(slots=True)
class MadeTypes:
    """The types of an old (6.1) or a new (7.2) kernel."""

    new: bool
    btf: MadeBtf = field(default_factory=MadeBtf)
    shapes: dict[str, Shape] = field(default_factory=dict)

    def __post_init__(self) -> None:
        btf = self.btf
        u64 = btf.integer("unsigned long", 8)
        s64 = btf.integer("long", 8, signed=True)
        s32 = btf.integer("int", 4, signed=True)
        u32 = btf.integer("unsigned int", 4)
        s16 = btf.integer("short", 2, signed=True)
        u8 = btf.integer("unsigned char", 1)
        s8 = btf.integer("signed char", 1, signed=True)
        pointer = btf.pointer()
        types = ["UNMOVABLE", "MOVABLE", "RECLAIMABLE", "PCPTYPES", "HIGHATOMIC", "CMA", "ISOLATE"]
        values = dict(zip(types, (0, 1, 2, 3, 3, 4, 5), strict=True)) | {"TYPES": 6}
        btf.enum("migratetype", {f"MIGRATE_{name}": value for name, value in values.items()})
        btf.enum("zone_stat_item", {"NR_FREE_PAGES": 0, "NR_OTHER": 1, "NR_FREE_CMA_PAGES": 2})
        marks = ("WMARK_MIN", "WMARK_LOW", "WMARK_HIGH", "WMARK_PROMO", "NR_WMARK")
        btf.enum("zone_watermarks", {name: number for number, name in enumerate(marks)})
        btf.enum("zone_flags", {"ZONE_BOOSTED_WATERMARK": 0, "ZONE_RECLAIM_ACTIVE": 1})
        btf.enum("pageflags", {"PG_locked": 0, "PG_lru": 4, "PG_head": 6, "__NR_PAGEFLAGS": 24})
        if self.new:
            bits = ["PB_migrate_0", "PB_migrate_1", "PB_migrate_2", "PB_compact_skip"]
            bits += ["PB_migrate_isolate", "__NR_PAGEBLOCK_BITS"]
            btf.enum("pageblock_bits", {name: number for number, name in enumerate(bits)})
        else:
            old = {"PB_migrate": 0, "PB_migrate_end": 2, "PB_migrate_skip": 3}
            btf.enum("pageblock_bits", old | {"NR_PAGEBLOCK_BITS": 4})
        links = self.lay("list_head", [("next", pointer, 8), ("prev", pointer, 8)])
        atomic = self.lay("", [("counter", s64, 8)])
        raw = self.lay("qspinlock", [("val", u32, 4)])
        rlock = self.lay("raw_spinlock", [("raw_lock", raw.type_id, 4)])
        lock = self.lay("spinlock", [("rlock", rlock.type_id, 4)])
        flags = self.lay("", [("f", u64, 8)]).type_id if self.new else u64
        index = "__folio_index" if self.new else "index"
        self.lay("page", [
            ("flags", flags, 8), ("lru", links.type_id, 16), ("mapping", pointer, 8),
            (index, u64, 8), ("private", u64, 8), ("page_type", u32, 4), ("_refcount", s32, 4),
            ("memcg_data", u64, 8),
        ])  # fmt: skip
        lists = btf.array(links.type_id, 6)
        area = self.lay("free_area", [("free_list", lists, 96), ("nr_free", u64, 8)])
        fresh = [("nr_free_highatomic", u64, 8)] if self.new else []
        zone = self.lay("zone", [
            ("_watermark", btf.array(u64, 4), 32), ("watermark_boost", u64, 8),
            ("nr_reserved_highatomic", u64, 8), *fresh, ("lowmem_reserve", btf.array(s64, 2), 16),
            ("per_cpu_pageset", pointer, 8), ("per_cpu_zonestats", pointer, 8),
            ("zone_start_pfn", u64, 8), ("managed_pages", atomic.type_id, 8),
            ("spanned_pages", u64, 8), ("present_pages", u64, 8), ("cma_pages", u64, 8),
            ("name", pointer, 8), ("nr_isolate_pageblock", u64, 8),
            ("free_area", btf.array(area.type_id, MAX_ORDER + 1), (MAX_ORDER + 1) * area.size),
            ("flags", u64, 8), ("lock", lock.type_id, 4),
            ("vm_stat", btf.array(atomic.type_id, 3), 24),
        ])  # fmt: skip
        own = (
            [("high_min", s32, 4), ("high_max", s32, 4), ("flags", u8, 1), ("alloc_factor", u8, 1)]
            if self.new
            else [("free_factor", s16, 2)]
        )
        count = [("free_count", s16, 2)] if self.new else []
        self.lay("per_cpu_pages", [
            ("lock", lock.type_id, 4), ("count", s32, 4), ("high", s32, 4), *own,
            ("batch", s32, 4), ("expire", s16, 2), *count,
            ("lists", btf.array(links.type_id, 14), 14 * 16),
        ])  # fmt: skip
        self.lay("per_cpu_zonestat", [
            ("vm_stat_diff", btf.array(s8, 3), 3), ("stat_threshold", s8, 1)
        ])  # fmt: skip
        zoneref = self.lay("zoneref", [("zone", pointer, 8), ("zone_idx", s32, 4)])
        refs = btf.array(zoneref.type_id, 3)
        zonelist = self.lay("zonelist", [("_zonerefs", refs, 3 * zoneref.size)])
        self.lay("pglist_data", [
            ("node_zones", btf.array(zone.type_id, 2), 2 * zone.size),
            ("node_zonelists", btf.array(zonelist.type_id, 2), 2 * zonelist.size),
        ])  # fmt: skip
        self.lay("cpumask", [("bits", btf.array(u64, 1), 8)])
        self.lay("mem_section", [("section_mem_map", u64, 8), ("usage", pointer, 8)])
        self.lay("mem_section_usage", [
            ("subsection_map", btf.array(u64, 1), 8), ("pageblock_flags", btf.array(u64, 0), 0)
        ])  # fmt: skip

    def lay(self, name: str, members: Sequence[tuple[str, int, int]]) -> Shape:
        """Places members as C does; the struct's size is a multiple of 8, of a lock's 4."""
        at: dict[str, int] = {}
        offset = 0
        for member, _, size in members:
            align = min(8, size) if size in (1, 2, 4) else 8
            align = 1 if member == "vm_stat_diff" else align
            offset = -(-offset // align) * align
            at[member] = offset
            offset += size
        size = offset if offset <= 4 else -(-offset // 8) * 8
        type_id = self.btf.struct(
            name, size, [(member, type_id, 8 * at[member]) for member, type_id, _ in members]
        )
        shape = Shape(size, at, type_id)
        if name:
            self.shapes[name] = shape
        return shape


class MadeGuest:
    """The guest; ``free`` and ``keep`` fill its lists, ``poke`` damages it."""

    def __init__(self, *, new: bool) -> None:
        self.types = MadeTypes(new)
        self.shapes = self.types.shapes
        self.new = new
        self.release = "7.2.13-made" if new else "6.1.0-made"
        self.made = MadeRam.plain(PAGES * 4096)
        self.tables = MadeTables(
            self.made, "x86_64", (39, 30, 21, 12), 12, next_table=KERNEL_AT - MIB
        )
        for piece in range(0, KERNEL_BYTES, 2 * MIB):
            self.tables.map(KERNEL + piece, KERNEL_AT + piece, level=2)
        self.tables.map(VMEMMAP, VMEMMAP_AT, level=2)
        self.next = KERNEL + 0x1000
        self.symbols: dict[str, int] = {}
        self.buddy = 0xF000_0000 if new else -129 & 0xFFFF_FFFF
        self.bits = 8 if new else 4
        self._memmap()
        self._percpu()
        self._node()
        self._sections()
        self._describe()

    # writing

    def put(self, address: int, data: bytes) -> None:
        """Writes at a kernel address."""
        assert KERNEL <= address < KERNEL + KERNEL_BYTES
        self.made.write(address - KERNEL + KERNEL_AT, data)

    def word(self, address: int, value: int, size: int = WORD) -> None:
        self.put(address, (value & (1 << 8 * size) - 1).to_bytes(size, "little"))

    def take(self, size: int, name: str = "") -> int:
        """Room in the kernel's image, zero."""
        address, self.next = self.next, -(-(self.next + size) // 64) * 64
        if name:
            self.symbols[name] = address
        return address

    def poke(self, struct_name: str, base: int, member: str, value: int, size: int = WORD) -> None:
        self.word(base + self.shapes[struct_name].at[member], value, size)

    def poke_page(self, pfn: int, member: str, value: int, size: int = WORD, more: int = 0) -> None:
        at = VMEMMAP_AT + pfn * self.shapes["page"].size + self.shapes["page"].at[member] + more
        self.made.write(at, (value & (1 << 8 * size) - 1).to_bytes(size, "little"))

    # what is where

    def links(self, pfn: int) -> int:
        return VMEMMAP + pfn * self.shapes["page"].size + self.shapes["page"].at["lru"]

    def zone(self, number: int) -> int:
        return (
            self.node
            + self.shapes["pglist_data"].at["node_zones"]
            + (number * self.shapes["zone"].size)
        )

    def area(self, zone: int, order: int) -> int:
        area = self.shapes["free_area"]
        return self.zone(zone) + self.shapes["zone"].at["free_area"] + order * area.size

    def pcp(self, zone: int, cpu: int) -> int:
        return self.pcps[zone] + self.offsets[cpu]

    def zonestat(self, zone: int, cpu: int) -> int:
        return self.zonestats[zone] + self.offsets[cpu]

    # the allocator's state

    def free(self, zone: int, order: int, migratetype: int, pfns: Sequence[int]) -> None:
        """Makes these blocks the whole of a free list, and corrects the counters."""
        head = self.area(zone, order) + 16 * migratetype
        self._chain(head, pfns)
        for pfn in pfns:
            self.poke_page(pfn, "page_type", self.buddy, 4)
            self.poke_page(pfn, "private", order)
        self.lists[zone, order, migratetype] = list(pfns)
        self.count(zone)

    def count(self, zone: int, *, pending: Mapping[int, int] | None = None) -> None:
        """Sets nr_free and the zone's counters by the lists, less what CPUs have pending."""
        mine = {key: pfns for key, pfns in self.lists.items() if key[0] == zone}
        for order in range(MAX_ORDER + 1):
            free = sum(len(pfns) for key, pfns in mine.items() if key[1] == order)
            self.word(self.area(zone, order) + self.shapes["free_area"].at["nr_free"], free)

        def pages(*types: int) -> int:
            return sum(len(pfns) << key[1] for key, pfns in mine.items() if key[2] in types)

        stat = self.zone(zone) + self.shapes["zone"].at["vm_stat"]
        for cpu in range(CPUS):
            self.word(self.zonestat(zone, cpu), (pending or {}).get(cpu, 0), 1)
        self.word(stat, pages(0, 1, 2, 3, 4) - sum((pending or {}).values()))
        self.word(stat + 16, pages(4))
        if self.new:
            self.poke("zone", self.zone(zone), "nr_free_highatomic", pages(3))

    def keep(self, zone: int, cpu: int, pindex: int, pfns: Sequence[int], order: int = 0) -> None:
        """Puts blocks on a per-cpu list."""
        pcp = self.pcp(zone, cpu)
        self._chain(pcp + self.shapes["per_cpu_pages"].at["lists"] + 16 * pindex, pfns)
        self.kept[zone, cpu] = self.kept.get((zone, cpu), 0) + (len(pfns) << order)
        self.poke("per_cpu_pages", pcp, "count", self.kept[zone, cpu], 4)

    def pageblock(self, number: int, bits: int) -> None:
        """Sets one pageblock's bits; they do not cross a byte."""
        per_byte = 8 // self.bits
        shift = number % per_byte * self.bits
        old = self.blocks.get(number // per_byte, 0)
        new = old & ~((1 << self.bits) - 1 << shift) | bits << shift
        self.blocks[number // per_byte] = new
        at = self.usage + self.shapes["mem_section_usage"].at["pageblock_flags"]
        self.word(at + number // per_byte, new, 1)

    def package(self, directory: Path) -> Kernel:
        """The package that it was booted from."""
        (directory / "vmlinux").write_bytes(b"image " + bytes.fromhex(BUILD_ID))
        (directory / "config").write_text("CONFIG_HUGETLB_PAGE=y\nCONFIG_NODES_SHIFT=10\n")
        return Kernel(
            name="made", release=self.release, arch="x86_64", package="linux-image-made",
            version="1", directory=directory, boot_image=directory / "vmlinux",
            modules_directory=directory, config_path=directory / "config", sha256={},
        )  # fmt: skip

    def close(self) -> None:
        self.made.close()

    # making it

    def _chain(self, head: int, pfns: Sequence[int]) -> None:
        nodes = [head, *(self.links(pfn) for pfn in pfns), head]
        self.word(head, nodes[1])
        self.word(head + 8, nodes[-2])
        for position, pfn in enumerate(pfns, start=1):
            self.poke_page(pfn, "lru", nodes[position + 1])
            self.poke_page(pfn, "lru", nodes[position - 1], more=8)

    def _memmap(self) -> None:
        page = self.shapes["page"]
        assert page.size == 64
        raw = bytearray(PAGES * page.size)
        for pfn in range(PAGES):
            zone = 0 if pfn < ZONES[1][2] else 1
            # CONFIG_NODES_SHIFT=10, two zones: one bit
            struct.pack_into("<Q", raw, pfn * page.size, zone << 53)
            at = pfn * page.size + page.at["page_type"]
            struct.pack_into("<I", raw, at, 0xFFFF_FFFF)
        self.made.write(VMEMMAP_AT, bytes(raw))

    def _percpu(self) -> None:
        """Areas of 64 KiB each; the offsets count from an address that is not mapped."""
        offsets = self.take(WORD * CPUS, "__per_cpu_offset")
        self.offsets = [self.take(1 << 16) for _ in range(CPUS)]
        for cpu, offset in enumerate(self.offsets):
            self.word(offsets + WORD * cpu, offset)
        self.symbols["numa_node"] = 0x40
        self.pcps = {zone: 0x1000 + zone * 0x400 for zone, *_ in ZONES}
        self.zonestats = {zone: 0x3000 + zone * 0x40 for zone, *_ in ZONES}
        self.word(self.take(WORD, "__cpu_online_mask"), (1 << CPUS) - 1)
        self.word(self.take(WORD, "node_online_map"), 1)
        self.word(self.take(WORD, "trace_counter"), 4711)

    def _node(self) -> None:
        self.node = self.take(self.shapes["pglist_data"].size)
        self.word(self.take(WORD * 4, "node_data"), self.node)
        self.lists: dict[tuple[int, int, int], list[int]] = {}
        self.kept: dict[tuple[int, int], int] = {}
        for number, name, start, end in ZONES:
            zone = self.zone(number)
            text = self.take(16)
            self.put(text, name.encode() + b"\0")
            for member, value in (
                ("zone_start_pfn", start), ("spanned_pages", end - start), ("name", text),
                ("present_pages", end - start), ("managed_pages", end - start - 8),
                ("per_cpu_pageset", self.pcps[number]),
                ("per_cpu_zonestats", self.zonestats[number]),
                ("watermark_boost", 3), ("flags", 2), ("nr_reserved_highatomic", 0),
            ):  # fmt: skip
                self.poke("zone", zone, member, value)
            for mark, value in enumerate((100, 125, 150, 175)):
                self.word(zone + self.shapes["zone"].at["_watermark"] + WORD * mark, value)
            self.word(zone + self.shapes["zone"].at["lowmem_reserve"] + WORD, 32 - 32 * number)
            for cpu in range(CPUS):
                self._pcp(number, cpu)
            for order in range(MAX_ORDER + 1):
                for migratetype in range(6):
                    self.free(number, order, migratetype, [])
        for index, zones in enumerate(((1, 0), (1, 0))):
            zonelist = self.node + self.shapes["pglist_data"].at["node_zonelists"]
            zonelist += index * self.shapes["zonelist"].size
            for position, number in enumerate(zones):
                self.word(zonelist + 16 * position, self.zone(number))

    def _pcp(self, zone: int, cpu: int) -> None:
        pcp = self.pcp(zone, cpu)
        for pindex in range(14):
            self._chain(pcp + self.shapes["per_cpu_pages"].at["lists"] + 16 * pindex, [])
        for member, value in (("high", 186), ("batch", 31)):
            self.poke("per_cpu_pages", pcp, member, value, 4)
        at = self.zonestat(zone, cpu) + self.shapes["per_cpu_zonestat"].at["stat_threshold"]
        self.word(at, 12, 1)

    def _sections(self) -> None:
        shape = self.shapes["mem_section_usage"]
        self.blocks: dict[int, int] = {}
        self.usage = self.take(shape.size + 64)
        self.word(self.usage + shape.at["subsection_map"], (1 << PAGES * 4096 // (2 * MIB)) - 1)
        root = self.take(4096)
        self.poke("mem_section", root, "section_mem_map", VMEMMAP | 0b1011)
        self.poke("mem_section", root, "usage", self.usage)
        self.roots = self.take(WORD * 2, "mem_section")
        self.word(self.roots, root)

    def _describe(self) -> None:
        types = self.types.btf.bytes
        self.put(self.take(1 << 16, "__start_BTF"), types)
        uts = self.take(6 * 65, "init_uts_ns")
        self.put(uts + 2 * 65, self.release.encode() + b"\0")
        stated = {"swapper_pg_dir": KERNEL + self.tables.root, "_stext": KERNEL, **self._kallsyms()}
        stated |= {
            name: self.symbols[name]
            for name in ("init_uts_ns", "node_online_map", "mem_section", "node_data")
        }
        sizes = {
            name: self.shapes[name].size
            for name in ("page", "pglist_data", "zone", "free_area", "mem_section")
        }
        text = vmcoreinfo_text(
            release=self.release,
            symbols=stated,
            numbers={
                "phys_base": 0,
                "SECTION_SIZE_BITS": 27,
                "MAX_PHYSMEM_BITS": 46,
                "PAGE_BUDDY_MAPCOUNT_VALUE": self.buddy - (1 << 32),
            },
            sizes={**sizes, "nodemask_t": 8},
            offsets={"zone.free_area": self.shapes["zone"].at["free_area"]},
            lengths={"zone.free_area": MAX_ORDER + 1, "mem_section": 2},
        )
        self.made.write(MIB, text)

    def _kallsyms(self) -> dict[str, int]:
        """Tables without compression: each token is its own byte."""
        names = sorted(self.symbols)
        coded = b"".join(bytes([len(name) + 1]) + b"D" + name.encode() for name in names)
        tokens = b"".join(bytes([byte or 63, 0]) for byte in range(256))
        at = {
            "kallsyms_num_syms": self.take(4),
            "kallsyms_names": self.take(len(coded)),
            "kallsyms_token_table": self.take(len(tokens)),
            "kallsyms_token_index": self.take(512),
            "kallsyms_offsets": self.take(4 * len(names)),
        }
        self.word(at["kallsyms_num_syms"], len(names), 4)
        self.put(at["kallsyms_names"], coded)
        self.put(at["kallsyms_token_table"], tokens)
        self.put(at["kallsyms_token_index"], struct.pack("<256H", *range(0, 512, 2)))
        base = at["kallsyms_relative_base"] = self.take(8)
        self.word(base, KERNEL)
        for number, name in enumerate(names):
            value = self.symbols[name]
            offset = value if value < MIB else KERNEL - 1 - value
            self.word(at["kallsyms_offsets"] + 4 * number, offset, 4)
        return at
