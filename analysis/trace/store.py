"""A decoded window as Parquet, one file an event, to load again or to read with other tools.

::

    tables/trace/03-anon/kmem.mm_page_alloc.parquet   columns of the array, and ``rank``
    tables/trace/03-anon/readings.parquet             holes of the counter and their causes
    tables/trace/03-anon/stream.json                  everything else, and what it was made of

``rank`` is the event's place among all events of the window: sorting several files by it gives
the order in which things happened. ``stream.json`` is written last and names the digest of the
raw trace; without it, or with another digest, the directory counts as empty.

Decoding is about as quick as loading. The files are for other tools, for a trace that is asked
for again and again by those, and for looking into one with nothing of ours at hand.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from analysis.errors import TableError
from analysis.trace.counter import Readings
from analysis.trace.events import EventStream, Gap, KernelLoss
from analysis.trace.format import EventFormat
from analysis.trace.layout import columns_of, row_dtype
from analysis.trace.ring import RingDamage

STREAM_NAME = "stream.json"
READINGS_NAME = "readings.parquet"
VERSION = 1
"""Of the decoder: raised when the same rings would give other arrays."""

_RANK = "rank"
_UNITS = {
    "counter": ("events", "trace clock: place in the order of all CPUs"),
    "cpu": ("cpu", "where it happened"),
    "pid": ("pid", "task that ran there; not always the one it was done for"),
    "common_flags": ("bits", "TRACE_FLAG_*: 1 irqs off, 8 hardirq, 16 softirq …"),
    "preempt_count": ("count", "depth of preemption off; from 5.18 migration off in the high half"),
    _RANK: ("events", "place among all events of the window"),
    "pfn": ("pages", "page frame number"),
    "order": ("order", "log2 of the block's pages"),
}


def trace_digest(rings: Mapping[int, bytes], formats: Path, record: str) -> str:
    """What a decoded window depends on: rings, formats, record, and this decoder."""
    digest = hashlib.sha256(f"{VERSION}\n{record}\n".encode())
    for path in sorted(formats.rglob("*")):
        if path.is_file():
            digest.update(f"{path.relative_to(formats)} {path.stat().st_size}\n".encode())
            digest.update(path.read_bytes())
    for cpu, ring in sorted(rings.items()):
        digest.update(f"cpu{cpu} {len(ring)}\n".encode())
        digest.update(ring)
    return digest.hexdigest()


def save_stream(stream: EventStream, directory: Path, digest: str) -> None:
    """Writes ``directory`` anew.

    Raises:
        TableError: it cannot be written.
    """
    with _disk_errors(directory):
        directory.mkdir(parents=True, exist_ok=True)
        (directory / STREAM_NAME).unlink(missing_ok=True)
        for stale in directory.glob("*.parquet"):
            stale.unlink()
        for name, array in stream.arrays.items():
            table = _table(stream.formats[name], array, stream.ranks[name])
            _write(table, directory / _file_name(name))
        _write(_readings_table(stream.readings), directory / READINGS_NAME)
        text = json.dumps(_plain(stream, digest), indent=1) + "\n"
        _replace(directory / STREAM_NAME, lambda path: path.write_text(text, encoding="utf-8"))


def load_stream(
    directory: Path, digest: str, formats: Mapping[str, EventFormat]
) -> EventStream | None:
    """What ``save_stream`` wrote; None when nothing of this digest, or nothing whole, is there."""
    try:
        plain = json.loads((directory / STREAM_NAME).read_text(encoding="utf-8"))
        if plain["digest"] != digest:
            return None
        arrays: dict[str, npt.NDArray[Any]] = {}
        ranks: dict[str, npt.NDArray[np.int64]] = {}
        for name, count in plain["events"].items():
            table = pq.read_table(directory / _file_name(name))
            if len(table) != count:
                return None
            arrays[name] = _array(formats[name], table)
            ranks[name] = table.column(_RANK).to_numpy()
        readings = _readings(pq.read_table(directory / READINGS_NAME), plain["readings"])
        return EventStream(
            arrays=MappingProxyType(arrays),
            ranks=MappingProxyType(ranks),
            formats=formats,
            clock=plain["clock"],
            readings=readings,
            events_by_cpu=MappingProxyType(_int_keys(plain["events_by_cpu"])),
            gaps=tuple(Gap(**gap) for gap in plain["gaps"]),
            kernel_loss=KernelLoss(**plain["kernel_loss"]),
            unknown=MappingProxyType(_int_keys(plain["unknown"])),
            damage=tuple(RingDamage(**damage) for damage in plain["damage"]),
            discarded=plain["discarded"],
            problems=tuple(plain["problems"]),
        )
    except (OSError, ValueError, KeyError, TypeError, pa.ArrowException):
        return None  # It is a cache: what cannot be read is made anew.


def _table(event: EventFormat, array: npt.NDArray[Any], ranks: npt.NDArray[np.int64]) -> pa.Table:
    about = {column.name: column.field.type for column in columns_of(event)}
    columns = [_column(array[name]) for name in array.dtype.names or ()]
    fields = []
    for name, column in zip((*(array.dtype.names or ()), _RANK), [*columns, ranks], strict=True):
        unit, meaning = _UNITS.get(name, ("", ""))
        described = ", ".join(filter(None, (meaning, about.get(name))))
        metadata = {"unit": unit, "description": described or "bytes of the column before"}
        kind = column.type if isinstance(column, pa.Array) else pa.int64()
        fields.append(pa.field(name, kind, nullable=False, metadata=metadata))
    widths = {
        column.name: array.dtype[column.name].itemsize
        for column in columns_of(event)
        if column.is_dynamic
    }
    schema = pa.schema(
        fields,
        metadata={
            "event": event.full_name,
            "print_fmt": event.print_fmt,
            "widths": json.dumps(widths),
        },
    )
    return pa.Table.from_arrays([*columns, pa.array(ranks)], schema=schema)


def _column(values: npt.NDArray[Any]) -> pa.Array:
    if values.ndim == 2:
        flat = pa.array(np.ascontiguousarray(values).reshape(-1))
        return pa.FixedSizeListArray.from_arrays(flat, values.shape[1])
    if values.dtype.kind == "V":
        plain = np.ascontiguousarray(values)
        kind = pa.binary(values.dtype.itemsize)
        return pa.Array.from_buffers(kind, len(values), [None, pa.py_buffer(plain.tobytes())])
    if values.dtype.kind == "S":
        return pa.array(values, pa.binary())
    return pa.array(np.ascontiguousarray(values))


def _array(event: EventFormat, table: pa.Table) -> npt.NDArray[Any]:
    widths = json.loads(table.schema.metadata[b"widths"])
    array = np.zeros(len(table), row_dtype(event, widths))
    for name in array.dtype.names or ():
        dtype = array.dtype[name]
        column = table.column(name).combine_chunks()
        if isinstance(column, pa.ChunkedArray):
            column = pa.concat_arrays(column.chunks) if column.num_chunks else None
        if column is None or not len(column):
            continue
        if dtype.kind == "S":
            array[name] = column.to_numpy(zero_copy_only=False).astype(dtype)
        elif dtype.subdtype is not None:
            array[name] = column.flatten().to_numpy().reshape(-1, *dtype.shape)
        elif dtype.kind == "V":
            octets = column.buffers()[1][column.offset * dtype.itemsize :]
            array[name] = np.frombuffer(octets, dtype, len(column))
        else:
            array[name] = column.to_numpy()
    return array


def _readings_table(readings: Readings) -> pa.Table:
    holes, causes = len(readings.hole_after), len(readings.cause_after)
    about = (
        ("kind", "", "0: counters that no event has; 1: why one counter may be missing"),
        ("after", "events", "counter of the event in front"),
        ("before", "events", "counter of the event behind"),
    )
    columns = [
        np.repeat(np.array([0, 1], np.uint8), [holes, causes]),
        np.concatenate([readings.hole_after, readings.cause_after]),
        np.concatenate([readings.hole_before, readings.cause_before]),
    ]
    schema = pa.schema(
        [
            pa.field(name, pa.array(column).type, metadata={"unit": unit, "description": text})
            for (name, unit, text), column in zip(about, columns, strict=True)
        ]
    )
    return pa.Table.from_arrays([pa.array(column) for column in columns], schema=schema)


def _readings(table: pa.Table, plain: Mapping[str, Any]) -> Readings:
    kind, after, before = (table.column(name).to_numpy() for name in ("kind", "after", "before"))
    return Readings(
        first=plain["first"],
        last=plain["last"],
        hole_after=after[kind == 0],
        hole_before=before[kind == 0],
        cause_after=after[kind == 1],
        cause_before=before[kind == 1],
        shared=plain["shared"],
    )


def _plain(stream: EventStream, digest: str) -> dict[str, Any]:
    readings = stream.readings
    return {
        "digest": digest,
        "clock": stream.clock,
        "events": {name: len(array) for name, array in stream.arrays.items()},
        "events_by_cpu": dict(stream.events_by_cpu),
        "lost": stream.lost,
        "gaps": [asdict(gap) for gap in stream.gaps],
        "kernel_loss": asdict(stream.kernel_loss),
        "unknown": dict(stream.unknown),
        "damage": [asdict(damage) for damage in stream.damage],
        "discarded": stream.discarded,
        "problems": list(stream.problems),
        "readings": {
            "first": readings.first,
            "last": readings.last,
            "shared": readings.shared,
        },
    }


def _int_keys(plain: Mapping[str, int]) -> dict[int, int]:
    return {int(key): value for key, value in plain.items()}


def _file_name(event: str) -> str:
    return f"{event.replace('/', '.')}.parquet"


def _write(table: pa.Table, path: Path) -> None:
    _replace(path, lambda part: pq.write_table(table, part, compression="zstd"))


def _replace(path: Path, write: Callable[[Path], object]) -> None:
    """Lets ``write`` fill a file beside ``path``, then puts it there in one step."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    os.close(handle)
    try:
        write(Path(name))
        os.chmod(name, 0o644)
        os.replace(name, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name)
        raise


@contextlib.contextmanager
def _disk_errors(directory: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, pa.ArrowException) as error:
        raise TableError(
            f"{directory}: the decoded trace cannot be written: {error}",
            fix="make room there, or open the window without a cache",
        ) from None
