"""The memory model and the memmap's cost against what the kernel shows of them."""

from __future__ import annotations

from collections.abc import Hashable, Iterator

from analysis.capture.snapshot import Snapshot
from analysis.compare.claim import Claim, Number
from analysis.compare.rule import Rule, exact, unknown
from analysis.compare.static.layout_blocks import section_shift
from analysis.compare.static.layout_capture import (
    MEMORY_ROOT,
    LayoutUnknownError,
    boot,
    eras,
    options,
)
from analysis.compare.static.layout_inputs import layout, placement
from analysis.compare.static.layout_judge import Predicted, Predictions, judge, per_zone
from analysis.errors import MissingInputError
from analysis.model.layout import memory_model, orders, page_flags, sections
from analysis.model.layout.eras_layout import LayoutEra
from analysis.model.layout.pfn import align_up
from analysis.model.layout.zone_limits import DEVICE, zone_names

_COUNTED = "nr_memmap_boot_pages"
_WIDE = ("x86_64", "arm64", "riscv64", "ppc64le", "s390x")


def struct_page(snapshot: Snapshot, era: LayoutEra) -> int:
    """Bytes of a struct page of the kernel of a capture.

    Raises:
        LayoutUnknownError: a debugging option adds what the model leaves out.
        MissingInputError: the capture has no configuration.
    """
    on = options(snapshot)
    if "KMSAN" in on:
        raise LayoutUnknownError("KMSAN adds to a struct page what the model leaves out")
    bits = 64 if snapshot.arch in _WIDE else 32
    config = snapshot.config
    if "SPARSEMEM" in on and "SPARSEMEM_VMEMMAP" not in on:
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
        cpupid=outside,
    )


def _boot_memmap(snapshot: Snapshot, era: LayoutEra, model: str) -> tuple[int, tuple[str, ...]]:
    place = placement(snapshot, era)
    page = snapshot.page_size_bytes
    each = struct_page(snapshot, era)
    if model == memory_model.FLATMEM:
        largest = 1 << (layout(snapshot, era).orders - 1)
        pages = memory_model.flat_memmap_pages(place.ranges, largest, each, page)
        return pages, (
            *place.steps,
            f"one array of {each}-byte struct pages from and to {largest}-page blocks: {pages}",
        )
    section = (1 << section_shift(snapshot, era)) // page
    count = len(sections.present_sections(place.ranges, section))
    pages = memory_model.sparse_memmap_pages(count, section, each, page)
    return pages, (
        *place.steps,
        f"{count} sections with memory, each {section} struct pages of {each} bytes: {pages} pages",
    )


def _huge_pages_optimized(snapshot: Snapshot) -> bool:
    if not snapshot.has_sysctl("vm/hugetlb_optimize_vmemmap"):
        return False
    enabled = snapshot.sysctl_number("vm/hugetlb_optimize_vmemmap")
    return bool(enabled and snapshot.meminfo.values.get("HugePages_Total", 0))


def _memmap_pages(snapshot: Snapshot) -> Iterator[Claim]:
    rule_id = "memmap_pages"
    model = memory_model.memory_model(options(snapshot))
    shown: dict[Hashable, Number] = {}
    vmstat = snapshot.vmstat.values if snapshot.has("proc/vmstat") else {}
    if _COUNTED in vmstat:
        if _huge_pages_optimized(snapshot):
            yield unknown(rule_id, why="huge pages have given back a part of their memmap")
            return
        shown["all", ""] = vmstat[_COUNTED]
    if snapshot.has("dmesg"):
        said = boot(snapshot)
        for node, zone, pages in said.zone_memmaps:
            shown[node, zone] = pages
        for node, size in said.early_memmaps.items():
            shown[node, "early"] = size // snapshot.page_size_bytes
    if not shown:
        yield unknown(
            rule_id,
            why="this kernel shows it neither in vmstat (from 6.11) nor, unless told to, in dmesg",
        )
        return

    def predict(era: LayoutEra) -> Predictions:
        results: dict[Hashable, Predicted] = {}
        if ("all", "") in shown:
            pages, steps = _boot_memmap(snapshot, era, model)
            results["all", ""] = Predicted(value=pages, working=steps)
        results.update(_zone_guesses(snapshot, era, model, shown))
        results.update(_early_buffers(snapshot, era, model, shown))
        return results

    def scope(key: Hashable) -> dict[str, int | str]:
        assert isinstance(key, tuple)
        if key[0] == "all":
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
            sparse=model != memory_model.FLATMEM,
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
    if not asked or model == memory_model.FLATMEM:
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


