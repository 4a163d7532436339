"""Counters that no event has: which are explained, and that lost events never are."""

from __future__ import annotations

import functools
from collections.abc import Iterable

import pytest

from analysis.trace import Audit, EventStream, Formats, Hole, decode
from analysis.trace.format import build_formats, parse_format, parse_header_page
from tests.trace_capture import Capture, read_fixture
from tests.trace_oracle import formats_of
from tests.trace_pages import BARE, HEADER_PAGE, PAGE_BYTES, RingWriter, Written, common

FORMATS = build_formats(parse_header_page(HEADER_PAGE), [parse_format(BARE, "f", "x")])

SOFTIRQ, HARDIRQ, IRQS_OFF = 0x10, 0x08, 0x01


class Clock:
    """Some CPUs that write to their rings as a kernel does, crossing pages included."""

    def __init__(self, cpus: int = 1) -> None:
        self.now = 0
        self.writers = [RingWriter() for _ in range(cpus)]

    def tick(self) -> int:
        self.now += 1
        return self.now

    def event(
        self, cpu: int = 0, *, new_page: bool = False, absolute: bool = False, flags: int = 0
    ) -> None:
        counter = self.tick()
        if new_page:  # This reading found the page full; the next one is the event's.
            self.writers[cpu].end_page()
            counter = self.tick()
        self.write(counter, cpu, absolute=absolute, flags=flags)

    def write(self, counter: int, cpu: int = 0, *, absolute: bool = False, flags: int = 0) -> None:
        event = Written(counter=counter, record=common(12, flags=flags), absolute=absolute)
        self.writers[cpu].write(event)

    def stream(self) -> EventStream:
        return decode({cpu: w.pages() for cpu, w in enumerate(self.writers)}, FORMATS)


def audited(stream: EventStream, begin: int | None = None, end: int | None = None) -> Audit:
    audit = stream.audit(begin, end)
    assert audit is not None
    return audit


def test_without_holes_nothing_needs_an_explanation() -> None:
    clock = Clock(2)
    for turn in range(100):
        clock.event(turn % 2)
    audit = audited(clock.stream())
    assert (audit.begin, audit.end, audit.silent, audit.explained) == (0, 100, 0, 0)


def test_a_full_page_explains_one_hole_wherever_other_cpus_put_it() -> None:
    clock = Clock(2)
    clock.event(0)
    clock.event(1)
    first_try = clock.tick()  # CPU 0 finds its page full …
    for _ in range(5):
        clock.event(1)  # … the other CPU goes on …
    clock.writers[0].end_page()
    clock.event(0)  # … and CPU 0 comes back.
    audit = audited(clock.stream())
    assert first_try == 3
    assert (audit.silent, audit.explained, audit.holes) == (1, 1, ())


def test_a_page_end_of_one_cpu_does_not_explain_a_hole_elsewhere() -> None:
    clock = Clock(2)
    clock.event(0)
    clock.event(1)
    clock.event(1)
    clock.event(0, new_page=True)
    clock.event(1)
    clock.tick()  # An event of CPU 1 that is nowhere.
    clock.event(1)
    audit = audited(clock.stream())
    assert (audit.silent, audit.explained) == (2, 1)
    assert audit.holes == (Hole(after=6, before=8, count=1),)


def test_two_events_lost_at_a_page_end_are_not_both_explained() -> None:
    clock = Clock()
    clock.event()
    clock.tick()
    clock.event(new_page=True)
    audit = audited(clock.stream())
    assert (audit.silent, audit.explained, audit.unexplained) == (2, 1, 1)


@pytest.mark.parametrize(("flags", "explained"), [(0x08, 2), (0x10, 2), (0x40, 2), (0x01, 1)])
def test_a_page_end_with_an_interrupt_in_it(flags: int, explained: int) -> None:
    clock = Clock()
    clock.event()
    clock.tick()  # An event finds its page full; before it tries again, an interrupt's event …
    clock.event(new_page=True, flags=flags)  # … finds that, too, and begins the next page.
    clock.event()  # The first one's second try.
    audit = audited(clock.stream())
    assert (audit.silent, audit.explained) == (2, explained)


def test_a_page_read_in_two_parts_has_no_end_between_them() -> None:
    clock = Clock()
    clock.event()
    clock.event()
    clock.writers[0].read_so_far()
    clock.tick()
    clock.writers[0].write_on(Written(counter=clock.tick(), record=common(12)))
    audit = audited(clock.stream())
    assert (audit.silent, audit.explained) == (1, 0)


def test_an_interrupted_reservation_that_knows_its_distance() -> None:
    clock = Clock()
    clock.event()
    clock.tick()  # The outer event's first reading, which the interrupt makes void.
    clock.event(absolute=True, flags=HARDIRQ)
    clock.event(flags=HARDIRQ)
    clock.event()  # The outer event, with a second reading.
    audit = audited(clock.stream())
    assert (audit.silent, audit.explained) == (1, 1)


def test_an_interrupted_reservation_that_does_not() -> None:
    clock = Clock()
    clock.event()
    clock.tick()
    clock.event(flags=HARDIRQ)
    clock.event(flags=HARDIRQ)
    clock.write(clock.now)  # The outer event takes the interrupt's stamp …
    clock.tick()  # … though it has read the clock …
    clock.event(absolute=True)  # … which makes the next event's stamp absolute.
    stream = clock.stream()
    audit = audited(stream)
    assert stream.readings.shared == 1
    assert (audit.silent, audit.explained) == (2, 2)


