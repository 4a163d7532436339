"""From the probes wanted and a kernel's symbols to the lines for kprobe_events."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from harness.errors import UsageError
from harness.sampling.trace.probes import GROUP, GROUPS, PROBES, Place, Probe

_LINE = re.compile(r"^[0-9a-f]+ [tTwW] (\S+)$", re.MULTILINE)
_CLONE = re.compile(r"^(?P<function>\w+)(?P<clones>(?:\.[a-z]+\.\d+)+)$")
_RELEASE = re.compile(r"^(\d+)\.(\d+)")


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedProbe:
    """A probe on one kernel; ``symbol`` None and no definition where that kernel has no place."""

    name: str
    function: str
    symbol: str | None
    definition: str


def probes_of(groups: Sequence[str]) -> tuple[Probe, ...]:
    """The probes of these groups, in the order of the table.

    Raises:
        UsageError: there is no such group.
    """
    for group in groups:
        if group not in GROUPS:
            raise UsageError(
                f"no group of probes is called {group!r}", fix=f"use of: {', '.join(GROUPS)}"
            )
    return tuple(probe for probe in PROBES if probe.group in groups)


def functions_of(probes: Iterable[Probe]) -> list[str]:
    """Every function that one of them might want, sorted."""
    return sorted({place.function for probe in probes for place in probe.places})


def parse_symbols(kallsyms: str) -> frozenset[str]:
    """Names of functions (local, global or weak) from lines of /proc/kallsyms.

    Symbols of modules, which carry the module's name, are left out. One that occurs twice is left
    out too: a probe by name would be refused or land on the wrong one.
    """
    times = Counter(match[1] for match in _LINE.finditer(kallsyms))
    return frozenset(name for name, count in times.items() if count == 1)


def parse_release(release: str) -> tuple[int, int]:
    """``6.12.94+deb13-amd64`` → (6, 12).

    Raises:
        UsageError: it does not begin with two numbers.
    """
    match = _RELEASE.match(release)
    if match is None:
        raise UsageError(f"kernel release {release!r} does not begin with two numbers")
    return int(match[1]), int(match[2])


def plan_probes(
    probes: Iterable[Probe], symbols: frozenset[str], release: tuple[int, int]
) -> list[PlannedProbe]:
    """Each probe at the first of its places that this kernel has.

    A function is found under its own name, or under that of a copy that the compiler made of it,
    of a kind that the table allows, when no second copy makes that ambiguous.
    """
    copies: dict[str, list[str]] = {}
    for symbol in sorted(symbols):
        match = _CLONE.match(symbol)
        if match is not None:
            copies.setdefault(match["function"], []).append(symbol)
    return [_plan(probe, symbols, copies, release) for probe in probes]


def _plan(
    probe: Probe,
    symbols: frozenset[str],
    copies: Mapping[str, Sequence[str]],
    release: tuple[int, int],
) -> PlannedProbe:
    places = [place for place in probe.places if place.since <= release < place.before]
    for place in places:
        symbol = _find(place, symbols, copies.get(place.function, ()))
        if symbol is not None:
            kind = "r" if probe.returns else "p"
            words = [f"{kind}:{GROUP}/{probe.name}", symbol, place.arguments]
            return PlannedProbe(
                name=probe.name,
                function=place.function,
                symbol=symbol,
                definition=" ".join(word for word in words if word),
            )
    function = (places or probe.places)[0].function
    return PlannedProbe(name=probe.name, function=function, symbol=None, definition="")


def _find(place: Place, symbols: frozenset[str], copies: Sequence[str]) -> str | None:
    if place.plain and place.function in symbols:
        return place.function
    wanted = [copy for copy in copies if set(copy.split(".")[1::2]) <= set(place.clones)]
    return wanted[0] if len(wanted) == 1 else None
