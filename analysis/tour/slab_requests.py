"""What our kernel module was asked for, and what it says it got."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from analysis.errors import ParseError
from analysis.model.slab.place import Place

_FIELDS = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A line of the module's ``objects``."""

    number: int
    live: bool
    kind: str
    name: str
    size: int
    usable: int
    address: int
    pfn: int
    head_pfn: int
    order: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One thing that happened to a cache: request ``number`` was made, or freed."""

    cache: str
    number: int
    freed: bool


class Allocator(Protocol):
    """A model of one cache."""

    def alloc(self) -> Place | None:
        """Where the next object lies; None where that is not told."""

    def free(self, place: Place) -> None:
        """An object returns."""


def parse_requests(text: str) -> tuple[Request, ...]:
    """The module's ``objects``.

    Raises:
        ParseError: a line is none of its lines.
    """
    found = []
    for line, row in enumerate(text.splitlines(), 1):
        words = row.split()
        try:
            number, live, kind, name, size, usable, address, *frames = words
            pfn, head_pfn, order = map(int, frames)
            found.append(
                Request(
                    number=int(number),
                    live={"live": True, "freed": False}[live],
                    kind=kind,
                    name=name,
                    size=int(size),
                    usable=int(usable),
                    address=int(address, 16),
                    pfn=pfn,
                    head_pfn=head_pfn,
                    order=order,
                )
            )
        except (ValueError, KeyError):
            raise ParseError(
                "objects", line, row, f"{_FIELDS} fields, as guest/module says"
            ) from None
    if [request.number for request in found] != list(range(len(found))):
        raise ParseError("objects", 1, text[:60], "requests numbered from 0 without a gap")
    return tuple(found)


def state_numbers(text: str) -> dict[str, int]:
    """The module's ``state`` as far as it is a name and a number."""
    pairs = re.findall(r"^(\w+) (\d+)(?: of \d+)?$", text, re.MULTILINE)
    return {name: int(value) for name, value in pairs}


def steps(commands: Iterable[str]) -> Iterator[Step]:
    """What commands about caches do, step by step, under the numbers that the module gives.

    Raises:
        ValueError: a command that means nothing here.
    """
    live: dict[int, str] = {}
    made = 0
    for command in (part.strip() for line in commands for part in line.split(";")):
        words = command.split()
        match words:
            case ["quiet"] | ["create" | "shrink" | "destroy", *_]:
                continue
            case ["alloc", name, count]:
                for number in range(made, made + int(count)):
                    live[number] = name
                    yield Step(cache=name, number=number, freed=False)
                made += int(count)
            case ["free", name, direction, every, rest]:
                numbers = range(made) if direction == "forward" else range(made - 1, -1, -1)
                for number in numbers:
                    if number % int(every) == int(rest) and live.get(number) == name:
                        del live[number]
                        yield Step(cache=name, number=number, freed=True)
            case _:
                raise ValueError(f"{command!r} is no command about caches")


def follow(taken: Iterable[Step], caches: Mapping[str, Allocator]) -> dict[int, Place]:
    """Where the models put each request, by its number; of requests of other caches, and of those
    whose place is not told, nothing."""
    places: dict[int, Place] = {}
    for step in taken:
        cache = caches.get(step.cache)
        if cache is None:
            continue
        if not step.freed:
            place = cache.alloc()
            if place is not None:
                places[step.number] = place
        elif step.number in places:
            cache.free(places[step.number])
    return places


def of_cache(requests: Sequence[Request], name: str) -> tuple[Request, ...]:
    """The requests of one cache, in order."""
    return tuple(request for request in requests if request.name == name)