def _memory_model(snapshot: Snapshot) -> Iterator[Claim]:
    rule_id = "memory_model"
    on = options(snapshot)
    predicted = memory_model.memory_model(on)
    sparse = {memory_model.SPARSEMEM, memory_model.VMEMMAP}
    every = (*sorted(sparse), memory_model.FLATMEM, memory_model.DISCONTIGMEM)
    evidence: list[tuple[str, set[str]]] = []
    if snapshot.has(f"{MEMORY_ROOT}block_size_bytes"):
        evidence.append(("sysfs has memory blocks: sections", sparse))
    if snapshot.has("proc/zoneinfo") and any(
        zone.zone == DEVICE for zone in snapshot.zoneinfo.zones
    ):
        evidence.append(("there is a zone Device: vmemmap", {memory_model.VMEMMAP}))
    if snapshot.has("dmesg") and any(boot(snapshot).huge_memmap_kib.values()):
        evidence.append(("huge pages can give back memmap: vmemmap", {memory_model.VMEMMAP}))
    vmstat = snapshot.vmstat.values if snapshot.has("proc/vmstat") else {}
    if _COUNTED in vmstat and not _huge_pages_optimized(snapshot):
        fits, said = _models_that_fit(snapshot, vmstat[_COUNTED])
        if said:
            evidence.append((said, fits))
    possible = [model for model in every if all(model in models for _, models in evidence)]
    working = (*(text for text, _ in evidence), f"the configuration says {predicted}")
    if not evidence:
        yield unknown(
            rule_id,
            why="nothing in the capture depends on it: no memory blocks, no zone Device, and no "
            f"{_COUNTED}",
            predicted=predicted,
        )
        return
    yield exact(
        rule_id,
        {},
        predicted=predicted,
        observed=predicted if predicted in possible else " or ".join(possible) or "none of them",
        unit="memory model",
        working=working,
    )


def _models_that_fit(snapshot: Snapshot, counted: int) -> tuple[set[str], str]:
    fits: set[str] = set()
    try:
        for era in eras(snapshot):
            flat, _ = _boot_memmap(snapshot, era, memory_model.FLATMEM)
            if counted == flat:
                fits.add(memory_model.FLATMEM)
            try:
                pages, _ = _boot_memmap(snapshot, era, memory_model.VMEMMAP)
            except LayoutUnknownError:
                continue
            if counted == pages:
                fits |= {memory_model.SPARSEMEM, memory_model.VMEMMAP}
    except (LayoutUnknownError, MissingInputError):
        return set(), ""
    return fits, f"{counted} pages of memmap fit {' and '.join(sorted(fits)) or 'no model'}"


def _huge_page_memmap(snapshot: Snapshot) -> Iterator[Claim]:
    shown: dict[Hashable, Number] = dict(boot(snapshot).huge_memmap_kib.items())
    if not shown:
        raise MissingInputError("dmesg: HugeTLB: … vmemmap can be freed (from 6.1)")
    optimized = "HUGETLB_PAGE_OPTIMIZE_VMEMMAP" in options(snapshot)
    page = snapshot.page_size_bytes

    def predict(era: LayoutEra) -> Predictions:
        each = struct_page(snapshot, era)
        results: dict[Hashable, Predicted] = {}
        for size in shown:
            assert isinstance(size, int)
            kib = memory_model.huge_page_memmap_kib(
                size,
                page,
                each,
                optimized=optimized,
                reserve_pages=era.vmemmap_reserve_pages,
            )
            said = (
                f"{size // page} struct pages of {each} bytes less {era.vmemmap_reserve_pages} "
                f"page: {kib} KiB"
                if optimized
                else "HUGETLB_PAGE_OPTIMIZE_VMEMMAP is not built in"
            )
            results[size] = Predicted(value=kib, working=(said,))
        return results

    yield from judge(
        "huge_page_memmap",
        snapshot,
        predict=predict,
        observed=shown,
        scope=lambda key: {"huge_page_bytes": int(str(key))},
        unit="KiB",
    )


RULES: tuple[Rule, ...] = (
    Rule(
        id="memory_model",
        says="FLATMEM keeps one array of struct pages for all page frames, SPARSEMEM one for each "
        "section with memory, SPARSEMEM_VMEMMAP the same side by side in virtual memory. Memory "
        "blocks in sysfs need sections, a zone Device needs vmemmap.",
        inputs=("config",),
        observed="sys/devices/system/memory, proc/zoneinfo, dmesg, proc/vmstat: what depends on it",
        model=(memory_model.memory_model,),
        judge=_memory_model,
    ),
    Rule(
        id="memmap_pages",
        says="The memmap has a struct page for every page frame of every section with memory "
        "(FLATMEM: for every frame from the first to the last). A struct page is 64 bytes on 64 "
        "bits with memory cgroups. Before 6.11 the kernel only reckons a zone's share in dmesg.",
        inputs=("config", "dmesg or proc/iomem", "proc/cmdline"),
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
    Rule(
        id="huge_page_memmap",
        says="A huge page needs one page of its memmap: the rest says the same and can be given "
        "back, if the option is built in and a struct page's size is a power of two.",
        inputs=("config",),
        observed="dmesg, HugeTLB: N KiB vmemmap can be freed",
        model=(memory_model.huge_page_memmap_kib, memory_model.struct_page_bytes),
        judge=_huge_page_memmap,
    ),
)
