"""What the stops about vmalloc areas show."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import TYPE_CHECKING

from analysis.compare.claim import Claim
from analysis.compare.rule import exact, unknown
from analysis.model.release import Release, parse_release
from analysis.model.vmalloc import area_size_bytes
from analysis.model.vmalloc_place import lowest_gap
from analysis.procfs.vmallocinfo import VmallocArea
from analysis.tour.evidence import BootEvidence, StopEvidence
from analysis.tour.finding import Finding, Listing, Plate
from analysis.tour.vmalloc_walk import Walk, read_walk, sections_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_EXACT_COUNTER = Release(6, 12)
"""The last release compared in which VmallocUsed is one counter and not a sum of CPUs' shares."""
_SHOWN_LINES = 14


def _by_address(walk: Walk) -> Iterator[Claim]:
    """The claims for which areas of ours must be found in the listings."""
    if walk.hashed:
        why = "addresses are listed as hashes: the kernel does not know no_hash_pointers (5.12)"
        yield from (unknown(claim, why=why) for claim in ("placed", "listed", "waiting"))
        return
    for step in (0, 1):
        yield from _placed(walk, step)
        yield from _listed(walk, step)
    yield _waiting(walk)


def _spans(areas: Sequence[VmallocArea]) -> list[tuple[int, int]]:
    return [(a.start, a.end) for a in areas if a.start is not None and a.end is not None]


def _placed(walk: Walk, step: int) -> Iterator[Claim]:
    """Addresses: the lowest gap each, of what was listed before the commands."""
    taken = _spans(walk.areas[2 * step])
    for group in walk.groups[step]:
        told = []
        size = area_size_bytes(group.pages, walk.page_size)
        before = len(taken)
        for _ in group.requests:
            address = _place(walk, taken, size)
            if address is None:
                break
            told.append(address)
            if group.list_pages:
                _place(walk, taken, area_size_bytes(group.list_pages, walk.page_size))
        yield exact(
            "placed",
            {"command": group.command, "step": step},
            predicted=" ".join(f"{address:x}" for address in told),
            observed=" ".join(f"{request.address:x}" for request in group.requests),
            unit="addresses",
            working=(
                f"{before} areas taken before",
                f"the lowest gap of {size} bytes from {walk.start:x} on",
            ),
        )


def _place(walk: Walk, taken: list[tuple[int, int]], size: int) -> int | None:
    """Put an area into the lowest gap; None where there is none."""
    address = lowest_gap(taken, size, start=walk.start, end=walk.end)
    if address is not None:
        taken.append((address, address + size))
    return address


def _listed(walk: Walk, step: int) -> Iterator[Claim]:
    """The lines of our areas."""
    lines = {area.start: area for area in walk.areas[2 * step + 1] if area.kind == "area"}
    for group in walk.groups[step]:
        size = area_size_bytes(group.pages, walk.page_size)
        # a mapping of pages that it does not own prints none
        pages = group.pages if group.kind == "vmalloc" else None
        flags = f"{group.kind} vpages" if group.list_pages else group.kind
        told = _line(len(group.requests), size, pages, flags)
        seen = Counter(
            (area.size_bytes, area.pages, " ".join(area.flags))
            for request in group.requests
            if (area := lines.get(request.address)) is not None
        )
        yield exact(
            "listed",
            {"command": group.command, "step": step},
            predicted=told,
            observed="; ".join(_line(count, *row) for row, count in sorted(seen.items(), key=str))
            or "nothing",
            unit="",
            working=(f"({group.pages} pages + 1 guard) * {walk.page_size} = {size}",),
        )


def _line(count: int, size: int, pages: int | None, flags: str) -> str:
    return f"{count} x {size} {f'pages={pages} ' if pages is not None else ''}{flags}"


def _used(walk: Walk, release: Release) -> Iterator[Claim]:
    """VmallocUsed moves by the pages that vmalloc owns.

    Kernel: mm/vmalloc.c, ``nr_vmalloc_pages``; NR_VMALLOC in 7.2, of which what CPUs keep to
        themselves is missing until mm/vmstat.c, ``vmstat_refresh``, makes them hand it in.
    """
    owned = [sum(group.owned for group in groups) for groups in walk.groups]
    gone = {request.number for request in walk.freed}
    freed = sum(
        group.owned // len(group.requests)
        for groups in walk.groups
        for group in groups
        for request in group.requests
        if request.number in gone
    )
    for step, told in enumerate((owned[0], -freed, owned[1])):
        seen = walk.used_pages[step + 1] - walk.used_pages[step]
        if release > _EXACT_COUNTER and not walk.handed_in:
            yield unknown(
                "used",
                {"step": step},
                predicted=told,
                observed=seen,
                unit="pages",
                why="each CPU keeps a share of the counter to itself (NR_VMALLOC)",
            )
        else:
            yield exact(
                "used",
                {"step": step},
                predicted=told,
                observed=seen,
                unit="pages",
                working=(
                    "lists of pages count, guard pages and the pages of vmap do not",
                    *(("each CPU handed its share of the counter in",) if walk.handed_in else ()),
                ),
            )


