"""Walks the kernel's ring-buffer sub-buffers and finds every record in them.

A sub-buffer is a page header (time stamp, commit word) and packed events. An event is a 32-bit
word, 5 bits of type or length below 27 bits of time since the event before it, and its record.
Nothing in a sub-buffer is believed: each length is checked against what is left of the page
before it is used, so that damaged bytes end the walk of *that* page, with all events before
them kept and the place reported, and never lead out of it or round in a circle.

*Kernel:* kernel/trace/ring_buffer.c, 6.1 to 7.3: rb_update_event and rb_event_length (lengths),
rb_add_time_stamp and rb_fix_abs_ts (time), ring_buffer_read_page (commit word, count of missed
events behind the data), rb_event_discard (padding in the midst of a page).

*Ignores:* big-endian guests, whose bit fields run the other way.

The compiled walk is kept in ``__pycache__`` beside this file, or where ``NUMBA_CACHE_DIR``
says, or below ``~/.cache`` when neither can be written.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import numba
import numpy as np
import numpy.typing as npt

from analysis.trace.format import PageHeader

Words: TypeAlias = npt.NDArray[np.uint32]
Array: TypeAlias = npt.NDArray[Any]

_DATA_MAX = 28
_PADDING = 29
_TIME_EXTEND = 30
_STAMP_SHIFT = np.uint64(27)
_STAMP_TOP = np.uint64(0xF8 << 56)
_STAMP_CARRY = np.uint64(1 << 59)
_ONE = np.uint64(1)
_LOW_HALF = np.uint32(0xFFFF)

_SIZE_MASK = (1 << 30) - 1
_STORED = 1 << 30
_MISSED_SHIFT = 31
_ALL_ONES = 0xFFFFFFFF

MIN_RECORD_BYTES = 8
"""What all records begin with: type, flags, preempt count, pid."""

ABSOLUTE, SHARED = 1, 2
"""Flags of an event: its time stamp is absolute (it interrupted the reservation of another
event, or came right after one that was); it shares the stamp of the event before it."""

# Reasons why a page's walk ended early.
_REASONS = (
    "",
    "the commit word asks for more data than a sub-buffer holds",
    "the file ends inside this sub-buffer",
    "an event reaches beyond the committed data",
    "an event's length is no multiple of 4 bytes",
    "a record is shorter than the fields that every record has",
    "padding without a length before the end of the data",
    "a time stamp without room for its second word",
    "the count of missed events does not fit behind the data",
    "the commit word has bits that no kernel sets",
    "the sub-buffer begins earlier than the one before it ended",
    "an absolute time stamp lies before the event in front of it",
)
(
    _OK,
    _COMMIT_TOO_LARGE,
    _CUT_SHORT,
    _OVERRUN,
    _UNALIGNED,
    _TOO_SHORT,
    _BARE_PADDING,
    _STAMP_CUT,
    _COUNT_CUT,
    _COMMIT_BITS,
    _PAGE_BACKWARDS,
    _EVENT_BACKWARDS,
) = range(len(_REASONS))


@dataclass(frozen=True, slots=True, kw_only=True)
class RingDamage:
    """A place in a ring whose bytes are not what a kernel writes."""

    cpu: int
    page: int
    """Sub-buffer of that CPU's ring, from 0; -1: not about one sub-buffer."""
    offset: int
    """Byte of the sub-buffer at which the trouble was found."""
    reason: str

    def __str__(self) -> str:
        where = f"cpu {self.cpu}"
        if self.page >= 0:
            where += f", sub-buffer {self.page}, byte {self.offset}"
        return f"{where}: {self.reason}"


@dataclass(frozen=True, slots=True, kw_only=True)
class RingPages:
    """One row a sub-buffer, of all CPUs, each CPU's in the order of its ring."""

    cpu: npt.NDArray[np.int32]
    number: npt.NDArray[np.int32]
    """Within its CPU's ring."""
    first: npt.NDArray[np.int64]
    """Index of its first event among ``RingEvents``; its last is before the next page's first."""
    missed: npt.NDArray[np.int64]
    """Events overwritten just before it: 0 none, -1 some, else how many."""
    resumed: npt.NDArray[np.bool_]
    """The rest of the page that the sub-buffer before it began: a reader caught up there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RingEvents:
    """Where every record lies: one row an event, CPU after CPU, each in the order of its ring."""

    words: Words
    """All rings, each sub-buffer padded to its full size."""
    start: npt.NDArray[np.int64]
    """Index in ``words`` of the record's first word."""
    length: npt.NDArray[np.int32]
    """Words of the record."""
    type: npt.NDArray[np.uint16]
    counter: npt.NDArray[np.uint64]
    """Time stamp; with ``trace_clock=counter`` a place in the order of all CPUs."""
    page: npt.NDArray[np.int32]
    """Row in ``pages``."""
    flags: npt.NDArray[np.uint8]
    """``ABSOLUTE``, ``SHARED``."""
    pages: RingPages
    discarded: int
    """Records that the kernel gave up after others had followed them (event filters do that)."""
    damage: tuple[RingDamage, ...]


