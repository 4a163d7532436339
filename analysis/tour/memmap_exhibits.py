"""What the stops about memory models show: arrays of struct pages, and symbols of a model."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from analysis.figures.tour_memory_models import Array, draw
from analysis.model.layout import struct_page_place
from analysis.tour.evidence import BootEvidence
from analysis.tour.finding import Exhibit, Plate
from analysis.tour.listings import made, pick
from analysis.tour.memory_model_claims import MEMMAP, MEMMAP_PIECES
from analysis.tour.struct_pages import Outside

_SHOWN_SYMBOLS = 16
_TELLING = ("mem_map", "pg_data_map", "mem_section", "vmemmap_populate")


def exhibits_of(boot: BootEvidence, outside: Outside, suffix: str = "") -> Iterator[Exhibit]:
    yield _plate(boot, outside, suffix)
    known = [(name, at, "kallsyms") for name, at in outside.symbols.items()]
    known += [(name, at, "vmcoreinfo") for name, at in outside.told.items()]
    lines = [f"{at:016x} {name} ({place})" for name, at, place in sorted(known)]
    marks = [number for number, (name, *_) in enumerate(sorted(known), 1) if name in _TELLING]
    yield made(f"symbols{suffix}", lines[:_SHOWN_SYMBOLS], marks)
    said = boot.snapshot().text("dmesg")
    for pattern in (MEMMAP, MEMMAP_PIECES):
        if found := pick(f"memmap{suffix}", said, pattern.pattern, marked=r"\d+ bytes"):
            yield found
            return


def _plate(boot: BootEvidence, outside: Outside, suffix: str) -> Plate:
    page = boot.snapshot().page_size_bytes
    arrays = list(_arrays(outside, page))
    return Plate(id=f"arrays{suffix}", draw=partial(draw, arrays, page_bytes=page))


def _arrays(outside: Outside, page: int) -> Iterator[Array]:
    """The arrays of struct pages: which frames each is for, and where it is."""
    size = outside.struct_bytes
    if outside.sections:
        assert outside.section_bits is not None
        each = (1 << outside.section_bits) // page
        for number, word in outside.sections:
            start = number * each
            yield Array(
                name=f"section {number}",
                first_pfn=start,
                frames=each,
                address=struct_page_place.coded_map(word) + start * size,
                struct_bytes=size,
            )
        return
    for node in outside.nodes:
        if node.mem_map is not None:
            yield Array(
                name=f"node {node.node}",
                first_pfn=node.start_pfn,
                frames=node.spanned_pages,
                address=node.mem_map,
                struct_bytes=size,
            )
