"""What the kernel says of its memory while it boots: maps, nodes, zones.

Kernel: arch/x86/kernel/e820.c, drivers/acpi/numa/srat.c, mm/mm_init.c (page_alloc.c to 6.3),
mm/numa_emulation.c, arch/x86/mm/init_32.c; the messages of 4.18 to 7.3.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from analysis.procfs.dmesg import Dmesg, Message

_SPAN = r"\[mem 0x([0-9a-f]+)-0x([0-9a-f]+)\]"
_MAP_HEAD = re.compile(r"(?:e820: )?([\w -]+) physical RAM map:$")
_MAP_ROW = re.compile(rf"([\w -]+): {_SPAN} +(.+)$")
_CHANGE = re.compile(rf"e820: (update|remove) {_SPAN} *([^=]*?)(?: ==> *(.+))?$")
_LAST_PFN = re.compile(r"(?:e820: )?last_pfn = ")
_SRAT = re.compile(rf"(?:ACPI: )?SRAT: Node (\d+) PXM \d+ {_SPAN}(.*)$")
_SINGLE_NODE = re.compile(r"(?:NUMA: )?Faking a node at ")
_FAKE_NODE = re.compile(rf"(?:NUMA: )?Faking node (\d+) at {_SPAN}")
_ZONE_RANGE = re.compile(rf"  (\S+) +(?:empty|{_SPAN})$")
_MOVABLE_START = re.compile(r"  Node (\d+): 0x([0-9a-f]+)$")
_NODE_RANGE = re.compile(rf"  node +(\d+): {_SPAN}$")
_NODE_SETUP = re.compile(rf"Initmem setup node (\d+) {_SPAN}$")
_ZONE_MEMMAP = re.compile(r"  (\S+) zone: (\d+) pages used for memmap$")
_ZEROED_HOLES = re.compile(r"Zeroed struct page in unavailable ranges: ")
_UNAVAILABLE = re.compile(r"On node (\d+), zone (\S+): (\d+) pages in unavailable ranges$")
_LOW_RAM = re.compile(r"  low ram: 0 - ([0-9a-f]+)$")
_HUGE = re.compile(r"HugeTLB: (\d+) KiB vmemmap can be freed for a ([\d.]+) ([KMG])iB page$")
_EARLY_MEMMAP = re.compile(
    r"memblock_alloc_exact_nid_raw: (\d+) bytes .*\bnid=(\d+) .*(?:sparse_init_nid|memmap_alloc)\+"
)
_UNITS = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30}


@dataclass(frozen=True, slots=True, kw_only=True)
class MapRow:
    start: int
    end: int
    type: str


@dataclass(frozen=True, slots=True, kw_only=True)
class MapChange:
    start: int
    end: int
    old: str
    """Empty: of any type."""
    new: str | None
    """None: taken out."""
    final: bool
    """Made after the end of memory was settled."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NumaBlock:
    node: int
    start: int
    end: int
    flags: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class BootLayout:
    maps: Mapping[str, tuple[MapRow, ...]]
    """By what stands before ``physical RAM map:``, in the order printed."""
    changes: tuple[MapChange, ...]
    srat: tuple[NumaBlock, ...]
    single_node: bool
    """The kernel found no NUMA description that it could use."""
    fake_nodes: tuple[NumaBlock, ...]
    zone_ranges: Mapping[str, tuple[int, int] | None]
    """Bytes, end exclusive; None: empty."""
    movable_starts: Mapping[int, int]
    """Bytes by node."""
    movable_said: bool
    node_ranges: tuple[NumaBlock, ...]
    node_setups: Mapping[int, tuple[int, int]]
    zone_memmaps: tuple[tuple[int, str, int], ...]
    """Node, zone, pages."""
    unavailable: Mapping[tuple[int, str], int]
    """Struct pages for holes, by node and zone."""
    zeroed_holes: bool
    """The struct pages of holes were only set to zero, as older kernels do."""
    early_memmaps: Mapping[int, int]
    """Bytes that memblock gave for the memmap, by node (with memblock=debug)."""
    low_ram_end: int | None
    """Bytes that 32-bit x86 maps directly."""
    huge_memmap_kib: Mapping[int, int]
    """By the bytes of the huge page."""