def walk_rings(rings: Mapping[int, bytes | memoryview], header: PageHeader) -> RingEvents:
    """Finds all events of some CPUs' rings.

    Never raises for what the bytes are; what is wrong with them is in ``RingEvents.damage``.
    """
    words, cpus, numbers, available = _lay_out(rings, header.subbuffer_bytes)
    pages = len(cpus)
    # The shortest event that can be accepted is a header word and two words of record.
    room = words.size // (1 + MIN_RECORD_BYTES // 4) + 1
    start = np.empty(room, np.int64)
    length = np.empty(room, np.int32)
    kind = np.empty(room, np.uint16)
    counter = np.empty(room, np.uint64)
    page = np.empty(room, np.int32)
    flags = np.empty(room, np.uint8)
    first = np.zeros(pages + 1, np.int64)
    missed = np.zeros(pages, np.int64)
    resumed = np.zeros(pages, np.bool_)
    trouble = np.zeros((pages, 2), np.int32)
    events, discarded = _walk(
        words,
        cpus,
        available,
        header.subbuffer_bytes // 4,
        header.data_offset // 4,
        header.commit_bytes // 4,
        start,
        length,
        kind,
        counter,
        page,
        flags,
        first,
        missed,
        resumed,
        trouble,
    )
    return RingEvents(
        words=words,
        start=start[:events],
        length=length[:events],
        type=kind[:events],
        counter=counter[:events],
        page=page[:events],
        flags=flags[:events],
        pages=RingPages(cpu=cpus, number=numbers, first=first, missed=missed, resumed=resumed),
        discarded=int(discarded),
        damage=tuple(
            RingDamage(
                cpu=int(cpus[row]),
                page=int(numbers[row]),
                offset=int(trouble[row, 1]),
                reason=_REASONS[trouble[row, 0]],
            )
            for row in np.flatnonzero(trouble[:, 0])
        ),
    )


