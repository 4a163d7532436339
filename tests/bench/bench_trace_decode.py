"""How many events a second one core decodes, beside copying the same pages.

The rings are made by repeating the sub-buffers of a captured window, with time stamps moved on
from copy to copy, so that counters ascend on each CPU and interleave between them as they did.
"""

from __future__ import annotations

import os
import struct
import tempfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from analysis.trace import Formats, decode
from analysis.trace.store import load_stream, save_stream
from tests.bench.bench_tables import timed
from tests.trace_capture import read_fixture
from tests.trace_oracle import formats_of

FIXTURE = "6.12-x86_64-trace"
EVENTS = int(os.environ.get("MMSCOPE_BENCH_EVENTS", "1000000"))
_PAGE_BYTES = 4096


def run() -> list[tuple[str, float, str]]:
    """Rows of name, value, unit."""
    capture = read_fixture(FIXTURE)
    formats = formats_of(capture)
    rings = repeated(capture.rings, formats)
    size_bytes = sum(map(len, rings.values()))
    decode(capture.rings, formats)  # Compiled, or taken from numba's cache, before the clock runs.
    copy_s = min(timed(lambda: _copy(rings))[1] for _ in range(5))
    stream, _ = timed(lambda: decode(rings, formats))
    decode_s = min(timed(lambda: decode(rings, formats))[1] for _ in range(5))
    _, merge_s = timed(stream.merged)
    _, audit_s = timed(stream.audit)
    with tempfile.TemporaryDirectory() as name:
        _, save_s = timed(lambda: save_stream(stream, Path(name), "bench"))
        _, load_s = timed(lambda: load_stream(Path(name), "bench", formats.by_name))
        stored_bytes = sum(file.stat().st_size for file in Path(name).iterdir())
    if stream.damage or stream.events < EVENTS:
        raise RuntimeError(f"the rings of the bench are not sound: {stream.summary}")
    return [
        ("trace decode: events", stream.events, "events"),
        ("trace decode: rings", size_bytes / 2**20, "MiB"),
        ("trace decode: baseline, copy the pages", copy_s, "s"),
        ("trace decode: to sorted typed arrays", decode_s, "s"),
        ("trace decode: rate (budget 3 M/s)", stream.events / decode_s / 1e6, "M events/s"),
        ("trace decode: ratio to copying", decode_s / copy_s, "x"),
        ("trace decode: one order of all events", merge_s, "s"),
        ("trace decode: account for every counter", audit_s, "s"),
        ("trace decode: write Parquet", save_s, "s"),
        ("trace decode: read Parquet", load_s, "s"),
        ("trace decode: Parquet", stored_bytes / 2**20, "MiB"),
    ]


def repeated(rings: Mapping[int, bytes], formats: Formats) -> dict[int, bytes]:
    """Copies of ``rings`` behind one another, at least ``EVENTS`` events in all."""
    once = decode(rings, formats)
    last = once.summary.last
    assert last is not None
    copies = -(-EVENTS // once.events)
    grown = {cpu: bytearray(ring * copies) for cpu, ring in rings.items()}
    for cpu, ring in rings.items():
        for copy in range(copies):
            for page in range(0, len(ring), _PAGE_BYTES):
                place = copy * len(ring) + page
                (stamp,) = struct.unpack_from("<Q", ring, page)
                struct.pack_into("<Q", grown[cpu], place, stamp + copy * last)
    return {cpu: bytes(ring) for cpu, ring in grown.items()}


def _copy(rings: dict[int, bytes]) -> int:
    return sum(np.frombuffer(ring, np.uint8).copy().size for ring in rings.values())


if __name__ == "__main__":
    for label, value, unit in run():
        print(f"{label:<44} {value:>12.3f} {unit}")
