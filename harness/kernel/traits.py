"""What a kernel's configuration makes of memory: the words that a list of kernels shows."""

from __future__ import annotations

import re
from collections.abc import Mapping

from harness.kernel.kconfig import is_set

_ZONES = (
    ("DMA", "CONFIG_ZONE_DMA"),
    ("DMA32", "CONFIG_ZONE_DMA32"),
    ("Normal", None),
    ("HighMem", "CONFIG_HIGHMEM"),
    ("Movable", None),
    ("Device", "CONFIG_ZONE_DEVICE"),
)
_ORDERS = 11
_SANE_MAX_ORDER = (6, 4)


def memory_model(config: Mapping[str, str]) -> str:
    """How a frame number becomes a struct page.

    Kernel: mm/Kconfig, the choice of a memory model, and SPARSEMEM_VMEMMAP on top of SPARSEMEM.
    """
    if is_set(config, "CONFIG_SPARSEMEM_VMEMMAP"):
        return "VMEMMAP"
    for name in ("SPARSEMEM", "DISCONTIGMEM"):
        if is_set(config, f"CONFIG_{name}"):
            return name
    return "FLATMEM"


def slab_allocator(config: Mapping[str, str]) -> str:
    """SLAB, SLOB or SLUB; ``SLUB debug`` where its checks are on from boot.

    Kernel: mm/Kconfig; from 6.2 SLOB, and from 6.5 SLAB, carry ``_DEPRECATED`` in the name that
    a person chooses.
    """
    if is_set(config, "CONFIG_SLAB"):
        return "SLAB"
    if is_set(config, "CONFIG_SLOB"):
        return "SLOB"
    if is_set(config, "CONFIG_SLUB_TINY"):
        return "SLUB tiny"
    return "SLUB debug" if is_set(config, "CONFIG_SLUB_DEBUG_ON") else "SLUB"


def orders(config: Mapping[str, str], release: str) -> int:
    """How many orders the buddy allocator has.

    Kernel: include/linux/mmzone.h, MAX_ORDER, which counted the orders up to 6.3 and has been the
    largest one since; FORCE_MAX_ZONEORDER (to 6.0) or ARCH_FORCE_MAX_ORDER where the architecture
    has them.
    """
    value = config.get("CONFIG_ARCH_FORCE_MAX_ORDER") or config.get("CONFIG_FORCE_MAX_ZONEORDER")
    if value is None or not value.isdigit():
        return _ORDERS
    match = re.match(r"(\d+)\.(\d+)", release)
    counts = match is not None and (int(match[1]), int(match[2])) < _SANE_MAX_ORDER
    return int(value) if counts else int(value) + 1


def zones(config: Mapping[str, str]) -> tuple[str, ...]:
    """The zones that the kernel has, populated or not, from the lowest to the highest."""
    return tuple(name for name, symbol in _ZONES if symbol is None or is_set(config, symbol))
