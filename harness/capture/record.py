"""Writing a capture: a directory that is whole or not there, and what it says of itself."""

from __future__ import annotations

import contextlib
import datetime
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from pydantic import BaseModel, ConfigDict

import harness
from harness.errors import UsageError
from harness.record.captured import kept_as
from harness.record.manifest import ImageRecord, KernelRecord, MachineRecord
from harness.record.rundir import disk_errors

RECORD_NAME = "capture.json"
SCHEMA_VERSION = 1

_DIRECTORIES = re.compile(r"(?<![\w./-])/(?!usr/|proc/|dev/)(?:[^/,=:\s]+/)+(?=[^/,=:\s])")


class CaptureRecord(BaseModel):
    """``capture.json``: how a capture was made."""

    model_config = ConfigDict(extra="forbid")

    schema_version: int = SCHEMA_VERSION
    of: str
    """``guest`` or ``host``."""
    made: str
    mmscope: str
    argv: list[str]
    kernel: KernelRecord | None = None
    """Of a guest: package, version and digests."""
    image: ImageRecord | None = None
    machine: MachineRecord | None = None
    settings: dict[str, str] = {}
    """Sysctls that were written before, in their order (``vm.min_free_kbytes`` → value)."""
    unreadable: dict[str, str] = {}
    """Files that are there and could not be read → why."""
    still: bool = False
    """Whether free blocks and memory in use were the same in both readings."""


def new_record(of: str) -> CaptureRecord:
    """A record of a capture made now, by this command."""
    return CaptureRecord(
        of=of,
        made=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        mmscope=harness.__version__,
        argv=without_places(sys.argv),
    )


def without_places(words: Iterable[str]) -> list[str]:
    """Words of a command with the names of files alone: a capture goes to other people, whom the
    directories of the machine that took it do not concern. What the system itself provides
    (``/usr``, ``/proc``, ``/dev``) keeps its path."""
    return [_DIRECTORIES.sub("", word) for word in words]


@contextlib.contextmanager
def capture_directory(path: Path) -> Iterator[Path]:
    """A directory to fill; it appears at ``path`` when the body ends well, and not otherwise.

    Raises:
        UsageError: there is something at ``path`` already.
        DiskFullError: no room.
    """
    if path.exists():
        raise UsageError(
            f"{path} exists already", fix="name a directory that is not there, or remove this one"
        )
    with disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        draft = Path(tempfile.mkdtemp(prefix=f".{path.name}-", dir=path.parent))
        try:
            yield draft
            draft.chmod(0o755)
            os.replace(draft, path)
        finally:
            shutil.rmtree(draft, ignore_errors=True)


def write_files(directory: Path, files: Mapping[str, bytes], *, suffix: str = "") -> None:
    """Keeps files of a machine, by their absolute path in it."""
    for path, content in files.items():
        write_file(directory, kept_as(path) + suffix, content)


def write_file(directory: Path, name: str, content: bytes) -> None:
    """Keeps a file by its name in the capture."""
    target = directory / name
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(content)


def write_record(directory: Path, record: CaptureRecord) -> None:
    """Keeps what the capture says of itself."""
    write_file(directory, RECORD_NAME, (record.model_dump_json(indent=1) + "\n").encode())
