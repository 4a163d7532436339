"""Nodes, fake nodes, zone limits, ZONE_MOVABLE and zones: examples by hand."""

from __future__ import annotations

import pytest

from analysis.model.layout.absent import absent_pages
from analysis.model.layout.device_zone import device_zone_span, node_of_range
from analysis.model.layout.movable import highest_zone, movable_starts, required_kernelcore
from analysis.model.layout.nodes import (
    NodeSpan,
    OverlapError,
    assigned,
    cleaned,
    in_pages,
    node_extents,
)
from analysis.model.layout.numa_fake import NotEmulatedError, fake_nodes
from analysis.model.layout.pfn import Span
from analysis.model.layout.zone_limits import (
    arm64_zone_ends,
    riscv_zone_ends,
    x86_zone_ends,
    zone_names,
    zone_ranges,
)
from analysis.model.layout.zones import ZoneLayout, zone_layout

MIB = 1 << 20
GIB = 1 << 30
X86 = ("DMA", "DMA32", "Normal", "Movable", "Device")

MEMORY = (Span(0x1000, 0x9F000), Span(0x100000, 0x3FFDA000))
SRAT = (
    NodeSpan(0, 0, 0xA0000),
    NodeSpan(0, 0x100000, 0x20000000),
    NodeSpan(1, 0x20000000, 0x40000000),
)
RANGES = (
    NodeSpan(0, 1, 0x9F),
    NodeSpan(0, 0x100, 0x20000),
    NodeSpan(1, 0x20000, 0x3FFDA),
)


def zones_of(
    ranges: tuple[NodeSpan, ...], movable: dict[int, int] | None = None, max_pfn: int = 0
) -> dict[tuple[int, str], ZoneLayout]:
    end = max_pfn or max(piece.end for piece in ranges)
    limits = zone_ranges(X86, x86_zone_ends(end, end), ranges[0].start)
    layout = zone_layout(X86, limits, ranges, movable or {}, highest_zone(limits))
    return {(zone.node, zone.zone): zone for zone in layout}


def test_blocks_of_one_node_swallow_the_hole_between_them() -> None:
    assert cleaned(SRAT, MEMORY, Span(0, 0x3FFDA000)) == (
        NodeSpan(0, 0, 0x20000000),
        NodeSpan(1, 0x20000000, 0x3FFDA000),
    )


def test_a_block_without_memory_goes() -> None:
    blocks = (*SRAT, NodeSpan(2, 4 * GIB, 8 * GIB))
    assert {b.node for b in cleaned(blocks, MEMORY, Span(0, 16 * GIB))} == {0, 1}


def test_nodes_that_alternate_stay_apart() -> None:
    blocks = [NodeSpan(0, 0, 10), NodeSpan(1, 10, 20), NodeSpan(0, 20, 30)]
    assert cleaned(blocks, [Span(0, 30)], Span(0, 30)) == tuple(blocks)


def test_two_nodes_may_not_overlap() -> None:
    with pytest.raises(OverlapError, match="nodes 0 and 1 overlap"):
        cleaned([NodeSpan(0, 0, 10), NodeSpan(1, 9, 20)], [Span(0, 20)], Span(0, 20))


def test_memory_is_cut_at_the_borders_of_blocks() -> None:
    blocks = cleaned(SRAT, MEMORY, Span(0, 0x3FFDA000))
    pieces = assigned(MEMORY, blocks)
    assert pieces == (
        NodeSpan(0, 0x1000, 0x9F000),
        NodeSpan(0, 0x100000, 0x20000000),
        NodeSpan(1, 0x20000000, 0x3FFDA000),
    )
    assert in_pages(pieces, 4096) == RANGES
    assert in_pages([NodeSpan(0, 1, 4095)], 4096) == ()


def test_memory_without_a_node_is_refused() -> None:
    with pytest.raises(ValueError, match="belongs to no node"):
        assigned([Span(0, 20)], [NodeSpan(0, 0, 10)])
    with pytest.raises(ValueError, match="memory at 0x0"):
        assigned([Span(0, 20)], [NodeSpan(0, 5, 20)])


