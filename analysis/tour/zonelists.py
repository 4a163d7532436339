"""The zonelists of a stop: as the model builds them, and as they stand in the guest's memory."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from analysis.capture.snapshot import NODES, Snapshot
from analysis.compare.claim import Claim
from analysis.compare.rule import exact
from analysis.errors import MissingInputError, ParseError
from analysis.model.eras_zonelist import zonelist_era_of
from analysis.model.zonelist import fallback_lists, zonelist
from analysis.procfs import cpulist
from analysis.tour.evidence import BootEvidence

Order = tuple[tuple[int, str], ...]
"""(node, zone) from the first that is asked to the last."""

_NOTHING = "none"


def nodes_with_memory(snapshot: Snapshot) -> tuple[int, ...]:
    return snapshot.parsed(f"{NODES}/has_memory", cpulist.parse)


def orders(snapshot: Snapshot) -> dict[int, Order]:
    """The zonelist of each node, as the model builds it from distances."""
    distances = {
        node: dict(zip(snapshot.nodes, snapshot.node_distances(node), strict=True))
        for node in snapshot.nodes
    }
    lists = fallback_lists(
        distances, with_memory=nodes_with_memory(snapshot), era=zonelist_era_of(snapshot.release)
    )
    present = {
        (zone.node, zone.zone): zone.pages.get("present", 0) for zone in snapshot.zoneinfo.zones
    }
    return {
        node: zonelist([choice.node for choice in lists[node]], present) for node in snapshot.nodes
    }


def zonelists(boot: BootEvidence) -> dict[int, Order]:
    """The zonelists that the host found in the guest's memory.

    Raises:
        MissingInputError: the reading was not sound.
    """
    found = boot.json("zonelists")
    try:
        if not found["sound"]:
            raise MissingInputError(f"a sound reading of the guest's memory: {found['problems']}")
        return {
            int(node): tuple((int(each[0]), str(each[1])) for each in rows)
            for node, rows in found["lists"].items()
        }
    except (KeyError, TypeError, IndexError) as error:
        raise ParseError("zonelists.json", 0, str(error), "a list for each node") from None


def zonelist_claims(boot: BootEvidence, order: Mapping[int, Order]) -> Iterator[Claim]:
    in_memory = zonelists(boot)
    for node, predicted in order.items():
        yield exact(
            "zonelist",
            {"node": node},
            predicted=order_text(predicted),
            observed=order_text(in_memory.get(node, ())) or _NOTHING,
            unit="",
            working=[
                "fallback order: " + " ".join(map(str, dict.fromkeys(n for n, _ in predicted))),
                "of each node the populated zones, the highest first",
            ],
        )


def order_text(order: Order) -> str:
    return " ".join(f"{node}:{zone}" for node, zone in order)


def zonelists_text(boot: BootEvidence) -> str:
    return "\n".join(
        f"node {node}: {order_text(order)}" for node, order in sorted(zonelists(boot).items())
    )
