"""Orders, pageblocks, sections and memory blocks against what the kernel shows of them."""

from __future__ import annotations

import re
from collections.abc import Hashable, Iterator

from analysis.capture.snapshot import Snapshot
from analysis.compare.claim import Claim, Number
from analysis.compare.rule import Rule
from analysis.compare.static.layout.capture import MEMORY_ROOT, LayoutUnknownError
from analysis.compare.static.layout.inputs import layout_now, orders_of, placement
from analysis.compare.static.layout.judge import Predicted, Predictions, judge, per_zone, single
from analysis.errors import MissingInputError
from analysis.model.layout import orders, pageblocks, sections
from analysis.model.layout.eras_layout import LayoutEra
from analysis.procfs import pagetypeinfo

_BLOCK = re.compile(rf"{MEMORY_ROOT}memory(\d+)/")
_SUBSECTION_BYTES = 2 << 20
_KEY = "machine"


def section_shift(snapshot: Snapshot, era: LayoutEra) -> int:
    """log2 of the bytes of a section.

    Raises:
        LayoutUnknownError: the model does not know it for the architecture.
    """
    bits = sections.section_bits(
        snapshot.arch,
        snapshot.page_size_bytes,
        arm64_small=era.arm64_small_sections,
        pae=snapshot.has("config") and snapshot.config.on("X86_PAE"),
    )
    if bits is None:
        raise LayoutUnknownError(f"the size of a section is not modelled for {snapshot.arch}")
    return bits


def block_order(snapshot: Snapshot, era: LayoutEra) -> tuple[int, tuple[str, ...]]:
    """Order of a pageblock and the way to it.

    Raises:
        LayoutUnknownError: boot decides it, or the architecture is not modelled.
    """
    config = snapshot.config
    if config.on("HUGETLB_PAGE_SIZE_VARIABLE"):
        raise LayoutUnknownError("the size of a huge page is decided at boot")
    page = snapshot.page_size_bytes
    shift = orders.huge_page_shift(snapshot.arch, page, pae=config.on("X86_PAE"))
    if shift is None:
        raise LayoutUnknownError(f"the size of a huge page is not modelled for {snapshot.arch}")
    count = orders_of(snapshot, era)
    limit = config.number("PAGE_BLOCK_MAX_ORDER")
    order = orders.pageblock_order(
        era,
        orders=count,
        page_bytes=page,
        huge_shift=shift,
        hugetlb=config.on("HUGETLB_PAGE"),
        thp=config.on("TRANSPARENT_HUGEPAGE"),
        own_limit=limit,
    )
    built = "built in" if config.on("HUGETLB_PAGE") else "not built in"
    huge_order = shift - page.bit_length() + 1
    return order, (
        f"a huge page is 2^{shift} bytes, a page 2^{shift - huge_order}: order {huge_order}",
        f"hugetlb is {built}",
        f"largest buddy block: order {count - 1}; limit of the configuration: {limit or 'none'}",
        f"pageblocks of order {order}: {page << order} bytes",
    )


def _buddy_orders(snapshot: Snapshot) -> Iterator[Claim]:
    if not snapshot.buddyinfo:
        return
    shown: dict[Hashable, Number] = {_KEY: len(snapshot.buddyinfo[0].free_blocks)}
    config = snapshot.config
    value = config.values.get("ARCH_FORCE_MAX_ORDER", config.values.get("FORCE_MAX_ZONEORDER"))

    def predict(era: LayoutEra) -> Predictions:
        kind = "the largest order" if era.max_order_inclusive else "the number of orders"
        said = f"the configuration gives {value}, {kind}" if value else "no option: 11 orders"
        return {_KEY: Predicted(value=orders_of(snapshot, era), working=(said,))}

    yield from judge(
        "buddy_orders", snapshot, predict=predict, observed=shown, scope=single, unit="orders"
    )


def _pageblock_order(snapshot: Snapshot) -> Iterator[Claim]:
    found = snapshot.parsed("proc/pagetypeinfo", pagetypeinfo.parse)

    def predict(era: LayoutEra) -> Predictions:
        order, steps = block_order(snapshot, era)
        return {_KEY: Predicted(value=order, working=steps)}

    yield from judge(
        "pageblock_order",
        snapshot,
        predict=predict,
        observed={_KEY: found.pageblock_order},
        scope=single,
        unit="order",
    )


