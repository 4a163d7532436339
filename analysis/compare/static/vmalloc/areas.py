"""Rules about single areas of /proc/vmallocinfo: their sizes, their pages, and percpu chunks."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence

from analysis.capture.snapshot import Snapshot
from analysis.compare.claim import Claim
from analysis.compare.rule import Rule, exact, unknown
from analysis.errors import MissingInputError
from analysis.model import vmalloc as model
from analysis.model.eras_vmalloc import vmalloc_era
from analysis.procfs import vmallocinfo
from analysis.procfs.vmallocinfo import VmallocArea

FILE = "proc/vmallocinfo"
_PERCPU_SIZES = re.compile(r"pcpu-alloc: s(\d+) r(\d+) d(\d+) u(\d+) ")
_PERCPU_GROUPS = re.compile(r"pcpu-alloc: (?=\[)(.*)")


def areas_of(snapshot: Snapshot) -> tuple[VmallocArea, ...]:
    """The areas in use; what only waits to be unmapped is left out."""
    found = snapshot.parsed(FILE, vmallocinfo.parse)
    return tuple(area for area in found if area.kind != "unpurged")


def shown(area: VmallocArea) -> str:
    return area.caller or "an area without a caller"


def is_early(area: VmallocArea) -> bool:
    """Areas entered by hand before vmalloc works: the kernel image of arm64, fixed I/O of arm."""
    return (area.phys is not None and "vmap" in area.flags) or area.function == "iotable_init"


def _is_percpu(area: VmallocArea) -> bool:
    return area.pages is None and area.function in ("pcpu_get_vm_areas", "pcpu_page_first_chunk")


def _guard(snapshot: Snapshot) -> Iterator[Claim]:
    page = snapshot.page_size_bytes
    areas = [area for area in areas_of(snapshot) if area.kind == "area"]
    may_shrink = any(vmalloc_era(release).may_shrink for release in snapshot.releases)
    owning = [area for area in areas if area.pages is not None]
    if owning:
        yield _owning(owning, page, may_shrink)
    mapped = [area for area in areas if area.pages is None and not _is_percpu(area)]
    guarded = [area for area in mapped if not is_early(area)]
    if guarded:
        least = model.least_area_bytes(page)
        fit = [a for a in guarded if a.size_bytes % page == 0 and a.size_bytes >= least]
        odd = [area for area in guarded if area not in fit]
        yield exact(
            "vmalloc_guard",
            {"areas": "mappings"},
            predicted=len(guarded),
            observed=len(fit),
            unit="areas of whole pages, one at least beside the guard",
            working=[
                (
                    f"a mapping of others' memory does not print its pages; it has at least "
                    f"(1 + 1 guard) * {page} B = {least} B, in whole pages"
                ),
            ],
            why="".join(f"{shown(a)} has {a.size_bytes} B " for a in odd[:1]),
        )


def _owning(owning: Sequence[VmallocArea], page: int, may_shrink: bool) -> Claim:
    sizes = [(area, model.area_size_bytes(area.pages or 0, page)) for area in owning]
    odd = [(area, size) for area, size in sizes if area.size_bytes != size]
    largest = max(owning, key=lambda area: area.size_bytes)
    working = [
        f"size = (pages + 1 guard page) * {page} B",
        (
            f"the largest, {shown(largest)}: ({largest.pages} + 1) * {page} = "
            f"{model.area_size_bytes(largest.pages or 0, page)} B, printed {largest.size_bytes}"
        ),
    ]
    if odd and may_shrink and all(area.size_bytes > size for area, size in odd):
        return unknown(
            "vmalloc_guard",
            {"areas": "owning"},
            why=(
                f"{len(odd)} areas have fewer pages than their size: vrealloc() may have given "
                f"some back ({shown(odd[0][0])})"
            ),
            predicted=len(owning),
            observed=len(owning) - len(odd),
            unit="areas",
            working=working,
        )
    why = ""
    if odd:
        area, size = odd[0]
        why = (
            f"{shown(area)} with {area.pages} pages should have {size} B, it has "
            f"{area.size_bytes}; {len(odd)} in all"
        )
    return exact(
        "vmalloc_guard",
        {"areas": "owning"},
        predicted=len(owning),
        observed=len(owning) - len(odd),
        unit="areas with the size of their pages and a guard",
        working=working,
        why=why,
    )


def _pages(snapshot: Snapshot) -> Iterator[Claim]:
    areas = [area for area in areas_of(snapshot) if area.pages is not None and area.node_pages]
    if not areas:
        why = "no area shows pages by node: no CONFIG_NUMA"
        yield unknown("vmalloc_pages", why=why, lacking=True)
        return
    odd = [a for a in areas if model.pages_on_nodes(a.node_pages) != a.pages]
    sample = max(areas, key=lambda area: (len(area.node_pages), area.pages))
    terms = " + ".join(f"N{node}={pages}" for node, pages in sample.node_pages.items())
    yield exact(
        "vmalloc_pages",
        {},
        predicted=sum(model.pages_on_nodes(area.node_pages) for area in areas),
        observed=sum(area.pages or 0 for area in areas),
        unit="pages",
        working=[
            f"{shown(sample)}: {terms} = {model.pages_on_nodes(sample.node_pages)} pages",
            f"the same over all {len(areas)} areas with pages",
        ],
        why=f"the pages by node do not add up in {len(odd)} areas" if odd else "",
    )


def _percpu(snapshot: Snapshot) -> Iterator[Claim]:
    areas = [area for area in areas_of(snapshot) if area.function == "pcpu_get_vm_areas"]
    if not areas:
        why = "percpu memory has its first chunk alone"
        yield unknown("vmalloc_percpu", why=why, lacking=True)
        return
    layout = percpu_groups(snapshot)
    if layout is None:
        raise MissingInputError("the percpu lines of dmesg (pcpu-alloc: …)")
    groups, unit = layout
    chunk = model.percpu_area_sizes(groups, unit)
    found = Counter(area.size_bytes for area in areas)
    chunks = max(1, len(areas) // len(groups))
    whole = Counter({size: count * chunks for size, count in chunk.items()})
    yield exact(
        "vmalloc_percpu",
        {},
        predicted=_listed(whole),
        observed=_listed(found),
        unit="areas of so many bytes",
        working=[
            (
                f"the first chunk has {len(groups)} groups of "
                f"{', '.join(map(str, groups))} units, each of {unit} B"
            ),
            f"another chunk has an area for each group and no guard: {_listed(chunk)} B",
            f"{len(areas)} areas are {chunks} chunks",
        ],
    )


def _percpu_pages(snapshot: Snapshot) -> Iterator[Claim]:
    layout = percpu_groups(snapshot)
    shown = snapshot.meminfo.values.get("Percpu")
    if layout is None or shown is None:
        raise MissingInputError("Percpu of proc/meminfo, and the percpu lines of dmesg")
    match = list(snapshot.dmesg.matching(_PERCPU_SIZES))[-1]
    first = sum(int(match[group]) for group in (1, 2, 3)) // snapshot.page_size_bytes
    units = sum(layout[0])
    pages = shown // snapshot.page_kib
    yield exact(
        "percpu_pages",
        {},
        predicted=0,
        observed=model.percpu_remainder(pages, first_chunk_pages=first, units=units),
        unit="pages left over",
        working=[
            (
                f"{units} units, of which the first chunk backs {first} pages each: at least "
                f"{first * units} pages"
            ),
            f"Percpu is {shown} kB, {pages} pages: {pages // units} for each unit",
        ],
    )


def percpu_groups(snapshot: Snapshot) -> tuple[list[int], int] | None:
    """Units of each group of percpu memory and the bytes of a unit, from the boot messages."""
    sizes = list(snapshot.dmesg.matching(_PERCPU_SIZES))
    if not sizes:
        return None
    units: Counter[int] = Counter()
    for match in snapshot.dmesg.matching(_PERCPU_GROUPS):
        group = 0
        for word in re.findall(r"\[ *\d+\]|\S+", match[1]):
            if word.startswith("["):
                group = int(word.strip("[] "))
            else:
                units[group] += 1
    return ([units[group] for group in sorted(units)], int(sizes[-1][4])) if units else None


def _listed(sizes: Counter[int]) -> str:
    return " ".join(f"{count}*{size}" for size, count in sorted(sizes.items()))


AREA_RULES: tuple[Rule, ...] = (
    Rule(
        id="vmalloc_guard",
        says=(
            "An area of vmalloc() is as large as its pages and one page more: behind each area "
            "lies an unmapped guard page that turns running over its end into a fault. Mappings "
            "of memory that belongs to others have it too, but do not print how many pages they "
            "map."
        ),
        inputs=(FILE, "config"),
        observed="vmallocinfo, the size of each area",
        model=(model.area_size_bytes, model.least_area_bytes),
        judge=_guard,
    ),
    Rule(
        id="vmalloc_pages",
        says=(
            "The pages of an area are counted on the node on which each lies, so N0=, N1= … add "
            "up to pages=."
        ),
        inputs=(FILE,),
        observed="vmallocinfo, pages=",
        model=(model.pages_on_nodes,),
        judge=_pages,
    ),
    Rule(
        id="vmalloc_percpu",
        says=(
            "When percpu memory outgrows its first chunk it gets more, each with the layout of "
            "the first: an area for each group of near CPUs, with a unit for each CPU, and no "
            "guard page, because all must keep the same distances."
        ),
        inputs=(FILE, "dmesg"),
        observed="vmallocinfo, areas of pcpu_get_vm_areas",
        model=(model.percpu_area_sizes,),
        judge=_percpu,
    ),
    Rule(
        id="percpu_pages",
        says=(
            "Percpu memory is backed with pages for all units (CPUs) at once, and the first chunk "
            "from the start: Percpu is a multiple of the number of units, and no less than the "
            "first chunk."
        ),
        inputs=("dmesg",),
        observed="meminfo, Percpu",
        model=(model.percpu_remainder,),
        judge=_percpu_pages,
    ),
)