def _waiting(walk: Walk) -> Claim:
    """What was freed keeps its addresses until many areas are unmapped together."""
    waiting = [
        (area.start, area.end)
        for area in walk.areas[2]
        if area.kind == "unpurged" and area.start is not None and area.end is not None
    ]
    covered = [
        request
        for request in walk.freed
        if any(begin <= request.address < finish for begin, finish in waiting)
    ]
    return exact(
        "waiting",
        {},
        predicted=len(walk.freed),
        observed=len(covered),
        unit="areas",
        working=(f"{len(walk.freed)} areas freed, far below the pages that start a purge",),
    )


def _frames(boot: BootEvidence, walk: Walk) -> tuple[Claim, Mapping[int, tuple[int, ...]]]:
    frames = {
        int(words[0]): tuple(map(int, words[1:]))
        for words in (line.split() for line in boot.text("frames").splitlines())
    }
    live = [
        (request, group.pages)
        for groups in walk.groups
        for group in groups
        for request in group.requests
        if request.live
    ]
    claim = exact(
        "frames",
        {},
        predicted=sum(pages for _, pages in live),
        observed=len({frame for request, _ in live for frame in frames.get(request.number, ())}),
        unit="page frames",
        working=(f"{len(live)} areas, a frame for each page and none for the guard",),
    )
    return claim, frames


def judge_areas(evidence: StopEvidence) -> Finding:
    """The claims of every boot, and the exhibits of the first."""
    claims: list[Claim] = []
    exhibits: list[Listing | Plate] = []
    for label, boot in evidence.boots.items():
        walk = read_walk(boot)
        one, frames = _frames(boot, walk)
        found = (
            *_by_address(walk),
            *_used(walk, parse_release(boot.release)),
            one,
        )
        claims += (_in_boot(claim, boot.release) for claim in found)
        if label == "main":
            exhibits = _exhibits(boot, walk, frames)
    return Finding(claims=tuple(claims), exhibits=tuple(exhibits))


def _in_boot(claim: Claim, release: str) -> Claim:
    return replace(claim, scope={"kernel": release, **claim.scope})


def _exhibits(
    boot: BootEvidence, walk: Walk, frames: Mapping[int, tuple[int, ...]]
) -> list[Listing | Plate]:
    exhibits: list[Listing | Plate] = [_listing(boot, walk)]
    if not walk.hashed:
        exhibits.append(Plate(id="map", draw=_drawer(walk, frames)))
    return exhibits


def _listing(boot: BootEvidence, walk: Walk) -> Listing:
    lines = sections_of(boot.text("walk"))["vmallocinfo"][1].splitlines()
    begins = {f"{request.address:#x}" for group in walk.groups[0] for request in group.requests}
    ours = [
        index
        for index, line in enumerate(lines)
        # a kernel without the names of its symbols has but the addresses
        if "[mmscope_slab]" in line or line.partition("-")[0] in begins
    ]
    shown: list[str] = []
    marked: list[int] = []
    for index, line in enumerate(lines):
        near = any(abs(index - other) <= 1 for other in ours)
        if near and len(shown) < _SHOWN_LINES:
            shown.append(line)
            if index in ours:
                marked.append(len(shown))
    return Listing(id="vmallocinfo", text="\n".join(shown), marked=tuple(marked))


def _drawer(walk: Walk, frames: Mapping[int, tuple[int, ...]]) -> Callable[[], Figure]:
    def draw() -> Figure:
        from analysis.figures.tour_vmalloc import draw_areas

        ours = {request.address for groups in walk.groups for g in groups for request in g.requests}
        largest = max(frames.values(), key=len)
        return draw_areas(walk.areas[3], ours, walk.start, largest, walk.page_size)

    return draw


JUDGES: Mapping[str, Callable[[StopEvidence], Finding]] = MappingProxyType(
    {"vmalloc/areas": judge_areas}
)
