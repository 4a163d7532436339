"""The memory model against what depends on it, and what huge pages can give back."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator

from analysis.capture.snapshot import Snapshot
from analysis.compare.claim import Claim, Number
from analysis.compare.rule import Rule, exact, unknown
from analysis.compare.static.layout.blocks import section_shift
from analysis.compare.static.layout.capture import (
    MEMORY_ROOT,
    LayoutUnknownError,
    boot,
    eras,
    model_of,
    options,
)
from analysis.compare.static.layout.holes import set_up_count, struct_pages
from analysis.compare.static.layout.judge import Predicted, Predictions, judge
from analysis.compare.static.layout.memmap import (
    COUNTED,
    boot_memmap,
    huge_pages_optimized,
    struct_page,
)
from analysis.errors import MissingInputError
from analysis.model.layout import memory_model
from analysis.model.layout.eras_layout import LayoutEra
from analysis.model.layout.zone_limits import DEVICE


def _memory_model(snapshot: Snapshot) -> Iterator[Claim]:
    rule_id = "memory_model"
    predicted = model_of(snapshot)
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
    if COUNTED in vmstat and not huge_pages_optimized(snapshot):
        fits, said = _models_that_fit(
            snapshot, vmstat[COUNTED], "pages of memmap", lambda *of: boot_memmap(*of)[0]
        )
        if fits:
            evidence.append((said, fits))
    if snapshot.has("dmesg") and boot(snapshot).node_ranges:
        counted = set_up_count(snapshot)
        fits, said = _models_that_fit(snapshot, counted, "struct pages", struct_pages)
        if fits:
            evidence.append((said, fits))
    possible = [model for model in every if all(model in models for _, models in evidence)]
    working = (*(text for text, _ in evidence), f"the configuration says {predicted}")
    if not evidence:
        yield unknown(
            rule_id,
            why="nothing in the capture depends on it: no memory blocks, no zone Device, and no "
            f"{COUNTED}",
            predicted=predicted,
            lacking=True,
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


def _models_that_fit(
    snapshot: Snapshot,
    counted: int,
    noun: str,
    predict: Callable[[Snapshot, LayoutEra, str], int],
) -> tuple[set[str], str]:
    fits: set[str] = set()
    try:
        for era in eras(snapshot):
            if not era.holes_follow_memory:
                return set(), ""
            if counted == predict(snapshot, era, memory_model.FLATMEM):
                fits |= {memory_model.FLATMEM, memory_model.DISCONTIGMEM}
            try:
                section_shift(snapshot, era)
            except LayoutUnknownError:
                continue
            if counted == predict(snapshot, era, memory_model.VMEMMAP):
                fits |= {memory_model.SPARSEMEM, memory_model.VMEMMAP}
    except (LayoutUnknownError, MissingInputError):
        return set(), ""
    return fits, f"{counted} {noun} fit {' and '.join(sorted(fits)) or 'no model'}"


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
                f"{size // page} struct pages of {each} bytes = {size // page * each >> 10} KiB, "
                f"less {era.vmemmap_reserve_pages} page of {page >> 10} KiB: {kib} KiB"
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
        id="huge_page_memmap",
        says="A huge page needs one page of its memmap: the rest says the same and can be given "
        "back, if the option is built in and a struct page's size is a power of two.",
        inputs=("config",),
        observed="dmesg, HugeTLB: N KiB vmemmap can be freed",
        model=(memory_model.huge_page_memmap_kib, memory_model.struct_page_bytes),
        judge=_huge_page_memmap,
    ),
)
