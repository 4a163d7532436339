"""How long 1,000 full sampling rounds take to become tables.

The rounds are made from a captured one, with every number of the bulky files changed from
round to round (zeros and parts of names excepted), so that hardly a sample equals the one
before it. The baseline, on the same bytes, is what no reader can do without: read the stream,
split the text into words.
"""

from __future__ import annotations

import re
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TypeVar

import numpy as np

from analysis.bundle import open_bundle
from analysis.procfs.scan import SlotReader
from analysis.tables import build_tables, read_tables, write_tables
from analysis.tables.shapes import TextGrammar, grammar_of
from harness.record.frames import FrameType, read_frames
from tests.recorded_run import fixture_round, stream, write_run

ROUNDS = 1000
FIXTURE = "6.1-x86_64-3nodes"

T = TypeVar("T")


def run() -> list[tuple[str, float, str]]:
    """Rows of name, value, unit."""
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "run"
        directory = write_run(path, stream(list(varied_rounds(FIXTURE, ROUNDS))))
        size_bytes = directory.samples_path.stat().st_size
        bundle, open_s = timed(lambda: open_bundle(path))
        _, split_s = timed(lambda: _split_all(directory.samples_path))
        tables, build_s = timed(lambda: build_tables(bundle))
        _, write_s = timed(lambda: write_tables(tables, path / "tables"))
        _, read_s = timed(lambda: read_tables(path / "tables"))
        stored_bytes = sum(file.stat().st_size for file in (path / "tables").iterdir())
    rows = sum(len(table) for table in tables.values())
    return [
        ("tables: rounds", ROUNDS, "rounds"),
        ("tables: stream", size_bytes / 2**20, "MiB"),
        ("tables: rows", rows, "rows"),
        ("tables: baseline, read and split", split_s, "s"),
        ("tables: open and verify the run", open_s, "s"),
        ("tables: build (budget 2 s)", build_s, "s"),
        ("tables: write Parquet", write_s, "s"),
        ("tables: read Parquet", read_s, "s"),
        ("tables: Parquet", stored_bytes / 2**20, "MiB"),
    ]


def varied_rounds(fixture: str, rounds: int, seed: int = 1) -> Iterator[dict[str, bytes]]:
    """Rounds of the texts of ``fixture``, their values changed at random from round to round."""
    random = np.random.default_rng(seed)
    pieces = {name: _cut(name, text) for name, text in fixture_round(fixture).items()}
    for _ in range(rounds):
        yield {name: _fill(*cut, random) for name, cut in pieces.items()}


def timed(work: Callable[[], T]) -> tuple[T, float]:
    """The result of ``work`` and the seconds it took."""
    start_s = time.perf_counter()
    result = work()
    return result, time.perf_counter() - start_s


def _split_all(path: Path) -> int:
    return sum(
        len(frame.payload.split()) for frame in read_frames(path) if frame.type is FrameType.SAMPLE
    )


def _cut(name: str, text: bytes) -> tuple[list[bytes], Mapping[int, int]]:
    """The text in pieces, digits at odd places, and the values among those."""
    grammar = grammar_of(name)
    pieces = re.split(rb"([0-9]+)", text)
    if not isinstance(grammar, TextGrammar):
        return pieces, {}
    reader = SlotReader(text.decode(), name)
    grammar.read(reader)
    labels = set(reader.label_runs())
    values = [index for index in range(len(pieces) // 2) if index not in labels]
    return pieces, {2 * index + 1: int(pieces[2 * index + 1]) for index in values}


def _fill(pieces: list[bytes], values: Mapping[int, int], random: np.random.Generator) -> bytes:
    filled = list(pieces)
    for (place, value), change in zip(
        values.items(), random.integers(0, 200, len(values)), strict=True
    ):
        if value:  # An empty zone stays empty.
            filled[place] = b"%d" % (value + change)
    return b"".join(filled)


if __name__ == "__main__":
    for label, value, unit in run():
        print(f"{label:<40} {value:>12.3f} {unit}")