def test_extents_and_absent_pages() -> None:
    assert node_extents(RANGES) == {0: Span(1, 0x20000), 1: Span(0x20000, 0x3FFDA)}
    assert absent_pages(RANGES, Span(1, 0x200)) == 0x61
    assert absent_pages(RANGES, Span(1, 0x200), 1) == 0x1FF


def test_four_fake_nodes_of_two_gib() -> None:
    memory = (NodeSpan(0, 1, 0x9F), NodeSpan(0, 0x100, 0x7FFDA))
    blocks = (NodeSpan(0, 0, 0x7FFDA000),)
    made = fake_nodes("4", blocks, memory, limit=0x7FFDA000, dma32_end=4 * GIB, nodes_max=1024)
    # 2 GiB less some pages: a quarter is 511 MiB, in units of 32 MiB 480, and three are larger
    assert made == (
        NodeSpan(0, 0, 0x20000000),
        NodeSpan(1, 0x20000000, 0x40000000),
        NodeSpan(2, 0x40000000, 0x60000000),
        NodeSpan(3, 0x60000000, 0x7FFDA000),
    )


def test_fake_nodes_of_a_size_leave_the_last_more() -> None:
    memory = (NodeSpan(0, 0, 256 * 1024),)
    blocks = (NodeSpan(0, 0, GIB),)
    made = fake_nodes("300M", blocks, memory, limit=GIB, dma32_end=4 * GIB, nodes_max=64)
    # 300 MiB down to 288; the third takes all, as less than 288 MiB would remain
    assert [block.end // MIB for block in made] == [288, 576, 1024]


def test_equal_parts_of_each_node_ignore_holes() -> None:
    memory = (NodeSpan(0, 0, 64 * 1024), NodeSpan(0, 128 * 1024, 512 * 1024))
    blocks = (NodeSpan(0, 0, GIB), NodeSpan(1, GIB, 2 * GIB))
    made = fake_nodes("2U", blocks, memory, limit=2 * GIB, dma32_end=0, nodes_max=64)
    assert [(b.node, b.start // MIB, b.end // MIB) for b in made] == [
        (0, 0, 512),
        (1, 512, 1024),
        (2, 1024, 1536),
        (3, 1536, 2048),
    ]


def test_a_rest_below_32_mib_of_dma32_joins_the_node_before() -> None:
    memory = (NodeSpan(0, 0, 0x100000), NodeSpan(0, 0x100000, 0x140000))
    blocks = (NodeSpan(0, 0, 5 * GIB),)
    made = fake_nodes("4080M", blocks, memory, limit=5 * GIB, dma32_end=4 * GIB, nodes_max=64)
    assert made[0].end == 5 * GIB or made[0].end == 4 * GIB
    assert len(made) == 1


@pytest.mark.parametrize("value", ["0", "x", "64", "0M"])
def test_what_cannot_be_emulated(value: str) -> None:
    memory = (NodeSpan(0, 0, 0x10000),)
    with pytest.raises(NotEmulatedError):
        fake_nodes(
            value,
            (NodeSpan(0, 0, 0x10000000),),
            memory,
            limit=0x10000000,
            dma32_end=4 * GIB,
            nodes_max=64,
        )


def test_a_node_too_small_for_its_parts_is_not_emulated() -> None:
    with pytest.raises(NotEmulatedError, match="gives 2 of 4 nodes"):
        fake_nodes(
            "4U",
            (NodeSpan(0, 0, 64 * MIB),),
            (NodeSpan(0, 0, 16384),),
            limit=64 * MIB,
            dma32_end=0,
            nodes_max=64,
        )


def test_zone_names_follow_the_options() -> None:
    assert zone_names({"ZONE_DMA", "ZONE_DMA32", "ZONE_DEVICE"}) == X86
    assert zone_names({"ZONE_DMA", "HIGHMEM"}) == ("DMA", "Normal", "HighMem", "Movable")
    assert zone_names(()) == ("Normal", "Movable")


def test_limits_of_five_gib_on_x86() -> None:
    limits = zone_ranges(X86, x86_zone_ends(0x180000, 0x180000), 1)
    assert limits == {
        "DMA": Span(1, 0x1000),
        "DMA32": Span(0x1000, 0x100000),
        "Normal": Span(0x100000, 0x180000),
        "Device": Span(0x180000, 0x180000),
    }
    assert highest_zone(limits) == "Normal"


def test_limits_of_a_tiny_machine() -> None:
    limits = zone_ranges(X86, x86_zone_ends(0x800, 0x800), 1)
    assert limits["DMA"] == Span(1, 0x800)
    assert highest_zone(limits) == "DMA"
    with pytest.raises(ValueError, match="no zone has pages"):
        highest_zone({"Normal": Span(5, 5)})


def test_highmem_of_32_bits() -> None:
    names = ("DMA", "Normal", "HighMem", "Movable")
    limits = zone_ranges(names, x86_zone_ends(0x377FE, 0x40000), 1)
    assert limits["HighMem"] == Span(0x377FE, 0x40000)


def test_arm64_below_4_gib_is_all_dma() -> None:
    ends = arm64_zone_ends([Span(GIB, 2 * GIB)], 4 * GIB, 4096)
    limits = zone_ranges(X86, ends, 0x40000)
    assert limits["DMA"] == Span(0x40000, 0x80000)
    assert limits["DMA32"].size == limits["Normal"].size == 0


def test_arm64_with_16k_pages_and_5_gib() -> None:
    ends = arm64_zone_ends([Span(GIB, 6 * GIB)], 1 << 64, 16384)
    assert ends == {"DMA": 0x40000, "DMA32": 0x40000, "Normal": 0x60000}


def test_arm64_narrow_dma_makes_a_dma32() -> None:
    ends = arm64_zone_ends([Span(0, 8 * GIB)], GIB, 4096)
    limits = zone_ranges(X86, ends, 0)
    assert limits["DMA"] == Span(0, 0x40000)
    assert limits["DMA32"] == Span(0x40000, 0x100000)


def test_arm64_memory_above_4_gib_is_all_dma() -> None:
    ends = arm64_zone_ends([Span(512 * GIB, 514 * GIB)], 1 << 64, 4096)
    assert ends["DMA"] == ends["Normal"] == 514 * GIB // 4096


def test_a_limit_below_memory_is_raised_to_4_gib() -> None:
    ends = arm64_zone_ends([Span(2 * GIB, 6 * GIB)], GIB, 4096)
    assert ends["DMA"] == 0x100000


def test_riscv_has_no_dma() -> None:
    assert riscv_zone_ends([Span(2 * GIB, 6 * GIB)], 4096) == {
        "DMA32": 0x100000,
        "Normal": 0x180000,
    }


def test_two_nodes_below_4_gib() -> None:
    zones = zones_of(RANGES)
    dma = zones[0, "DMA"]
    assert (dma.start_pfn, dma.spanned_pages, dma.present_pages) == (1, 4095, 3998)
    assert zones[0, "DMA32"].spanned_pages == 126_976
    assert zones[1, "DMA"].spanned_pages == 0
    assert zones[1, "DMA"].start_pfn == 0
    assert zones[1, "DMA32"].present_pages == 131_034


def test_a_zone_spans_the_hole_up_to_its_limit() -> None:
    ranges = (NodeSpan(0, 0x100, 0x80000), NodeSpan(0, 0x100000, 0x140000))
    zones = zones_of(ranges)
    assert zones[0, "DMA32"].spanned_pages == 0x100000 - 0x1000
    assert zones[0, "DMA32"].present_pages == 0x80000 - 0x1000


def test_low_memory_of_a_later_node() -> None:
    ranges = (NodeSpan(1, 0x100, 0x20000), NodeSpan(0, 0x100000, 0x140000))
    zones = zones_of(ranges)
    assert zones[1, "DMA"].present_pages == 0x1000 - 0x100
    assert zones[0, "DMA"].spanned_pages == 0
    assert zones[0, "Normal"].present_pages == 0x40000


def test_what_another_node_has_in_between_is_absent() -> None:
    ranges = (
        NodeSpan(0, 0x1000, 0x2000),
        NodeSpan(1, 0x2000, 0x3000),
        NodeSpan(0, 0x3000, 0x4000),
    )
    zones = zones_of(ranges)
    assert zones[0, "DMA32"].spanned_pages == 0x3000
    assert zones[0, "DMA32"].present_pages == 0x2000


def test_movable_takes_what_lies_above_its_start() -> None:
    zones = zones_of(RANGES, {0: 0x18400, 1: 0x38000})
    assert zones[0, "DMA32"].present_pages == 95_232
    assert zones[0, "Movable"].present_pages == 31_744
    assert zones[1, "Movable"].present_pages == 32_730


def test_a_zone_wholly_above_the_start_is_movable() -> None:
    ranges = (NodeSpan(0, 0x100, 0x80000), NodeSpan(0, 0x100000, 0x140000))
    zones = zones_of(ranges, {0: 0x100000})
    assert zones[0, "Normal"].spanned_pages == 0
    assert zones[0, "Movable"].present_pages == 0x40000
    assert zones[0, "DMA32"].spanned_pages == 0xFF000


def test_movablecore_of_two_nodes() -> None:
    # 262,008 pages, 65,536 movable: 196,472 for the kernel, 98,236 on each node
    required = required_kernelcore(262_008, 0, 65_536, 1024)
    assert required == 196_472
    starts = movable_starts(RANGES, required, 0x1000, 1024)
    assert {node: pfn << 12 for node, pfn in starts.items()} == {0: 0x18400000, 1: 0x38000000}


def test_the_larger_kernel_part_counts() -> None:
    assert required_kernelcore(1000, 600, 500, 100) == 600
    assert required_kernelcore(1000, 400, 500, 100) == 500
    assert required_kernelcore(1000, 0, 450, 100) == 500
    assert required_kernelcore(1000, 0, 5000, 100) == 0
    assert required_kernelcore(1000, 1000, 0, 100) == 0
    assert required_kernelcore(1000, 0, 0, 100) == 0


def test_what_a_small_node_cannot_give_others_do() -> None:
    ranges = (NodeSpan(0, 0, 1000), NodeSpan(1, 1000, 11_000), NodeSpan(3, 11_000, 21_000))
    starts = movable_starts(ranges, 9000, 0, 1)
    # 3000 each; node 0 has 1000, the other 2000 are asked of 1 and 3, 1000 each
    assert starts == {1: 5000, 3: 15_000}


def test_memory_below_the_highest_zone_is_the_kernels() -> None:
    ranges = (NodeSpan(0, 0, 5000), NodeSpan(0, 8000, 12_000))
    assert movable_starts(ranges, 3000, 6000, 1) == {0: 8000}
    assert movable_starts(ranges, 6000, 6000, 1) == {0: 9000}


def test_no_movable_without_a_kernel_part() -> None:
    assert movable_starts(RANGES, 0, 0, 1024) == {}


def test_a_start_rounded_past_the_node_is_none() -> None:
    assert movable_starts((NodeSpan(0, 0, 1500),), 1100, 0, 1024) == {}


def test_a_zone_device_spans_what_is_mapped_into_it() -> None:
    mapped = [Span(GIB, GIB + 256 * MIB), Span(2 * GIB, 2 * GIB + 64 * MIB)]
    assert device_zone_span(mapped, 4096) == Span(0x40000, 0x84000)
    assert device_zone_span([], 4096).size == 0
    assert device_zone_span(mapped[:1], 16384).size == 16384


def test_the_node_around_a_range() -> None:
    extents = {0: Span(0, GIB), 1: Span(GIB, 2 * GIB)}
    assert node_of_range(Span(MIB, 2 * MIB), extents) == 0
    assert node_of_range(Span(GIB, 2 * GIB), extents) == 1
    assert node_of_range(Span(GIB - 1, GIB + 1), extents) is None
    assert node_of_range(Span(4 * GIB, 5 * GIB), extents) is None