def _lay_out(
    rings: Mapping[int, bytes | memoryview], subbuffer_bytes: int
) -> tuple[Words, npt.NDArray[np.int32], npt.NDArray[np.int32], npt.NDArray[np.int32]]:
    """All rings behind one another; of each sub-buffer its CPU, its number, its true length."""
    sizes = {cpu: len(ring) for cpu, ring in sorted(rings.items())}
    pages = {cpu: -(-size // subbuffer_bytes) for cpu, size in sizes.items()}
    total = sum(pages.values())
    octets = np.empty(total * subbuffer_bytes, np.uint8)
    available = np.full(total, subbuffer_bytes, np.int32)
    row = 0
    for cpu, size in sizes.items():
        begin = row * subbuffer_bytes
        row += pages[cpu]
        octets[begin : begin + size] = np.frombuffer(rings[cpu], np.uint8)
        octets[begin + size : row * subbuffer_bytes] = 0
        if size % subbuffer_bytes:
            available[row - 1] = size % subbuffer_bytes
    cpus = np.repeat(np.array(list(pages), np.int32), list(pages.values()))
    numbers = [np.arange(count, dtype=np.int32) for count in pages.values()]
    return (
        octets.view("<u4"),
        cpus,
        np.concatenate([*numbers, np.zeros(0, np.int32)]),
        available,
    )


@numba.njit(cache=True, nogil=True)
def _signed(word: Any) -> Any:
    """A word as a number one may subtract from."""
    return np.int64(word)


@numba.njit(cache=True, nogil=True)
def _walk(
    words: Words,
    cpus: Array,
    available: Array,
    page_words: int,
    data_word: int,
    long_words: int,
    start: Array,
    length: Array,
    kind: Array,
    counter: Array,
    page: Array,
    flags: Array,
    first: Array,
    missed: Array,
    resumed: Array,
    trouble: Array,
) -> tuple[int, int]:
    """Fills the arrays; returns how many events there are, and how many were discarded."""
    events = 0
    discarded = 0
    last = np.uint64(0)  # Where this CPU's time had come to with the sub-buffer before.
    for row in range(len(cpus)):
        first[row] = events
        base = row * page_words
        have = available[row] // 4  # Words of this sub-buffer that are in the file.
        fresh_cpu = row == 0 or cpus[row] != cpus[row - 1]
        if fresh_cpu:
            last = np.uint64(0)
        if have < data_word:
            trouble[row, 0] = _CUT_SHORT
            trouble[row, 1] = available[row]
            continue
        low = _signed(words[base + 2])
        high = _signed(words[base + 3]) if long_words == 2 else 0
        # The flag is bit 31 of an int, added to a long: its sign fills the upper half.
        lost = low >> _MISSED_SHIFT != 0
        if high != 0 and (high != _ALL_ONES or not lost):
            trouble[row, 0] = _COMMIT_BITS
            trouble[row, 1] = 12
            continue
        stored = low & _STORED != 0
        size = low & _SIZE_MASK
        if size > (page_words - data_word) * 4 or size % 4 != 0:
            trouble[row, 0] = _COMMIT_TOO_LARGE if size % 4 == 0 else _COMMIT_BITS
            trouble[row, 1] = 8
            continue
        end = data_word + size // 4
        if stored and (not lost or end + long_words > page_words):
            trouble[row, 0] = _COUNT_CUT
            trouble[row, 1] = 8
            stored = False
        if lost:
            missed[row] = -1
            if stored and end + long_words <= have:
                count = _signed(words[base + end])
                if long_words == 2:
                    count |= _signed(words[base + end + 1]) << 32
                missed[row] = count if count > 0 else -1
        stamp = np.uint64(words[base]) | np.uint64(words[base + 1]) << np.uint64(32)
        if not fresh_cpu:
            resumed[row] = stamp == last
            if stamp < last:
                trouble[row, 0] = _PAGE_BACKWARDS
                trouble[row, 1] = 0
        stop = end if end <= have else have
        place = data_word
        absolute = False
        since = events
        problem = _OK
        while place < stop:
            word = words[base + place]
            type_len = _signed(word & np.uint32(31))
            delta = np.uint64(word >> np.uint32(5))
            if type_len <= _DATA_MAX:
                if type_len == 0:
                    if place + 1 >= stop:
                        problem = _OVERRUN
                        break
                    octets = _signed(words[base + place + 1])
                    if octets % 4 != 0:
                        problem = _UNALIGNED
                        break
                    record = place + 2
                    size = octets // 4 - 1
                else:
                    record = place + 1
                    size = type_len
                if size * 4 < MIN_RECORD_BYTES:
                    problem = _TOO_SHORT
                    break
                if size > stop - record:
                    problem = _OVERRUN
                    break
                stamp += delta
                start[events] = base + record
                length[events] = size
                kind[events] = np.uint16(words[base + record] & _LOW_HALF)
                counter[events] = stamp
                page[events] = row
                mark = ABSOLUTE if absolute else 0
                if events > since and counter[events - 1] == stamp:
                    mark |= SHARED
                flags[events] = mark
                events += 1
                absolute = False
                place = record + size
            elif type_len == _PADDING:
                if delta == 0:
                    if stop - place > 2:
                        problem = _BARE_PADDING
                    break
                if place + 1 >= stop:
                    problem = _OVERRUN
                    break
                octets = _signed(words[base + place + 1])
                if octets % 4 != 0:
                    problem = _UNALIGNED
                    break
                size = octets // 4
                if size < 1 or size > stop - place - 1:
                    problem = _OVERRUN
                    break
                # A discarded event took its stamp, and what follows counts from there. The
                # kernel turns a distance of 0 into 1, which is the rule at the start of a page.
                if not (place == data_word and delta == _ONE):
                    stamp += delta
                place += 1 + size
                if place < stop:
                    discarded += 1
                absolute = False
            else:
                if place + 1 >= stop:
                    problem = _STAMP_CUT
                    break
                value = (np.uint64(words[base + place + 1]) << _STAMP_SHIFT) + delta
                if type_len == _TIME_EXTEND:
                    stamp += value
                else:
                    # Absolute stamps have 59 bits; the rest is that of the stamp before.
                    if stamp & _STAMP_TOP:
                        value |= stamp & _STAMP_TOP
                        if value < stamp:
                            value += _STAMP_CARRY
                    if value < stamp and trouble[row, 0] == _OK:
                        trouble[row, 0] = _EVENT_BACKWARDS
                        trouble[row, 1] = place * 4
                    stamp = value
                    absolute = True
                place += 2
        if end > have and problem in (_OK, _OVERRUN, _STAMP_CUT):
            problem = _CUT_SHORT
        elif have < page_words and problem == _OK:
            problem = _CUT_SHORT  # The data are whole; what is missing is the empty rest.
            place = have
        if problem != _OK and trouble[row, 0] == _OK:
            trouble[row, 0] = problem
            trouble[row, 1] = place * 4
        if events > since:
            last = counter[events - 1]
        elif stamp > last:
            last = stamp
    first[len(cpus)] = events
    return events, discarded
