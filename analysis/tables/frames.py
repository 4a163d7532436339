"""Batches of samples and plain rows become pandas frames of the declared types."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.errors import TableError
from analysis.tables.schema import TABLES, Column, TableSchema
from analysis.tables.shapes import Label
from analysis.tables.stencil import Batch, Integers, Slots


@dataclass(frozen=True, slots=True, kw_only=True)
class Clock:
    """Round and times of every sample, by its place in the stream."""

    columns: Mapping[str, Integers]
    """``round``, ``t_ns``, ``t_end_ns``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Part:
    """One sheet of one batch: the same rows for each of its samples."""

    slots: Slots
    ordinals: Integers
    numbers: NDArray[np.int64]
    """By sample, row and column."""


def frames_of_batches(batches: Sequence[Batch], clock: Clock) -> dict[str, pd.DataFrame]:
    """One frame for each table, rows in the order of the stream."""
    parts: dict[str, list[_Part]] = {}
    for batch in batches:
        matrix = np.stack(batch.numbers)
        for slots in batch.sheets:
            part = _Part(
                slots=slots,
                ordinals=np.array(batch.ordinals, dtype=np.int64),
                numbers=matrix[:, slots.places],
            )
            parts.setdefault(slots.table, []).append(part)
    return {table: _assemble(TABLES[table], found, clock) for table, found in parts.items()}


def frame_of_rows(schema: TableSchema, rows: Sequence[Mapping[str, object]]) -> pd.DataFrame:
    """A small frame from rows by column name; what a row lacks is missing in the frame."""
    data = {
        column.name: _typed([row.get(column.name) for row in rows], column)
        for column in schema.columns
    }
    return pd.DataFrame(data)


def conform(frame: pd.DataFrame, schema: TableSchema) -> pd.DataFrame:
    """The frame, if its columns are exactly the declared ones, in order and type.

    Raises:
        TableError: they are not.
    """
    declared = [column.name for column in schema.columns]
    found = list(frame.columns)
    if found[: len(declared)] != declared or (not schema.open_ended and found != declared):
        raise TableError(
            f"table {schema.name}: columns {', '.join(map(str, found))}; "
            f"expected {', '.join(declared)}",
            fix="make the tables anew from the run",
        )
    for name in found:
        column = schema.column(name)
        dtype = str(frame[name].dtype)
        if dtype != column.dtype:
            raise TableError(
                f"table {schema.name}: column {name} is {dtype}; expected {column.dtype}",
                fix="make the tables anew from the run",
            )
    return frame


def _assemble(schema: TableSchema, parts: Sequence[_Part], clock: Clock) -> pd.DataFrame:
    ordinals = _joined([np.repeat(part.ordinals, len(part.slots.labels)) for part in parts])
    order = None if len(parts) == 1 else np.argsort(ordinals, kind="stable")
    if order is not None:
        ordinals = ordinals[order]
    data: dict[str, Any] = {
        name: _integers(times[ordinals]) for name, times in clock.columns.items()
    }
    named = [column.name for column in schema.columns]
    extra = {name for part in parts for name in part.slots.columns}.difference(named)
    for name in [*named[len(data) :], *sorted(extra)]:
        column = schema.column(name)
        if name in parts[0].slots.label_names:
            data[name] = _label_column(parts, column, order)
        else:
            data[name] = _number_column(parts, name, order)
    return pd.DataFrame(data, copy=False)


def _label_column(parts: Sequence[_Part], column: Column, order: NDArray[np.intp] | None) -> Any:
    """The labels of each part's rows, once for each of its samples."""
    categories: dict[Label, int] = {}
    codes = []
    for part in parts:
        index = part.slots.label_names.index(column.name)
        labels = [labels[index] for labels in part.slots.labels]
        if column.dtype == "category":
            row = [
                -1 if label is None else categories.setdefault(label, len(categories))
                for label in labels
            ]
            codes.append(np.tile(np.array(row, dtype=np.int32), len(part.ordinals)))
        else:
            codes.append(np.tile(np.array(labels, dtype=np.int64), len(part.ordinals)))
    joined = _joined(codes)
    if order is not None:
        joined = joined[order]
    if column.dtype == "category":
        return pd.Categorical.from_codes(joined, categories=_strings(list(categories)))
    if column.dtype == "boolean":
        return pd.arrays.BooleanArray(joined.astype(bool), np.zeros(joined.size, dtype=bool))
    return _integers(joined)


def _number_column(
    parts: Sequence[_Part], name: str, order: NDArray[np.intp] | None
) -> pd.arrays.IntegerArray:
    """The numbers of a column; missing where a kernel's text does not have it."""
    values, absent = [], []
    for part in parts:
        samples, rows, _ = part.numbers.shape
        has = name in part.slots.columns
        values.append(
            part.numbers[:, :, part.slots.columns.index(name)].ravel()
            if has
            else np.zeros(samples * rows, dtype=np.int64)
        )
        absent.append(np.full(samples * rows, not has))
    joined, mask = _joined(values), _joined(absent)
    if order is not None:
        joined, mask = joined[order], mask[order]
    return pd.arrays.IntegerArray(joined, mask)


def _joined(arrays: Sequence[NDArray[Any]]) -> NDArray[Any]:
    return arrays[0] if len(arrays) == 1 else np.concatenate(arrays)


def _integers(values: Integers) -> pd.arrays.IntegerArray:
    return pd.arrays.IntegerArray(values, np.zeros(values.size, dtype=bool))


def _strings(values: list[Any]) -> pd.Index[str]:
    index: pd.Index[str] = pd.Index(values, dtype="str")
    return index


def _typed(values: list[Any], column: Column) -> Any:
    if column.dtype == "category":
        categories = list(dict.fromkeys(value for value in values if value is not None))
        return pd.Categorical(values, categories=_strings(categories))
    return pd.Series(values, dtype=column.dtype).array