def _validity(snapshot: Snapshot, era: LayoutEra, end_pfn: int) -> tuple[pageblocks.Validity, str]:
    config = snapshot.config
    page = snapshot.page_size_bytes
    unit: int | None
    if not config.on("SPARSEMEM"):
        unit, said = None, "FLATMEM: every frame has a page"
    elif snapshot.arch == "arm64" and era.arm64_pfn_valid_by_memory:
        unit, said = 1, "only frames with memory have a page"
    elif (
        config.on("MEMORY_HOTPLUG") and config.on("SPARSEMEM_VMEMMAP") and era.online_by_subsection
    ):
        unit = max(1, _SUBSECTION_BYTES // page)
        said = f"frames of {unit}-page subsections with memory have a page"
    else:
        unit = (1 << section_shift(snapshot, era)) // page
        said = f"frames of {unit}-page sections with memory have a page"
    follow = era.holes_follow_memory and (unit is not None or era.flat_holes_set_up)
    valid = pageblocks.Validity(unit_pages=unit, end_pfn=end_pfn, holes_follow_memory=follow)
    return valid, said


def _pageblocks(snapshot: Snapshot) -> Iterator[Claim]:
    found = snapshot.parsed("proc/pagetypeinfo", pagetypeinfo.parse)
    shown: dict[Hashable, Number] = {
        (row.node, row.zone): sum(row.blocks.values()) for row in found.blocks
    }
    if not shown.keys() >= {(row.node, row.zone) for row in found.free}:
        raise MissingInputError("the end of proc/pagetypeinfo, pageblocks of every zone")
    populated = {zone.node for zone in snapshot.zoneinfo.zones if zone.pages["present"]}
    if not {row.node for row in found.blocks} >= populated:  # they come node by node
        raise MissingInputError("the end of proc/pagetypeinfo, pageblocks of every node")

    def predict(era: LayoutEra) -> Predictions:
        plan = layout_now(snapshot, era)
        order, steps = block_order(snapshot, era)
        valid, said = _validity(snapshot, era, plan.placement.max_pfn)
        results: dict[Hashable, Predicted] = {}
        for zone in plan.zones:
            if not zone.present_pages:
                continue
            try:
                count = pageblocks.counted_pageblocks(
                    zone, plan.zones, plan.placement.ranges, 1 << order, valid
                )
            except pageblocks.HoleUnknownError as error:
                raise LayoutUnknownError(
                    f"whose the frames of a hole are is not known of {snapshot.kernel}: {error}"
                ) from None
            found_here = (
                f"from pfn {zone.start_pfn} over {zone.spanned_pages} pages, "
                f"{zone.present_pages} present: {count} of the frames looked at are the zone's"
            )
            results[zone.node, zone.zone] = Predicted(
                value=count, working=(*steps, said, found_here)
            )
        return results

    yield from judge(
        "pageblocks", snapshot, predict=predict, observed=shown, scope=per_zone, unit="pageblocks"
    )


def _memory_block_bytes(snapshot: Snapshot, era: LayoutEra) -> tuple[int, str]:
    section = 1 << section_shift(snapshot, era)
    if snapshot.arch != "x86_64":
        return section, f"a section, {section} bytes"
    end = placement(snapshot, era).max_pfn * snapshot.page_size_bytes
    flags = snapshot.source.text("proc/cpuinfo")
    if end >= 64 << 30 and flags is None:
        raise MissingInputError("proc/cpuinfo (whether the machine is a guest)")
    guest = bool(re.search(r"^flags\s*:.*\bhypervisor\b", flags or "", re.MULTILINE))
    block = sections.x86_memory_block_bytes(section, end, hypervisor=guest)
    if end < 64 << 30:
        return block, f"memory ends at {end:#x}, below 64 GiB: a section, {block} bytes"
    return block, f"memory ends at {end:#x}, {'a guest' if guest else 'bare metal'}: {block} bytes"


def _memory_block_size(snapshot: Snapshot) -> Iterator[Claim]:
    shown = snapshot.number(f"{MEMORY_ROOT}block_size_bytes", 16)

    def predict(era: LayoutEra) -> Predictions:
        block, said = _memory_block_bytes(snapshot, era)
        return {_KEY: Predicted(value=block, working=(said,))}

    yield from judge(
        "memory_block_size",
        snapshot,
        predict=predict,
        observed={_KEY: shown},
        scope=single,
        unit="bytes",
    )


def _memory_blocks(snapshot: Snapshot) -> Iterator[Claim]:
    numbers = {int(m[1]) for m in map(_BLOCK.match, snapshot.source.files) if m}
    if not numbers:
        raise MissingInputError(f"{MEMORY_ROOT}memory0/state")
    shown = snapshot.number(f"{MEMORY_ROOT}block_size_bytes", 16) * len(numbers)

    def predict(era: LayoutEra) -> Predictions:
        plan = placement(snapshot, era)
        if plan.added:
            plan = layout_now(snapshot, era).placement
        section = 1 << section_shift(snapshot, era)
        block, said = _memory_block_bytes(snapshot, era)
        present = sections.present_sections(plan.ranges, section // snapshot.page_size_bytes)
        found = sections.memory_blocks(present, block // section)
        return {
            _KEY: Predicted(
                value=len(found) * block,
                working=(
                    f"{len(present)} sections of {section} bytes have memory",
                    f"memory blocks: {said}",
                    f"blocks {', '.join(map(str, found[:8]))}{' …' if len(found) > 8 else ''}",
                ),
            )
        }

    yield from judge(
        "memory_blocks",
        snapshot,
        predict=predict,
        observed={_KEY: shown},
        scope=single,
        unit="bytes",
    )


RULES: tuple[Rule, ...] = (
    Rule(
        id="buddy_orders",
        says="The buddy allocator has 11 orders, 0 to 10, unless the configuration says "
        "otherwise; the option counted orders before 6.4 and names the largest since.",
        inputs=("config",),
        observed="proc/buddyinfo, number of columns",
        model=(orders.buddy_orders,),
        judge=_buddy_orders,
    ),
    Rule(
        id="pageblock_order",
        says="A pageblock, the unit that has one migrate type, is as large as a huge page, "
        "but no larger than the largest buddy block or the configuration's own limit. Without "
        "huge pages it is as large as the largest buddy block.",
        inputs=("config",),
        observed="proc/pagetypeinfo, Page block order",
        model=(orders.huge_page_shift, orders.pageblock_order),
        judge=_pageblock_order,
    ),
    Rule(
        id="pageblocks",
        says="pagetypeinfo steps through a zone pageblock by pageblock from its first page, which "
        "need not be aligned, and counts the frames that have a page of this zone. Frames in "
        "holes belong to the zone of the memory behind them, if their subsection has any memory.",
        inputs=("dmesg | proc/iomem", "proc/cmdline", "config"),
        observed="proc/pagetypeinfo, Number of blocks type, all types of a zone together",
        model=(pageblocks.counted_pageblocks,),
        judge=_pageblocks,
    ),
    Rule(
        id="memory_block_size",
        says="sysfs shows memory in blocks of one section; on x86_64 machines of 64 GiB and more "
        "in blocks of 2 GiB, and in a guest of the largest size to that which the end of memory "
        "is aligned to.",
        inputs=("config", "dmesg | proc/iomem", "proc/cpuinfo"),
        observed="sys/devices/system/memory/block_size_bytes",
        model=(sections.section_bits, sections.x86_memory_block_bytes),
        judge=_memory_block_size,
    ),
    Rule(
        id="memory_blocks",
        says="There is a memory block wherever any section has memory: together they are as large "
        "as memory with its holes filled up to whole blocks.",
        inputs=("config", "dmesg | proc/iomem"),
        observed="sys/devices/system/memory, the directories memoryN times block_size_bytes",
        model=(sections.present_sections, sections.memory_blocks),
        judge=_memory_blocks,
    ),
)
