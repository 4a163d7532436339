"""reclaim/swap: more anonymous memory than there is RAM, page by page and slot by slot."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from functools import partial

from analysis.compare.claim import Claim
from analysis.errors import ParseError
from analysis.figures import tour_reclaim
from analysis.tour.evidence import BootEvidence, StopEvidence
from analysis.tour.finding import Finding, Listing, Plate
from analysis.tour.traced import (
    bounded,
    counted,
    equal,
    keeps_generations,
    page_bytes_of,
    zones_of,
)

_SECTOR_BYTES = 512
_READ_SECTORS, _WRITE_SECTORS = 2, 6
"""Places in /sys/block/NAME/stat."""
_MAPPING = re.compile(r"^[0-9a-f]+-[0-9a-f]+ ")
_FIELD = re.compile(r"^(\w+): +(\d+) kB$")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Mapping:
    """The memory that the load touched, as smaps shows it; pages."""

    size: int
    present: int
    entries: int
    lines: tuple[str, ...]


def swap(evidence: StopEvidence) -> Finding:
    """The judge; the same on every boot."""
    claims: list[Claim] = []
    rows: list[tuple[str, int, int]] = []
    listings: list[Listing] = []
    for label, boot in evidence.boots.items():
        mapping = _mapping(boot)
        claims += _claims(boot, mapping, label)
        rows.append((f"{boot.release} {_lists(boot)}", mapping.present, mapping.entries))
        if not listings:
            marked = tuple(
                number for number, line in enumerate(mapping.lines, 1)
                if line.startswith(("Size:", "Rss:", "Swap:"))
            )  # fmt: skip
            listings.append(
                Listing(id="smaps", text="\n".join(mapping.lines) + "\n", marked=marked)
            )
    return Finding(
        claims=tuple(claims),
        exhibits=(Plate(id="where", draw=partial(tour_reclaim.swapped, rows)), *listings),
    )


def _lists(boot: BootEvidence) -> str:
    """Which kind of LRU lists the kernel keeps: active and inactive, or generations."""
    return "lru_gen" if keeps_generations(boot) else "lru"


def _claims(boot: BootEvidence, mapping: _Mapping, label: str) -> list[Claim]:
    page_bytes = page_bytes_of(boot)
    scope = {"boot": label}
    report = json.loads(boot.text("content"))
    touched = int(report["pages"])
    managed = sum(zone.pages["managed"] for zone in zones_of(boot).zones)
    claims = [
        equal(
            "touched", touched, mapping.present + mapping.entries, "pages", scope=scope,
            working=(f"present {mapping.present} + swap entries {mapping.entries}",),
        ),
        bounded(
            "overflow", touched - managed, mapping.entries, "swap entries", at_least=True,
            scope=scope, working=(f"{touched} pages touched, {managed} managed in all",),
        ),
        bounded(
            "slots", mapping.entries, _used_kib(boot) * 1024 // page_bytes, "slots", at_least=True,
            scope=scope, working=("each swap entry holds a slot; observed: Used of /proc/swaps",),
        ),
        equal("content", 0, int(report["wrong"]), "pages that came back wrong", scope=scope),
    ]  # fmt: skip
    for until in ("after", "end"):
        at: dict[str, int | str] = {**scope, "until": until}
        for claim, counter, place in (
            ("written", "pswpout", _WRITE_SECTORS), ("read", "pswpin", _READ_SECTORS),
        ):  # fmt: skip
            pages = counted(boot, counter, before="before", after=until)
            sectors = _sectors(boot, until, place) - _sectors(boot, "before", place)
            claims.append(
                equal(
                    claim, pages, sectors * _SECTOR_BYTES // page_bytes, "pages", scope=at,
                    working=(f"{counter}: {pages}; observed: {sectors} sectors of the disk",),
                )
            )  # fmt: skip
        out = counted(boot, "pswpout", "swpout_zero", before="before", after=until)
        claims.append(
            equal(
                "sent", out, counted(boot, "nr_vmscan_write", before="before", after=until),
                "pages", scope=at,
                working=("pswpout, and pages of zeros that need no slot's content (swpout_zero)",),
            )
        )  # fmt: skip
    return claims


def _mapping(boot: BootEvidence) -> _Mapping:
    """The largest mapping of the process.

    Raises:
        ParseError: smaps has none with a size, a present and a swapped part.
    """
    page_kib = page_bytes_of(boot) // 1024
    blocks: list[list[str]] = []
    for line in boot.text("smaps").splitlines():
        if _MAPPING.match(line):
            blocks.append([])
        if blocks:
            blocks[-1].append(line)
    best: _Mapping | None = None
    for block in blocks:
        fields = {match[1]: int(match[2]) for line in block if (match := _FIELD.match(line))}
        if not {"Size", "Rss", "Swap"} <= fields.keys():
            continue
        if best is None or fields["Size"] // page_kib > best.size:
            best = _Mapping(
                size=fields["Size"] // page_kib,
                present=fields["Rss"] // page_kib,
                entries=fields["Swap"] // page_kib,
                lines=tuple(block),
            )
    if best is None:
        raise ParseError("smaps.txt", 1, "", "a mapping with Size, Rss and Swap")
    return best


def _used_kib(boot: BootEvidence) -> int:
    """Used space of all swap areas."""
    lines = boot.file("/proc/swaps").splitlines()[1:]
    try:
        return sum(int(line.split()[3]) for line in lines)
    except (IndexError, ValueError):
        raise ParseError("/proc/swaps", 2, lines[0], "a number as the fourth word") from None


def _sectors(boot: BootEvidence, name: str, place: int) -> int:
    """A field of the swap disk's statistics."""
    last = boot.text(name).rstrip("\n").rpartition("\n")[2]
    try:
        return int(last.split()[place])
    except (IndexError, ValueError):
        raise ParseError(f"{name}.txt", 0, last, "the statistics of the disk at the end") from None
