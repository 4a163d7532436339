"""/proc/zoneinfo: watermarks, counters and per-cpu lists of every zone, and each node's counters.

Kernel: mm/vmstat.c, zoneinfo_show_print. The node's counters are printed inside the block of
its first populated zone, but are the node's. A zone without present pages ends after its
``protection``; every other one has pagesets and ends with ``start_pfn`` or what newer kernels
add to it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from analysis.procfs.scan import NUMBER, Fields, Line, Reader

_ZONE = re.compile(rf"Node +{NUMBER}, zone +([^\s,]+)$")
_PAGES = re.compile(rf"  pages (\S+) +{NUMBER}$")
_PROTECTION = re.compile(r" +protection: \((.*)\)$")
_PLAIN = re.compile(rf" {{3,}}(\S*) +{NUMBER}$")
"""The name may be empty: 4.18 to 4.20 count indirectly reclaimable bytes under no name."""
_CPU = re.compile(rf" +cpu: +{NUMBER}$")
_LABELLED = re.compile(rf"( +)(\S[^:]*): *{NUMBER}$")
_TAIL_INDENT = 2
STAT_THRESHOLD = "vm stats threshold"
"""Printed as far left as the zone's own last lines, but belongs to the cpu above it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ZoneCpu:
    cpu: int
    fields: Mapping[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Zone:
    """Fields in four groups, as printed; ``fields`` has them all."""

    node: int
    zone: str
    pages: Mapping[str, int]
    """``free``, watermarks, ``spanned``, ``present``, ``managed``; in pages."""
    protection: tuple[int, ...]
    """lowmem_reserve in pages, by the zone index of the request."""
    counters: Mapping[str, int]
    """Zone and NUMA counters; empty for a zone without present pages."""
    cpus: tuple[ZoneCpu, ...]
    tail: Mapping[str, int]
    """``node_unreclaimable``, ``start_pfn`` and what follows them."""

    @property
    def fields(self) -> dict[str, int]:
        """All fields of the zone; ``protection`` becomes ``protection[0]`` and so on."""
        reserve = {f"protection[{index}]": n for index, n in enumerate(self.protection)}
        return {**self.pages, **reserve, **self.counters, **self.tail}


@dataclass(frozen=True, slots=True, kw_only=True)
class Zoneinfo:
    zones: tuple[Zone, ...]
    node_stats: Mapping[int, Mapping[str, int]]
    """By node; a node without populated zones has none."""


def parse(text: str, *, source: str = "zoneinfo") -> Zoneinfo:
    """All zones in the order printed.

    Raises:
        ParseError: a malformed line, a field twice, or a zone with pages that ends too early.
    """
    return read(Reader(text, source))


def read(reader: Reader) -> Zoneinfo:
    """As ``parse``, from a reader."""
    blocks: list[_Block] = []
    for line in reader:
        if head := _ZONE.match(line.text):
            if blocks:
                blocks[-1].check_complete(reader)
            key = (int(head[1]), head[2])
            if any((block.node, block.zone) == key for block in blocks):
                raise reader.error(line, "each zone once")
            blocks.append(_Block(key[0], key[1], line, reader.source))
        elif blocks:
            blocks[-1].take(reader, line)
        else:
            raise reader.error(line, "'Node N, zone NAME'")
    blocks[-1].check_complete(reader)
    node_stats: dict[int, Mapping[str, int]] = {}
    for block in blocks:
        if block.node_stats is not None:
            if block.node in node_stats:
                raise reader.error(block.line, "the node's counters once")
            node_stats[block.node] = block.node_stats
    return Zoneinfo(zones=tuple(block.finish() for block in blocks), node_stats=node_stats)


class _Block:
    """One zone while its lines come in."""

    def __init__(self, node: int, zone: str, line: Line, source: str) -> None:
        self.node = node
        self.zone = zone
        self.line = line
        self.node_stats: Fields | None = None
        self.pages = Fields(source)
        self.protection: tuple[int, ...] | None = None
        self.counters = Fields(source)
        self.cpus: dict[int, Fields] | None = None
        self.tail = Fields(source)
        self.present_pages = 0

    def take(self, reader: Reader, line: Line) -> None:
        text = line.text
        if self.cpus is not None:
            self._take_pageset(reader, line, self.cpus)
        elif match := _PLAIN.match(text):
            if not self.pages and self.node_stats is None:
                raise reader.error(line, "'per-node stats' or 'pages free' first")
            if self.protection is not None:
                group = self.counters
            elif self.pages:
                group = self.pages
                if match[1] == "present":
                    self.present_pages = int(match[2])
            else:
                assert self.node_stats is not None
                group = self.node_stats
            self._put(reader, line, group, match, 1)
        elif text == "  per-node stats" and not self.pages and self.node_stats is None:
            self.node_stats = Fields(reader.source)
        elif (match := _PAGES.match(text)) and not self.pages:
            self._put(reader, line, self.pages, match, 1)
        elif (match := _PROTECTION.match(text)) and self.pages and self.protection is None:
            self.protection = self._read_protection(reader, line, match)
        elif text == "  pagesets" and self.protection is not None:
            self.cpus = {}
        else:
            raise reader.error(line, "a field of zoneinfo")

    def _take_pageset(self, reader: Reader, line: Line, cpus: dict[int, Fields]) -> None:
        if match := _CPU.match(line.text):
            if self.tail or int(match[1]) in cpus:
                raise reader.error(line, "each cpu once, before the zone's last fields")
            cpus[int(match[1])] = Fields(reader.source)
        elif match := _LABELLED.match(line.text):
            if len(match[1]) == _TAIL_INDENT and match[2] != STAT_THRESHOLD:
                group = self.tail
            elif cpus and not self.tail:
                group = cpus[next(reversed(cpus))]
            else:
                raise reader.error(line, "'cpu: N' before its fields")
            self._put(reader, line, group, match, 2)
        else:
            raise reader.error(line, "a field of a pageset, or 'start_pfn'")

    def _put(
        self, reader: Reader, line: Line, group: dict[str, int], match: re.Match[str], name: int
    ) -> None:
        # A name may stand in the zone and in the node, or in several cpus, but once in each.
        own = (self.pages, self.counters, self.tail)
        among = own if any(group is other for other in own) else (group,)
        if any(match[name] in other for other in among):
            raise reader.error(line, f"the field {match[name]!r} once")
        group[match[name]] = reader.value(line, match, name + 1)

    def _read_protection(self, reader: Reader, line: Line, match: re.Match[str]) -> tuple[int, ...]:
        item = re.compile(rf"{NUMBER}(, |(?=\)$))")
        values: list[int] = []
        position = match.start(1)
        while position < match.end(1):
            number = item.match(line.text, position)
            if number is None:
                raise reader.error(line, "pages separated by commas in brackets")
            values.append(reader.value(line, number, 1))
            position = number.end()
        if not values:
            raise reader.error(line, "pages separated by commas in brackets")
        return tuple(values)

    def check_complete(self, reader: Reader) -> None:
        if self.protection is None:
            raise reader.error(self.line, "a zone with its pages and its protection")
        if (self.present_pages or self.counters) and "start_pfn" not in self.tail:
            raise reader.error(self.line, "a zone that goes on to its pagesets and start_pfn")

    def finish(self) -> Zone:
        assert self.protection is not None
        return Zone(
            node=self.node,
            zone=self.zone,
            pages=self.pages,
            protection=self.protection,
            counters=self.counters,
            cpus=tuple(ZoneCpu(cpu=n, fields=f) for n, f in (self.cpus or {}).items()),
            tail=self.tail,
        )


def render(info: Zoneinfo) -> str:
    """A text that parses to ``info``; spacing as a recent kernel has it."""
    lines: list[str] = []
    shown: set[int] = set()
    for zone in info.zones:
        lines.append(f"Node {zone.node}, zone {zone.zone:>8}")
        if zone.tail and zone.node in info.node_stats and zone.node not in shown:
            shown.add(zone.node)
            lines.append("  per-node stats")
            lines += [f"      {k:<12} {v}" for k, v in info.node_stats[zone.node].items()]
        for index, (name, pages) in enumerate(zone.pages.items()):
            lines.append(f"{'        ' if index else '  pages '}{name:<8} {pages}")
        lines.append(f"        protection: ({', '.join(map(str, zone.protection))})")
        lines += [f"      {name:<12} {count}" for name, count in zone.counters.items()]
        if zone.tail:
            lines.append("  pagesets")
        for cpu in zone.cpus:
            lines.append(f"    cpu: {cpu.cpu}")
            for name, value in cpu.fields.items():
                indent = _TAIL_INDENT if name == STAT_THRESHOLD else 14
                lines.append(f"{' ' * indent}{name + ':':<9} {value}")
        lines += [f"  {name + ':':<20} {value}" for name, value in zone.tail.items()]
    return "\n".join(lines) + "\n"
