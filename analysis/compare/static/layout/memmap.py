"""The memmap's pages against what the kernel shows of them."""

from __future__ import annotations

from collections.abc import Hashable, Iterator

from analysis.capture.snapshot import Snapshot
from analysis.compare.claim import Claim, Number
from analysis.compare.rule import Rule, unknown
from analysis.compare.static.layout.blocks import section_shift
from analysis.compare.static.layout.capture import LayoutUnknownError, boot, model_of, options
from analysis.compare.static.layout.holes import set_up_claims
from analysis.compare.static.layout.inputs import layout, placement
from analysis.compare.static.layout.judge import ALL, Predicted, Predictions, judge, per_zone
from analysis.model.layout import memory_model, orders, page_flags, sections
from analysis.model.layout.eras_layout import LayoutEra
from analysis.model.layout.pfn import align_up
from analysis.model.layout.zone_limits import zone_names

COUNTED = "nr_memmap_boot_pages"
"""The counter of vmstat that has the memmap, from 6.11."""

_WIDE = ("x86_64", "arm64", "riscv64", "ppc64le", "s390x")
_NARROW = ("i386", "arm", "m68k")
_HAS_VIRTUAL = ("m68k",)
"""Where a struct page has its frame's virtual address (WANT_PAGE_VIRTUAL, page_mm.h)."""


def struct_page(snapshot: Snapshot, era: LayoutEra) -> int:
    """Bytes of a struct page of the kernel of a capture.

    Raises:
        LayoutUnknownError: a debugging option adds what the model leaves out.
        MissingInputError: the capture has no configuration.
    """
    on = options(snapshot)
    if "KMSAN" in on:
        raise LayoutUnknownError("KMSAN adds to a struct page what the model leaves out")
    if snapshot.arch not in (*_WIDE, *_NARROW):
        raise LayoutUnknownError(f"the size of a struct page on {snapshot.arch} is not known")
    bits = 64 if snapshot.arch in _WIDE else 32
    config = snapshot.config
    if {"SPARSEMEM", "NUMA_BALANCING"} <= on and "SPARSEMEM_VMEMMAP" not in on:
        raise LayoutUnknownError("the bits of a section number in the page flags are not modelled")
    outside = page_flags.cpupid_outside_flags(
        on,
        bits=bits,
        zones=len(zone_names(on)),
        nodes_shift=config.number("NODES_SHIFT") or 0,
        sections_width=0,
        cpus=config.number("NR_CPUS") or 1,
        kasan_hw_tag_bits=era.kasan_hw_tag_bits,
        flags=page_flags.flag_count(
            on, bits=bits, base=era.base_page_flags, arch_2_on_64_bits=era.arch_2_on_64_bits
        ),
    )
    return memory_model.struct_page_bytes(
        bits=bits,
        memcg="MEMCG" in on or "SLAB_OBJ_EXT" in on,
        double_aligned="HAVE_ALIGNED_STRUCT_PAGE" in on,
        virtual=snapshot.arch in _HAS_VIRTUAL,
        cpupid=outside,
    )


def boot_memmap(snapshot: Snapshot, era: LayoutEra, model: str) -> tuple[int, tuple[str, ...]]:
    """Pages of memmap allocated at boot under a memory model, and the way to them."""
    place = placement(snapshot, era)
    page = snapshot.page_size_bytes
    each = struct_page(snapshot, era)
    if model in (memory_model.FLATMEM, memory_model.DISCONTIGMEM):
        largest = 1 << (layout(snapshot, era).orders - 1)
        pages = memory_model.flat_memmap_pages(place.ranges, largest, each, page)
        return pages, (
            *place.steps,
            f"an array of {each}-byte struct pages from and to {largest}-page blocks: {pages}",
        )
    section = (1 << section_shift(snapshot, era)) // page
    count = len(sections.present_sections(place.ranges, section))
    pages = memory_model.sparse_memmap_pages(count, section, each, page)
    return pages, (
        *place.steps,
        f"{count} sections with memory, each {section} struct pages of {each} bytes: {pages} pages",
    )


def huge_pages_optimized(snapshot: Snapshot) -> bool:
    """Whether huge pages may have given back a part of their memmap."""
    if not snapshot.has_sysctl("vm/hugetlb_optimize_vmemmap"):
        return False
    enabled = snapshot.sysctl_number("vm/hugetlb_optimize_vmemmap")
    return bool(enabled and snapshot.meminfo.values.get("HugePages_Total", 0))


