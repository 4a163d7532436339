"""What a process, the kernel and the host each say of the same pages."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from analysis.errors import MissingInputError, ParseError
from analysis.model.eras_struct_page import PageEra, page_era
from analysis.model.release import parse_release
from analysis.model.struct_page import (
    PageView,
    StructPage,
    folio_order,
    head_address,
    heads_by_mask,
)
from analysis.tour.evidence import BootEvidence

_PFN = (1 << 55) - 1
_COLUMNS = 9
_WORD = (1 << 64) - 1
_HEAD_WORDS = ("compound_head", "compound_info")


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """A line of pagewalk: what the kernel told the process of one page."""

    area: int
    kind: str
    page: int
    address: int
    pfn: int
    kpageflags: int
    count: int
    node: int
    line: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What the host found for the same address in guest memory."""

    walk: tuple[Mapping[str, Any], ...]
    """Entries of the page tables, top level first."""
    pfn: int
    words: StructPage
    compound_order: int | None
    """Where a struct page has a member for it."""
    sha256: str


@dataclass(frozen=True, kw_only=True)
class Walked:
    """All pages that a stop looked at."""

    told: tuple[Told, ...]
    seen: tuple[Seen, ...]
    seed: int
    page_bytes: int
    struct_page_bytes: int
    vmemmap: int
    top_table: int
    flag_bits: Mapping[str, int]
    era: PageEra | None
    """None where the release's struct page is not modelled."""
    head_word: str
    """The kernel's name of what leads from a tail to its head."""
    heads_by_mask: bool
    """Whether that is a mask instead of an address."""
    counts_folios: bool
    """Whether the counts were read that a folio has in its first tail."""

    def address(self, pfn: int) -> int:
        """Of a frame's struct page."""
        return self.vmemmap + pfn * self.struct_page_bytes

    def order(self, first_tail: Seen) -> int | None:
        """Order of a compound page; None where it is not known how the kernel keeps it."""
        if first_tail.compound_order is not None:
            return first_tail.compound_order
        return folio_order(first_tail.words) if self.era is not None and self.era.folios else None

    def areas(self) -> dict[str, list[tuple[Told, Seen]]]:
        """Pages by area, under a name for each: ``anon 0``, in the order printed."""
        found: dict[str, list[tuple[Told, Seen]]] = {}
        for told, seen in zip(self.told, self.seen, strict=True):
            found.setdefault(f"{told.kind} {told.area}", []).append((told, seen))
        return found

    @cached_property
    def _words(self) -> Mapping[int, StructPage]:
        return {page.pfn: page.words for page in self.seen}

    def view(self, seen: Seen) -> PageView:
        """The struct page with its head and first tail, as far as they were read too.

        Raises:
            MissingInputError: it is part of a compound page of which they were not.
        """
        by_pfn, words = self._words, seen.words
        at = head_address(words, self.address(seen.pfn), by_mask=self.heads_by_mask)
        head_pfn = (at - self.vmemmap) // self.struct_page_bytes
        head = by_pfn.get(head_pfn)
        if head is None:
            raise MissingInputError(f"the struct page of frame {head_pfn:#x}, a compound's head")
        if not head.has("head", self.flag_bits):
            return PageView(page=words, head=words)
        tail = by_pfn.get(head_pfn + 1)
        if tail is None:
            raise MissingInputError(f"the struct page of frame {head_pfn + 1:#x}, a first tail")
        if self.era is not None and self.era.folios and not self.counts_folios:
            raise MissingInputError("the counts that a folio has in its first tail")
        return PageView(page=words, head=head, first_tail=tail)


def read_walked(boot: BootEvidence) -> Walked:
    """The pages of a boot.

    Raises:
        MissingInputError: something was not kept.
        ParseError: it is not what pagewalk prints, or the two do not tell of the same pages.
    """
    outside = boot.json("outside")
    told = tuple(_told(boot, "end", "1"))
    pages = outside["pages"]
    addresses = [page["address"] for page in pages]
    if [page.address for page in told] != addresses or not told:
        raise ParseError(
            "end.txt", 0, f"{len(told)} pages", f"the {len(addresses)} pages of outside.json"
        )
    fields = outside["fields"]
    head_word = next((name for name in _HEAD_WORDS if name in fields), None)
    if head_word is None:
        raise MissingInputError(f"a struct page's {' or '.join(_HEAD_WORDS)}")
    options = [name for name, value in boot.snapshot().config.values.items() if value == "y"]
    return Walked(
        told=told,
        seen=tuple(_seen(page, fields, head_word) for page in pages),
        seed=outside["seed"],
        page_bytes=outside["page_bytes"],
        struct_page_bytes=outside["struct_page_bytes"],
        vmemmap=outside["vmemmap"],
        top_table=outside["top_table"],
        flag_bits=outside["page_flag_bits"],
        era=page_era(parse_release(boot.release)),
        head_word=head_word,
        heads_by_mask=head_word == "compound_info"
        and heads_by_mask(options, outside["struct_page_bytes"]),
        counts_folios="entire_mapcount" in fields,
    )


def _told(boot: BootEvidence, name: str, round_: str) -> Sequence[Told]:
    found: list[Told] = []
    for number, line in enumerate(boot.text(name).splitlines(), 1):
        words = line.split()
        if line.startswith("#") or words[:1] != [round_]:
            continue
        try:
            _, area, kind, page, address, pagemap, flags, count, node = words
            found.append(
                Told(
                    area=int(area),
                    kind=kind,
                    page=int(page),
                    address=int(address, 16),
                    pfn=int(pagemap, 16) & _PFN,
                    kpageflags=int(flags, 16),
                    count=int(count),
                    node=int(node),
                    line=line,
                )
            )
        except ValueError:
            raise ParseError(f"{name}.txt", number, line, f"{_COLUMNS} columns") from None
    return found


def _seen(page: Mapping[str, Any], fields: Mapping[str, Sequence[Any]], head_word: str) -> Seen:
    data = bytes.fromhex(page["struct_page"])
    words = {
        name: int.from_bytes(data[offset : offset + size], "little", signed=signed)
        for name, (offset, size, signed) in fields.items()
    }
    return Seen(
        walk=tuple(page["walk"]),
        pfn=page["pfn"],
        words=StructPage(
            flags=words["flags"],
            refcount=words["refcount"],
            mapcount=words["mapcount"],
            mapping=words["mapping"],
            compound_head=words[head_word],
            compound_mapcount=words.get("compound_mapcount", words.get("entire_mapcount", -1)),
            large_mapcount=words.get("large_mapcount", -1),
        ),
        compound_order=words.get("compound_order"),
        sha256=page["sha256"],
    )


def pattern_sha256(seed: int, area: int, page: int, page_bytes: int) -> str:
    """Digest of what pagewalk writes into a page: splitmix64 from the seed, the area and the page
    (guest/lib/random.c)."""
    state = seed ^ (area << 32 | page)
    words: list[int] = []
    for _ in range(page_bytes // 8):
        state = (state + 0x9E3779B97F4A7C15) & _WORD
        bits = state
        bits = (bits ^ (bits >> 30)) * 0xBF58476D1CE4E5B9 & _WORD
        bits = (bits ^ (bits >> 27)) * 0x94D049BB133111EB & _WORD
        words.append(bits ^ (bits >> 31))
    return hashlib.sha256(struct.pack(f"<{len(words)}Q", *words)).hexdigest()
