from __future__ import annotations

import pytest

from harness.kernel.traits import memory_model, orders, slab_allocator, zones


@pytest.mark.parametrize(
    ("on", "model"),
    [
        ((), "FLATMEM"),
        (("FLATMEM",), "FLATMEM"),
        (("SPARSEMEM",), "SPARSEMEM"),
        (("SPARSEMEM", "SPARSEMEM_VMEMMAP"), "VMEMMAP"),
        (("DISCONTIGMEM",), "DISCONTIGMEM"),
    ],
)
def test_memory_model(on: tuple[str, ...], model: str) -> None:
    assert memory_model({f"CONFIG_{name}": "y" for name in on}) == model


@pytest.mark.parametrize(
    ("on", "slab"),
    [
        (("SLAB",), "SLAB"),
        (("SLAB", "SLAB_DEPRECATED"), "SLAB"),
        (("SLOB",), "SLOB"),
        (("SLUB",), "SLUB"),
        (("SLUB", "SLUB_TINY"), "SLUB tiny"),
        (("SLUB", "SLUB_DEBUG"), "SLUB"),
        (("SLUB", "SLUB_DEBUG", "SLUB_DEBUG_ON"), "SLUB debug"),
    ],
)
def test_slab(on: tuple[str, ...], slab: str) -> None:
    assert slab_allocator({f"CONFIG_{name}": "y" for name in on}) == slab


@pytest.mark.parametrize(
    ("symbol", "value", "release", "count"),
    [
        ("", "", "6.1.0-50-amd64", 11),
        # arm64 of 64K pages: 14 orders, whatever the release calls it
        ("FORCE_MAX_ZONEORDER", "14", "5.10.0-46-arm64", 14),
        ("ARCH_FORCE_MAX_ORDER", "14", "6.1.192-pages-64k", 14),
        ("ARCH_FORCE_MAX_ORDER", "13", "6.12.95+deb12-arm64-64k", 14),
        ("ARCH_FORCE_MAX_ORDER", "10", "6.4-x", 11),
    ],
)
def test_orders(symbol: str, value: str, release: str, count: int) -> None:
    assert orders({f"CONFIG_{symbol}": value}, release) == count


def test_zones() -> None:
    assert zones({}) == ("Normal", "Movable")
    x86 = {"CONFIG_ZONE_DMA": "y", "CONFIG_ZONE_DMA32": "y", "CONFIG_ZONE_DEVICE": "y"}
    assert zones(x86) == ("DMA", "DMA32", "Normal", "Movable", "Device")
    assert zones({"CONFIG_HIGHMEM": "y"}) == ("Normal", "HighMem", "Movable")
