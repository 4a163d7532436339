"""Telling lines, cut out of what the kernel printed."""

from __future__ import annotations

import re
from collections.abc import Sequence

from analysis.tour.finding import LISTING_LINES_MAX, Listing

GAP = "…"


def pick(
    listing_id: str,
    text: str,
    wanted: str,
    *,
    marked: str = "",
    lines_max: int = LISTING_LINES_MAX,
) -> Listing | None:
    """The lines that match the pattern ``wanted``, those that match ``marked`` marked.

    Lines that were left out between two are shown as one ellipsis. None where no line matches.
    """
    keep = re.compile(wanted)
    tell = re.compile(marked) if marked else None
    lines: list[str] = []
    numbers: list[int] = []
    last = -1
    for place, line in enumerate(text.splitlines()):
        if not keep.search(line):
            continue
        gap = [GAP] if lines and place != last + 1 else []
        if len(lines) + len(gap) + 1 > lines_max:
            break
        lines += gap
        lines.append(line.rstrip())
        last = place
        if tell is not None and tell.search(line):
            numbers.append(len(lines))
    if not lines:
        return None
    return Listing(id=listing_id, text="\n".join(lines), marked=tuple(numbers))


def made(listing_id: str, lines: Sequence[str], marked: Sequence[int] = ()) -> Listing:
    """Lines put together of what was read."""
    return Listing(id=listing_id, text="\n".join(lines), marked=tuple(marked))


def zone_block(text: str, node: int, zone: str) -> str:
    """The part of /proc/zoneinfo about one zone; empty where there is none."""
    head = re.compile(rf"Node +{node}, zone +{re.escape(zone)}$")
    taken: list[str] = []
    for line in text.splitlines():
        if line.startswith("Node "):
            if taken:
                break
            if head.match(line):
                taken.append(line)
        elif taken:
            taken.append(line)
    return "\n".join(taken)
