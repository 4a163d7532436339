"""From records in ring pages to numpy structured arrays, one row an event, without a Python loop.

A row is 16 bytes of our own (counter, CPU), then the record's fixed part as the kernel laid it
out, so that it is copied whole and its fields are columns at the kernel's own offsets; then what
dynamic fields point to. The common type and the kernel's alignment holes are not columns.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import numba
import numpy as np
import numpy.typing as npt

from analysis.trace.format import EventFormat, Field, Storage
from analysis.trace.ring import RingEvents

Array: TypeAlias = npt.NDArray[Any]

FRONT = ("counter", "cpu")
COMMON = {
    "common_pid": "pid",
    "common_flags": "common_flags",
    "common_preempt_count": "preempt_count",
}
COLUMNS = (*FRONT, *COMMON.values())
"""Columns that every event has."""

_FRONT_BYTES = 16
_CLASH = "event_"
_LENGTH = "_bytes"
_KEPT_SIZES = (1, 2, 4, 8)


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """A column and the field it comes from."""

    name: str
    field: Field

    @property
    def is_dynamic(self) -> bool:
        return self.field.storage is not Storage.INLINE


def columns_of(event: EventFormat) -> tuple[Column, ...]:
    """The columns behind ``FRONT``: common fields first, then the event's own.

    A field named like a column that every event has gets the prefix ``event_``.
    """
    columns = [
        Column(name=COMMON[name], field=next(f for f in event.common if f.name == name))
        for name in COMMON
    ]
    others = [f for f in event.common if f.name not in COMMON and f.name != "common_type"]
    for field in (*others, *event.fields):
        name = f"{_CLASH}{field.name}" if field.name in COLUMNS else field.name
        columns.append(Column(name=name, field=field))
    return tuple(columns)


def inline_dtype(field: Field) -> np.dtype[Any]:
    """What numpy makes of a field that lies in the record: native integers, strings, arrays.

    Structures and integers of odd size stay bytes.
    """
    if field.is_text:
        return np.dtype(f"S{field.size_bytes}")
    if field.element_bytes not in _KEPT_SIZES:
        return np.dtype(f"V{field.size_bytes}")
    base = np.dtype(f"<{'i' if field.signed else 'u'}{field.element_bytes}")
    return base if field.count is None else np.dtype((base, (field.count,)))


def row_dtype(event: EventFormat, widths: Mapping[str, int]) -> np.dtype[Any]:
    """A row of an event's array; ``widths`` holds the bytes of each dynamic column.

    Text becomes a string column; any other dynamic field becomes bytes and ``NAME_bytes``, their
    true number.
    """
    names = list(FRONT)
    formats: list[Any] = ["<u8", "<u2"]
    offsets = [0, 8]
    end = _FRONT_BYTES + _up(event.fixed_bytes, 8)
    for column in columns_of(event):
        names.append(column.name)
        if not column.is_dynamic:
            formats.append(inline_dtype(column.field))
            offsets.append(_FRONT_BYTES + column.field.offset)
            continue
        width = max(1, widths[column.name])
        formats.append(f"{'S' if column.field.is_text else 'V'}{width}")
        if column.field.is_text:
            offsets.append(end)
        else:
            names.append(f"{column.name}{_LENGTH}")
            formats.append("<u4")
            offsets += [end + 8, end]
            end += 8
        end = _up(end + width, 8)
    return np.dtype(
        {"names": names, "formats": formats, "offsets": offsets, "itemsize": _up(end, 8)}
    )


def gather(
    ring: RingEvents, event: EventFormat, rows: npt.NDArray[np.int64]
) -> tuple[Array, npt.NDArray[np.int64], Mapping[str, npt.NDArray[np.int64]]]:
    """The array of the events ``rows``, all of type ``event``.

    Returns:
        The array of those whose record fits the format; their places in ``rows``; and for each
        kind of misfit the places of those that were left out.
    """
    sound, misfits, spans = _check(ring, event, rows)
    kept = np.flatnonzero(sound)
    taken = rows[kept]
    spans = {name: (at[kept], size[kept]) for name, (at, size) in spans.items()}
    widths = {name: int(size.max(initial=0)) for name, (_, size) in spans.items()}
    out = np.empty(len(taken), row_dtype(event, widths))
    plain = out.view(np.uint32).reshape(len(taken), out.dtype.itemsize // 4)
    _copy_fixed(
        ring.words,
        ring.start,
        ring.counter,
        ring.page,
        ring.pages.cpu,
        taken,
        -(-event.fixed_bytes // 4),
        plain,
    )
    octets = out.view(np.uint8).reshape(len(taken), out.dtype.itemsize)
    assert out.dtype.fields is not None
    for column in columns_of(event):
        offset = out.dtype.fields[column.name][1]
        if column.is_dynamic:
            at, size = spans[column.name]
            _copy_dynamic(ring.words.view(np.uint8), at, size, octets, offset)
            if not column.field.is_text:
                out[f"{column.name}{_LENGTH}"] = size
        if column.field.is_text:
            _end_at_nul(octets, offset, out.dtype.fields[column.name][0].itemsize)
    return out, kept, misfits


Span: TypeAlias = tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]


def _check(
    ring: RingEvents, event: EventFormat, rows: npt.NDArray[np.int64]
) -> tuple[npt.NDArray[np.bool_], dict[str, npt.NDArray[np.int64]], dict[str, Span]]:
    """Which records fit the format, why others do not, and where dynamic fields lie (bytes)."""
    length = ring.length[rows].astype(np.int64) * 4
    sound = length >= event.fixed_bytes
    misfits: dict[str, npt.NDArray[np.int64]] = {}
    if not sound.all():
        reason = f"a record of {event.full_name} is shorter than its {event.fixed_bytes} bytes"
        misfits[reason] = np.flatnonzero(~sound)
    if not event.is_dynamic:
        # Rounded up to the structure's and the ring's alignment, and never 4 bytes in all.
        too_long = length > _up(event.fixed_bytes, 8) + 8
        if too_long.any():
            reason = f"a record of {event.full_name} is longer than its {event.fixed_bytes} bytes"
            misfits[reason] = np.flatnonzero(too_long)
            sound &= ~too_long
    spans: dict[str, Span] = {}
    begin = ring.start[rows] * 4
    octets = ring.words.view(np.uint8)
    for column in columns_of(event):
        if not column.is_dynamic:
            continue
        field = column.field
        if field.storage is Storage.TAIL:
            at = np.full(len(rows), field.offset, np.int64)
            size = np.where(sound, length - field.offset, 0)
        else:
            word = _locators(octets, np.where(sound, begin + field.offset, 0))
            base = field.end if field.storage is Storage.REL_LOC else 0
            at, size = (word & 0xFFFF) + base, word >> 16
            inside = (at >= event.fixed_bytes) & (at + size <= length)
            wrong = sound & ~inside & (size > 0)
            if wrong.any():
                reason = f"{field.name} of {event.full_name} lies outside its record"
                misfits[reason] = np.flatnonzero(wrong)
                sound &= ~wrong
            size = np.where(sound & inside, size, 0)
        spans[column.name] = (begin + at, size)
    return sound, misfits, spans


def _locators(octets: Array, at: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """32-bit words at any byte, for kprobes pack their fields."""
    word = octets[at].astype(np.int64)
    for byte in (1, 2, 3):
        word |= octets[at + byte].astype(np.int64) << (8 * byte)
    return word


def _up(size: int, step: int) -> int:
    return -(-size // step) * step


@numba.njit(cache=True, nogil=True)
def _copy_fixed(
    words: Array,
    start: Array,
    counter: Array,
    page: Array,
    page_cpu: Array,
    rows: Array,
    record_words: int,
    out: Array,
) -> None:
    for i in range(len(rows)):
        row = rows[i]
        stamp = counter[row]
        out[i, 0] = np.uint32(stamp & np.uint64(0xFFFFFFFF))
        out[i, 1] = np.uint32(stamp >> np.uint64(32))
        out[i, 2] = np.uint32(page_cpu[page[row]])
        out[i, 3] = np.uint32(0)
        begin = start[row]
        for k in range(record_words):
            out[i, 4 + k] = words[begin + k]
        for k in range(4 + record_words, out.shape[1]):
            out[i, k] = np.uint32(0)


@numba.njit(cache=True, nogil=True)
def _copy_dynamic(octets: Array, at: Array, size: Array, out: Array, offset: int) -> None:
    for i in range(len(at)):
        begin = at[i]
        for k in range(size[i]):
            out[i, offset + k] = octets[begin + k]


@numba.njit(cache=True, nogil=True)
def _end_at_nul(out: Array, offset: int, width: int) -> None:
    for i in range(len(out)):
        ended = False
        for k in range(offset, offset + width):
            if out[i, k] == 0:
                ended = True
            elif ended:
                out[i, k] = 0
