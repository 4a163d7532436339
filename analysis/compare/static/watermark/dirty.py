"""Rules about dirty limits, which are shares of the memory beyond totalreserve_pages."""

from __future__ import annotations

from collections.abc import Iterator

from analysis.capture.snapshot import Snapshot
from analysis.compare.claim import Claim
from analysis.compare.rule import Rule
from analysis.compare.static.watermark.available import (
    printed_reserve,
    reserve_claim,
    reserve_line,
)
from analysis.errors import MissingInputError
from analysis.model.dirty_limits import dirty_limits, dirtyable_pages
from analysis.model.totalreserve import totalreserve_pages


def _dirty(snapshot: Snapshot, rule_id: str) -> Iterator[Claim]:
    counters = snapshot.vmstat.values
    if rule_id not in counters:
        raise MissingInputError(f"{rule_id} in proc/vmstat")
    zones = printed_reserve(snapshot)
    reserve = totalreserve_pages(zones)
    file = counters["nr_inactive_file"] + counters["nr_active_file"]
    highmem = _dirtyable_highmem(snapshot)
    background = rule_id == "nr_dirty_background_threshold"
    kind = "dirty_background" if background else "dirty"

    def dirtyable(totalreserve: int) -> int:
        return dirtyable_pages(
            free_pages=counters["nr_free_pages"],
            file_pages=file,
            totalreserve=totalreserve,
            highmem_pages=highmem,
        )

    def rule(totalreserve: int) -> int:
        limits = dirty_limits(
            dirtyable(totalreserve),
            dirty_ratio=snapshot.sysctl_number("vm/dirty_ratio"),
            background_ratio=snapshot.sysctl_number("vm/dirty_background_ratio"),
            dirty_bytes=snapshot.sysctl_number("vm/dirty_bytes"),
            background_bytes=snapshot.sysctl_number("vm/dirty_background_bytes"),
            page_size_bytes=snapshot.page_size_bytes,
        )
        return limits.background_pages if background else limits.dirty_pages

    ratio = snapshot.sysctl_number(f"vm/{kind}_ratio")
    in_bytes = snapshot.sysctl_number(f"vm/{kind}_bytes")
    yield reserve_claim(
        snapshot,
        rule_id,
        zones=zones,
        rule=rule,
        observed=counters[rule_id],
        working=[
            reserve_line(zones),
            (
                f"dirtyable = {counters['nr_free_pages']} free - {reserve} + {file} on file lists "
                f"- {highmem} of highmem + 1 = {dirtyable(reserve)}"
            ),
            _share(ratio, in_bytes, kind, snapshot.page_size_bytes),
            *_limit(dirtyable(reserve), rule(reserve), ratio, in_bytes, snapshot.page_size_bytes),
        ],
    )


def _share(ratio: int, in_bytes: int, kind: str, page_size_bytes: int) -> str:
    if in_bytes:
        return f"vm.{kind}_bytes = {in_bytes}, of pages of {page_size_bytes} bytes"
    share = ratio * page_size_bytes // 100
    return f"vm.{kind}_ratio = {ratio} %: {share} of the {page_size_bytes} bytes of each page"


def _limit(
    dirtyable: int, limit: int, ratio: int, in_bytes: int, page_size_bytes: int
) -> Iterator[str]:
    """The last step of the working, with the cut to half of the other limit where it is made."""
    if in_bytes:
        own = -(-in_bytes // page_size_bytes)
        yield f"{in_bytes} / {page_size_bytes}, rounded up = {own} pages"
    else:
        share = ratio * page_size_bytes // 100
        own = share * dirtyable // page_size_bytes
        yield f"{share} x {dirtyable} / {page_size_bytes} = {own} pages"
    if own != limit:
        yield f"not below the limit for writers, so half of that: {limit} pages"
    yield f"limit = {limit}"


def _dirtyable_highmem(snapshot: Snapshot) -> int:
    """Dirtyable pages of highmem, which do not count unless vm.highmem_is_dirtyable is set."""
    highmem = [zone for zone in snapshot.zoneinfo.zones if zone.zone == "HighMem"]
    if not any(zone.pages["managed"] for zone in highmem):
        return 0
    name = "vm/highmem_is_dirtyable"
    if snapshot.has_sysctl(name) and snapshot.sysctl_number(name):
        return 0
    # Movable memory is highmem where the machine has any.
    highmem += [zone for zone in snapshot.zoneinfo.zones if zone.zone == "Movable"]
    return sum(
        zone.pages["free"]
        - min(zone.pages["free"], zone.pages["high"])
        + zone.counters["nr_zone_inactive_file"]
        + zone.counters["nr_zone_active_file"]
        for zone in highmem
        if zone.pages["managed"]
    )


def _dirty_threshold(snapshot: Snapshot) -> Iterator[Claim]:
    return _dirty(snapshot, "nr_dirty_threshold")


def _dirty_background_threshold(snapshot: Snapshot) -> Iterator[Claim]:
    return _dirty(snapshot, "nr_dirty_background_threshold")


_DIRTY_INPUTS = (
    "proc/zoneinfo",
    "proc/vmstat",
    "proc/sys/vm/dirty_ratio",
    "proc/sys/vm/dirty_background_ratio",
    "proc/sys/vm/dirty_bytes",
    "proc/sys/vm/dirty_background_bytes",
)


RULES: tuple[Rule, ...] = (
    Rule(
        id="nr_dirty_threshold",
        says=(
            "Writers are throttled when dirty pages reach vm.dirty_ratio of what is free beyond "
            "totalreserve_pages or on the file LRU lists. The ratio is rounded down to bytes of a "
            "page."
        ),
        inputs=_DIRTY_INPUTS,
        observed="proc/vmstat: nr_dirty_threshold",
        model=(dirtyable_pages, dirty_limits, totalreserve_pages),
        judge=_dirty_threshold,
    ),
    Rule(
        id="nr_dirty_background_threshold",
        says=(
            "Write-back begins when dirty pages reach vm.dirty_background_ratio of the same "
            "memory; where that would not be below the limit for writers it is half of it."
        ),
        inputs=_DIRTY_INPUTS,
        observed="proc/vmstat: nr_dirty_background_threshold",
        model=(dirtyable_pages, dirty_limits, totalreserve_pages),
        judge=_dirty_background_threshold,
    ),
)
