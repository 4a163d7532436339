"""Claims that hold two files of a capture against each other, which were read at two moments.

A capture reads the files in the order of ``READ_ORDER``, and then all of them once more, under the
same names with ``.after``. A law between two files is exact where one of them shows the same
before and after the other was read; else it is judged by what the CPUs may keep to themselves of a
counter, and unknown where that does not explain the difference.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable
from typing import TypeVar

from analysis.capture.snapshot import Snapshot
from analysis.compare.claim import Claim, Scope
from analysis.compare.rule import unknown
from analysis.errors import MissingInputError, ParseError
from analysis.model.drift import (
    Finding,
    Reading,
    kswapd_worked,
    moved_pages,
    node_threshold,
    settle,
)
from analysis.model.drift import zone_private_pages as private_in_zone
from analysis.procfs import vmstat, zoneinfo
from analysis.verdict import Verdict

T = TypeVar("T")

AFTER = ".after"
READ_ORDER = (
    "proc/buddyinfo",
    "proc/zoneinfo",
    "proc/vmstat",
    "proc/meminfo",
    "proc/pagetypeinfo",
    "sys/devices/system/node/",
    "proc/slabinfo",
    "proc/vmallocinfo",
)

_SAYS = {
    Finding.EQUAL: "both readings say the same",
    Finding.WITHIN: "the difference is within what CPUs may keep to themselves",
}


def reading(
    snapshot: Snapshot,
    name: str,
    parse: Callable[..., T],
    terms: Callable[[T], Iterable[int]],
) -> Reading:
    """What a file shows, and shows again where it was read a second time.

    Raises:
        MissingInputError: the capture lacks the file, or the file lacks a term.
        ParseError: it is not what the kernel prints.
    """
    try:
        shown = tuple(terms(snapshot.parsed(name, parse)))
    except MissingInputError:
        raise
    except KeyError as error:
        raise MissingInputError(f"{error.args[0]} of {name}") from None
    again = None
    if snapshot.has(name + AFTER):
        with contextlib.suppress(KeyError):
            again = tuple(terms(snapshot.parsed(name + AFTER, parse)))
    return Reading(terms=shown, again=again)


def whole_pages(kib: int, page_kib: int, *, source: str = "proc/meminfo") -> int:
    """The pages that a line in KiB counts.

    Raises:
        ParseError: it is not of whole pages, which the kernel never prints.
    """
    if kib % page_kib:
        raise ParseError(source, 0, f"{kib} kB", f"whole pages of {page_kib} KiB")
    return kib // page_kib


def counter_reading(snapshot: Snapshot, name: str) -> Reading:
    """A counter of vmstat.

    Raises:
        MissingInputError, ParseError: as ``reading`` does.
    """
    return reading(snapshot, "proc/vmstat", vmstat.parse, lambda found: (found.values[name],))


def moved(snapshot: Snapshot) -> int | None:
    """Pages allocated or freed from the first readings to the second ones; None where that was not
    recorded."""
    if not (snapshot.has("proc/vmstat") and snapshot.has("proc/vmstat" + AFTER)):
        return None
    after = snapshot.parsed("proc/vmstat" + AFTER, vmstat.parse)
    return max(0, moved_pages(snapshot.vmstat.values, after.values))


def moved_in(snapshot: Snapshot, unit: str) -> int | None:
    """``moved`` in the unit of a counter: pages of some size, or KiB."""
    pages = moved(snapshot)
    return pages * snapshot.page_kib if pages is not None and unit == "KiB" else pages


def zone_private_pages(snapshot: Snapshot) -> dict[tuple[int, str], int]:
    """What all CPUs may keep to themselves of a zone's counters, by node and zone."""
    name = zoneinfo.STAT_THRESHOLD
    return {
        (zone.node, zone.zone): private_in_zone(
            [cpu.fields[name] for cpu in zone.cpus if name in cpu.fields],
            low_pages=zone.pages["low"],
            min_pages=zone.pages["min"],
            kswapd_awake=kswapd_was_awake(snapshot),
        )
        for zone in snapshot.zoneinfo.zones
    }


def kswapd_was_awake(snapshot: Snapshot) -> bool:
    """Whether any kswapd ever was; without /proc/vmstat it may have been."""
    return not snapshot.has("proc/vmstat") or kswapd_worked(snapshot.vmstat.values)


def node_private_pages(snapshot: Snapshot) -> dict[int, int]:
    """What all CPUs may keep to themselves of a node's counters."""
    zones = snapshot.zoneinfo.zones
    cpus = len(snapshot.cpus_online)
    shift = snapshot.page_size_bytes.bit_length() - 1
    found = {}
    for node in {zone.node for zone in zones}:
        own = [zone for zone in zones if zone.node == node]
        computed = node_threshold((zone.pages["managed"] for zone in own), cpus, shift)
        printed = [cpu.fields.get(zoneinfo.STAT_THRESHOLD, 0) for zone in own for cpu in zone.cpus]
        found[node] = cpus * max([computed, *printed]) if any(printed) else 0
    return found


def settled(
    rule_id: str,
    scope: Scope,
    *,
    predicted: tuple[str, Reading],
    observed: tuple[str, Reading],
    unit: str,
    private: int = 0,
    moved: int | None = None,
    working: Iterable[str] = (),
) -> Claim:
    """The claim that two readings agree; each comes with the name of its file.

    Fails only where the readings differ although nothing moved between them.
    """
    sides = [predicted, observed]
    if _place(observed[0]) < _place(predicted[0]):
        sides.reverse()
    finding = settle(sides[0][1], sides[1][1], private=private, moved=moved)
    left, right = predicted[1].total, observed[1].total
    lines = list(working)
    if private:
        lines.append(f"all CPUs may keep {private} of it to themselves")
    lines += [
        f"{name} was read again later and shows {sum(value.again)}"
        for name, value in sides
        if value.again is not None and not value.steady
    ]
    lines += [f"{name} shows the same when read again" for name, value in sides if value.steady]
    if finding in _SAYS:
        lines.append(_SAYS[finding])
        return Claim(
            id=rule_id,
            scope=scope,
            predicted=left,
            observed=right,
            unit=unit,
            verdict=Verdict.HOLDS,
            working=tuple(lines),
        )
    if finding is Finding.MOVED:
        return unknown(
            rule_id,
            scope,
            why=(
                f"{predicted[0]} and {observed[0]} were read at different moments, and nothing "
                f"shows that the machine stood still between them: {left} and {right}"
            ),
            predicted=left,
            observed=right,
            unit=unit,
            working=lines,
        )
    return Claim(
        id=rule_id,
        scope=scope,
        predicted=left,
        observed=right,
        unit=unit,
        verdict=Verdict.FAILS,
        why=f"{predicted[0]} says {left}, {observed[0]} {right}, and nothing moved between them",
        working=tuple(lines),
    )


def _place(name: str) -> int:
    for place, prefix in enumerate(READ_ORDER):
        if name.startswith(prefix):
            return place
    return len(READ_ORDER)
