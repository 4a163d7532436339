"""tracefs' format files: what is read, and that nothing malformed is read."""

from __future__ import annotations

from pathlib import Path

import pytest

from analysis.errors import BundleError, ParseError
from analysis.trace.format import (
    Storage,
    build_formats,
    check_header_event,
    parse_format,
    parse_header_page,
    read_formats,
)
from tests.trace_pages import (
    BYTES,
    HEADER_EVENT,
    HEADER_PAGE,
    HEADER_PAGE_32,
    OPENED,
    PAGE_ALLOC,
    PRINT,
    format_text,
)


def test_fields_carry_place_size_and_sign() -> None:
    event = parse_format(PAGE_ALLOC, "f", "kmem")
    assert (event.full_name, event.id) == ("kmem/mm_page_alloc", 547)
    assert [(f.name, f.offset, f.size_bytes, f.signed) for f in event.fields] == [
        ("pfn", 8, 8, False),
        ("order", 16, 4, False),
        ("gfp_flags", 24, 8, False),
        ("migratetype", 32, 4, True),
    ]
    assert next(f.name for f in event.common) == "common_type"
    assert event.fixed_bytes == 36
    assert not event.is_dynamic


def test_kprobe_fields_may_be_dynamic_unaligned_and_arrays_without_a_count() -> None:
    event = parse_format(OPENED, "f", "mmscope")
    ip, name, dfd, pair = event.fields
    assert (ip.name, name.storage, name.is_text) == ("__probe_ip", Storage.DATA_LOC, True)
    assert (dfd.offset, dfd.signed, dfd.count) == (20, True, None)
    assert (pair.offset, pair.count, pair.element_bytes, pair.is_text) == (21, 2, 2, False)
    assert event.is_dynamic
    assert event.fixed_bytes == 25


def test_relative_locators_and_fields_that_run_to_the_end_of_the_record() -> None:
    (data,) = parse_format(BYTES, "f", "x").fields
    assert (data.storage, data.type, data.is_text) == (Storage.REL_LOC, "u8", False)
    _, buf = parse_format(PRINT, "f", "ftrace").fields
    assert (buf.storage, buf.is_text, buf.size_bytes) == (Storage.TAIL, True, 0)


@pytest.mark.parametrize(
    ("declaration", "size", "expected"),
    [
        ("char comm[16]", 16, (16, 1, True)),
        ("const char comm[TASK_COMM_LEN]", 16, (16, 1, True)),
        ("unsigned char comm[6]", 6, (6, 1, False)),
        ("unsigned long args[6]", 48, (6, 8, False)),
        ("long sysctl_mem[3]", 24, (3, 8, False)),
        ("__u8 saddr_v6[sizeof(x)]", 16, (16, 1, False)),
        ("u64 arr[]", 24, (3, 8, False)),
        ("const struct iovec * vec", 8, (None, 8, False)),
        ("struct cper_mem_err_compact data", 55, (None, 55, False)),
    ],
)
def test_declarations(declaration: str, size: int, expected: tuple[object, ...]) -> None:
    text = format_text("e", 3, (f"{declaration};offset:8;size:{size};signed:0",))
    (field,) = parse_format(text, "f", "s").fields
    assert (field.count, field.element_bytes, field.is_text) == expected


def test_print_format_may_run_over_lines() -> None:
    text = PAGE_ALLOC.replace('print fmt: "", 0\n', 'print fmt: "%d",\nREC->order\n')
    assert parse_format(text, "f", "s").print_fmt == '"%d",\nREC->order'


