"""From rings to typed arrays: columns, order, losses, what is not known, what does not fit."""

from __future__ import annotations

import struct
from collections.abc import Mapping

import numpy as np
import pytest

from analysis.trace import EventStream, Formats, Gap, KernelLoss, decode
from analysis.trace.format import build_formats, parse_format, parse_header_page
from tests.trace_pages import (
    BARE,
    BYTES,
    HEADER_PAGE,
    OPENED,
    PAGE_ALLOC,
    PRINT,
    RingWriter,
    Written,
    common,
    format_text,
    octets,
    opened,
    page_alloc,
    printed,
)

CLASH = format_text(
    "clash",
    700,
    (
        "int pid;offset:8;size:4;signed:1",
        "int cpu;offset:12;size:4;signed:1",
        "char comm[8];offset:16;size:8;signed:1",
        "unsigned long args[2];offset:24;size:16;signed:0",
        "guid_t id;offset:40;size:16;signed:0",
    ),
)
FORMATS = build_formats(
    parse_header_page(HEADER_PAGE),
    [
        parse_format(PAGE_ALLOC, "f", "kmem"),
        parse_format(OPENED, "f", "mmscope"),
        parse_format(BYTES, "f", "mmscope"),
        parse_format(PRINT, "f", "ftrace"),
        parse_format(BARE, "f", "x"),
        parse_format(CLASH, "f", "x"),
    ],
)


def stream_of(
    *rings: list[tuple[int, bytes]], formats: Formats = FORMATS, clock: str = "counter"
) -> EventStream:
    raw = {}
    for cpu, events in enumerate(rings):
        writer = RingWriter()
        for counter, record in events:
            writer.write(Written(counter=counter, record=record))
        raw[cpu] = writer.pages()
    return decode(raw, formats, clock=clock)


def test_every_array_has_the_common_columns_and_its_own_with_native_types() -> None:
    stream = stream_of([(5, page_alloc(1 << 40, 3, 0xDEAD, -1, pid=-7))])
    array = stream["mm_page_alloc"]
    assert array.dtype.names == (
        *("counter", "cpu", "pid", "common_flags", "preempt_count"),
        *("pfn", "order", "gfp_flags", "migratetype"),
    )
    kinds = [array.dtype[name].str for name in array.dtype.names]
    assert kinds == ["<u8", "<u2", "<i4", "|u1", "|u1", "<u8", "<u4", "<u8", "<i4"]
    assert array[0].tolist() == (5, 0, -7, 0, 0, 1 << 40, 3, 0xDEAD, -1)
    assert stream["kmem/mm_page_alloc"] is array


def test_flags_and_preempt_count() -> None:
    (row,) = stream_of([(5, common(12, pid=9, flags=0x18, preempt_count=0x21))])["bare"]
    assert row.tolist() == (5, 0, 9, 0x18, 0x21)


def test_strings_and_fields_at_odd_places() -> None:
    stream = stream_of(
        [
            (1, opened(0xFFFF_FFFF_8000_0001, b"/etc/passwd", -100, (1, 0xFFFE))),
            (2, opened(7, b"", 3, (2, 3))),
        ]
    )
    array = stream["opened"]
    assert array["name"].tolist() == [b"/etc/passwd", b""]
    assert array["dfd"].tolist() == [-100, 3]
    assert array["pair"].tolist() == [[1, 0xFFFE], [2, 3]]
    assert array["__probe_ip"].tolist() == [0xFFFF_FFFF_8000_0001, 7]


def test_a_string_ends_at_its_first_nul() -> None:
    stream = stream_of(
        [
            (1, opened(1, b"ab\0cd", 0, (0, 0))),
            (2, common(700) + struct.pack("<ii8s16x16x", 0, 0, b"sh\0junk!")),
        ]
    )
    assert stream["opened"]["name"].tolist() == [b"ab"]
    assert stream["clash"]["comm"].tolist() == [b"sh"]


def test_dynamic_bytes_keep_their_length_and_their_zeros() -> None:
    array = stream_of([(1, octets(b"\1\0\0")), (2, octets(b"")), (3, octets(b"\0"))])["bytes"]
    assert array["data_bytes"].tolist() == [3, 0, 1]
    assert [row["data"].tobytes() for row in array] == [b"\1\0\0", b"\0\0\0", b"\0\0\0"]


