"""What the stops about zones show: each populated on some kernel, where the model puts it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from types import MappingProxyType

from analysis.capture.snapshot import Snapshot
from analysis.compare.claim import Claim, Number
from analysis.compare.rule import exact, unknown
from analysis.compare.static.layout.capture import Way, eras
from analysis.compare.static.layout.map import x86_memory
from analysis.errors import MissingInputError
from analysis.model.layout.hot_added import added_blocks, movable_zone
from analysis.model.zonelist import zonelist
from analysis.procfs.zoneinfo import Zone
from analysis.tour.evidence import BootEvidence, StopEvidence
from analysis.tour.finding import Exhibit, Finding, Listing
from analysis.tour.listings import pick, zone_block
from analysis.tour.memory_claims import in_zone, rule_claims, served_claim
from analysis.tour.memory_map import map_plate

TAKEN_PAGES_BYTES = 32 << 20
"""What ``harness.tour.stops.zones`` has user pages taken for."""

_BLOCKS = "sys/devices/system/memory"
_BLOCK = re.compile(rf"{_BLOCKS}/memory(\d+)/state")
_HEAD = r"^Node|pages free|^ +(min|low|high|spanned|present|managed) |protection|start_pfn"
_TELLING = r"spanned|present|managed|start_pfn"
_RANGES = (
    r"Zone ranges:|^\[[^]]*\]   (DMA|DMA32|Normal|HighMem|Movable|Device) |Movable zone start"
    r"|  Node \d+: 0x"
)


def _zone(
    zone: str, *extra: Callable[[Snapshot], Iterator[Claim]]
) -> Callable[[StopEvidence], Finding]:
    """The judge of a stop about one zone on one machine."""

    def judge(evidence: StopEvidence) -> Finding:
        boot = evidence.boot()
        snapshot = boot.snapshot()
        claims = [
            *_populated(snapshot),
            *_of_zone(snapshot, "zone_range", zone),
            *_layout(snapshot, zone),
            *(claim for more in extra for claim in more(snapshot)),
            _served(boot, snapshot),
        ]
        return Finding(claims=tuple(claims), exhibits=tuple(_exhibits(snapshot, zone)))

    return judge


def _layout(snapshot: Snapshot, zone: str) -> Iterator[Claim]:
    rules = ("zone_start_pfn", "zone_spanned", "zone_present")
    # Where a zone begins is printed only of one with pages, which Device never has.
    for rule_id in rules[1:] if zone == "Device" else rules:
        yield from _of_zone(snapshot, rule_id, zone)


def _of_zone(snapshot: Snapshot, rule_id: str, zone: str) -> list[Claim]:
    """A rule's claims about a zone; of one that is empty a rule may have nothing to say.

    Raises:
        MissingInputError: the kernel has no such zone, or says nothing of one with pages.
    """
    try:
        return rule_claims(snapshot, rule_id, in_zone(zone))
    except MissingInputError:
        spans = [
            each.pages.get("spanned", 0) for each in snapshot.zoneinfo.zones if each.zone == zone
        ]
        if not spans:
            raise MissingInputError(f"the zone {zone}, which this kernel has not got") from None
        if any(spans):
            raise
        why = f"{zone} has no pages on this machine"
        return [unknown(rule_id, {"zone": zone}, why=why)]


def _populated(snapshot: Snapshot) -> Iterator[Claim]:
    """The zones of the machine that have page frames, against those that the model fills."""
    predicted = [
        str(claim.scope["zone"])
        for claim in rule_claims(snapshot, "zone_spanned")
        if "zone" in claim.scope and claim.predicted
    ]
    working = [
        f"node {claim.scope['node']} {claim.scope['zone']}: {claim.predicted} pages"
        for claim in rule_claims(snapshot, "zone_spanned")
        if "zone" in claim.scope
    ]
    if not working:
        raise MissingInputError("what the model says of zones")
    shown = [each.zone for each in snapshot.zoneinfo.zones if each.pages.get("spanned")]
    yield exact(
        "zones_populated",
        {},
        predicted=" ".join(dict.fromkeys(predicted)),
        observed=" ".join(dict.fromkeys(shown)),
        unit="zones",
        working=working,
    )


def _served(boot: BootEvidence, snapshot: Snapshot) -> Claim:
    present = {
        (each.node, each.zone): each.pages.get("present", 0) for each in snapshot.zoneinfo.zones
    }
    return served_claim(
        "zone_serves",
        boot,
        "user",
        zonelist((0,), present),
        TAKEN_PAGES_BYTES // snapshot.page_size_bytes,
    )


def _protected(zone: str) -> Callable[[Snapshot], Iterator[Claim]]:
    """What the zone keeps from requests that could be served higher up."""
    return lambda snapshot: iter(_of_zone(snapshot, "lowmem_reserve", zone))


def _high_total(snapshot: Snapshot) -> Iterator[Claim]:
    """What meminfo calls high memory, and what low."""
    yield from rule_claims(snapshot, "managed_total")


def _movable(evidence: StopEvidence) -> Finding:
    """ZONE_MOVABLE laid out at boot, and made of memory that was added; on a kernel other than the
    stop's own perhaps one of them only."""
    claims: list[Claim] = []
    exhibits: list[Exhibit | None] = []
    if "movablecore" in evidence.boots:
        boot = evidence.boot("movablecore")
        at_boot = boot.snapshot()
        claims += [_of("movablecore", claim) for claim in rule_claims(at_boot, "movable_start")]
        claims += [_of("movablecore", claim) for claim in _layout(at_boot, "Movable")]
        claims.append(_served(boot, at_boot))
        exhibits += [
            _zone_listing("movable_boot_zoneinfo", at_boot, "Movable"),
            map_plate("movable_boot_map", at_boot, ("Movable",)),
        ]
    if "hot-dimm" in evidence.boots:
        hot = evidence.boot("hot-dimm")
        added = hot.snapshot()
        claims += _hot_claims(added)
        claims.append(_served(hot, added))
        exhibits += [
            _blocks_listing(added),
            _zone_listing("movable_hot_zoneinfo", added, "Movable"),
            map_plate("movable_hot_map", added, ("Movable",)),
        ]
    if not claims:
        raise MissingInputError("the boots of zones/movable")
    return Finding(
        claims=tuple(claims), exhibits=tuple(each for each in exhibits if each is not None)
    )


