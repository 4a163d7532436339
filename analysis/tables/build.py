"""From a bundle to its tables, in one pass over the stream."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

import numpy as np
import pandas as pd

from analysis.bundle import Mark, Sample
from analysis.errors import ParseError
from analysis.procfs import pressure, task
from analysis.tables.frames import Clock, frame_of_rows, frames_of_batches
from analysis.tables.schema import TABLES
from analysis.tables.shapes import (
    FragGrammar,
    PressureGrammar,
    TaskGrammar,
    TextGrammar,
    grammar_of,
)
from analysis.tables.stencil import Batch, FragSeries, TextSeries

_SPARSE_SOURCES = frozenset({"pagetypeinfo", "slabinfo"})

Row = dict[str, object]


class Samples(Protocol):
    """What the tables need of a bundle."""

    @property
    def release(self) -> str | None: ...
    @property
    def marks(self) -> Sequence[Mark]: ...
    @property
    def complete_rounds(self) -> Sequence[int]: ...
    def samples(self) -> Iterator[Sample]: ...


def build_tables(bundle: Samples) -> dict[str, pd.DataFrame]:
    """Every table the run has sources for, by name; ``marks`` and ``rounds`` always.

    Rows are in the order in which the guest read them; ``schema.TABLES`` tells the columns.
    The samples of a round that was cut off are in the tables, the round is not in ``rounds``.

    Raises:
        ParseError: a sample is not what its file prints; names source, round and kernel.
        BundleError: a source that no table is made from.
    """
    builder = _Builder()
    for sample in bundle.samples():
        try:
            builder.take(sample)
        except ParseError as error:
            raise error.at(f"{sample.name} (round {sample.round})", bundle.release) from None
    tables = builder.finish(frozenset(bundle.complete_rounds))
    marks = [{"round": m.round, "t_ns": m.t_ns, "label": m.label} for m in bundle.marks]
    tables["marks"] = frame_of_rows(TABLES["marks"], marks)
    return {name: tables[name] for name in TABLES if name in tables}


class _Builder:
    """Sorts samples by source while they come in."""

    def __init__(self) -> None:
        self._takers: dict[str, Callable[[int, Sample], None]] = {}
        self._series: list[TextSeries | FragSeries] = []
        self._times: tuple[list[int], list[int], list[int]] = ([], [], [])
        self._pressure: list[Row] = []
        self._kthreads: dict[tuple[int, str], Row] = {}
        self._rounds: dict[int, Row] = {}

    def take(self, sample: Sample) -> None:
        """Adds a sample.

        Raises:
            ParseError, BundleError: as ``build_tables``.
        """
        taker = self._takers.get(sample.name)
        if taker is None:
            taker = self._takers[sample.name] = self._taker(sample.name)
        rounds, starts, ends = self._times
        taker(len(rounds), sample)
        rounds.append(sample.round)
        starts.append(sample.start_ns)
        ends.append(sample.end_ns)
        extent = self._rounds.get(sample.round)
        if extent is None:
            extent = self._rounds[sample.round] = {
                "round": sample.round,
                "t_ns": sample.start_ns,
                "sparse": False,
            }
        extent["t_end_ns"] = sample.end_ns
        if sample.name in _SPARSE_SOURCES:
            extent["sparse"] = True

    def finish(self, complete_rounds: frozenset[int]) -> dict[str, pd.DataFrame]:
        names = ("round", "t_ns", "t_end_ns")
        times = [np.array(column, dtype=np.int64) for column in self._times]
        clock = Clock(columns=dict(zip(names, times, strict=True)))
        batches: list[Batch] = [batch for series in self._series for batch in series.batches]
        tables = frames_of_batches(batches, clock)
        if self._pressure:
            tables["pressure"] = frame_of_rows(TABLES["pressure"], self._pressure)
        if self._kthreads:
            rows = list(self._kthreads.values())
            tables["kthreads"] = frame_of_rows(TABLES["kthreads"], rows)
        rounds = [row for number, row in self._rounds.items() if number in complete_rounds]
        tables["rounds"] = frame_of_rows(TABLES["rounds"], rounds)
        return tables

    def _taker(self, name: str) -> Callable[[int, Sample], None]:
        grammar = grammar_of(name)
        match grammar:
            case TextGrammar():
                text_series = TextSeries(name, grammar)
                self._series.append(text_series)
                return text_series.take
            case FragGrammar():
                frag_series = FragSeries(name, grammar)
                self._series.append(frag_series)
                return frag_series.take
            case PressureGrammar():
                return lambda _, sample: self._take_pressure(grammar, sample)
            case TaskGrammar():
                return lambda _, sample: self._take_task(grammar, sample)

    def _take_pressure(self, grammar: PressureGrammar, sample: Sample) -> None:
        for line in pressure.parse(sample.payload.decode(), source=sample.name):
            self._pressure.append(
                {
                    "round": sample.round,
                    "t_ns": sample.start_ns,
                    "t_end_ns": sample.end_ns,
                    "resource": grammar.resource,
                    "kind": line.kind,
                    "avg10": line.avg10_percent,
                    "avg60": line.avg60_percent,
                    "avg300": line.avg300_percent,
                    "total_us": line.total_us,
                }
            )

    def _take_task(self, grammar: TaskGrammar, sample: Sample) -> None:
        row = self._kthreads.setdefault(
            (sample.round, grammar.thread),
            {
                "round": sample.round,
                "t_ns": sample.start_ns,
                "thread": grammar.thread,
                "node": grammar.node,
            },
        )
        row["t_end_ns"] = sample.end_ns
        text = sample.payload.decode("utf-8", "surrogateescape")
        match grammar.file:
            case "stat":
                stat = task.parse_stat(text, source=sample.name)
                row["utime_ticks"] = stat.utime_ticks
                row["stime_ticks"] = stat.stime_ticks
            case "schedstat":
                account = task.parse_schedstat(text, source=sample.name)
                row["run_ns"] = account.run_ns
                row["wait_ns"] = account.wait_ns
                row["timeslices"] = account.timeslices
            case _:
                status = task.parse_status(text, source=sample.name)
                row["voluntary_ctxt_switches"] = status.voluntary_ctxt_switches
                row["nonvoluntary_ctxt_switches"] = status.nonvoluntary_ctxt_switches
