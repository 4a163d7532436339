"""What the stops about pages claim of each area of pages that a process mapped."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial

from analysis.capture.snapshot import Snapshot
from analysis.compare.claim import Claim, Number, Scope, Verdict
from analysis.compare.rule import exact, unknown
from analysis.compare.static.layout.capture import eras
from analysis.compare.static.layout.inputs import Layout, layout
from analysis.model.eras_struct_page import PageEra
from analysis.model.struct_page import (
    KIND_FLAGS,
    compound_order_of,
    flag_names,
    head_address,
    kind_flags,
    kpageflags,
    map_count,
    node_of,
    tail_word,
    zone_type_of,
)
from analysis.tour.evidence import BootEvidence
from analysis.tour.walked_pages import Seen, Told, Walked, pattern_sha256

Page = tuple[Told, Seen]
Check = Callable[[Page], tuple[Number, Number]]
"""What is predicted of a page, and what is there."""

_MAPPERS = {"anon": 1, "forked": 2, "file": 1, "huge": 1}
"""Processes that map a page of each kind: the child has the forked ones too."""
_KSM = "this release calls every anonymous page one of KSM, for one of the two bits that mean it"


def page_claims(
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
            zone_in_flags(page[1].words.flags, zones, shift),
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
    era = walked.era
    if era is None:
        why = f"how {boot.release} keeps and shows a page was not compared with its source"
        for name in ("page_kind", "page_flags", "page_map_count"):
            yield unknown(name, {"area": area}, why=why, unit="pages")
        return
    yield make(
        "page_kind",
        check=lambda page: (_kind(page[0], len(pages), era), _shown_kind(page[0].kpageflags)),
        working=(f"among {', '.join(KIND_FLAGS)}", *((_KSM,) if era.ksm_is_anon else ())),
    )
    bits = walked.flag_bits
    yield _flags_claim(walked, area, pages, era)
    if snapshot.config.values.get("NO_PAGE_MAPCOUNT") == "y":
        why = "this kernel counts mappings for whole folios only (CONFIG_NO_PAGE_MAPCOUNT)"
        yield unknown("page_map_count", {"area": area}, why=why, unit="pages")
        return
    mappers = _MAPPERS[pages[0][0].kind]
    yield make(
        "page_map_count",
        check=lambda page: (
            f"{mappers} {mappers}",
            f"{page[0].count} {map_count(walked.view(page[1]), bits, era)}",
        ),
        working=(f"{mappers} processes map it: /proc/kpagecount, and the counts in struct pages",),
    )


def _flags_claim(walked: Walked, area: str, pages: Sequence[Page], era: PageEra) -> Claim:
    """``page_flags``. A page that its CPU still holds back from the LRU lists gets there when the
    CPU likes, between the two readings too, and has other flags then: it is left out."""
    bits = walked.flag_bits
    listed = [page for page in pages if walked.view(page[1]).head.has("lru", bits)]
    working = [("every bit of /proc/kpageflags, from the words of the struct page at "
                f"{walked.vmemmap:#x} + pfn * {walked.struct_page_bytes}")]  # fmt: skip
    if len(listed) < len(pages):
        away = f"{len(pages) - len(listed)} of {len(pages)} pages were not on the LRU lists yet"
        if not listed:
            return unknown("page_flags", {"area": area}, why=away, unit="pages")
        working.append(away)
    return _every(
        "page_flags",
        scope={"area": area},
        pages=listed,
        check=lambda page: (
            " ".join(flag_names(kpageflags(walked.view(page[1]), bits, era), era)),
            " ".join(flag_names(page[0].kpageflags, era)),
        ),
        working=working,
    )


def compound_claims(walked: Walked, area: str, pages: Sequence[Page]) -> Iterator[Claim]:
    order = compound_order_of(len(pages))
    first = pages[0][1]
    word = tail_word(
        walked.address(first.pfn), order, walked.struct_page_bytes, by_mask=walked.heads_by_mask
    )
    make = partial(_every, scope={"area": area}, pages=pages)
    yield make(
        "compound_frames",
        check=lambda page: (first.pfn + page[0].page, page[0].pfn),
        working=(f"one block of order {order} from frame {first.pfn:#x} on",),
    )
    yield make(
        "compound_head",
        check=lambda page: (
            word if page[0].page else 0,
            page[1].words.compound_head if page[0].page else first.words.compound_head & 1,
        ),
        working=_leads_to_head(walked, pages[1][1]),
    )
    leaf = first.walk[-1]["shift"]
    page_shift = (walked.page_bytes - 1).bit_length()
    shown = walked.order(pages[1][1])
    if shown is None:
        why = "where this release keeps the order was not compared with its source"
        yield unknown("compound_order", {"area": area}, why=why, unit="order")
    else:
        yield _claim("compound_order", {"area": area}, order, shown, "order")
    yield _claim("compound_aligned", {"area": area}, 0, first.pfn % (1 << order), "pages off")
    yield _claim("compound_entry", {"area": area}, order + page_shift, leaf, "bits mapped")


def _leads_to_head(walked: Walked, tail: Seen) -> tuple[str, ...]:
    if not walked.heads_by_mask:
        return (f"a tail's {walked.head_word} is its head's address with bit 0 set",)
    at = walked.address(tail.pfn)
    head = head_address(tail.words, at, by_mask=True)
    return (
        f"a tail's {walked.head_word} is a mask for its own address, with bit 0 set",
        "the struct pages of the whole begin at a multiple of their size",
        f"the first tail's {at:#x} & {tail.words.compound_head:#x} is {head:#x}",
    )


def _kind(told: Told, pages: int, era: PageEra) -> str:
    huge = told.kind == "huge"
    flags = kind_flags(anon=told.kind != "file", huge=huge, first=told.page == 0, era=era)
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


def zone_in_flags(flags: int, zones: Layout, nodes_shift: int) -> str:
    number = zone_type_of(flags, nodes_shift=nodes_shift, zones=len(zones.names))
    name = zones.names[number] if number < len(zones.names) else f"zone {number}"
    return f"node{node_of(flags, nodes_shift=nodes_shift)} {name}"


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
