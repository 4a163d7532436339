"""What changed in building zonelists between kernel releases."""

from __future__ import annotations

from dataclasses import dataclass

from analysis.model.release import Release


@dataclass(frozen=True, slots=True, kw_only=True)
class ZonelistEra:
    """How a release builds its zonelists.

    Kernel: mm/page_alloc.c of 5.10.262, 6.1, 6.12, 7.2 and 7.3-rc, compared line by line.
    Ignores: nothing known.
    """

    accumulates_load: bool
    """Heading a group of equally distant nodes adds 1 to a node's load each time (5.16, "use
    accumulated load when building node fallback list"); before, the last list decides alone."""
    prints_order: bool
    """dmesg shows "Fallback order for Node N" (5.16, "print node fallback order")."""
    possible_nodes: bool
    """Lists are built for all possible nodes, before for those online (5.18, "handle uninitialized
    numa nodes gracefully")."""
    skips_memoryless: bool
    """A node without memory is not in its own list (6.7, "skip memoryless nodes entirely")."""


def zonelist_era_of(release: Release) -> ZonelistEra:
    """How a release builds its zonelists.

    Kernel: mm/page_alloc.c; see ``ZonelistEra``.
    Ignores: changes that a vendor took back to an older release.
    """
    return ZonelistEra(
        accumulates_load=release >= Release(5, 16),
        prints_order=release >= Release(5, 16),
        possible_nodes=release >= Release(5, 18),
        skips_memoryless=release >= Release(6, 7),
    )
