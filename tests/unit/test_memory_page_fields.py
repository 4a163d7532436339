"""Which members of a struct page, and of a folio's first tail, a reader of frames finds."""

from __future__ import annotations

from typing import cast

import pytest

from harness.sampling.memory.btf import Btf
from harness.sampling.memory.frames import FrameReader
from harness.sampling.memory.kernel import GuestKernel
from tests.made_btf import UNION, MadeBtf

PAGE_BYTES = 64


def fields(head_word: str, counts_at: int | None) -> dict[str, tuple[int, int, bool]]:
    """As (offset, bytes, signed); ``counts_at``: where the folio has a count of its mappings."""
    made = MadeBtf()
    u64 = made.integer("unsigned long", 8)
    s32 = made.integer("int", 4, signed=True)
    atomic = made.struct("", 4, [("counter", s32, 0)])
    flags = made.struct("", 8, [("f", u64, 0)])
    word = made.struct("", 8, [(head_word, u64, 0), ("lru", u64, 0)], kind=UNION)
    page = made.struct(
        "page",
        PAGE_BYTES,
        [("flags", flags, 0), ("", word, 64), ("mapping", u64, 192), ("_mapcount", atomic, 384)],
    )
    if counts_at is not None:
        members = [("page", page, 0), ("_entire_mapcount", atomic, 8 * counts_at)]
        made.struct("folio", 4 * PAGE_BYTES, members)

    class Kernel:
        btf = Btf(made.bytes, "made")

        class info:  # noqa: N801 - stands in for an attribute
            page_size_bytes = 4096

    reader = FrameReader(cast(GuestKernel, Kernel()), 0)
    return {
        name: (field.offset, field.size_bytes, field.signed)
        for name, field in reader.fields.items()
    }


@pytest.mark.parametrize("head_word", ["compound_head", "compound_info"])
def test_what_leads_to_the_head_keeps_its_name(head_word: str) -> None:
    found = fields(head_word, None)
    assert found == {
        "flags": (0, 8, False),
        head_word: (8, 8, False),
        "mapping": (24, 8, False),
        "mapcount": (48, 4, True),
    }


def test_counts_of_a_folio_are_told_from_the_start_of_its_first_tail() -> None:
    assert fields("compound_info", PAGE_BYTES + 36)["entire_mapcount"] == (36, 4, True)


def test_counts_in_another_tail_are_none_of_the_first() -> None:
    assert "entire_mapcount" not in fields("compound_info", 2 * PAGE_BYTES + 36)
