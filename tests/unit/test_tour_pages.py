"""The judges of the stops about pages: they hold on real evidence, and fail on what is changed."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from analysis.errors import MissingInputError, ParseError
from analysis.model.eras_struct_page import PageEra, page_era
from analysis.model.release import Release
from analysis.model.struct_page import (
    PageView,
    StructPage,
    flag_names,
    head_address,
    heads_by_mask,
    kind_flags,
    kpageflags,
    map_count,
    node_of,
    tail_word,
    zone_type_of,
)
from analysis.tour.evidence import open_stop
from analysis.tour.finding import Finding
from analysis.tour.pages import JUDGES
from analysis.tour.walked_pages import pattern_sha256
from analysis.verdict import Verdict
from tests.guest_programs import LIMIT_S, host_programs

FIXTURES = Path(__file__).parents[1] / "fixtures" / "tour"
FIRST = PageEra(folios=False, ksm_is_anon=False)
LATER = PageEra(folios=True, ksm_is_anon=False)
BITS = {"locked": 0, "uptodate": 2, "lru": 4, "slab": 9, "head": 16, "swapbacked": 19}


@pytest.fixture
def judged(tmp_path: Path) -> Callable[..., Finding]:
    """The finding of a stop after its evidence was changed."""

    def judge(
        name: str, change: Callable[[dict[str, Any]], None] = lambda _: None, kernel: str = ""
    ) -> Finding:
        path = tmp_path / name.replace("/", "-")
        shutil.copytree(FIXTURES / f"{path.name}{kernel and '-'}{kernel}", path)
        kept = path / "main" / "outside.json"
        outside = json.loads(kept.read_text())
        change(outside)
        kept.write_text(json.dumps(outside))
        return JUDGES[name](open_stop(name, path))

    return judge


def failing(finding: Finding) -> set[str]:
    return {claim.id for claim in finding.claims if claim.verdict is Verdict.FAILS}


@pytest.mark.parametrize(
    ("name", "kernel"),
    [*((name, "") for name in JUDGES), ("pages/pfn", "6.12"), ("pages/compound", "7.2")],
)
def test_everything_holds_and_can_be_drawn(
    judged: Callable[..., Finding], name: str, kernel: str
) -> None:
    finding = judged(name, kernel=kernel)
    assert {claim.verdict for claim in finding.claims} == {Verdict.HOLDS}
    for exhibit in finding.exhibits:
        if hasattr(exhibit, "draw"):
            assert exhibit.draw().axes


@pytest.mark.parametrize(
    ("key", "value", "fails"),
    [
        ("pfn", 1, {"page_frame"}),
        ("sha256", "00", {"page_content"}),
        ("seed", 5, {"page_content"}),
    ],
)
def test_a_frame_that_is_another_fails(
    judged: Callable[..., Finding], key: str, value: object, fails: set[str]
) -> None:
    def change(outside: dict[str, Any]) -> None:
        (outside if key == "seed" else outside["pages"][0])[key] = value

    assert failing(judged("pages/pfn", change)) >= fails


@pytest.mark.parametrize(
    ("field", "byte", "mask", "fails"),
    [
        ("flags", 7, 0x40, {"page_zone"}),
        ("flags", 6, 0x10, {"page_zone"}),
        ("flags", 0, 0x01, {"page_flags"}),
        ("mapcount", 0, 0x04, {"page_map_count"}),
        ("mapping", 0, 0x01, {"page_flags"}),
    ],
)
def test_another_struct_page_fails(
    judged: Callable[..., Finding], field: str, byte: int, mask: int, fails: set[str]
) -> None:
    def change(outside: dict[str, Any]) -> None:
        data = bytearray.fromhex(outside["pages"][0]["struct_page"])
        data[outside["fields"][field][0] + byte] ^= mask
        outside["pages"][0]["struct_page"] = data.hex()

    assert failing(judged("pages/pfn", change)) == fails


def test_a_page_that_is_not_on_the_lists_yet_may_change(judged: Callable[..., Finding]) -> None:
    """Of the flags that its CPU sets when it puts it there nothing is foretold."""

    def change(outside: dict[str, Any]) -> None:
        for page in (0, 1):
            _flipped(outside, page, "flags", 1 << outside["page_flag_bits"]["lru"])
        _flipped(outside, 1, "flags", 1 << outside["page_flag_bits"]["active"])

    finding = judged("pages/pfn", change)
    assert failing(finding) == set()
    first, *_ = (claim for claim in finding.claims if claim.id == "page_flags")
    assert (first.predicted, first.observed) == (2, 2)
    assert "2 of 4 pages were not on the LRU lists yet" in first.working


def test_a_tail_that_points_elsewhere_fails(judged: Callable[..., Finding]) -> None:
    def change(outside: dict[str, Any]) -> None:
        data = bytearray.fromhex(outside["pages"][7]["struct_page"])
        at = outside["fields"]["compound_head"][0]
        head = int.from_bytes(data[at : at + 8], "little") + outside["struct_page_bytes"]
        data[at : at + 8] = head.to_bytes(8, "little")
        outside["pages"][7]["struct_page"] = data.hex()

    assert "compound_head" in failing(judged("pages/compound", change))


def _flipped(outside: dict[str, Any], page: int, field: str, mask: int) -> None:
    """Other bits of a member of a struct page."""
    data = bytearray.fromhex(outside["pages"][page]["struct_page"])
    at, size, signed = outside["fields"][field]
    old = int.from_bytes(data[at : at + size], "little", signed=signed)
    data[at : at + size] = (old ^ mask).to_bytes(size, "little", signed=signed)
    outside["pages"][page]["struct_page"] = data.hex()


@pytest.mark.parametrize(
    ("page", "field", "mask", "fails"),
    [
        # a tail's mask is that of a smaller page, though it leads to the same head
        (7, "compound_info", 1 << 14, {"compound_head"}),
        # the order in the first tail
        (1, "flags", 1, {"compound_order"}),
        # the first tail's PG_large_rmappable, without which it is no huge page
        (1, "flags", 1 << 9, {"page_flags"}),
        (1, "entire_mapcount", 2, {"page_map_count"}),
        # mapped by nobody
        (1, "large_mapcount", -1, {"page_flags"}),
        # a flag of the head is one of all its pages
        (0, "flags", 1 << 4, {"page_flags"}),
        # what stands in a tail's flags is no page's
        (9, "flags", 1 << 4, set()),
    ],
)
def test_another_folio_of_7_2_fails(
    judged: Callable[..., Finding], page: int, field: str, mask: int, fails: set[str]
) -> None:
    finding = judged(
        "pages/compound", lambda outside: _flipped(outside, page, field, mask), kernel="7.2"
    )
    assert failing(finding) == fails


def test_a_release_between_those_compared_is_unknown(
    judged: Callable[..., Finding], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("analysis.tour.walked_pages.page_era", lambda _: None)
    finding = judged("pages/compound", kernel="7.2")
    unknown = {claim.id for claim in finding.claims if claim.verdict is Verdict.UNKNOWN}
    assert unknown == {"page_kind", "page_flags", "page_map_count", "compound_order"}
    assert failing(finding) == set()
    assert page_era(Release(6, 6)) is None
    assert page_era(Release(6, 18)) is None


def test_counts_of_a_folio_that_were_not_read_are_named(judged: Callable[..., Finding]) -> None:
    with pytest.raises(MissingInputError, match="counts that a folio has"):
        judged(
            "pages/compound", lambda outside: outside["fields"].pop("entire_mapcount"), kernel="7.2"
        )


def test_a_struct_page_of_neither_kind_is_named(judged: Callable[..., Finding]) -> None:
    with pytest.raises(MissingInputError, match="compound_head or compound_info"):
        judged(
            "pages/compound", lambda outside: outside["fields"].pop("compound_info"), kernel="7.2"
        )


def test_huge_pages_of_a_smaller_entry_fail(judged: Callable[..., Finding]) -> None:
    def change(outside: dict[str, Any]) -> None:
        outside["pages"][0]["walk"][-1]["shift"] = 12

    assert failing(judged("pages/compound", change)) == {"compound_entry"}


def test_pages_that_nobody_told_of_are_no_evidence(judged: Callable[..., Finding]) -> None:
    with pytest.raises(ParseError, match="pages of outside"):
        judged("pages/pfn", lambda outside: outside["pages"].pop())


def test_a_head_that_was_not_read_is_named(judged: Callable[..., Finding]) -> None:
    def change(outside: dict[str, Any]) -> None:
        outside["pages"][0]["pfn"] += 1 << 20

    with pytest.raises(MissingInputError, match="struct page of frame"):
        judged("pages/compound", change)


@pytest.mark.skipif(
    not os.access("/proc/kpageflags", os.R_OK), reason="frame numbers are shown to root alone"
)
def test_the_pattern_is_that_of_the_guest(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    programs = host_programs(tmp_path_factory.getbasetemp() / "guest-programs")
    file = tmp_path / "pages"
    done = subprocess.run(
        [str(programs / "pagewalk"), "--seed", "7", "--area", "anon:1", "--area", f"file:{file}:2"],
        capture_output=True,
        text=True,
        check=True,
        timeout=LIMIT_S,
    )
    rows = [line.split() for line in done.stdout.splitlines() if line.startswith("0 ")]
    assert [(row[1], row[2], row[3]) for row in rows] == [
        ("0", "anon", "0"),
        ("1", "file", "0"),
        ("1", "file", "1"),
    ]
    data, size = file.read_bytes(), os.sysconf("SC_PAGESIZE")
    for number in range(2):
        content = data[number * size : (number + 1) * size]
        assert hashlib.sha256(content).hexdigest() == pattern_sha256(7, 1, number, size)


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ([], "--area: give at least one"),
        (["--area", "nothing:1"], "no such kind"),
        (["--area", "anon:0"], "--area 0"),
        (["--area", "anon:1:2:3"], "expected anon:PAGES[:NODE]"),
        (["--area", "holes:8:5:4"], "keeps more than there is"),
        (["--area", "file:8"], "expected file:PATH:PAGES"),
    ],
)
def test_pagewalk_says_what_is_wrong(
    tmp_path_factory: pytest.TempPathFactory, arguments: list[str], complaint: str
) -> None:
    programs = host_programs(tmp_path_factory.getbasetemp() / "guest-programs")
    done = subprocess.run(
        [str(programs / "pagewalk"), *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=LIMIT_S,
    )
    assert done.returncode == 2
    assert complaint in done.stderr


def page(**words: int) -> StructPage:
    base = {"flags": 0, "refcount": 1, "mapcount": -1, "mapping": 0, "compound_head": 0}
    return StructPage(**{**base, "compound_mapcount": -1, **words})


def test_node_and_zone_share_the_flags_word() -> None:
    flags = 3 << 54 | 2 << 51
    assert node_of(flags, nodes_shift=10) == 3
    assert zone_type_of(flags, nodes_shift=10, zones=5) == 2
    assert node_of(flags, nodes_shift=0) == 0


def test_a_free_page_is_mapped_by_nobody_whatever_its_type_says() -> None:
    free = page(mapcount=-129)
    view = PageView(page=free, head=free)
    assert map_count(view, BITS, FIRST) == 0
    assert flag_names(kpageflags(view, BITS, FIRST)) == ("BUDDY",)


def test_a_slab_page_is_not_mapped() -> None:
    slab = page(flags=1 << BITS["slab"], mapcount=5)
    assert flag_names(kpageflags(PageView(page=slab, head=slab), BITS, FIRST)) == ("SLAB",)


def test_a_tail_counts_what_maps_the_whole() -> None:
    head = page(flags=1 << BITS["head"] | 1 << BITS["lru"], mapping=1)
    tail = page(compound_head=0x1001, compound_mapcount=0, refcount=0)
    view = PageView(page=tail, head=head, first_tail=tail)
    assert map_count(view, BITS, FIRST) == 1
    names = set(flag_names(kpageflags(view, BITS, FIRST)))
    assert names == kind_flags(anon=True, huge=True, first=False, era=FIRST)


@pytest.mark.parametrize(
    ("number", "shown"), [(0xF0, "BUDDY"), (0xF1, "OFFLINE"), (0xF2, "PGTABLE"), (0xF5, "SLAB")]
)
def test_later_a_type_is_a_number_and_no_count(number: int, shown: str) -> None:
    typed = page(mapcount=(number << 24) - (1 << 32))
    view = PageView(page=typed, head=typed)
    assert map_count(view, BITS, LATER) == 0
    assert flag_names(kpageflags(view, BITS, LATER), LATER) == (shown,)


def test_6_12_calls_all_anonymous_pages_those_of_ksm() -> None:
    anon = page(mapping=1, mapcount=0)
    view = PageView(page=anon, head=anon)
    wrong = page_era(Release(6, 12))
    assert wrong is not None
    assert flag_names(kpageflags(view, BITS, wrong)) == ("MMAP", "ANON", "KSM")
    assert "KSM" in kind_flags(anon=True, huge=False, first=True, era=wrong)
    assert "KSM" not in kind_flags(anon=False, huge=False, first=True, era=wrong)
    assert flag_names(kpageflags(view, BITS, LATER)) == ("MMAP", "ANON")


def test_a_flag_was_given_another_name() -> None:
    assert flag_names(1 << 34, FIRST) == ("MAPPEDTODISK",)
    assert flag_names(1 << 34, LATER) == ("OWNER_2",)


def test_a_tail_leads_to_its_head_by_address_or_by_mask() -> None:
    head, size, order = 0xFFFFEA0000198000, 64, 9
    for by_mask in (False, True):
        word = tail_word(head, order, size, by_mask=by_mask)
        tail = page(compound_head=word)
        for number in (1, 7, 511):
            assert head_address(tail, head + number * size, by_mask=by_mask) == head
    assert tail_word(head, order, size, by_mask=True) == 0xFFFFFFFFFFFF8001
    assert head_address(page(), head, by_mask=True) == head


def test_masks_need_a_struct_page_of_a_power_of_two() -> None:
    assert heads_by_mask({"HUGETLB_PAGE_OPTIMIZE_VMEMMAP"}, 64)
    assert not heads_by_mask({"HUGETLB_PAGE_OPTIMIZE_VMEMMAP"}, 56)
    assert not heads_by_mask(set(), 64)
