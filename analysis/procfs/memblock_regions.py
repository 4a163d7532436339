"""/sys/kernel/debug/memblock/memory and reserved: the regions that memblock still keeps.

Kernel: mm/memblock.c, memblock_debug_show; only with CONFIG_ARCH_KEEP_MEMBLOCK. To 6.5 a range
alone, later its node (``x``: none) and flags (``NONE``, or names joined by ``|``) too.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from analysis.procfs.scan import Reader

_LINE = re.compile(
    r" *([0-9]+): 0x([0-9a-f]{1,16})\.\.0x([0-9a-f]{1,16})(?: +([0-9]+|x) +([A-Za-z_|]+))?$"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class MemblockRegion:
    base: int
    end: int
    """First address after it."""
    node: int | None = None
    flags: tuple[str, ...] | None = None
    """None where the kernel does not print them."""


def parse(text: str, *, source: str = "memblock") -> tuple[MemblockRegion, ...]:
    """Regions in the order printed, which is that of their addresses.

    Raises:
        ParseError: a malformed line, a number left out, or a region that overlaps the one before.
    """
    reader = Reader(text, source)
    regions: list[MemblockRegion] = []
    for line in reader:
        match = _LINE.match(line.text)
        if match is None:
            raise reader.error(line, "'N: 0xFIRST..0xLAST', with or without node and flags")
        base, end = int(match[2], 16), int(match[3], 16) + 1
        if int(match[1]) != len(regions):
            raise reader.error(line, f"region {len(regions)}")
        if end <= base or (regions and base < regions[-1].end):
            raise reader.error(line, "a region after the one before")
        names = match[5]
        regions.append(
            MemblockRegion(
                base=base,
                end=end,
                node=None if match[4] in (None, "x") else int(match[4]),
                flags=None if names is None else () if names == "NONE" else tuple(names.split("|")),
            )
        )
    return tuple(regions)
