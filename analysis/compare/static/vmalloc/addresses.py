"""Rules about the addresses of /proc/vmallocinfo: no overlap, order, bounds and alignment."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from analysis.capture.snapshot import Snapshot
from analysis.compare.claim import Claim
from analysis.compare.rule import Rule, exact, unknown
from analysis.compare.static.vmalloc.areas import FILE, areas_of, is_early, shown
from analysis.compare.static.vmalloc.space import possible_spaces
from analysis.model import vmalloc as model
from analysis.model.eras_vmalloc import vmalloc_era
from analysis.procfs.vmallocinfo import VmallocArea


def _overlap(snapshot: Snapshot) -> Iterator[Claim]:
    areas = areas_of(snapshot)
    spans = [(a.start, a.end) for a in areas if a.start is not None and a.end is not None]
    if len(spans) < len(areas) or all(start == 0 for start, _ in spans):
        why = "the addresses are hidden (kernel.kptr_restrict)"
        yield unknown("vmalloc_overlap", why=why, lacking=True)
        return
    real = all(end - start == a.size_bytes for a, (start, end) in zip(areas, spans, strict=True))
    yield exact(
        "vmalloc_overlap",
        {"addresses": "real" if real else "hashed"},
        predicted=0,
        observed=model.overlaps(spans) if real else model.shared_ends(spans),
        unit="areas that overlap",
        working=[
            f"{len(spans)} areas, sorted by address: each begins where the one before has ended "
            f"or later"
            if real
            else f"{len(spans)} areas: hashes keep only equality, so no two may have the same "
            f"begin, nor the same end"
        ],
    )
    if all(vmalloc_era(release).one_list for release in snapshot.releases):
        adjacent = sum(end in {start for start, _ in spans} for _, end in spans)
        yield exact(
            "vmalloc_overlap",
            {"order": "sorted"},
            predicted=0,
            observed=model.out_of_order(spans),
            unit="areas out of order",
            working=[
                f"{adjacent} areas end where another begins; in a sorted list that is the next line"
            ],
        )
    if real:
        yield from _range(snapshot, spans)
        yield from _alignment(snapshot, areas)


def _range(snapshot: Snapshot, spans: Sequence[tuple[int, int]]) -> Iterator[Claim]:
    spaces, why = possible_spaces(snapshot)
    if not spaces:
        yield unknown("vmalloc_overlap", {"addresses": "range"}, why=why)
        return
    lowest = min(space.lowest for space in spaces)
    highest = max(space.highest for space in spaces)
    outside = sum(not lowest <= start < end <= highest for start, end in spans)
    yield exact(
        "vmalloc_overlap",
        {"addresses": "range"},
        predicted=0,
        observed=outside,
        unit="areas outside",
        working=[f"vmalloc and modules have addresses from {lowest:#x} up to {highest:#x}"],
    )


def _alignment(snapshot: Snapshot, areas: Sequence[VmallocArea]) -> Iterator[Claim]:
    page = snapshot.page_size_bytes
    devices = [
        (area, model.ioremap_alignment_bytes(area.size_bytes, page))
        for area in areas
        if "ioremap" in area.flags and not is_early(area) and area.size_bytes >= 2 * page
    ]
    if not devices:
        return
    odd = [area for area, alignment in devices if (area.start or 0) % alignment]
    sample, alignment = max(devices, key=lambda pair: pair[1])
    yield exact(
        "vmalloc_overlap",
        {"addresses": "aligned"},
        predicted=0,
        observed=len(odd),
        unit="mappings of devices out of line",
        working=[
            (
                f"{shown(sample)}: {sample.size_bytes} B with the guard, aligned to "
                f"{alignment} B: {sample.start or 0:#x}"
            )
        ],
    )


VMALLOC_OVERLAP = Rule(
    id="vmalloc_overlap",
    says=(
        "No two areas share an address, all lie between the architecture's bounds, and up to "
        "6.8 they are printed in the order of their addresses. Where addresses are printed "
        "as hashes, equality is all that can be seen: no two areas begin, or end, at the "
        "same one, and an area that begins where another ends is the next line. Mappings of "
        "devices are aligned to their size, up to 128 pages."
    ),
    inputs=(FILE,),
    observed="vmallocinfo, the addresses",
    model=(
        model.overlaps,
        model.shared_ends,
        model.out_of_order,
        model.ioremap_alignment_bytes,
    ),
    judge=_overlap,
)
