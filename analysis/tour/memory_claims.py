"""Claims that several stops make: rules of the checker by id, and which zone serves a request."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

from analysis.capture.snapshot import Snapshot
from analysis.compare.claim import Claim
from analysis.compare.rule import exact
from analysis.compare.static.registry import RULES
from analysis.errors import MissingInputError
from analysis.model.drift import kswapd_worked, zone_private_pages
from analysis.model.stat_threshold import normal_threshold
from analysis.model.zone_room import ZoneRoom, largest_refill, shares
from analysis.model.zonelist import ZONES
from analysis.procfs import vmstat, zoneinfo
from analysis.procfs.zoneinfo import Zone, Zoneinfo
from analysis.tour.evidence import BootEvidence
from analysis.verdict import Verdict

USER_CEILING = "Movable"
"""The highest zone that pages of a process may come from (GFP_HIGHUSER_MOVABLE)."""

_BY_ID = {rule.id: rule for rule in RULES}


def rule_claims(
    snapshot: Snapshot, rule_id: str, keep: Callable[[Claim], bool] = lambda _: True
) -> list[Claim]:
    """The claims of one of the checker's rules about a capture that ``keep`` wants, or what it
    cannot say.

    Raises:
        MissingInputError: it claims things, but none of those that are wanted: a stop must not
            hold for want of a claim.
    """
    found = _BY_ID[rule_id].claims(snapshot)
    wanted = [claim for claim in found if keep(claim)]
    wanted = wanted or [claim for claim in found if claim.verdict is Verdict.UNKNOWN]
    if not wanted:
        raise MissingInputError(f"what the rule {rule_id} is asked for")
    return wanted


def in_zone(zone: str, node: int | None = None) -> Callable[[Claim], bool]:
    """Whether a claim is about a zone, on a node."""
    return lambda claim: (
        claim.scope.get("zone") == zone and (node is None or claim.scope.get("node", node) == node)
    )


def before(boot: BootEvidence, name: str) -> Zoneinfo:
    """Zones before user pages were taken (``harness.tour.stops.zones.take_user_pages``)."""
    return zoneinfo.parse(boot.text(f"{name}-before-zoneinfo"))


def after(boot: BootEvidence, name: str) -> Zoneinfo:
    """The same while they were held."""
    return zoneinfo.parse(boot.text(f"{name}-after-zoneinfo"))


def page_shift(boot: BootEvidence) -> int:
    """Bits of an address within a page."""
    return boot.snapshot().page_size_bytes.bit_length() - 1


def kswapd_was_awake(boot: BootEvidence, name: str) -> bool:
    """Whether any kswapd had been by the time the pages were held."""
    return kswapd_worked(vmstat.parse(boot.text(f"{name}-after-vmstat")).values)


def rooms(
    order: Sequence[tuple[int, str]],
    zones: Zoneinfo,
    ceiling: str,
    shift: int,
    *,
    awake: bool = False,
    refill_scale: int = 0,
) -> list[ZoneRoom]:
    """The zones of a zonelist up to a highest one, as a request finds them.

    ``awake``: a kswapd may be, so that the CPUs keep as much of the counters as they may then.
    ``refill_scale``: see ``analysis.model.zone_room.largest_refill``.
    """
    known = {(zone.node, zone.zone): zone for zone in zones.zones}
    names = [zone.zone for zone in zones.zones if zone.node == zones.zones[0].node]
    index = names.index(ceiling)
    allowed = set(ZONES[: ZONES.index(ceiling) + 1])
    return [
        _room(known[key], index, shift, awake, refill_scale) for key in order if key[1] in allowed
    ]


def _room(zone: Zone, class_index: int, shift: int, awake: bool, refill_scale: int) -> ZoneRoom:
    cpus = len(zone.cpus)
    asleep = normal_threshold(zone.pages["managed"], cpus, shift)
    return ZoneRoom(
        node=zone.node,
        zone=zone.zone,
        free_pages=zone.counters["nr_free_pages"],
        low=zone.pages["low"],
        reserve=zone.protection[class_index],
        batch=largest_refill(
            max((cpu.fields.get("batch", 0) for cpu in zone.cpus), default=0), refill_scale
        ),
        drift=zone_private_pages(
            [asleep] * cpus,
            low_pages=zone.pages["low"],
            min_pages=zone.pages["min"],
            kswapd_awake=awake,
        ),
    )


def fallen(boot: BootEvidence, name: str) -> dict[tuple[int, str], int]:
    """By how many free pages each zone fell."""
    later = {(zone.node, zone.zone): zone for zone in after(boot, name).zones}
    return {
        (zone.node, zone.zone): zone.counters["nr_free_pages"]
        - later[zone.node, zone.zone].counters["nr_free_pages"]
        for zone in before(boot, name).zones
        if zone.counters
    }


def served_claim(
    claim_id: str,
    boot: BootEvidence,
    name: str,
    order: Sequence[tuple[int, str]],
    pages: int,
) -> Claim:
    """Which zone gives most of a request for user pages.

    ``order`` is the zonelist that the model builds; the prediction is made of what the zones had
    before, and held against what they had after.

    Raises:
        MissingInputError: nothing was taken.
    """
    found = rooms(order, before(boot, name), USER_CEILING, page_shift(boot))
    parts = shares(pages, found)
    fell = fallen(boot, name)
    if not fell:
        raise MissingInputError("free pages of zones before and after")
    best = max(zip(parts, found, strict=True), key=lambda pair: pair[0])[1]
    most = max(fell, key=lambda key: fell[key])
    return exact(
        claim_id,
        {"pages": pages, **({"boot": boot.label} if boot.label != "main" else {})},
        predicted=_named(best.node, best.zone),
        observed=_named(*most),
        unit="zone",
        working=[*_working(found, parts), *_fell(fell)],
    )


def _working(found: Sequence[ZoneRoom], parts: Sequence[int]) -> Iterator[str]:
    for zone, part in zip(found, parts, strict=True):
        yield (
            f"{_named(zone.node, zone.zone)}: {zone.free_pages} free - (low {zone.low} + reserve "
            f"{zone.reserve}) = room for {zone.room}: gives {part}"
        )


def _fell(fell: Mapping[tuple[int, str], int]) -> Iterator[str]:
    for (node, zone), pages in fell.items():
        yield f"{_named(node, zone)}: {pages} free pages fewer afterwards"


def _named(node: int, zone: str) -> str:
    return f"node {node} {zone}"
