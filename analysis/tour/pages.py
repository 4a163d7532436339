"""What the stops about pages and page frame numbers show."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from types import MappingProxyType

from analysis.capture.snapshot import Snapshot
from analysis.compare.claim import Claim, Number, Scope, Verdict
from analysis.compare.rule import exact, unknown
from analysis.compare.static.layout.capture import eras
from analysis.compare.static.layout.inputs import Layout, layout
from analysis.figures import tour_pages
from analysis.model.release import Release, parse_release
from analysis.model.struct_page import (
    KIND_FLAGS,
    compound_order_of,
    flag_names,
    kind_flags,
    kpageflags,
    map_count,
    node_of,
    zone_type_of,
)
from analysis.tour.evidence import BootEvidence, StopEvidence
from analysis.tour.finding import Finding, Listing, Plate
from analysis.tour.walked_pages import Seen, Told, Walked, pattern_sha256, read_walked

Page = tuple[Told, Seen]
Check = Callable[[Page], tuple[Number, Number]]
"""What is predicted of a page, and what is there."""

_LISTED = 4
_NEWEST = Release(6, 2)
"""The first release whose struct page the rules of ``analysis.model.struct_page`` do not know."""
_MAPPERS = {"anon": 1, "forked": 2, "file": 1, "huge": 1}
"""Processes that map a page of each kind: the child has the forked ones too."""


def pfn(evidence: StopEvidence) -> Finding:
    """pages/pfn: address, page table entry, frame, struct page, node and zone of single pages."""
    boot = evidence.boot()
    walked, snapshot = read_walked(boot), boot.snapshot()
    claims: list[Claim] = []
    for area, pages in walked.areas().items():
        claims += _claims(boot, walked, snapshot, area, pages)
    telling = [pages[0] for pages in walked.areas().values()]
    shown = next(page for page in telling if page[0].node == max(told.node for told, _ in telling))
    return Finding(
        claims=tuple(claims),
        exhibits=(
            Plate(
                id="chain",
                draw=partial(tour_pages.chain, _chain(walked, snapshot, shown)),
            ),
            _listing("pagewalk", [pages[at] for pages in walked.areas().values() for at in (0, 1)]),
        ),
    )


def compound(evidence: StopEvidence) -> Finding:
    """pages/compound: a transparent huge page is one page of 512."""
    boot = evidence.boot()
    walked, snapshot = read_walked(boot), boot.snapshot()
    claims: list[Claim] = []
    for area, pages in walked.areas().items():
        claims += _claims(boot, walked, snapshot, area, pages)
        claims += _compound_claims(walked, area, pages)
    pages = next(iter(walked.areas().values()))
    last = len(pages) - 1
    return Finding(
        claims=tuple(claims),
        exhibits=(
            Plate(id="compound", draw=partial(tour_pages.compound, _compound_rows(pages))),
            _listing("pagewalk", [pages[at] for at in (0, 1, 2, last - 1, last)]),
        ),
    )


def _claims(
    boot: BootEvidence, walked: Walked, snapshot: Snapshot, area: str, pages: Sequence[Page]
) -> Iterator[Claim]:
    make = partial(_every, scope={"area": area}, pages=pages)
    yield make(
        "page_frame",
        check=lambda page: (page[1].pfn, page[0].pfn),
        working=(("the entries of the process's own page tables in guest memory, as hardware reads "
                 "them, end at a frame; /proc/PID/pagemap names one"),),
    )  # fmt: skip
    yield make(
        "page_content",
        check=lambda page: (
            pattern_sha256(walked.seed, page[0].area, page[0].page, walked.page_bytes),
            page[1].sha256,
        ),
        working=((f"SHA-256 of {walked.page_bytes} bytes that follow from the seed {walked.seed}, "
                 "the area and the page, against that of the frame read by the host"),),
    )  # fmt: skip
    zones = layout(snapshot, eras(snapshot)[0])
    shift = snapshot.config.number("NODES_SHIFT") or 0
    yield make(
        "page_zone",
        check=lambda page: (
            _zone_of(zones, page[0].pfn),
            _zone_in_flags(page[1].words.flags, zones, shift),
        ),
        working=(*zones.steps, (f"page->flags: node in the top {shift} bits, below it one of "
                 f"{len(zones.names)} zones ({', '.join(zones.names)})")),
    )  # fmt: skip
    yield make(
        "page_node",
        check=lambda page: (_zone_of(zones, page[0].pfn).split()[0], f"node{page[0].node}"),
        working=(("move_pages(2), asked by the process, against the node whose memory holds the "
                 "frame"),),
    )  # fmt: skip
    yield make(
        "page_kind",
        check=lambda page: (_kind(page[0], len(pages)), _shown_kind(page[0].kpageflags)),
        working=(f"among {', '.join(KIND_FLAGS)}",),
    )
    if not _known(boot):
        why = f"{boot.release}: the struct page of releases from {_NEWEST} on is not modelled"
        for name in ("page_flags", "page_map_count"):
            yield _unknown(name, {"area": area}, why)
        return
    bits = walked.flag_bits
    yield make(
        "page_flags",
        check=lambda page: (
            " ".join(flag_names(kpageflags(walked.view(page[1]), bits))),
            " ".join(flag_names(page[0].kpageflags)),
        ),
        working=(("every bit of /proc/kpageflags, from the words of the struct page at "
                 f"{walked.vmemmap:#x} + pfn * {walked.struct_page_bytes}"),),
    )  # fmt: skip
    mappers = _MAPPERS[pages[0][0].kind]
    yield make(
        "page_map_count",
        check=lambda page: (
            f"{mappers} {mappers}",
            f"{page[0].count} {map_count(walked.view(page[1]), bits)}",
        ),
        working=(
            f"{mappers} processes map it: /proc/kpagecount, and _mapcount in the struct page",
        ),
    )


def _compound_claims(walked: Walked, area: str, pages: Sequence[Page]) -> Iterator[Claim]:
    order = compound_order_of(len(pages))
    first = pages[0][1]
    make = partial(_every, scope={"area": area}, pages=pages)
    yield make(
        "compound_frames",
        check=lambda page: (first.pfn + page[0].page, page[0].pfn),
        working=(f"one block of order {order} from frame {first.pfn:#x} on",),
    )
    yield make(
        "compound_head",
        check=lambda page: (
            0 if page[0].page == 0 else walked.vmemmap + first.pfn * walked.struct_page_bytes + 1,
            page[1].words.compound_head if page[0].page else first.words.compound_head & 1,
        ),
        working=("a tail's compound_head is its head's address with bit 0 set",),
    )
    tail = pages[1][1]
    leaf = first.walk[-1]["shift"]
    page_shift = (walked.page_bytes - 1).bit_length()
    yield _claim("compound_order", {"area": area}, order, tail.compound_order, "order")
    yield _claim("compound_aligned", {"area": area}, 0, first.pfn % (1 << order), "pages off")
    yield _claim("compound_entry", {"area": area}, order + page_shift, leaf, "bits mapped")


def _kind(told: Told, pages: int) -> str:
    huge = told.kind == "huge"
    flags = kind_flags(anon=told.kind != "file", huge=huge, first=told.page == 0)
    assert not huge or pages > 1, "a huge page has more than one page"
    return " ".join(name for name in KIND_FLAGS if name in flags)


def _shown_kind(word: int) -> str:
    names = flag_names(word)
    return " ".join(name for name in KIND_FLAGS if name in names)


def _zone_of(zones: Layout, frame: int) -> str:
    for zone in zones.zones:
        if zone.span.start <= frame < zone.span.end and any(
            node == zone.node and start <= frame < end
            for node, start, end in zones.placement.ranges
        ):
            return f"node{zone.node} {zone.zone}"
    return "no zone"


def _zone_in_flags(flags: int, zones: Layout, nodes_shift: int) -> str:
    number = zone_type_of(flags, nodes_shift=nodes_shift, zones=len(zones.names))
    name = zones.names[number] if number < len(zones.names) else f"zone {number}"
    return f"node{node_of(flags, nodes_shift=nodes_shift)} {name}"


def _known(boot: BootEvidence) -> bool:
    return parse_release(boot.release) < _NEWEST


def _every(
    claim_id: str, *, scope: Scope, pages: Sequence[Page], check: Check, working: Sequence[str]
) -> Claim:
    """One claim of all pages of an area: how many are as predicted."""
    wrong = [(page, *check(page)) for page in pages if check(page)[0] != check(page)[1]]
    example = check(pages[0])
    text = example[0] if isinstance(example[0], str) else f"{example[0]:#x}"
    lines = (*working, f"address {pages[0][0].address:#x}, page 0: predicted {text}")
    if not wrong:
        return Claim(
            id=claim_id, scope=scope, predicted=len(pages), observed=len(pages), unit="pages",
            verdict=Verdict.HOLDS, working=lines,
        )  # fmt: skip
    (told, _), predicted, observed = wrong[0]
    return Claim(
        id=claim_id,
        scope=scope,
        predicted=len(pages),
        observed=len(pages) - len(wrong),
        unit="pages",
        verdict=Verdict.FAILS,
        why=f"first page {told.page} at {told.address:#x}: predicted {predicted}, is {observed}",
        working=lines,
    )


def _claim(claim_id: str, scope: Scope, predicted: int, observed: int, unit: str) -> Claim:
    why = f"{observed - predicted:+} {unit}"
    return exact(claim_id, scope, predicted=predicted, observed=observed, unit=unit, why=why)


def _unknown(claim_id: str, scope: Scope, why: str) -> Claim:
    return unknown(claim_id, scope, why=why, unit="pages")


def _listing(exhibit_id: str, pages: Sequence[Page]) -> Listing:
    head = "round area kind page address pagemap kpageflags kpagecount node"
    return Listing(id=exhibit_id, text="\n".join([head, *(told.line for told, _ in pages)]))


def _chain(walked: Walked, snapshot: Snapshot, page: Page) -> tour_pages.Chain:
    told, seen = page
    zones = layout(snapshot, eras(snapshot)[0])
    return tour_pages.Chain(
        address=told.address,
        top_table=walked.top_table,
        steps=tuple((step["shift"], step["address"], step["entry"]) for step in seen.walk),
        pfn=seen.pfn,
        struct_page=walked.vmemmap + seen.pfn * walked.struct_page_bytes,
        flags=seen.words.flags,
        nodes_shift=snapshot.config.number("NODES_SHIFT") or 0,
        zone_bits=(len(zones.names) - 1).bit_length(),
        place=_zone_in_flags(seen.words.flags, zones, snapshot.config.number("NODES_SHIFT") or 0),
        kpageflags=flag_names(told.kpageflags),
        refcount=seen.words.refcount,
        mapcount=seen.words.mapcount,
        zones=tuple(
            (f"node{zone.node} {zone.zone}", zone.span.start, zone.span.end)
            for zone in zones.zones
            if zone.spanned_pages
        ),
    )


def _compound_rows(pages: Sequence[Page]) -> Sequence[tour_pages.CompoundPage]:
    at = [*range(_LISTED), *range(len(pages) - 2, len(pages))]
    return [
        tour_pages.CompoundPage(
            number=pages[i][0].page,
            pfn=pages[i][1].pfn,
            compound_head=pages[i][1].words.compound_head if i else 0,
            head_pfn=pages[0][1].pfn,
            flags=flag_names(pages[i][0].kpageflags),
            refcount=pages[i][1].words.refcount,
            mapcount=pages[i][1].words.mapcount,
        )
        for i in at
    ]


JUDGES: Mapping[str, Callable[[StopEvidence], Finding]] = MappingProxyType(
    {"pages/pfn": pfn, "pages/compound": compound}
)
