"""Rules about watermarks: min_free_kbytes, min, low, high, promo and boost, reserves."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

from analysis.capture.snapshot import Snapshot
from analysis.compare.claim import Claim
from analysis.compare.rule import Judge, Rule, exact, one_of, unknown
from analysis.compare.static.watermark.available import RULES as AVAILABLE_RULES
from analysis.compare.static.watermark.boosts import RULES as BOOST_RULES
from analysis.compare.static.watermark.boosts import hidden_boost
from analysis.compare.static.watermark.chain import boot_chains
from analysis.compare.static.watermark.dirty import RULES as DIRTY_RULES
from analysis.compare.static.watermark.marks import (
    MIN_FREE,
    SCALE_FACTOR,
    Marks,
    marks_after_boot,
    possible_marks,
    scale_factor_of,
)
from analysis.compare.static.watermark.moments import Key, Moment, judged, scope_of
from analysis.compare.static.watermark.reserve import RULES as RESERVE_RULES
from analysis.errors import MissingInputError
from analysis.model.boot_watermark import boot_watermarks, khugepaged_min_free_kbytes
from analysis.model.min_free import (
    automatic_min_free_kbytes,
    nr_free_buffer_pages,
    recommended_min_free_kbytes,
)
from analysis.model.watermark import Watermarks, capped_zones, watermarks
from analysis.procfs.zoneinfo import Zone

_KINDS: Mapping[str, Callable[[Watermarks], int]] = {
    "min": lambda marks: marks.min_pages,
    "low": lambda marks: marks.low_pages,
    "high": lambda marks: marks.high_pages,
    "promo": lambda marks: marks.promo_pages,
}


def _min_free_kbytes(snapshot: Snapshot) -> Iterator[Claim]:
    rule_id = "min_free_kbytes"
    shown = snapshot.sysctl_number(MIN_FREE)
    given = [
        value
        for sign in "./"
        if snapshot.has("proc/cmdline")
        for value in snapshot.cmdline.all(f"sysctl.{MIN_FREE.replace('/', sign)}")
    ]
    if given and given[-1].isdecimal():
        yield exact(
            rule_id,
            {},
            predicted=int(given[-1]),
            observed=shown,
            unit="KiB",
            working=[f"the kernel's parameters set it to {given[-1]}"],
        )
        return
    chains = boot_chains(snapshot)
    options = [chain.marks.min_free_kbytes for chain in chains]
    working: list[str] = []
    for chain in chains:
        lines = list(chain.working(snapshot))
        if lines != working[-len(lines) :]:
            working += lines
    for chain in chains:
        switched = chain.switched(snapshot)
        if switched is None or switched[0] in options:
            continue
        marks = marks_after_boot(snapshot, switched[0], scale_factor_of(snapshot), likely=True)
        if _follow(snapshot, tuple(marks)):
            yield exact(
                rule_id,
                {},
                predicted=switched[0],
                observed=shown,
                unit="KiB",
                working=(
                    *chain.working(snapshot),
                    *switched[1],
                    "     the zones show the watermarks that follow from that",
                ),
            )
            return
    if shown not in options and _follow(snapshot, possible_marks(snapshot)):
        yield unknown(
            rule_id,
            why=(
                f"boot computes {' or '.join(map(str, sorted(set(options))))}; the watermarks are "
                f"those of {shown}, computed after boot: a value written by hand is not computed"
            ),
            observed=shown,
            unit="KiB",
            working=working,
        )
        return
    yield one_of(
        rule_id,
        {},
        options=options,
        observed=shown,
        unit="KiB",
        undecided="where some memory lay that was handed over later, or how khugepaged started",
        working=working,
    )


def _follow(snapshot: Snapshot, sets: Sequence[Marks]) -> bool:
    """Whether the zones show one of the sets computed after boot, in all watermarks."""
    zones = {(zone.node, zone.zone): zone for zone in _zones(snapshot)}
    return any(
        marks.after_boot
        and all(
            _shown(zones[key], kind) == of(marks.zones[key])
            for key in zones
            for kind, of in _KINDS.items()
            if kind in zones[key].pages
        )
        for marks in sets
    )


def _zones(snapshot: Snapshot) -> tuple[Zone, ...]:
    zones = tuple(zone for zone in snapshot.zoneinfo.zones if "managed" in zone.pages)
    if not zones:
        raise MissingInputError("managed pages in proc/zoneinfo")
    return zones


def _shown(zone: Zone, kind: str) -> int:
    """A watermark without the boost, where the release prints it."""
    return zone.pages[kind] - zone.pages.get("boost", 0)


def _watermark(kind: str) -> Judge:
    def judge(snapshot: Snapshot) -> Iterator[Claim]:
        rule_id = f"watermark_{kind}"
        zones = [zone for zone in _zones(snapshot) if kind in zone.pages]
        if not zones:
            raise MissingInputError(f"{kind!r} in proc/zoneinfo, which this release does not print")
        sets = possible_marks(snapshot)
        observed: dict[Key, int] = {}
        for zone in zones:
            boost = hidden_boost(snapshot, zone, sets)
            if boost:
                yield unknown(
                    rule_id,
                    scope_of((zone.node, zone.zone)),
                    why=(
                        f"min, low and high are raised by {boost} pages alike: a boost, which "
                        f"this release adds without printing it"
                    ),
                    observed=zone.pages[kind],
                    unit="pages",
                )
            else:
                observed[zone.node, zone.zone] = _shown(zone, kind)
        moments = [_moment(snapshot, kind, marks) for marks in sets]
        yield from judged(rule_id, moments, observed, unit="pages")

    return judge


def _moment(snapshot: Snapshot, kind: str, marks: Marks) -> Moment:
    return Moment(
        name=marks.name,
        likely=marks.likely,
        values={key: _KINDS[kind](zone) for key, zone in marks.zones.items()},
        working={
            key: (*marks.before, *_arithmetic(snapshot, kind, marks, key)) for key in marks.zones
        },
    )


def _arithmetic(snapshot: Snapshot, kind: str, marks: Marks, key: Key) -> Iterator[str]:
    managed, zone = marks.managed[key], marks.zones[key]
    capped = capped_zones(
        marks.managed,
        movable_is_lowmem=marks.era.movable_is_lowmem,
        highmem_by_name=marks.era.highmem_by_name,
    )
    lowmem = sum(pages for (_, name), pages in marks.managed.items() if name not in capped)
    total = marks.min_free_kbytes // snapshot.page_kib
    share = total * managed // lowmem
    yield f"  managed then: {managed} pages of this zone, {lowmem} of all zones that share"
    yield (
        f"  share of min_free_kbytes: {marks.min_free_kbytes} KiB = {total} pages, "
        f"{total} x {managed} / {lowmem} = {share}"
    )
    if key[1] in capped:
        yield (
            f"  min of a {key[1]} zone: {managed} / 1024, at least 32, at most 128 = "
            f"{zone.min_pages}"
        )
    else:
        yield f"  min = {zone.min_pages}"
    if kind != "min":
        scaled = managed * marks.scale_factor // 10000
        gap = zone.low_pages - zone.min_pages
        steps = {"low": 1, "high": 2, "promo": 3}[kind]
        yield (
            f"  gap = max({share} / 4, {managed} x {marks.scale_factor} / 10000 = {scaled}) = {gap}"
        )
        yield f"  {kind} = {zone.min_pages} + {steps} x {gap} = {_KINDS[kind](zone)}"


_CHAIN = (
    "proc/zoneinfo",
    "dmesg",
    "proc/iomem",
    "config",
    "proc/cmdline",
    "proc/pagetypeinfo",
)
_MARK_INPUTS = (*_CHAIN, f"proc/sys/{MIN_FREE}", f"proc/sys/{SCALE_FACTOR}")
_WHEN = (
    " It is computed at boot, before the initrd and the kernel's init memory are handed over, and "
    "again only when a sysctl is written or memory is plugged."
)

RULES: tuple[Rule, ...] = (
    Rule(
        id="min_free_kbytes",
        says=(
            "At boot min_free_kbytes becomes the root of 16 times the lowmem in KiB, between 128 "
            "and 262144 (65536 in 4.19). Then khugepaged, where it is started, raises it to "
            "eleven pageblocks for each populated zone up to Normal, but not beyond a twentieth of "
            "the pages above the high watermarks of that moment. Where it is not wanted, releases "
            "after 5.10 take the root of the pages above the high watermarks. Whether huge pages "
            "were switched after boot is read off their file and off the zones' watermarks." + _WHEN
        ),
        inputs=_CHAIN,
        observed="proc/sys/vm/min_free_kbytes",
        model=(
            boot_watermarks,
            khugepaged_min_free_kbytes,
            automatic_min_free_kbytes,
            nr_free_buffer_pages,
            recommended_min_free_kbytes,
        ),
        judge=_min_free_kbytes,
    ),
    Rule(
        id="watermark_min",
        says=(
            "min_free_kbytes is shared among the lowmem zones by their managed pages. Highmem, and "
            "in later releases ZONE_MOVABLE, takes no share but a 1024th of its own pages, between "
            "32 and 128." + _WHEN
        ),
        inputs=_MARK_INPUTS,
        observed="proc/zoneinfo: min, less boost",
        model=(watermarks, boot_watermarks),
        judge=_watermark("min"),
    ),
    Rule(
        id="watermark_low",
        says=(
            "low lies a gap above min: a quarter of the zone's share of min_free_kbytes, or its "
            "managed pages times watermark_scale_factor / 10000 where that is more." + _WHEN
        ),
        inputs=_MARK_INPUTS,
        observed="proc/zoneinfo: low, less boost",
        model=(watermarks, boot_watermarks),
        judge=_watermark("low"),
    ),
    Rule(
        id="watermark_high",
        says="high lies two gaps above min, as low lies one." + _WHEN,
        inputs=_MARK_INPUTS,
        observed="proc/zoneinfo: high, less boost",
        model=(watermarks, boot_watermarks),
        judge=_watermark("high"),
    ),
    Rule(
        id="watermark_promo",
        says=(
            "promo lies three gaps above min: where memory tiering stops promoting pages to a "
            "node. Releases print it from between 6.1 and 6.12 on." + _WHEN
        ),
        inputs=_MARK_INPUTS,
        observed="proc/zoneinfo: promo, less boost",
        model=(watermarks, boot_watermarks),
        judge=_watermark("promo"),
    ),
    *BOOST_RULES,
    *RESERVE_RULES,
    *AVAILABLE_RULES,
    *DIRTY_RULES,
)
