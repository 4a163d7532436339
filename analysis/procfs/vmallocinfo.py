"""/proc/vmallocinfo: the areas of kernel virtual memory that vmalloc gives out.

Kernel: mm/vmalloc.c, s_show to 6.8 and vmalloc_info_show later. Addresses are printed with %pK:
the real ones only to a reader whom ``kernel.kptr_restrict`` lets see them, hashes to others (the
same address has the same hash), zeros where it is 2, and ``(____ptrval____)`` before the hash has
its key. Areas that wait to be unmapped together come last, as ``unpurged vm_area``; small
mappings of vm_map_ram() share a block that shows as one ``vm_map_ram``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from analysis.procfs.scan import NUMBER, Line, Reader

_POINTER = r"0x([0-9a-f]{1,16}|\(_*ptrval_*\))"
_HEAD = re.compile(rf"{_POINTER}-{_POINTER} +{NUMBER}(?= |$)")
_CALLER = re.compile(r" (\S+\+0x[0-9a-f]+/0x[0-9a-f]+|0x[0-9a-f]+|\(_*ptrval_*\))( \[[^\]]+\])?")
_PAGES = re.compile(rf"pages={NUMBER}$")
_PHYS = re.compile(r"phys=(?:0x)?([0-9a-f]{1,16})$")
_NODE = re.compile(rf"N{NUMBER}={NUMBER}$")
_FLAG = re.compile(r"[a-z][a-z_-]*$")
UNPURGED = "unpurged vm_area"
MAP_RAM = "vm_map_ram"


@dataclass(frozen=True, slots=True, kw_only=True)
class VmallocArea:
    start: int | None
    """As printed: an address, its hash, or 0; None where the kernel could not hash yet."""
    end: int | None
    size_bytes: int
    kind: str = "area"
    """``area``, ``vm_map_ram``, or ``unpurged``: unmapped, but its address not yet free."""
    caller: str | None = None
    """Who asked for it: symbol and offset, and the module in brackets."""
    pages: int | None = None
    """Pages that the area owns; None where none are printed."""
    phys: int | None = None
    flags: tuple[str, ...] = ()
    """``ioremap``, ``vmalloc``, ``vmap``, ``user``, ``vpages`` … in the order printed."""
    node_pages: Mapping[int, int] = field(default_factory=dict)
    """Pages by NUMA node, as ``N0=4``; nodes without pages are not printed."""

    @property
    def function(self) -> str:
        """The caller's symbol without its offset; empty where there is none."""
        return (self.caller or "").partition("+")[0]


def parse(text: str, *, source: str = "vmallocinfo") -> tuple[VmallocArea, ...]:
    """Areas in the order printed.

    Raises:
        ParseError: a malformed line, or a field twice.
    """
    return read(Reader(text, source))


def read(reader: Reader) -> tuple[VmallocArea, ...]:
    """As ``parse``, from a reader."""
    return tuple(_read_area(reader, line) for line in reader)


def _read_area(reader: Reader, line: Line) -> VmallocArea:
    head = _HEAD.match(line.text)
    if head is None:
        raise reader.error(line, "'0xSTART-0xEND SIZE'")
    start, end = _address(head[1]), _address(head[2])
    size_bytes = reader.value(line, head, 3)
    rest = line.text[head.end() :].strip()
    for kind, name in ((MAP_RAM, MAP_RAM), (UNPURGED, "unpurged")):
        if rest == kind:
            return VmallocArea(start=start, end=end, size_bytes=size_bytes, kind=name)
    position = head.end()
    caller = _CALLER.match(line.text, position)
    if caller is not None:
        position = caller.end()
    pages: int | None = None
    phys: int | None = None
    flags: list[str] = []
    node_pages: dict[int, int] = {}
    for token in re.finditer(r"\S+", line.text[position:]):
        word = token[0]
        at = position + token.start()
        if (match := _PAGES.match(line.text[: at + len(word)], at)) and pages is None:
            pages = reader.value(line, match, 1)
        elif (match := _PHYS.match(word)) and phys is None:
            phys = int(match[1], 16)
        elif match := _NODE.match(line.text[: at + len(word)], at):
            if int(match[1]) in node_pages:
                raise reader.error(line, f"pages of node {match[1]} once")
            node_pages[int(match[1])] = reader.value(line, match, 2)
        elif _FLAG.match(word) and word not in flags:
            flags.append(word)
        else:
            raise reader.error(line, f"a field of vmallocinfo, once, instead of {word!r}")
    return VmallocArea(
        start=start,
        end=end,
        size_bytes=size_bytes,
        caller=(caller[1] + (caller[2] or "")) if caller else None,
        pages=pages,
        phys=phys,
        flags=tuple(flags),
        node_pages=node_pages,
    )


def _address(digits: str) -> int | None:
    return None if digits.startswith("(") else int(digits, 16)


def render(areas: Sequence[VmallocArea]) -> str:
    """A text that parses to ``areas``, as a recent 64-bit kernel prints them."""
    lines = []
    for area in areas:
        parts = [f"{_shown(area.start)}-{_shown(area.end)} {area.size_bytes:>7}"]
        if area.kind != "area":
            parts.append(UNPURGED if area.kind == "unpurged" else area.kind)
        if area.caller is not None:
            parts.append(area.caller)
        if area.pages is not None:
            parts.append(f"pages={area.pages}")
        if area.phys is not None:
            parts.append(f"phys=0x{area.phys:016x}")
        parts.extend(area.flags)
        parts.extend(f"N{node}={pages}" for node, pages in area.node_pages.items())
        lines.append(" ".join(parts) + "\n")
    return "".join(lines)


def _shown(address: int | None) -> str:
    return "0x(____ptrval____)" if address is None else f"0x{address:016x}"
