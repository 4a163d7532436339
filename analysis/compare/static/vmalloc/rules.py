"""Rules about vmalloc: its areas, their addresses, and the lines of meminfo about them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from analysis.capture.snapshot import Snapshot
from analysis.compare.claim import Claim, Verdict
from analysis.compare.rule import Rule, exact, one_of, unknown
from analysis.compare.static.readings import (
    moved,
    node_private_pages,
    reading,
    settled,
    whole_pages,
)
from analysis.compare.static.vmalloc.addresses import VMALLOC_OVERLAP
from analysis.compare.static.vmalloc.areas import AREA_RULES, FILE, areas_of
from analysis.compare.static.vmalloc.space import VMALLOC_TOTAL
from analysis.errors import MissingInputError
from analysis.model import vmalloc as model
from analysis.procfs import meminfo, vmallocinfo

MEMINFO = "proc/meminfo"


def _used(snapshot: Snapshot) -> Iterator[Claim]:
    page_kib = snapshot.page_kib
    predictions = set()
    areas = areas_of(snapshot)
    owned = [a.pages for a in areas if a.pages is not None and "vmalloc" in a.flags]
    for release in snapshot.releases:
        try:
            predictions.add(model.used_pages(owned, release))
        except ValueError as error:
            yield unknown("vmalloc_used", why=str(error))
            return
    observed = reading(
        snapshot,
        MEMINFO,
        meminfo.parse,
        lambda info: (whole_pages(info.values["VmallocUsed"], page_kib),),
    )
    if predictions == {0} or observed.total == 0:
        yield one_of(
            "vmalloc_used",
            {},
            options=sorted(predictions),
            observed=observed.total,
            unit="pages",
            undecided="VmallocUsed counts pages since 5.3",
        )
        return
    predicted = reading(
        snapshot,
        FILE,
        vmallocinfo.parse,
        lambda found: [
            a.pages
            for a in found
            if a.pages is not None and a.kind == "area" and "vmalloc" in a.flags
        ],
    )
    cpus = len(snapshot.cpus_online)
    lag = sum(node_private_pages(snapshot).values()) if _in_vmstat(snapshot) else 0
    stacks = model.stack_pages(snapshot.page_size_bytes)
    working = [
        f"{len(owned)} areas of vmalloc() own {predicted.total} pages",
        f"VmallocUsed is {observed.total * page_kib} kB / {page_kib} = {observed.total} pages",
    ]
    claim = settled(
        "vmalloc_used",
        {},
        predicted=(FILE, predicted),
        observed=(MEMINFO, observed),
        unit="pages",
        private=lag,
        moved=moved(snapshot),
        working=working,
    )
    drift = model.stack_drift_pages(cpus, snapshot.page_size_bytes)
    difference = predicted.total - observed.total
    if (
        claim.verdict is Verdict.UNKNOWN
        and _stacks_are_areas(snapshot)
        and abs(difference) <= drift + lag
    ):
        # The stacks of the readers explain it, and do not prove that nothing else moved.
        claim = replace(
            claim,
            why=(
                f"{claim.why}; they differ by {abs(difference)}, and kernel stacks of {stacks} "
                f"pages come and go with the readers, {drift} pages at most while each of {cpus} "
                f"CPUs keeps {model.CACHED_STACKS_PER_CPU}"
            ),
        )
    yield claim


def _stacks_are_areas(snapshot: Snapshot) -> bool:
    if snapshot.has("config"):
        return snapshot.config.on("VMAP_STACK") and not snapshot.config.on("KASAN")
    return snapshot.arch in ("x86_64", "arm64", "s390x")


def _in_vmstat(snapshot: Snapshot) -> bool:
    """Whether VmallocUsed is one of the counters of which CPUs keep a share."""
    return snapshot.has("proc/vmstat") and "nr_vmalloc" in snapshot.vmstat.values


def _chunk(snapshot: Snapshot) -> Iterator[Claim]:
    shown = snapshot.meminfo.values.get("VmallocChunk")
    if shown is None:
        raise MissingInputError("VmallocChunk of proc/meminfo")
    try:
        predicted = model.chunk_kib(snapshot.release)
    except ValueError as error:
        yield unknown("vmalloc_chunk", why=str(error))
        return
    yield exact(
        "vmalloc_chunk",
        {},
        predicted=predicted,
        observed=shown,
        unit="KiB",
        working=["the line is a constant since 4.4"],
    )


RULES: tuple[Rule, ...] = (
    *AREA_RULES,
    VMALLOC_OVERLAP,
    Rule(
        id="vmalloc_used",
        says=(
            "VmallocUsed counts the pages that vmalloc() allocated for its areas. Mappings of "
            "others' pages, guard pages and percpu chunks do not count. Newer kernels keep the "
            "number in a node counter, of which each CPU holds a share back. Both files are read "
            "one after the other: where neither shows the same again after the other was read, "
            "only equality holds, and a difference leaves it open."
        ),
        inputs=(FILE, "proc/zoneinfo", "proc/vmstat"),
        observed="meminfo, VmallocUsed",
        model=(model.used_pages, model.stack_pages, model.stack_drift_pages),
        judge=_used,
    ),
    VMALLOC_TOTAL,
    Rule(
        id="vmalloc_chunk",
        says="The largest free stretch of vmalloc space is no longer computed: always 0.",
        inputs=("proc/version",),
        observed="meminfo, VmallocChunk",
        model=(model.chunk_kib,),
        judge=_chunk,
    ),
)