def read(dmesg: Dmesg) -> BootLayout:
    """What the messages say; what they do not say is empty."""
    texts = dmesg.messages
    settled = max((i for i, m in enumerate(texts) if _LAST_PFN.match(m.text)), default=None)
    setups = {
        int(match[1]): (int(match[2], 16), int(match[3], 16) + 1)
        for match in dmesg.matching(_NODE_SETUP)
    }
    early_memmaps: dict[int, int] = {}
    for match in dmesg.matching(_EARLY_MEMMAP):
        node = int(match[2])
        early_memmaps[node] = early_memmaps.get(node, 0) + int(match[1])
    unavailable: dict[tuple[int, str], int] = {}
    for match in dmesg.matching(_UNAVAILABLE):
        key = (int(match[1]), match[2])
        unavailable[key] = unavailable.get(key, 0) + int(match[3])
    return BootLayout(
        maps=_maps(texts),
        changes=tuple(_changes(texts, settled)),
        srat=tuple(_blocks(dmesg, _SRAT)),
        single_node=any(True for _ in dmesg.matching(_SINGLE_NODE)),
        fake_nodes=tuple(_blocks(dmesg, _FAKE_NODE)),
        zone_ranges={
            match[1]: (int(match[2], 16), int(match[3], 16) + 1) if match[2] else None
            for match in _section(texts, "Zone ranges:", _ZONE_RANGE)
        },
        movable_starts={
            int(match[1]): int(match[2], 16)
            for match in _section(texts, "Movable zone start for each node", _MOVABLE_START)
        },
        movable_said=any(m.text == "Movable zone start for each node" for m in texts),
        node_ranges=tuple(
            NumaBlock(node=int(m[1]), start=int(m[2], 16), end=int(m[3], 16) + 1)
            for m in _section(texts, "Early memory node ranges", _NODE_RANGE)
        ),
        node_setups=setups,
        zone_memmaps=tuple(_zone_memmaps(texts)),
        unavailable=unavailable,
        zeroed_holes=any(True for _ in dmesg.matching(_ZEROED_HOLES)),
        early_memmaps=early_memmaps,
        low_ram_end=next((int(m[1], 16) for m in dmesg.matching(_LOW_RAM)), None),
        huge_memmap_kib={int(float(m[2]) * _UNITS[m[3]]): int(m[1]) for m in dmesg.matching(_HUGE)},
    )


def _maps(texts: Sequence[Message]) -> dict[str, tuple[MapRow, ...]]:
    maps: dict[str, tuple[MapRow, ...]] = {}
    name: str | None = None
    for message in texts:
        if head := _MAP_HEAD.match(message.text):
            name = head[1]
            maps[name] = ()
        elif name is not None and (row := _MAP_ROW.match(message.text)):
            entry = MapRow(start=int(row[2], 16), end=int(row[3], 16) + 1, type=row[4].strip())
            maps[name] = (*maps[name], entry)
        elif "[gap " not in message.text:
            name = None
    return maps


def _changes(texts: Sequence[Message], settled: int | None) -> list[MapChange]:
    found = []
    for index, message in enumerate(texts):
        if match := _CHANGE.match(message.text):
            found.append(
                MapChange(
                    start=int(match[2], 16),
                    end=int(match[3], 16) + 1,
                    old=match[4].strip(),
                    new=match[5].strip() if match[5] else None,
                    final=settled is not None and index > settled,
                )
            )
    return found


def _blocks(dmesg: Dmesg, pattern: re.Pattern[str]) -> list[NumaBlock]:
    return [
        NumaBlock(
            node=int(match[1]),
            start=int(match[2], 16),
            end=int(match[3], 16) + 1,
            flags=match[4].strip() if pattern.groups > 3 else "",
        )
        for match in dmesg.matching(pattern)
    ]


def _section(texts: Sequence[Message], head: str, pattern: re.Pattern[str]) -> list[re.Match[str]]:
    rows = []
    within = False
    for message in texts:
        if message.text.rstrip() == head:
            within = True
        elif within and (match := pattern.match(message.text)):
            rows.append(match)
        elif within:
            break
    return rows


def _zone_memmaps(texts: Sequence[Message]) -> list[tuple[int, str, int]]:
    rows = []
    node: int | None = None
    for message in texts:
        if setup := _NODE_SETUP.match(message.text):
            node = int(setup[1])
        elif node is not None and (row := _ZONE_MEMMAP.match(message.text)):
            rows.append((node, row[1], int(row[2])))
    return rows
