"""Tables on disk: one Parquet file each, zstd, units in the schema."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from analysis.errors import TableError
from analysis.tables.frames import conform
from analysis.tables.schema import ALWAYS, TABLES, TableSchema

_SUFFIX = ".parquet"
_MAKE_ANEW = "make the tables anew from the run"


def write_tables(tables: Mapping[str, pd.DataFrame], directory: Path) -> list[Path]:
    """Writes ``directory/<name>.parquet`` for each table, each whole or not at all.

    Files of tables that are not given are removed, so that the directory never mixes two runs.

    Raises:
        TableError: an unknown table, wrong columns or types, or it cannot be written.
    """
    arrow = {name: _to_arrow(frame, _schema(name)) for name, frame in tables.items()}
    paths: list[Path] = []
    with _disk_errors(directory):
        directory.mkdir(parents=True, exist_ok=True)
        for name, table in arrow.items():
            path = directory / f"{name}{_SUFFIX}"
            _write_atomic(table, path)
            paths.append(path)
        for name in TABLES.keys() - tables.keys():
            (directory / f"{name}{_SUFFIX}").unlink(missing_ok=True)
    return paths


def read_tables(directory: Path) -> dict[str, pd.DataFrame]:
    """The tables of a directory, by name, as ``write_tables`` was given them.

    Raises:
        TableError: not a directory of tables, or a file that is damaged or of another shape.
    """
    tables: dict[str, pd.DataFrame] = {}
    for name, schema in TABLES.items():
        path = directory / f"{name}{_SUFFIX}"
        if path.is_file():
            tables[name] = conform(_read(path), schema)
        elif name in ALWAYS:
            raise TableError(f"{path}: no such table", fix=_MAKE_ANEW)
    return tables


def _schema(name: str) -> TableSchema:
    if name not in TABLES:
        raise TableError(f"table {name!r}: none of that name is declared")
    return TABLES[name]


def _to_arrow(frame: pd.DataFrame, schema: TableSchema) -> pa.Table:
    table = pa.Table.from_pandas(conform(frame, schema), preserve_index=False)
    described = [
        field.with_metadata(
            {
                "unit": schema.column(field.name).unit,
                "description": schema.column(field.name).about,
            }
        )
        for field in table.schema
    ]
    metadata = {
        **table.schema.metadata,
        b"mmscope": json.dumps(
            {"table": schema.name, "about": schema.about, "key": schema.key}
        ).encode(),
    }
    return table.cast(pa.schema(described, metadata=metadata))


def _write_atomic(table: pa.Table, path: Path) -> None:
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as stream:
            pq.write_table(table, stream, compression="zstd")
            stream.flush()
            os.fsync(stream.fileno())
        os.chmod(name, 0o644)
        os.replace(name, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name)
        raise


def _read(path: Path) -> pd.DataFrame:
    with _disk_errors(path):
        try:
            frame: pd.DataFrame = pq.ParquetFile(path).read().to_pandas()
        except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
            raise TableError(f"{path}: not a Parquet file: {error}", fix=_MAKE_ANEW) from None
    return frame


@contextlib.contextmanager
def _disk_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        raise TableError(
            f"{error.filename or path}: {error.strerror or error}",
            fix="free space on that disk" if full else None,
        ) from error