def test_text_to_the_end_of_the_record() -> None:
    array = stream_of([(1, printed(3, b"marked\n")), (2, printed(4, b"x" * 300))])["print"]
    assert array["buf"].tolist() == [b"marked\n", b"x" * 300]


def test_fields_named_like_common_columns_are_told_apart() -> None:
    body = struct.pack("<ii8sQQ16s", 42, 3, b"12345678", 1, 2, bytes(range(16)))
    (row,) = stream_of([(1, common(700, pid=6) + body)])["clash"]
    assert (row["pid"], row["event_pid"], row["cpu"], row["event_cpu"]) == (6, 42, 0, 3)
    assert row["comm"] == b"12345678"
    assert row["args"].tolist() == [1, 2]
    assert row["id"].tobytes() == bytes(range(16))


def test_arrays_are_sorted_across_cpus_and_merged_gives_the_order_of_all() -> None:
    stream = stream_of(
        [(1, page_alloc(10)), (4, common(12)), (6, page_alloc(11))],
        [(2, common(12)), (3, page_alloc(12)), (5, page_alloc(13))],
    )
    allocs = stream["mm_page_alloc"]
    assert allocs["counter"].tolist() == [1, 3, 5, 6]
    assert allocs["cpu"].tolist() == [0, 1, 1, 0]
    assert allocs["pfn"].tolist() == [10, 12, 13, 11]
    merged = stream.merged()
    order = [
        int(stream[merged.names[kind]]["counter"][row])
        for kind, row in zip(merged.kind, merged.row, strict=True)
    ]
    assert order == [1, 2, 3, 4, 5, 6]
    some = stream.merged(["bare", "opened"])
    assert some.names == ("x/bare", "mmscope/opened")
    assert (some.kind.tolist(), some.row.tolist()) == ([0, 0], [0, 1])
    assert len(stream.merged([])) == 0
    with pytest.raises(KeyError, match="no such event"):
        stream.merged(["mm_page_fre"])


def test_equal_counters_of_a_cpu_stay_in_the_order_of_its_ring() -> None:
    stream = stream_of([(1, page_alloc(1)), (2, common(12)), (2, page_alloc(2)), (2, common(12))])
    merged = stream.merged()
    assert [merged.names[kind] for kind in merged.kind] == [
        *("kmem/mm_page_alloc", "x/bare", "kmem/mm_page_alloc", "x/bare")
    ]
    assert stream.readings.shared == 2
    assert not stream.damage


def test_one_counter_on_two_cpus_is_damage_unless_the_clock_is_another() -> None:
    rings = ([(1, common(12)), (2, common(12))], [(2, common(12)), (3, common(12))])
    (damage,) = stream_of(*rings).damage
    assert (damage.cpu, damage.page, damage.offset) == (1, 0, 20)
    assert "counter is that of an event on another cpu" in damage.reason
    assert not stream_of(*rings, clock="global").damage


def test_names() -> None:
    stream = stream_of([(1, common(12))])
    assert "bare" in stream
    assert "mm_page_alloc" not in stream, "known, but it did not occur"
    assert "nonsense" not in stream
    assert list(stream) == ["x/bare"]
    with pytest.raises(KeyError):
        stream["mm_page_alloc"]


def test_a_short_name_of_two_events_is_not_guessed() -> None:
    twice = [parse_format(BARE, "f", "x"), parse_format(BARE.replace("12", "14"), "f", "y")]
    stream = stream_of([(1, common(12))], formats=build_formats(FORMATS.page, twice))
    with pytest.raises(KeyError, match="x/bare, y/bare"):
        stream["bare"]
    assert len(stream["x/bare"]) == 1


