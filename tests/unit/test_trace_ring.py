"""Sub-buffers made by hand, after the kernel's rules, and what is made of damaged ones."""

from __future__ import annotations

import struct

import numpy as np
import pytest

from analysis.trace.format import PageHeader, parse_header_page
from analysis.trace.ring import ABSOLUTE, SHARED, RingEvents, walk_rings
from tests.trace_pages import (
    CAPACITY,
    HEADER_PAGE,
    HEADER_PAGE_32,
    PAGE_BYTES,
    RingWriter,
    Written,
    common,
    octets,
    page_alloc,
)

HEADER = parse_header_page(HEADER_PAGE)


def walk(*rings: bytes, header: PageHeader = HEADER) -> RingEvents:
    return walk_rings(dict(enumerate(rings)), header)


def counters(ring: RingEvents) -> list[int]:
    return [int(counter) for counter in ring.counter]


def records(ring: RingEvents) -> list[bytes]:
    whole = ring.words.view(np.uint8)
    spans = zip(ring.start * 4, ring.length * 4, strict=True)
    return [whole[at : at + size].tobytes() for at, size in spans]


def written(*events: Written | int, writer: RingWriter | None = None) -> bytes:
    writer = writer or RingWriter()
    for event in events:
        if isinstance(event, int):
            event = Written(counter=event, record=page_alloc(event))
        writer.write(event)
    return writer.pages()


def test_no_rings_and_empty_rings_have_no_events() -> None:
    for ring in (walk(), walk(b""), walk(b"", b"")):
        assert len(ring.counter) == 0
        assert ring.damage == ()


def test_counters_run_on_over_events_and_pages() -> None:
    ring = walk(written(*range(1000, 1400, 2)))
    assert counters(ring) == list(range(1000, 1400, 2))
    assert ring.damage == ()
    assert list(ring.type) == [547] * 200
    assert len(ring.pages.cpu) > 1
    assert not ring.pages.resumed.any()
    assert records(ring)[7] == page_alloc(1014)


def test_time_extends_bridge_more_than_27_bits() -> None:
    stamps = [5, 6, 5 + (1 << 27), 6 + (1 << 58), 7 + (1 << 58)]
    ring = walk(written(*stamps))
    assert counters(ring) == stamps
    assert ring.damage == ()


def test_absolute_stamps_have_59_bits_and_take_the_rest_from_the_stamp_before() -> None:
    top = 0xD8 << 56
    stamps = [top + 5, top + 9, top + (1 << 59) + 3]
    events = [Written(counter=stamps[0], record=page_alloc(1))]
    events += [Written(counter=s, record=page_alloc(1), absolute=True) for s in stamps[1:]]
    ring = walk(written(*events))
    assert counters(ring) == stamps
    assert list(ring.flags) == [0, ABSOLUTE, ABSOLUTE]


def test_an_absolute_stamp_at_the_start_of_a_page() -> None:
    ring = walk(written(Written(counter=77, record=page_alloc(1), absolute=True), 78))
    assert counters(ring) == [77, 78]


def test_an_event_may_share_the_stamp_of_the_one_before() -> None:
    ring = walk(written(10, 11, 11, 12))
    assert counters(ring) == [10, 11, 11, 12]
    assert list(ring.flags) == [0, 0, SHARED, 0]


@pytest.mark.parametrize("size", [0, 1, 100, 112, 113, 116, 4000])
def test_records_of_any_length(size: int) -> None:
    record = octets(bytes(range(256)) * 16)[: 12 + size]
    ring = walk(
        written(
            Written(counter=1, record=record),
            Written(counter=2, record=common(9)),
            Written(counter=3, record=record),
        )
    )
    assert counters(ring) == [1, 2, 3]
    assert [text.startswith(record) for text in records(ring)] == [True, False, True]
    assert len(records(ring)[0]) < len(record) + 8


def test_the_largest_record_fills_a_page() -> None:
    record = common(9) + bytes(CAPACITY - 8 - 8)
    ring = walk(written(Written(counter=1, record=record), Written(counter=2, record=record)))
    assert counters(ring) == [1, 2]
    assert ring.damage == ()