def _of(label: str, claim: Claim) -> Claim:
    return replace(claim, scope={"boot": label, **claim.scope})


def _hot_claims(snapshot: Snapshot) -> Iterator[Claim]:
    zone = _find(snapshot, 0, "Movable")
    block_bytes = snapshot.number(f"{_BLOCKS}/block_size_bytes", 16)
    blocks = _blocks(snapshot)
    way = Way()
    memory, _ = x86_memory(snapshot, eras(snapshot)[0], way)
    fresh = added_blocks([block for block, online in blocks.items() if online], block_bytes, memory)
    layout = movable_zone(0, fresh, block_bytes, snapshot.page_size_bytes)
    working = [
        *way.steps,
        f"memory blocks of {block_bytes:#x} bytes, online: {' '.join(map(str, blocks))}",
        f"not there at boot: {' '.join(map(str, fresh)) or 'none'}",
    ]
    shown: Mapping[str, tuple[Number, Number, str]] = {
        "hot_start_pfn": (layout.start_pfn, zone.tail["start_pfn"], "pfn"),
        "hot_spanned": (layout.spanned_pages, zone.pages["spanned"], "pages"),
        "hot_present": (layout.present_pages, zone.pages["present"], "pages"),
        "hot_managed": (layout.present_pages, zone.pages["managed"], "pages"),
    }
    for claim_id, (predicted, observed, unit) in shown.items():
        yield exact(
            claim_id,
            {"boot": "hot-dimm", "node": 0, "zone": "Movable"},
            predicted=predicted,
            observed=observed,
            unit=unit,
            working=working,
        )


def _blocks(snapshot: Snapshot) -> dict[int, bool]:
    """Number of each memory block → whether it is online."""
    found = {
        int(match[1]): snapshot.text(match[0]).strip() == "online"
        for name in snapshot.source.files
        if (match := _BLOCK.fullmatch(name))
    }
    if not found:
        raise MissingInputError(f"{_BLOCKS}/memoryN/state")
    return dict(sorted(found.items()))


def _blocks_listing(snapshot: Snapshot) -> Listing | None:
    rows = [
        f"memory{block}  state {'online' if online else 'offline'}  valid_zones "
        + (snapshot.source.text(f"{_BLOCKS}/memory{block}/valid_zones") or "?").strip()
        for block, online in _blocks(snapshot).items()
    ]
    return pick("movable_blocks", "\n".join(rows), "", marked="Movable")


def _device(evidence: StopEvidence) -> Finding:
    boot = evidence.boot()
    snapshot = boot.snapshot()
    zone = _find(snapshot, 0, "Device")
    claims = [
        *_populated(snapshot),
        *_layout(snapshot, "Device"),
        exact(
            "device_managed",
            {"node": 0, "zone": "Device"},
            predicted=0,
            observed=zone.pages["managed"],
            unit="pages",
            working=["no page of ZONE_DEVICE is ever given to the page allocator"],
        ),
        _served(boot, snapshot),
    ]
    exhibits = [
        *_exhibits(snapshot, "Device"),
        pick("iomem", snapshot.text("proc/iomem"), r"System RAM|Persistent|namespace|dax",
             marked="Persistent|namespace"),
    ]  # fmt: skip
    return Finding(claims=tuple(claims), exhibits=tuple(each for each in exhibits if each))


def _exhibits(snapshot: Snapshot, zone: str) -> Iterator[Exhibit]:
    yield map_plate("map", snapshot, (zone,))
    if listing := _zone_listing("zoneinfo", snapshot, zone):
        yield listing
    if listing := pick("ranges", snapshot.text("dmesg"), _RANGES, marked=rf"\]   {zone} "):
        yield listing


def _zone_listing(listing_id: str, snapshot: Snapshot, zone: str) -> Listing | None:
    block = zone_block(snapshot.text("proc/zoneinfo"), 0, zone)
    return pick(listing_id, block, _HEAD, marked=_TELLING)


def _find(snapshot: Snapshot, node: int, zone: str) -> Zone:
    for each in snapshot.zoneinfo.zones:
        if (each.node, each.zone) == (node, zone):
            return each
    raise MissingInputError(f"the zone {zone} of node {node} in proc/zoneinfo")


JUDGES: Mapping[str, Callable[[StopEvidence], Finding]] = MappingProxyType(
    {
        "zones/dma": _zone("DMA", _protected("DMA")),
        "zones/dma32": _zone("DMA32", _protected("DMA32")),
        "zones/normal": _zone("Normal"),
        "zones/highmem": _zone("HighMem", _high_total),
        "zones/movable": _movable,
        "zones/device": _device,
    }
)