def test_events_without_a_format_are_counted_by_id() -> None:
    stream = stream_of([(1, common(99)), (2, common(12)), (3, common(99)), (4, common(98))])
    assert stream.unknown == {99: 2, 98: 1}
    assert stream.summary.unknown == 3
    assert stream.summary.by_name == {"x/bare": 1}
    assert stream.events_by_cpu == {0: 4}
    assert not stream.is_sound
    audit = stream.audit()
    assert audit is not None
    assert audit.silent == 0, "they are in the rings, so no counter is missing"


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        (common(547) + bytes(20), "shorter than its 36 bytes"),
        (common(547) + bytes(60), "longer than its 36 bytes"),
        (common(1348) + struct.pack("<QHH", 0, 24, 4) + bytes(40), "name of mmscope/opened lies"),
        (common(1348) + struct.pack("<QHH", 0, 25, 60) + bytes(40), "name of mmscope/opened lies"),
        (
            common(1348) + struct.pack("<QHH", 0, 65535, 9) + bytes(40),
            "name of mmscope/opened lies",
        ),
        (common(13) + struct.pack("<HH", 4, 9) + bytes(8), "data of mmscope/bytes lies outside"),
    ],
)
def test_records_that_do_not_fit_their_format_are_left_out_and_reported(
    record: bytes, reason: str
) -> None:
    stream = stream_of(
        [(1, common(12)), (2, record), (3, page_alloc(5)), (4, opened(1, b"x", 0, (0, 0)))]
    )
    (damage,) = stream.damage
    assert (damage.cpu, damage.page, damage.offset) == (0, 0, 16 + 16 + 4)
    assert reason in damage.reason
    assert stream.summary.by_name == {"x/bare": 1, "kmem/mm_page_alloc": 1, "mmscope/opened": 1}
    merged = stream.merged()
    assert len(merged) == 3
    assert [merged.names[kind] for kind in merged.kind] == [
        *("x/bare", "kmem/mm_page_alloc", "mmscope/opened")
    ]


def test_of_many_misfits_the_first_are_named_and_the_others_counted() -> None:
    stream = stream_of([(n, common(547) + bytes(8)) for n in range(1, 500)])
    assert len(stream.damage) == 21
    assert "479 more events" in stream.damage[-1].reason
    assert stream.damage[-1].page == -1
    assert str(stream.damage[-1]).startswith("cpu 0: ")
    assert stream.events == 0
    assert not stream.is_sound


def _gapped() -> Mapping[int, bytes]:
    first, second, third = RingWriter(), RingWriter(), RingWriter()
    first.miss(10)
    for counter in (11, 12):
        first.write(Written(counter=counter, record=common(12)))
    first.end_page()
    first.miss(20)
    first.write(Written(counter=40, record=common(12)))
    second.write(Written(counter=5, record=common(12)))
    second.end_page()
    second.miss(3)
    second.write(Written(counter=41, record=common(9) + bytes(4080 - 16)))
    third.write(Written(counter=50, record=common(12)))
    return {0: first.pages(), 3: second.pages(), 4: third.pages()}


def test_gaps_say_where_and_how_many() -> None:
    stream = decode(_gapped(), FORMATS)
    assert stream.gaps == (
        Gap(cpu=0, before=None, after=11, count=10),
        Gap(cpu=0, before=12, after=40, count=20),
        Gap(cpu=3, before=5, after=41, count=None),
    )
    assert stream.lost == 10 + 20 + 1
    assert not stream.is_sound


@pytest.mark.parametrize(
    ("loss", "lost"),
    [
        (KernelLoss(), 31),
        (KernelLoss(overrun=33), 33),
        (KernelLoss(overrun=20), 31),
        (KernelLoss(overrun=33, dropped=7), 40),
        (KernelLoss(dropped=7), 38),
    ],
)
def test_overwritten_events_are_not_counted_twice(loss: KernelLoss, lost: int) -> None:
    assert decode(_gapped(), FORMATS, kernel_loss=loss).lost == lost


def test_summary() -> None:
    stream = stream_of([(3, common(12)), (4, page_alloc(1))], [(9, page_alloc(1))])
    summary = stream.summary
    assert (summary.events, summary.first, summary.last) == (3, 3, 9)
    assert summary.by_name == {"x/bare": 1, "kmem/mm_page_alloc": 2}
    assert (summary.lost, summary.damaged, summary.unknown) == (0, 0, 0)
    assert stream_of([(3, common(12)), (4, common(12))]).is_sound


def test_nothing_at_all() -> None:
    stream = decode({}, FORMATS)
    assert (stream.events, stream.lost, stream.summary.first) == (0, 0, None)
    assert len(stream.merged()) == 0
    assert stream.is_sound


def test_many_events_of_two_cpus_come_out_in_order() -> None:
    random = np.random.default_rng(1)
    cpus = random.integers(0, 2, 20_000)
    rings: list[list[tuple[int, bytes]]] = [[], []]
    for counter, cpu in enumerate(cpus.tolist(), 1):
        rings[cpu].append((counter, page_alloc(counter)))
    array = stream_of(*rings)["mm_page_alloc"]
    assert np.array_equal(array["pfn"], np.arange(1, 20_001))
    assert np.array_equal(array["counter"], array["pfn"])
    assert np.array_equal(array["cpu"], cpus)
