"""What the stops about pages and page frame numbers show."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from types import MappingProxyType

from analysis.capture.snapshot import Snapshot
from analysis.compare.claim import Claim
from analysis.compare.static.layout.capture import eras
from analysis.compare.static.layout.inputs import layout
from analysis.figures import tour_pages
from analysis.model.struct_page import flag_names
from analysis.tour.evidence import StopEvidence
from analysis.tour.finding import Finding, Listing, Plate
from analysis.tour.page_claims import Page, compound_claims, page_claims, zone_in_flags
from analysis.tour.walked_pages import Walked, read_walked

_LISTED = 4


def pfn(evidence: StopEvidence) -> Finding:
    """pages/pfn: address, page table entry, frame, struct page, node and zone of single pages."""
    boot = evidence.boot()
    walked, snapshot = read_walked(boot), boot.snapshot()
    claims: list[Claim] = []
    for area, pages in walked.areas().items():
        claims += page_claims(boot, walked, snapshot, area, pages)
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
        claims += page_claims(boot, walked, snapshot, area, pages)
        claims += compound_claims(walked, area, pages)
    pages = next(iter(walked.areas().values()))
    last = len(pages) - 1
    return Finding(
        claims=tuple(claims),
        exhibits=(
            Plate(id="compound", draw=partial(tour_pages.compound, _compound_rows(walked, pages))),
            _listing("pagewalk", [pages[at] for at in (0, 1, 2, last - 1, last)]),
        ),
    )


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
        struct_page=walked.address(seen.pfn),
        flags=seen.words.flags,
        nodes_shift=snapshot.config.number("NODES_SHIFT") or 0,
        zone_bits=(len(zones.names) - 1).bit_length(),
        place=zone_in_flags(seen.words.flags, zones, snapshot.config.number("NODES_SHIFT") or 0),
        kpageflags=flag_names(told.kpageflags, walked.era),
        refcount=seen.words.refcount,
        mapcount=seen.words.mapcount,
        zones=tuple(
            (f"node{zone.node} {zone.zone}", zone.span.start, zone.span.end)
            for zone in zones.zones
            if zone.spanned_pages
        ),
    )


def _compound_rows(walked: Walked, pages: Sequence[Page]) -> Sequence[tour_pages.CompoundPage]:
    at = [*range(_LISTED), *range(len(pages) - 2, len(pages))]
    return [
        tour_pages.CompoundPage(
            number=pages[i][0].page,
            pfn=pages[i][1].pfn,
            head_word=walked.head_word,
            compound_head=pages[i][1].words.compound_head if i else 0,
            head_pfn=pages[0][1].pfn,
            flags=flag_names(pages[i][0].kpageflags, walked.era),
            refcount=pages[i][1].words.refcount,
            mapcount=pages[i][1].words.mapcount,
        )
        for i in at
    ]


JUDGES: Mapping[str, Callable[[StopEvidence], Finding]] = MappingProxyType(
    {"pages/pfn": pfn, "pages/compound": compound}
)
