"""What the stop about vmalloc areas read, step by step."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from analysis.errors import MissingInputError, ParseError
from analysis.model.vmalloc import pages_array_pages
from analysis.procfs import meminfo, vmallocinfo
from analysis.procfs.vmallocinfo import VmallocArea
from analysis.tour.evidence import BootEvidence
from analysis.tour.slab_requests import Request, parse_requests, state_numbers

_HEADING = re.compile(r"^== (\S+)$", re.MULTILINE)


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
    handed_in: bool
    """The CPUs handed their shares of the counters in before each reading."""
    start: int
    end: int
    page_size: int
    freed: tuple[Request, ...]

    @property
    def hashed(self) -> bool:
        """Whether the listings have hashes where addresses should be.

        Kernel: lib/vsprintf.c, ``no_hash_pointers``, a parameter from 5.12 on; a hash has 32 bits,
            and no address of the vmalloc space has so few.
        """
        begins = [area.start for areas in self.areas for area in areas if area.start is not None]
        return not any(self.start <= begin < self.end for begin in begins)


def read_walk(boot: BootEvidence) -> Walk:
    """The evidence of one boot.

    Raises:
        MissingInputError, ParseError: it lacks something.
    """
    sections = sections_of(boot.text("walk"))
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
        handed_in=len(sections.get("stat_refresh", ())) == len(sections["meminfo"]),
        start=start,
        end=end,
        page_size=page_size,
        freed=tuple(request for request in requests if not request.live),
    )


def sections_of(text: str) -> Mapping[str, list[str]]:
    """What was read of each file, by the last part of its path, in order."""
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
