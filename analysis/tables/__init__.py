"""Tidy frames from a run's samples: key, dtype and unit of every column are declared."""

from analysis.tables.build import build_tables
from analysis.tables.files import read_tables, write_tables
from analysis.tables.schema import ALWAYS, TABLES, Column, TableSchema

__all__ = [
    "ALWAYS",
    "TABLES",
    "Column",
    "TableSchema",
    "build_tables",
    "read_tables",
    "write_tables",
]