def test_an_interrupt_that_ends_with_interrupts_off_and_no_longer_hardirq() -> None:
    clock = Clock()
    clock.event()
    clock.tick()
    clock.event(flags=HARDIRQ | IRQS_OFF)
    clock.event(flags=IRQS_OFF)
    clock.write(clock.now)
    clock.tick()
    clock.event(absolute=True)
    audit = audited(clock.stream())
    assert (audit.silent, audit.explained) == (2, 2)


def test_an_interrupt_in_front_of_both_readings() -> None:
    clock = Clock()
    clock.event()
    clock.event(flags=HARDIRQ)  # When the outer event had looked at its place only.
    clock.write(clock.now)
    clock.tick()
    clock.tick()
    clock.event(absolute=True)
    audit = audited(clock.stream())
    assert (audit.silent, audit.explained) == (2, 2)


def test_an_interrupted_event_and_the_next_on_a_new_page() -> None:
    clock = Clock()
    clock.event()
    clock.tick()
    clock.event(flags=SOFTIRQ)
    clock.write(clock.now)
    clock.tick()
    clock.event(new_page=True)
    audit = audited(clock.stream())
    assert (audit.silent, audit.explained) == (3, 3)


def test_a_first_try_at_a_full_page_in_front_of_an_interrupt_that_still_fits() -> None:
    clock = Clock()
    clock.event()
    clock.tick()
    clock.event(flags=HARDIRQ)
    clock.event(flags=HARDIRQ)
    clock.writers[0].end_page()
    clock.event()
    audit = audited(clock.stream())
    assert (audit.silent, audit.explained) == (1, 1)


def test_events_of_the_same_level_are_not_looked_past() -> None:
    clock = Clock()
    clock.event()
    clock.tick()
    clock.event()
    clock.writers[0].end_page()
    clock.event()
    audit = audited(clock.stream())
    assert (audit.silent, audit.explained) == (1, 0)


def test_ends_of_the_window_close_the_range() -> None:
    clock = Clock()
    for _ in range(10):
        clock.event()
    stream = clock.stream()
    assert audited(stream, 0, 10).unexplained == 0
    assert audited(stream, 4, 7).silent == 0
    late = audited(stream, 2, 13)
    assert (late.silent, late.holes) == (3, (Hole(after=10, before=None, count=3),))


def test_events_missing_in_front_of_the_first_are_seen_with_the_begin_of_the_window() -> None:
    clock = Clock()
    for _ in range(3):
        clock.tick()
    clock.event()
    clock.event()
    stream = clock.stream()
    assert audited(stream).silent == 0
    # Before a CPU's first event in the file a page may have ended: one may be explained.
    audit = audited(stream, 0)
    assert (audit.silent, audit.holes) == (3, (Hole(after=None, before=4, count=2),))


def test_no_events_but_a_clock_that_went_on() -> None:
    stream = decode({}, FORMATS)
    assert audited(stream).silent == 0
    audit = audited(stream, 5, 9)
    assert (audit.silent, audit.explained) == (4, 0)


def test_another_clock_or_discarded_records_allow_no_audit() -> None:
    clock = Clock()
    clock.event()
    rings = {0: clock.writers[0].pages()}
    assert decode(rings, FORMATS, clock="global").audit() is None
    writer = RingWriter()
    for counter, discarded in ((1, False), (2, True), (3, False)):
        writer.write(Written(counter=counter, record=common(12), discarded=discarded))
    assert decode({0: writer.pages()}, FORMATS).audit() is None


def test_damaged_counters_far_ahead_do_not_take_long() -> None:
    clock = Clock()
    clock.event()
    clock.now = 1 << 62
    clock.event(new_page=True)
    audit = audited(clock.stream())
    assert audit.silent == 1 << 62
    assert audit.explained == 1


WHOLE = (
    ("6.1-x86_64-trace", 1),
    ("6.12-x86_64-trace", 1),
    ("6.1-arm64-trace", 0),
    ("7.3-arm64-trace", 1),
)
"""Captures, and the CPU whose ring was not overwritten."""


@functools.cache
def _fixture(name: str) -> tuple[Capture, Formats]:
    capture = read_fixture(name)
    return capture, formats_of(capture)


def _window(name: str, drop: Iterable[tuple[int, int]] = ()) -> EventStream:
    capture, formats = _fixture(name)
    rings = dict(capture.rings)
    for cpu, page in drop:
        ring = rings[cpu]
        rings[cpu] = ring[: page * PAGE_BYTES] + ring[(page + 1) * PAGE_BYTES :]
    return decode(rings, formats)


@pytest.mark.parametrize("name", [name for name, _ in WHOLE])
def test_every_counter_of_a_real_kernel_behind_its_gaps_is_accounted_for(name: str) -> None:
    stream = _window(name)
    begin = max(gap.after for gap in stream.gaps if gap.after is not None)
    audit = audited(stream, begin)
    assert audit.silent > 0, "pages were crossed"
    assert audit.unexplained == 0


@pytest.mark.parametrize(("name", "whole_cpu"), WHOLE)
def test_a_sub_buffer_dropped_from_a_real_ring_is_noticed(name: str, whole_cpu: int) -> None:
    stream = _window(name)
    begin = max(gap.after for gap in stream.gaps if gap.after is not None)
    cpu = 1 - whole_cpu
    for page in range(1, len(_fixture(name)[0].rings[cpu]) // PAGE_BYTES - 1):
        less = _window(name, [(cpu, page)])
        missing = stream.events - less.events
        audit = audited(less, begin)
        assert missing > 50
        assert audit.unexplained >= missing
        assert not less.is_sound