@pytest.mark.parametrize(
    ("old", "new", "line", "expected"),
    [
        ("name: ", "nome: ", 1, "'name: '"),
        ("ID: 547", "ID: many", 2, "an event id"),
        ("ID: 547", "ID: 65536", 2, "an event id"),
        ("format:\n", "formats:\n", 3, "'format:'"),
        ("unsigned long pfn;", "pfn;", 9, "a C declaration"),
        ("size:8;\tsigned:0;\n\tfield:unsigned int", "size:8;\n\tfield:unsigned int", 9, "'field"),
        ("offset:8;", "offset:65535;", 9, "a field within"),
        ("offset:8;\tsize:8", "offset:8;\tsize:0", 9, "a size above 0"),
        ("order;", "pfn;", 10, "a name that no field"),
        ('print fmt: "", 0', "", 15, "'print fmt:'"),
        ("common_type;", "common_kind;", 0, "common_type"),
        ("common_pid;", "common_task;", 0, "a field named common_pid"),
        ("unsigned long pfn;", "__data_loc char[] pfn;", 9, "a locator of 4 bytes"),
    ],
)
def test_errors_name_file_and_line(old: str, new: str, line: int, expected: str) -> None:
    assert old in PAGE_ALLOC
    with pytest.raises(ParseError) as caught:
        parse_format(PAGE_ALLOC.replace(old, new, 1), "events/kmem/x/format", "kmem")
    assert caught.value.source == "events/kmem/x/format"
    assert caught.value.line == line
    assert caught.value.expected.startswith(expected)


@pytest.mark.parametrize("text", ["", "name: x\n", "name: x\nID: 3\n", "name: x\nID: 3\nformat:\n"])
def test_a_format_that_ends_early_is_refused(text: str) -> None:
    with pytest.raises(ParseError):
        parse_format(text, "f", "s")


def test_header_page_of_64_and_32_bits() -> None:
    page = parse_header_page(HEADER_PAGE)
    assert (page.commit_bytes, page.data_offset, page.subbuffer_bytes) == (8, 16, 4096)
    page = parse_header_page(HEADER_PAGE_32)
    assert (page.commit_bytes, page.data_offset, page.subbuffer_bytes) == (4, 12, 4096)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("offset:0;\tsize:8", "offset:0;\tsize:4"),
        ("commit;\toffset:8", "commit;\toffset:4"),
        ("offset:16", "offset:15"),
        ("offset:16", "offset:12"),
        ("size:4080", "size:0"),
        ("field: char data", "field: char rest"),
        ("offset:16;", "offset:x;"),
    ],
)
def test_a_page_of_another_layout_is_refused(old: str, new: str) -> None:
    assert old in HEADER_PAGE
    with pytest.raises(ParseError, match="header_page"):
        parse_header_page(HEADER_PAGE.replace(old, new))


@pytest.mark.parametrize(
    ("old", "new"),
    [("27 bits", "28 bits"), ("== 29", "== 28"), ("time_extend", "time"), ("== 28\n", "== 27\n")],
)
def test_event_headers_of_another_layout_are_refused(old: str, new: str) -> None:
    check_header_event(HEADER_EVENT)
    assert old in HEADER_EVENT
    with pytest.raises(ParseError, match="header_event"):
        check_header_event(HEADER_EVENT.replace(old, new))


def test_two_events_with_one_id_are_refused() -> None:
    page = parse_header_page(HEADER_PAGE)
    one, two = parse_format(PAGE_ALLOC, "f", "a"), parse_format(PAGE_ALLOC, "f", "b")
    with pytest.raises(ParseError, match="b/mm_page_alloc:2"):
        build_formats(page, [one, two])


def test_a_directory_of_formats(tmp_path: Path) -> None:
    files = {
        "header_page": HEADER_PAGE,
        "header_event": HEADER_EVENT,
        "kmem/mm_page_alloc/format": PAGE_ALLOC,
        "mmscope/opened/format": OPENED,
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    formats = read_formats(tmp_path)
    assert set(formats.by_id) == {547, 1348}
    assert set(formats.by_name) == {"kmem/mm_page_alloc", "mmscope/opened"}

    (tmp_path / "kmem/mm_page_alloc/format").write_text("rubbish\n")
    with pytest.raises(ParseError, match="mm_page_alloc/format:1"):
        read_formats(tmp_path)
    (tmp_path / "header_page").unlink()
    with pytest.raises(BundleError, match="header_page"):
        read_formats(tmp_path)
