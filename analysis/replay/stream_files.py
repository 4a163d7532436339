"""A request stream as Parquet files, for others' allocators and for ours without the run.

::

    anon.requests/
      README.md             what the files are, every column with its unit
      description.json      version, window, and what the samples say of the kernel
      requests.parquet      one row a step, in the order to be replayed
      begin/*.parquet       the allocator's state before: zones, blocks, pcp_pages, pageblocks …
      end/*.parquet         the same after, to compare with; absent where nobody looked
      free_blocks.parquet   the kernel's free blocks meanwhile; absent where not known

Units and meanings stand in every column's field metadata and in ``docs/request-stream.md``.
``description.json`` is written last: a directory without it is not whole.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from analysis.bundle import MemorySample
from analysis.errors import BundleError, TableError
from analysis.replay.allocator_state import movable_pfns
from analysis.replay.exact import Timeline
from analysis.replay.request_stream import Followed, RequestStream
from analysis.replay.stream_columns import FREE_BLOCKS, REQUESTS, STATE, Columns
from analysis.replay.stream_rows import request_columns, steps_of

VERSION = 1
DESCRIPTION = "description.json"
REQUESTS_FILE = "requests.parquet"
_PFNS = pa.list_(pa.int64())
_FRAME_RANGE = np.dtype([("start_pfn", "<i8"), ("pages", "<i8")])


def is_request_stream(path: Path) -> bool:
    """Whether a path is an exported stream: its directory, or the requests' file in it."""
    return (path / REQUESTS_FILE).is_file() or path.name == REQUESTS_FILE


def write_stream(stream: RequestStream, followed: Followed, directory: Path) -> None:
    """Writes ``directory`` anew.

    Raises:
        TableError: it cannot be written, or holds something else.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
        (directory / DESCRIPTION).unlink(missing_ok=True)
        if any(path.name not in _OURS for path in directory.iterdir()):
            raise TableError(
                f"{directory}: the directory holds other files", fix="name a new directory"
            )
        _write(directory / REQUESTS_FILE, REQUESTS, request_columns(stream, followed))
        samples = {"begin": stream.begin}
        if stream.end is not None:
            samples["end"] = stream.end
        for name, sample in samples.items():
            (directory / name).mkdir(exist_ok=True)
            for table, columns in STATE.items():
                path = directory / name / f"{table}.parquet"
                _write(path, columns, _state_columns(sample, table))
        if stream.real is not None:
            _write(directory / "free_blocks.parquet", FREE_BLOCKS, _free_blocks(stream.real))
        (directory / "README.md").write_text(_readme(stream), encoding="utf-8")
        description = {
            "version": VERSION,
            "window": stream.name,
            **{name: sample.meta for name, sample in samples.items()},
        }
        text = json.dumps(description, indent=1) + "\n"
        (directory / DESCRIPTION).write_text(text, encoding="utf-8")
    except OSError as error:
        raise TableError(f"{directory}: cannot be written: {error}") from None


_OURS = ("README.md", DESCRIPTION, REQUESTS_FILE, "begin", "end", "figures", "free_blocks.parquet")


def read_stream(path: Path) -> RequestStream:
    """A stream from its directory, or from the path of ``requests.parquet`` in it.

    Raises:
        BundleError: it is not whole, damaged, or of another version.
    """
    directory = path.parent if path.name == REQUESTS_FILE else path
    try:
        description = json.loads((directory / DESCRIPTION).read_text(encoding="utf-8"))
        version, name = int(description["version"]), str(description["window"])
        if version != VERSION:
            raise _damaged(directory, f"version {version}, this mmscope reads {VERSION}")
        begin = _read_state(directory / "begin", description["begin"])
        end = _read_state(directory / "end", description["end"]) if "end" in description else None
        steps = steps_of(_read(directory / REQUESTS_FILE, REQUESTS), begin)
        real: Timeline | None = None
        if (directory / "free_blocks.parquet").exists():
            found = _read(directory / "free_blocks.parquet", FREE_BLOCKS)
            real = _timeline(found, len(begin.zones), int(begin.meta["max_order"]) + 1)
    except (OSError, ValueError, KeyError, TypeError, IndexError, pa.ArrowException) as error:
        raise _damaged(directory, str(error) or type(error).__name__) from None
    return RequestStream(
        name=name,
        begin=begin,
        end=end,
        steps=steps,
        zone_pointers={zone + 1: zone for zone in range(len(begin.zones))},
        node_pointers={},
        real=real,
    )


def _damaged(directory: Path, reason: str) -> BundleError:
    return BundleError(
        f"{directory}: not a request stream: {reason}",
        fix="export it again with `mmscope replay RUN --window NAME --export DIRECTORY`",
    )


# Parquet.
def _write(path: Path, columns: Columns, values: Mapping[str, pa.Array]) -> None:
    fields = [
        pa.field(name, values[name].type, metadata={"unit": unit, "meaning": meaning})
        for name, (unit, meaning) in columns.items()
    ]
    schema = pa.schema(fields, metadata={"mmscope.request_stream": str(VERSION)})
    table = pa.Table.from_arrays([values[name] for name in columns], schema=schema)
    pq.write_table(table, path, compression="zstd")


def _read(path: Path, columns: Columns) -> pa.Table:
    """Raises KeyError for a column that is missing."""
    table = pq.read_table(path)
    missing = columns.keys() - set(table.column_names)
    if missing:
        raise KeyError(f"{path.name} lacks {', '.join(sorted(missing))}")
    return table


# The state.
def _state_columns(sample: MemorySample, table: str) -> dict[str, pa.Array]:
    if table == "movable":
        return {"pfn": pa.array(movable_pfns(sample))}
    rows: NDArray[np.void] = getattr(sample, table)
    values: dict[str, pa.Array] = {}
    for name in STATE[table]:
        column = rows[name]
        if column.dtype.kind == "S":
            values[name] = pa.array([text.decode() for text in column.tolist()], pa.string())
        elif column.ndim > 1:
            values[name] = pa.array(column.tolist(), _PFNS)
        else:
            values[name] = pa.array(np.ascontiguousarray(column))
    return values


def _read_state(directory: Path, meta: dict[str, Any]) -> MemorySample:
    arrays: dict[str, NDArray[Any]] = {}
    for table, columns in STATE.items():
        if table != "movable":
            arrays[table] = _rows(_read(directory / f"{table}.parquet", columns), columns)
    movable = _read(directory / "movable.parquet", STATE["movable"])["pfn"].to_numpy()
    zones = arrays["zones"]
    first = int(zones["start_pfn"].min())
    pages = int((zones["start_pfn"] + zones["spanned_pages"]).max()) - first
    flags = np.zeros(pages, np.uint32)
    flags[movable - first] = 1 << int(meta["page_flag_bits"]["lru"])
    return MemorySample(
        meta={**meta, "full": False},
        **arrays,
        frame_ranges=np.array([(first, pages)], _FRAME_RANGE),
        frame_flags=flags,
        frame_type=np.zeros(pages, np.uint32),
        frame_mapping=np.zeros(pages, np.uint8),
    )


def _rows(table: pa.Table, columns: Columns) -> NDArray[np.void]:
    """A structured array with the table's own types; texts as bytes, lists as sub-arrays."""
    values: dict[str, NDArray[Any]] = {}
    for name in columns:
        column = table[name]
        if pa.types.is_string(column.type):
            values[name] = np.array([text.encode() for text in column.to_pylist()], "S16")
        elif pa.types.is_list(column.type):
            values[name] = np.array(column.to_pylist(), np.int64)
        else:
            values[name] = column.to_numpy()
    rows = np.zeros(
        table.num_rows,
        np.dtype([(name, found.dtype, found.shape[1:]) for name, found in values.items()]),
    )
    for name, found in values.items():
        rows[name] = found
    return rows