def _memmap_pages(snapshot: Snapshot) -> Iterator[Claim]:
    rule_id = "memmap_pages"
    model = model_of(snapshot)
    shown: dict[Hashable, Number] = {}
    vmstat = snapshot.vmstat.values if snapshot.has("proc/vmstat") else {}
    if COUNTED in vmstat:
        if huge_pages_optimized(snapshot):
            yield unknown(rule_id, why="huge pages have given back a part of their memmap")
            return
        shown[ALL] = vmstat[COUNTED]
    if snapshot.has("dmesg"):
        said = boot(snapshot)
        for node, zone, pages in said.zone_memmaps:
            shown[node, zone] = pages
        whole = snapshot.dmesg.whole  # else a part of the allocations may be lost
        for node, size in said.early_memmaps.items() if whole else ():
            shown[node, "early"] = size // snapshot.page_size_bytes
    if ALL not in shown and snapshot.has("dmesg") and boot(snapshot).node_ranges:
        yield from set_up_claims(snapshot, model)
        if not shown:
            return
    if not shown:
        yield unknown(
            rule_id,
            why="this kernel shows it only in early boot's messages, and they are lost",
            lacking=True,
        )
        return

    def predict(era: LayoutEra) -> Predictions:
        results: dict[Hashable, Predicted] = {}
        if ALL in shown:
            pages, steps = boot_memmap(snapshot, era, model)
            results[ALL] = Predicted(value=pages, working=steps)
        results.update(_zone_guesses(snapshot, era, model, shown))
        results.update(_early_buffers(snapshot, era, model, shown))
        return results

    def scope(key: Hashable) -> dict[str, int | str]:
        assert isinstance(key, tuple)
        if key == ALL:
            return {}
        return {"node": key[0], "allocated": "early"} if key[1] == "early" else {**per_zone(key)}

    yield from judge(rule_id, snapshot, predict=predict, observed=shown, scope=scope, unit="pages")


def _zone_guesses(
    snapshot: Snapshot, era: LayoutEra, model: str, shown: dict[Hashable, Number]
) -> Predictions:
    if not boot(snapshot).zone_memmaps if snapshot.has("dmesg") else True:
        return {}
    each = struct_page(snapshot, era)
    results: dict[Hashable, Predicted] = {}
    for zone in layout(snapshot, era).zones:
        if (zone.node, zone.zone) not in shown and not zone.present_pages:
            continue
        if zone.zone == "HighMem" or (zone.zone == "Movable" and "HIGHMEM" in options(snapshot)):
            continue
        pages = memory_model.zone_memmap_pages(
            zone.spanned_pages,
            zone.present_pages,
            each,
            snapshot.page_size_bytes,
            sparse=model in (memory_model.SPARSEMEM, memory_model.VMEMMAP),
        )
        said = (
            f"{zone.spanned_pages} spanned, {zone.present_pages} present, a struct page of {each} "
            f"bytes: {pages} pages"
        )
        results[zone.node, zone.zone] = Predicted(value=pages, working=(said,))
    return results


def _early_buffers(
    snapshot: Snapshot, era: LayoutEra, model: str, shown: dict[Hashable, Number]
) -> Predictions:
    asked = [key for key in shown if isinstance(key, tuple) and key[1] == "early"]
    if not asked or model in (memory_model.FLATMEM, memory_model.DISCONTIGMEM):
        return {}
    page = snapshot.page_size_bytes
    each = struct_page(snapshot, era)
    section = (1 << section_shift(snapshot, era)) // page
    size = section * each
    huge = orders.huge_page_shift(snapshot.arch, page)
    if model == memory_model.VMEMMAP and huge is not None:
        size = align_up(size, 1 << huge)
    by_node: dict[int, int] = {}
    for node in sections.present_sections(placement(snapshot, era).ranges, section).values():
        by_node[node] = by_node.get(node, 0) + 1
    said = f"sections of {section} struct pages of {each} bytes, in whole tables {size} bytes"
    return {
        (node, "early"): Predicted(value=count * size // page, working=(f"{count} {said}",))
        for node, count in by_node.items()
    }


RULES: tuple[Rule, ...] = (
    Rule(
        id="memmap_pages",
        says="The memmap has a struct page for every page frame of every section with memory "
        "(FLATMEM: for every frame from the first to the last). A struct page is 64 bytes on 64 "
        "bits with memory cgroups. Before 6.11 the kernel only reckons a zone's share in dmesg.",
        inputs=("config", "dmesg | proc/iomem", "proc/cmdline"),
        observed="proc/vmstat, nr_memmap_boot_pages (from 6.11); dmesg, pages used for memmap, and "
        "with memblock=debug the early allocations",
        model=(
            memory_model.struct_page_bytes,
            page_flags.flag_count,
            page_flags.cpupid_outside_flags,
            memory_model.sparse_memmap_pages,
            memory_model.flat_memmap_pages,
            memory_model.zone_memmap_pages,
        ),
        judge=_memmap_pages,
    ),
)
