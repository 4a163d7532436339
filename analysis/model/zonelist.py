"""Zonelists: in which order a request that starts at a node tries all nodes and their zones."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from analysis.model.eras_zonelist import ZonelistEra

ZONES = ("DMA", "DMA32", "Normal", "HighMem", "Movable", "Device")
"""All zones that any kernel has, lowest first (include/linux/mmzone.h, ``enum zone_type``)."""

PENALTY_FOR_NODE_WITH_CPUS = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """A node of a fallback list, and by what it came before those still left."""

    node: int
    distance: int
    below: bool
    """Its id is smaller than that of the node whose list this is: counts 1 as distance."""
    has_cpus: bool
    """Counts 1 as distance."""
    load: int
    """How often it headed a group of equally distant nodes in the lists built before."""

    @property
    def cost(self) -> tuple[int, int]:
        """What is compared: distance with its additions first, the load among equals."""
        penalty = PENALTY_FOR_NODE_WITH_CPUS if self.has_cpus else 0
        return self.distance + self.below + penalty, self.load


def fallback_lists(
    distances: Mapping[int, Mapping[int, int]],
    *,
    with_memory: Collection[int],
    with_cpus: Collection[int] = (),
    era: ZonelistEra,
) -> dict[int, tuple[Choice, ...]]:
    """The fallback list of every node in ``distances``, built one after the other by node id.

    ``distances[a][b]`` is the distance from a to b, for each a that a list is built for and each b
    with memory and a itself. The order of the lists matters, since each raises the load of the
    nodes that head its groups. ``with_cpus`` is empty at boot: see Kernel.

    Raises:
        KeyError: a distance is missing.

    Kernel: mm/page_alloc.c, ``__build_all_zonelists``, ``build_zonelists`` and
        ``find_next_best_node``; 5.10, 6.1, 6.12, 7.2 and 7.3, by ``ZonelistEra``; CONFIG_NUMA. The
        lists of a boot are built before any CPU has entered its node's mask (x86: identify_cpu,
        arm64 and riscv: smp_prepare_cpus come later), so that no node has the penalty for CPUs; it
        counts when memory is added to a running system.
    Ignores: a load that reaches the largest number of nodes (1 << NODES_SHIFT), which would weigh
        as much as a distance of 1; architectures that fill node masks earlier (powerpc).
    """
    load = dict.fromkeys({*distances, *with_memory}, 0)
    lists: dict[int, tuple[Choice, ...]] = {}
    for local in sorted(distances):
        left = set(with_memory) | (set() if era.skips_memoryless else {local})
        position_weight = len(distances)
        previous = local
        chosen: list[Choice] = []
        while left:
            if local in left:
                best = _choice(local, local, distances, with_cpus, load)
            else:
                best = min(
                    (_choice(local, node, distances, with_cpus, load) for node in sorted(left)),
                    key=lambda choice: choice.cost,
                )
            left.discard(best.node)
            if best.distance != distances[local][previous]:
                if era.accumulates_load:
                    load[best.node] += 1
                else:
                    load[best.node] = position_weight
            position_weight -= 1
            previous = best.node
            chosen.append(best)
        lists[local] = tuple(chosen)
    return lists


def _choice(
    local: int,
    node: int,
    distances: Mapping[int, Mapping[int, int]],
    with_cpus: Collection[int],
    load: Mapping[int, int],
) -> Choice:
    return Choice(
        node=node,
        distance=distances[local][node],
        below=node < local,
        has_cpus=node in with_cpus,
        load=load[node],
    )


def order_without_numa(node: int, online: Iterable[int]) -> tuple[int, ...]:
    """Fallback order of a node in a kernel that knows no distances: round the ring of ids.

    Kernel: mm/page_alloc.c, ``build_zonelists`` without CONFIG_NUMA; 5.10 to 7.3. Only a kernel
        with several memory banks as nodes (DISCONTIGMEM, to 5.12) has more than one.
    Ignores: nothing known.
    """
    ids = sorted(online)
    return (node, *(n for n in ids if n > node), *(n for n in ids if n < node))


def zonelist(
    nodes: Sequence[int], present_pages: Mapping[tuple[int, str], int]
) -> tuple[tuple[int, str], ...]:
    """(node, zone) in the order tried: node by node, in each the highest zone first.

    ``nodes`` is the fallback order, or the node alone for ``__GFP_THISNODE`` (the no-fallback
    list). ``present_pages`` is by node and zone name; zones without pages are left out. A request
    that may only use lower zones walks the same list and skips what is above.

    Kernel: mm/page_alloc.c, ``build_zonerefs_node``, ``build_zonelists_in_node_order`` and
        ``build_thisnode_zonelists``; the same in 5.10, 6.1, 6.12, 7.2 and 7.3.
    Ignores: orders by zone (``numa_zonelist_order=zone``), which 4.14 took away.
    """
    return tuple(
        (node, zone)
        for node in nodes
        for zone in reversed(ZONES)
        if present_pages.get((node, zone), 0)
    )


def policy_zone(present_pages: Mapping[tuple[int, str], int]) -> str:
    """The zone from which on memory policies apply: the highest of any node that is not Movable.

    Kernel: mm/page_alloc.c, ``check_highest_zone`` in mm/internal.h or include/linux/mempolicy.h;
        the same in 5.10 to 7.3; CONFIG_NUMA.
    Ignores: that it never goes down again when the last memory of a zone is taken offline.
    """
    populated = {zone for (_, zone), pages in present_pages.items() if pages}
    candidates = [zone for zone in ZONES if zone in populated and zone != "Movable"]
    return candidates[-1] if candidates else ZONES[0]


def groups_by_mobility(total_pages: int, pageblock_order: int, migratetypes: int) -> bool:
    """Whether pageblocks are kept apart by type: with at least one pageblock for each type.

    ``total_pages``: what all zones hold beyond their high watermarks (which are 0 at boot).
    ``migratetypes``: the kernel's MIGRATE_TYPES: unmovable, movable, reclaimable, high-atomic, and
    CMA and isolated where configured.

    Kernel: mm/page_alloc.c, ``build_all_zonelists``; the same in 5.10 to 7.3.
    Ignores: nothing known.
    """
    return total_pages >= migratetypes << pageblock_order