def _free_blocks(real: Timeline) -> dict[str, pa.Array]:
    moments, zones, orders = real.nr_free.shape
    return {
        "counter": pa.array(np.repeat(real.counter, zones * orders)),
        "zone": pa.array(np.tile(np.repeat(np.arange(zones, dtype=np.int16), orders), moments)),
        "order": pa.array(np.tile(np.arange(orders, dtype=np.int8), moments * zones)),
        "nr_free": pa.array(real.nr_free.reshape(-1)),
    }


def _timeline(table: pa.Table, zones: int, orders: int) -> Timeline:
    shape = (-1, zones, orders)
    counter = table["counter"].to_numpy().reshape(shape)[:, 0, 0]
    return Timeline(counter=counter, nr_free=table["nr_free"].to_numpy().reshape(shape))


_README = """\
# Page allocator requests: {window}

Recorded by mmscope from Linux {kernel} on {arch}. Pages have {page_size} bytes; a pfn is a page
frame number. The operations are described in mmscope's docs/request-stream.md; every column's unit
and meaning is below and in its Parquet field metadata.

`requests.parquet` has one row a step, in the order to be replayed. Columns whose name begins with
`kernel_` are what the kernel answered: compare with them, do not use them to choose. `begin/` and
`end/` hold the allocator's state before and after, `free_blocks.parquet` its free blocks meanwhile.
"""


def _readme(stream: RequestStream) -> str:
    page_size = stream.begin.meta["page_size_bytes"]
    lines = _README.format(
        window=stream.name, kernel=stream.kernel, arch=stream.arch, page_size=page_size
    ).splitlines()
    tables = {REQUESTS_FILE: REQUESTS, "free_blocks.parquet": FREE_BLOCKS}
    tables |= {f"begin/{name}.parquet": columns for name, columns in STATE.items()}
    for name, columns in tables.items():
        lines += ["", f"## {name}", "", "| column | unit | meaning |", "|---|---|---|"]
        for column, (unit, meaning) in columns.items():
            lines.append(f"| {column} | {unit} | {meaning} |")
    return "\n".join(lines) + "\n"
