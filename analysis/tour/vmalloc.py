"""What the stops about vmalloc areas show."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import TYPE_CHECKING

from analysis.compare.claim import Claim
from analysis.compare.rule import exact, unknown
from analysis.errors import MissingInputError, ParseError
from analysis.model.release import Release, parse_release
from analysis.model.vmalloc import area_size_bytes, pages_array_pages
from analysis.model.vmalloc_place import lowest_gap
from analysis.procfs import meminfo, vmallocinfo
from analysis.procfs.vmallocinfo import VmallocArea
from analysis.tour.evidence import BootEvidence, StopEvidence
from analysis.tour.finding import Finding, Listing, Plate
from analysis.tour.slab_requests import Request, parse_requests, state_numbers

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_HEADING = re.compile(r"^== (\S+)$", re.MULTILINE)
_EXACT_COUNTER = Release(6, 12)
"""The last release compared in which VmallocUsed is one counter and not a sum of CPUs' shares."""
_SHOWN_LINES = 14


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """The requests of one command."""

    command: str
    kind: str
    requests: tuple[Request, ...]
    pages: int
    """Of each."""
    list_pages: int
    """Of the area that each needs for its list of pages."""

    @property
    def owned(self) -> int:
        """Pages that vmalloc allocates for the command; vmap is given others'."""
        each = self.pages + self.list_pages if self.kind == "vmalloc" else 0
        return each * len(self.requests)


@dataclass(frozen=True, slots=True, kw_only=True)
class Walk:
    """What was read: areas and meminfo at the begin and after each of three steps."""

    groups: tuple[tuple[Group, ...], tuple[Group, ...]]
    areas: tuple[tuple[VmallocArea, ...], ...]
    used_pages: tuple[int, ...]
    start: int
    end: int
    page_size: int
    freed: tuple[Request, ...]


def read_walk(boot: BootEvidence) -> Walk:
    """The evidence of one boot.

    Raises:
        MissingInputError, ParseError: it lacks something.
    """
    sections = _sections(boot.text("walk"))
    state = boot.text("state")
    page_size = state_numbers(state)["page_size"]
    start, end = (_hexadecimal(state, name) for name in ("vmalloc_start", "vmalloc_end"))
    first, _, second = boot.json("commands")
    listings = [parse_requests(text) for text in sections["objects"]]
    if len(listings) != 2 or len(sections["vmallocinfo"]) != 4:
        raise MissingInputError("four readings of vmallocinfo and two of the module's objects")
    requests = listings[1]
    groups: list[list[Group]] = [[], []]
    number = 0
    for step, commands in enumerate((first, second)):
        for command in commands:
            kind, count, size = command.split()
            mine = requests[number : number + int(count)]
            number += int(count)
            pages = int(size) if kind == "vmap" else -(-int(size) // page_size)
            listed = pages_array_pages(pages, page_size_bytes=page_size)
            groups[step].append(
                Group(
                    command=command,
                    kind=kind,
                    requests=mine,
                    pages=pages,
                    list_pages=listed if kind == "vmalloc" else 0,
                )
            )
    return Walk(
        groups=(tuple(groups[0]), tuple(groups[1])),
        areas=tuple(vmallocinfo.parse(text) for text in sections["vmallocinfo"]),
        used_pages=tuple(
            meminfo.parse(text).values["VmallocUsed"] * 1024 // page_size
            for text in sections["meminfo"]
        ),
        start=start,
        end=end,
        page_size=page_size,
        freed=tuple(request for request in requests if not request.live),
    )


def _sections(text: str) -> Mapping[str, list[str]]:
    parts = _HEADING.split(text)
    found: dict[str, list[str]] = {}
    for path, body in zip(parts[1::2], parts[2::2], strict=True):
        found.setdefault(path.rpartition("/")[2], []).append(body.lstrip("\n"))
    return found


def _hexadecimal(state: str, name: str) -> int:
    match = re.search(rf"^{name} ([0-9a-f]+)$", state, re.MULTILINE)
    if match is None:
        raise ParseError("state", 0, name, "a hexadecimal number")
    return int(match[1], 16)


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
    """VmallocUsed moves by the pages that vmalloc owns."""
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
        if release > _EXACT_COUNTER:
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
                working=("lists of pages count, guard pages and the pages of vmap do not",),
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
            *(claim for step in (0, 1) for claim in (*_placed(walk, step), *_listed(walk, step))),
            *_used(walk, parse_release(boot.release)),
            _waiting(walk),
            one,
        )
        claims += (_in_boot(claim, boot.release) for claim in found)
        if label == "main":
            exhibits = [_listing(boot), Plate(id="map", draw=_drawer(walk, frames))]
    return Finding(claims=tuple(claims), exhibits=tuple(exhibits))


def _in_boot(claim: Claim, release: str) -> Claim:
    return replace(claim, scope={"kernel": release, **claim.scope})


def _listing(boot: BootEvidence) -> Listing:
    lines = _sections(boot.text("walk"))["vmallocinfo"][1].splitlines()
    ours = [index for index, line in enumerate(lines) if "[mmscope_slab]" in line]
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
