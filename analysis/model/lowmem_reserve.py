"""lowmem_reserve: what a lower zone keeps back from requests that could go to a higher one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

DEFAULT_RATIOS: Mapping[str, int] = {"DMA": 256, "DMA32": 256, "Normal": 32}
"""vm.lowmem_reserve_ratio before anybody writes it, by the zone that keeps back; others 0."""


def lowmem_reserve(
    zones: Sequence[tuple[str, int]], ratios: Sequence[int], *, empty_keep: bool = False
) -> dict[str, tuple[int, ...]]:
    """Every zone's ``protection`` array in pages, by the zone index of the request.

    ``zones`` are name and managed pages of all zones of one node, from the lowest on, those
    without memory included; ``ratios`` one number each, 0 keeps nothing back. A zone keeps, from a
    request that may go up to zone j, what zones above it and up to j manage divided by its ratio;
    a zone that manages nothing keeps nothing, unless ``empty_keep``.

    Raises:
        ValueError: not one ratio a zone, or a negative one.

    Kernel: mm/page_alloc.c, ``setup_per_zone_lowmem_reserve``, the same from 5.10 to 7.3; in 4.19
        empty zones keep something as well. When it runs differs: see
        ``analysis.model.eras_watermark``.
    Ignores: nothing known.
    """
    if len(ratios) != len(zones) or min(ratios, default=0) < 0:
        raise ValueError(
            f"{len(zones)} zones, ratios {list(ratios)}: expected one each, not below 0"
        )
    reserve: dict[str, tuple[int, ...]] = {}
    for index, (zone, managed) in enumerate(zones):
        kept = [0] * len(zones)
        above_pages = 0
        for j in range(index + 1, len(zones)):
            above_pages += zones[j][1]
            if (managed or empty_keep) and ratios[index]:
                kept[j] = above_pages // ratios[index]
        reserve[zone] = tuple(kept)
    return reserve


def default_ratios(zones: Sequence[str]) -> tuple[int, ...]:
    """The ratios of a machine on which nobody wrote vm.lowmem_reserve_ratio.

    Kernel: mm/page_alloc.c, ``sysctl_lowmem_reserve_ratio``, the same from 4.19 to 7.3.
    Ignores: nothing known.
    """
    return tuple(DEFAULT_RATIOS.get(zone, 0) for zone in zones)