def test_records_aligned_to_8_bytes_have_a_length_word_each() -> None:
    ring = walk(written(1, 2, 3, writer=RingWriter(align=8)))
    assert counters(ring) == [1, 2, 3]
    assert [text[:40] for text in records(ring)] == [page_alloc(n) for n in (1, 2, 3)]


def test_a_32_bit_kernel_has_a_shorter_page_header() -> None:
    writer = RingWriter(long_bytes=4)
    for counter in range(1, 300):
        writer.write(Written(counter=counter, record=page_alloc(counter)))
        if counter == 150:
            writer.miss(6)
    ring = walk(writer.pages(), header=parse_header_page(HEADER_PAGE_32))
    assert counters(ring) == list(range(1, 300))
    assert set(ring.pages.missed.tolist()) == {0, 6}


def test_padding_to_the_end_of_a_page_is_no_event() -> None:
    writer = RingWriter()
    writer.write(Written(counter=1, record=page_alloc(1)))
    writer.end_page(padded=True)
    writer.write(Written(counter=3, record=page_alloc(3)))
    ring = walk(writer.pages())
    assert counters(ring) == [1, 3]
    assert (ring.damage, ring.discarded) == ((), 0)


def test_a_ring_that_begins_with_the_padding_of_a_page_read_before_has_its_own_time() -> None:
    """A window's reader finds what the reader of the window before it left of a page."""
    rest = struct.pack("<QQII", 50, 12, 29 | 1 << 5, 8).ljust(PAGE_BYTES, b"\0")
    ring = walk(written(100, 101), rest + written(60, 61))
    assert counters(ring) == [100, 101, 60, 61]
    assert ring.damage == ()
    ring = walk(written(100, 101), rest + written(50, 51))
    assert ring.pages.resumed.tolist() == [False, False, True]


def test_a_discarded_event_still_took_its_time() -> None:
    ring = walk(written(10, Written(counter=15, record=page_alloc(1), discarded=True), 16))
    assert counters(ring) == [10, 16]
    assert (ring.damage, ring.discarded) == ((), 1)


def test_discarded_at_the_start_of_a_page_the_distance_of_1_stands_for_0() -> None:
    ring = walk(written(Written(counter=15, record=page_alloc(1), discarded=True), 16))
    assert counters(ring) == [16]


def test_missed_events_are_counted_where_there_is_room() -> None:
    writer = RingWriter()
    writer.write(Written(counter=1, record=page_alloc(1)))
    writer.end_page()
    writer.miss(4711)
    writer.write(Written(counter=9000, record=page_alloc(1)))
    writer.end_page()
    writer.miss(5)
    writer.write(Written(counter=9010, record=common(9) + bytes(CAPACITY - 16)))
    ring = walk(writer.pages())
    assert ring.pages.missed.tolist() == [0, 4711, -1]
    assert counters(ring) == [1, 9000, 9010]
    assert ring.damage == ()


def test_a_page_read_in_two_parts_continues() -> None:
    writer = RingWriter()
    for counter in (3, 4):
        writer.write(Written(counter=counter, record=page_alloc(1)))
    writer.read_so_far()
    writer.write_on(Written(counter=7, record=page_alloc(1)))
    writer.write(Written(counter=9, record=page_alloc(1)))
    writer.end_page()
    writer.write(Written(counter=11, record=page_alloc(1)))
    ring = walk(writer.pages())
    assert counters(ring) == [3, 4, 7, 9, 11]
    assert ring.pages.resumed.tolist() == [False, True, False]


def test_cpus_are_walked_in_order_of_their_numbers() -> None:
    ring = walk_rings({7: written(5, 6), 2: written(1, 9)}, HEADER)
    assert counters(ring) == [1, 9, 5, 6]
    assert ring.pages.cpu.tolist() == [2, 7]
    assert ring.pages.number.tolist() == [0, 0]


def _with(ring: bytes, place: int, value: int, size: int = 4) -> bytes:
    return ring[:place] + value.to_bytes(size, "little") + ring[place + size :]


