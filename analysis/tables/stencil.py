"""Reads many texts of one source fast: the first of a shape strictly, the rest by its stencil.

Consecutive samples of a file differ in their numbers and in little else. So the first text of
a shape goes through its parser twice, for the records and for the places of their numbers; a
later text is of the same shape if it equals the first but for the lengths of its runs of
digits and of blanks and for the digits themselves, and if the digits that are part of a name
are the same number. Its values then stand in the known places, and all of them are taken in
one step. Whatever is not of a known shape goes to the parser, which raises when it should.
A parser's rules about values (an empty zone has no pagesets) thus hold for the first text of
a shape only; its rules about form hold for all.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from analysis.errors import ParseError
from analysis.procfs import fragindex
from analysis.procfs.scan import Reader, SlotReader
from analysis.tables.shapes import FragGrammar, Label, Sheet, TextGrammar

if TYPE_CHECKING:
    from analysis.bundle import Sample

Integers = NDArray[np.int64]

_DIGITS = b"0123456789"
_ONLY_DIGITS = bytes(c if c in _DIGITS else ord(" ") for c in range(256))
_DIGIT_MARK, _BLANK_MARK = 0, 1
_MARKED = bytes(
    _DIGIT_MARK if c in _DIGITS else _BLANK_MARK if c == ord(" ") else c for c in range(256)
)
_INT64_MAX = np.iinfo(np.int64).max


@dataclass(frozen=True, slots=True, kw_only=True)
class Slots:
    """A sheet whose numbers are places in the vector of a sample."""

    table: str
    label_names: tuple[str, ...]
    labels: tuple[tuple[Label, ...], ...]
    columns: tuple[str, ...]
    places: NDArray[np.intp]
    """By row and column."""


@dataclass(slots=True, kw_only=True)
class Batch:
    """All samples of one shape: the rows they make, and a vector of numbers for each."""

    sheets: tuple[Slots, ...]
    ordinals: list[int] = field(default_factory=list)
    """Place of each sample in the stream."""
    numbers: list[Integers] = field(default_factory=list)

    def add(self, ordinal: int, numbers: Integers) -> None:
        self.ordinals.append(ordinal)
        self.numbers.append(numbers)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Stencil:
    """A shape that has been seen."""

    runs: int
    label_runs: NDArray[np.intp]
    label_numbers: Integers
    batch: Batch

    def fits(self, numbers: Integers) -> bool:
        return numbers.size == self.runs and bool(
            np.array_equal(numbers[self.label_runs], self.label_numbers)
        )


class TextSeries:
    """The samples of one source whose grammar has slots."""

    def __init__(self, name: str, grammar: TextGrammar) -> None:
        self._name = name
        self._grammar = grammar
        self._stencils: dict[bytes, list[_Stencil]] = {}
        self._last: tuple[bytes, Batch, Integers] | None = None
        self.batches: list[Batch] = []

    def take(self, ordinal: int, sample: Sample) -> None:
        """Adds one sample.

        Raises:
            ParseError: it is not what this file prints, or a number has more than 63 bits.
        """
        payload = sample.payload
        if self._last is not None and self._last[0] == payload:
            _, batch, numbers = self._last
        else:
            batch, numbers = self._match(payload)
            self._last = (payload, batch, numbers)
        batch.add(ordinal, numbers)

    def _match(self, payload: bytes) -> tuple[Batch, Integers]:
        shape = _shape(payload)
        known = self._stencils.get(shape, ())
        if known:
            numbers = _runs_of_digits(payload)
            for stencil in known:
                if stencil.fits(numbers):
                    if numbers.max() == _INT64_MAX:
                        self._check_range(payload)
                    return stencil.batch, numbers
        stencil, numbers = self._learn(payload)
        self._stencils.setdefault(shape, []).append(stencil)
        self.batches.append(stencil.batch)
        return stencil.batch, numbers

    def _learn(self, payload: bytes) -> tuple[_Stencil, Integers]:
        self._check_range(payload)
        reader = SlotReader(_decode(payload), self._name)
        record = self._grammar.read(reader)
        sheets = tuple(_slots(sheet) for sheet in self._grammar.lay(record))
        numbers = _runs_of_digits(payload)
        label_runs = np.array(reader.label_runs(), dtype=np.intp)
        stencil = _Stencil(
            runs=numbers.size,
            label_runs=label_runs,
            label_numbers=numbers[label_runs],
            batch=Batch(sheets=sheets),
        )
        return stencil, numbers

    def _check_range(self, payload: bytes) -> None:
        record = self._grammar.read(Reader(_decode(payload), self._name))
        for sheet in self._grammar.lay(record):
            for labels, values in sheet.rows:
                if max(values) > _INT64_MAX:
                    raise ParseError(
                        self._name, 0, f"{labels}: {max(values)}", "numbers of at most 63 bits"
                    )


class FragSeries:
    """The samples of a debugfs index: parsed one by one, but each text only once in a row."""

    def __init__(self, name: str, grammar: FragGrammar) -> None:
        self._name = name
        self._grammar = grammar
        self._batches: dict[tuple[tuple[Label, ...], ...], Batch] = {}
        self._last: tuple[bytes, Batch, Integers] | None = None

    @property
    def batches(self) -> list[Batch]:
        return list(self._batches.values())

    def take(self, ordinal: int, sample: Sample) -> None:
        """Adds one sample.

        Raises:
            ParseError: it is not what this file prints.
        """
        if self._last is None or self._last[0] != sample.payload:
            rows = fragindex.parse(_decode(sample.payload), source=self._name)
            (sheet,) = self._grammar.lay(rows)
            labels = tuple(labels for labels, _ in sheet.rows)
            numbers = np.array([values[0] for _, values in sheet.rows], dtype=np.int64)
            batch = self._batches.get(labels)
            if batch is None:
                slots = Slots(
                    table=sheet.table,
                    label_names=sheet.labels,
                    labels=labels,
                    columns=sheet.columns,
                    places=np.arange(len(labels), dtype=np.intp)[:, np.newaxis],
                )
                batch = self._batches[labels] = Batch(sheets=(slots,))
            self._last = (sample.payload, batch, numbers)
        _, batch, numbers = self._last
        batch.add(ordinal, numbers)


def _slots(sheet: Sheet) -> Slots:
    places = np.array([values for _, values in sheet.rows], dtype=np.intp)
    return Slots(
        table=sheet.table,
        label_names=sheet.labels,
        labels=tuple(labels for labels, _ in sheet.rows),
        columns=sheet.columns,
        places=places.reshape(len(sheet.rows), len(sheet.columns)),
    )


def _runs_of_digits(payload: bytes) -> Integers:
    """All runs of digits as numbers; one beyond 63 bits becomes 2**63 - 1."""
    return np.fromstring(payload.translate(_ONLY_DIGITS), dtype=np.int64, sep=" ")


def _shape(payload: bytes) -> bytes:
    """The text with one mark for each run of digits and one for each run of blanks."""
    marked = np.frombuffer(payload.translate(_MARKED), dtype=np.uint8)
    kept = marked > _BLANK_MARK
    kept[1:] |= marked[1:] != marked[:-1]
    kept[:1] = True
    return marked[kept].tobytes()


def _decode(payload: bytes) -> str:
    return payload.decode("utf-8", "surrogateescape")
