"""Rings written at random come back as they were; damaged ones never do harm."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis.trace import EventStream, decode
from analysis.trace.format import build_formats, parse_format, parse_header_page
from tests.trace_pages import (
    BYTES,
    HEADER_PAGE,
    OPENED,
    PAGE_ALLOC,
    PAGE_BYTES,
    RingWriter,
    Written,
    octets,
    opened,
    page_alloc,
)

FORMATS = build_formats(
    parse_header_page(HEADER_PAGE),
    [
        parse_format(PAGE_ALLOC, "f", "kmem"),
        parse_format(OPENED, "f", "mmscope"),
        parse_format(BYTES, "f", "mmscope"),
    ],
)
_NAMES = ("kmem/mm_page_alloc", "mmscope/opened", "mmscope/bytes")


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """What is written, and what should come back."""

    cpu: int
    name: str
    record: bytes
    values: tuple[object, ...]
    gap: int
    """Counters since the event before, on any CPU."""
    absolute: bool
    before: str
    """What happens to the page first: nothing, a new one, a reader, lost events."""


def _u(bits: int) -> st.SearchStrategy[int]:
    return st.integers(0, (1 << bits) - 1)


@st.composite
def events(draw: st.DrawFn) -> Event:
    name = draw(st.sampled_from(_NAMES))
    if name == _NAMES[0]:
        pfn, order, gfp_flags = draw(_u(64)), draw(_u(32)), draw(_u(64))
        migratetype = draw(st.integers(-(1 << 31), (1 << 31) - 1))
        record = page_alloc(pfn, order, gfp_flags, migratetype)
        values: tuple[object, ...] = (pfn, order, gfp_flags, migratetype)
    elif name == _NAMES[1]:
        text = draw(st.binary(max_size=200)).replace(b"\0", b"")
        ip, dfd, pair = draw(_u(64)), draw(st.integers(-128, 127)), draw(st.tuples(_u(16), _u(16)))
        record, values = opened(ip, text, dfd, pair), (ip, text, dfd, list(pair))
    else:
        data = draw(st.binary(max_size=300))
        record, values = octets(data), (data,)
    return Event(
        cpu=draw(st.sampled_from((0, 1, 5))),
        name=name,
        record=record,
        values=values,
        gap=draw(st.one_of(st.just(1), st.integers(1, 9), st.integers(1, 1 << 40))),
        absolute=draw(st.integers(0, 9)) == 0,
        before=draw(st.sampled_from(("", "", "", "", "", "page", "padded", "read", "lost"))),
    )


def written(given_events: list[Event], align: int) -> tuple[Mapping[int, bytes], list[int], int]:
    """Rings, the counter of each event, how many events the rings say were lost."""
    writers: dict[int, RingWriter] = {}
    now = 0
    lost = 0
    counters = []
    for event in given_events:
        writer = writers.setdefault(event.cpu, RingWriter(align=align))
        now += event.gap
        counters.append(now)
        item = Written(counter=now, record=event.record, absolute=event.absolute)
        if event.before in ("page", "padded", "lost"):
            writer.end_page(padded=event.before == "padded")
        if event.before == "lost":
            writer.miss(event.gap)
            lost += event.gap
        if event.before == "read" and not event.absolute and now - writer.last < 1 << 27:
            writer.read_so_far()
            writer.write_on(item)
        else:
            writer.write(item)
    return {cpu: writer.pages() for cpu, writer in writers.items()}, counters, lost


def rows_of(stream: EventStream) -> list[tuple[int, int, str, tuple[object, ...]]]:
    """Counter, CPU, name and own values of all events in order."""
    merged = stream.merged()
    rows = []
    for kind, number in zip(merged.kind, merged.row, strict=True):
        name = merged.names[kind]
        row = stream[name][number]
        if name == "mmscope/bytes":
            values: tuple[object, ...] = (row["data"].tobytes()[: row["data_bytes"]],)
        else:
            own = row.dtype.names[5:]
            values = tuple(row[column].tolist() for column in own)
        rows.append((int(row["counter"]), int(row["cpu"]), name, values))
    return rows


@given(st.lists(events(), max_size=120), st.sampled_from((4, 8)))
@settings(max_examples=150, deadline=None)
def test_what_was_written_is_read(given_events: list[Event], align: int) -> None:
    rings, counters, lost = written(given_events, align)
    stream = decode(rings, FORMATS)
    assert stream.damage == ()
    assert rows_of(stream) == [
        (counter, event.cpu, event.name, event.values)
        for counter, event in zip(counters, given_events, strict=True)
    ]
    known = [gap.count for gap in stream.gaps if gap.count is not None]
    assert sum(known) <= lost
    if len(known) == len(stream.gaps):
        assert stream.lost == lost
    for name in stream:
        assert np.all(np.diff(stream[name]["counter"].astype(np.int64)) > 0)


@given(st.lists(events(), min_size=1, max_size=60), st.data())
@settings(max_examples=100, deadline=None)
def test_a_ring_cut_short_gives_its_beginning(
    given_events: list[Event], data: st.DataObject
) -> None:
    alone = [event for event in given_events if event.cpu == given_events[0].cpu]
    rings, _, _ = written(alone, 4)
    (cpu,) = rings
    whole = rows_of(decode(rings, FORMATS))
    cut = data.draw(st.integers(0, len(rings[cpu]) - 1))
    stream = decode({cpu: rings[cpu][:cut]}, FORMATS)
    rows = rows_of(stream)
    assert rows == whole[: len(rows)]
    assert bool(stream.damage) == (cut % PAGE_BYTES != 0)
    kept_pages = cut // PAGE_BYTES
    assert rows[: len(rows)] == whole[: len(rows)]
    sound = decode({cpu: rings[cpu][: kept_pages * PAGE_BYTES]}, FORMATS)
    assert sound.events <= stream.events


@given(st.lists(events(), min_size=1, max_size=60), st.data())
@settings(max_examples=200, deadline=None)
def test_a_changed_byte_does_not_reach_other_pages(
    given_events: list[Event], data: st.DataObject
) -> None:
    rings, _, _ = written(given_events, 4)
    before = decode(rings, FORMATS)
    cpu = data.draw(st.sampled_from(sorted(rings)))
    place = data.draw(st.integers(0, len(rings[cpu]) - 1))
    value = data.draw(st.integers(1, 255))
    broken = bytearray(rings[cpu])
    broken[place] ^= value
    after = decode({**rings, cpu: bytes(broken)}, FORMATS)
    # All other pages, decoded by themselves, are what they were.
    page = place // PAGE_BYTES
    head, tail = rings[cpu][: page * PAGE_BYTES], rings[cpu][(page + 1) * PAGE_BYTES :]
    others = rows_of(decode({**rings, cpu: head + tail}, FORMATS))
    found = rows_of(after)
    assert all(row in found for row in others)
    assert len(found) <= len(rows_of(before)) + PAGE_BYTES // 12
    if (audit := after.audit()) is not None:
        assert 0 <= audit.explained <= audit.silent


@given(st.binary(max_size=3 * PAGE_BYTES))
@settings(max_examples=100, deadline=None)
def test_any_bytes_at_all_can_be_decoded(ring: bytes) -> None:
    stream = decode({0: ring}, FORMATS)
    assert stream.events <= len(ring) // 12


def fuzz(seed: int, rounds: int) -> int:
    """Decodes ``rounds`` damaged rings; returns in how many the damage was found."""
    random = np.random.default_rng(seed)
    writers = {cpu: RingWriter() for cpu in (0, 1)}
    for counter in range(1, 400):
        if counter % 3 == 0:
            record = page_alloc(counter)
        elif counter % 3 == 1:
            record = opened(counter, b"/a/path" * (counter % 9), 3, (1, 2))
        else:
            record = octets(bytes(counter % 50))
        event = Written(counter=counter, record=record, absolute=counter % 20 == 0)
        writers[counter % 2].write(event)
    whole = {cpu: writer.pages() for cpu, writer in writers.items()}
    assert decode(whole, FORMATS).is_sound
    found = 0
    for _ in range(rounds):
        rings = {cpu: bytearray(ring) for cpu, ring in whole.items()}
        for _ in range(random.integers(1, 20)):
            ring = rings[int(random.integers(0, 2))]
            place = int(random.integers(0, len(ring) // 4)) * 4
            match random.integers(0, 4):
                case 0:
                    ring[place] ^= 1 << random.integers(0, 8)
                case 1:
                    ring[place : place + 4] = random.bytes(4)
                case 2:  # A likely word: headers of every type with any distance.
                    word = int(random.integers(0, 32)) | int(random.integers(0, 3)) << 5
                    ring[place : place + 4] = word.to_bytes(4, "little")
                case _:
                    page = place // PAGE_BYTES * PAGE_BYTES
                    ring[page + 8 : page + 12] = int(random.integers(0, 4200)).to_bytes(4, "little")
        cuts = {
            cpu: len(ring) - int(random.integers(0, 2) * random.integers(0, 5000))
            for cpu, ring in rings.items()
        }
        stream = decode({cpu: bytes(ring[: cuts[cpu]]) for cpu, ring in rings.items()}, FORMATS)
        stream.merged()
        stream.audit()
        found += not stream.is_sound
    return found


def test_with_bounds_checked_no_damage_leads_out_of_an_array(tmp_path: Path) -> None:
    program = "from tests.property.test_trace_properties import fuzz; print(fuzz(7, 1500))"
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "NUMBA_BOUNDSCHECK": "1", "NUMBA_CACHE_DIR": str(tmp_path)},
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 1000, "damage this heavy can seldom go unnoticed"