EVENT = 4 + 40  # A header word and the record of page_alloc.


@pytest.mark.parametrize(
    ("place", "value", "kept", "offset", "reason"),
    [
        (8, 4084, 0, 8, "more data than a sub-buffer"),
        (8, 0x40000000 | 3 * EVENT, 3, 8, "count of missed events"),
        (8, 3 * EVENT + 1, 0, 8, "bits that no kernel sets"),
        (12, 7, 0, 12, "bits that no kernel sets"),
        (8, 3 * EVENT + 4, 3, 16 + 3 * EVENT, "beyond the committed data"),
        (8, 3 * EVENT - 4, 2, 16 + 2 * EVENT, "beyond the committed data"),
        (16 + EVENT, 28, 1, 16 + EVENT, "beyond the committed data"),
        (16 + EVENT, 1, 1, 16 + EVENT, "shorter than the fields"),
        (16 + EVENT, 0, 1, 16 + EVENT, "no multiple of 4"),
        (16 + EVENT, 29, 1, 16 + EVENT, "padding without a length"),
        (16 + EVENT, 29 | 32, 1, 16 + EVENT, "no multiple of 4"),
    ],
)
def test_damage_ends_a_page_keeps_what_is_before_it_and_says_where(
    place: int, value: int, kept: int, offset: int, reason: str
) -> None:
    # The type's word, read as a length, is 0x223: 547, no multiple of 4.
    whole = written(100, 101, 102)
    ring = walk(_with(whole, place, value) + written(200, 201))
    assert [*counters(ring)][:kept] == [100, 101, 102][:kept]
    assert counters(ring)[-2:] == [200, 201], "the next page is not touched by it"
    (damage,) = ring.damage
    assert (damage.cpu, damage.page, damage.offset) == (0, 0, offset)
    assert reason in damage.reason
    assert f"byte {offset}" in str(damage)


def test_a_length_of_0_does_not_stop_the_walk_in_one_place() -> None:
    for length in (0, 4, 8):
        whole = _with(written(100, 101), 16, 0)
        ring = walk(_with(whole, 20, length))
        assert len(ring.counter) == 0
        assert "shorter than the fields" in ring.damage[0].reason


def test_lengths_of_4_gib_are_not_followed() -> None:
    for length in (0xFFFFFFFC, 0x7FFFFFFC, 0x80000000):
        for head in (0, 29 | 64):
            ring = walk(_with(_with(written(100, 101), 16, head), 20, length))
            assert "beyond the committed data" in ring.damage[0].reason


def test_an_absolute_stamp_that_goes_back() -> None:
    events = [Written(counter=n, record=page_alloc(n), absolute=True) for n in (100, 101)]
    second = 16 + 8 + EVENT
    ring = walk(_with(written(*events), second, 31 | 99 << 5))
    assert counters(ring) == [100, 99]
    (damage,) = ring.damage
    assert damage.offset == second
    assert "lies before the event" in damage.reason


def test_a_stamp_that_is_cut_off() -> None:
    page = struct.pack("<QQI", 5, 4, 30 | 1 << 5).ljust(PAGE_BYTES, b"\0")
    ring = walk(page)
    assert "second word" in ring.damage[0].reason


def test_a_page_that_begins_before_the_last_one_ended() -> None:
    ring = walk(written(100, 101) + written(50, 51))
    assert counters(ring) == [100, 101, 50, 51]
    (damage,) = ring.damage
    assert (damage.page, damage.offset) == (1, 0)
    assert "begins earlier" in damage.reason


@pytest.mark.parametrize("cut", [1, 7, 8, 15, 16, 17, 59, 60, 61, 100, 4095])
def test_a_file_that_ends_within_a_sub_buffer(cut: int) -> None:
    whole = written(1, 2)
    ring = walk(whole + written(100, 101)[:cut])
    kept = max(0, cut - 16) // EVENT
    assert counters(ring) == [1, 2, 100, 101][: 2 + min(kept, 2)]
    (damage,) = ring.damage
    assert damage.page == 1
    assert damage.offset <= cut
    assert "file ends" in damage.reason
