"""What a tour writes of itself: ``boot.json`` of each boot, ``stop.json`` of each stop.

::

    tours/20260101T120000Z/
      stops/zones-highmem/
        stop.json             how the stop went, and of which definition it is
        main/
          boot.json           kernel, machine, commands that ran, notes
          NAME.txt NAME.json  what commands printed and what was worked out of them
          files/proc/…        files of the guest, by their path in it
          capture/            a whole capture, as of `mmscope capture`
          console.log qemu/   what the guest and QEMU said
"""

from __future__ import annotations

import json
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from harness.errors import RecordError
from harness.record.manifest import ImageRecord, KernelRecord, MachineRecord
from harness.record.rundir import write_atomic

BOOT_NAME = "boot.json"
STOP_NAME = "stop.json"
FILES_NAME = "files"


class CommandRecord(BaseModel):
    """A command that ran in the guest; what it printed is in ``NAME.txt``."""

    model_config = ConfigDict(extra="forbid")

    argv: list[str]
    status: int
    seconds: float
    stderr: str = ""


class BootRecord(BaseModel):
    """``boot.json``."""

    model_config = ConfigDict(extra="forbid")

    schema_version: int = 1
    label: str
    arch: str
    release: str
    version: str = ""
    """Of ``/proc/version``, which names the build."""
    cmdline: str = ""
    shapes: list[str] = []
    kernel: KernelRecord | None = None
    image: ImageRecord | None = None
    machine: MachineRecord | None = None
    boot_s: float = 0.0
    commands: dict[str, CommandRecord] = {}
    notes: list[str] = []
    unreadable: dict[str, str] = {}


class StopRecord(BaseModel):
    """``stop.json``; a stop without one was not finished."""

    model_config = ConfigDict(extra="forbid")

    schema_version: int = 1
    name: str
    definition: str
    """Digest of what the stop was when it ran; another one makes the record stale."""
    made: str
    labels: list[str]
    seconds: float
    complaint: str = ""
    """What went wrong, empty when nothing did."""
    exit_code: int = 0
    fix: str = ""
    details: dict[str, str] = {}


def write_record(path: Path, record: BaseModel) -> None:
    """Replaces a record whole.

    Raises:
        DiskFullError, RecordError: it cannot be written.
    """
    write_atomic(path, (record.model_dump_json(indent=1) + "\n").encode())


def read_stop_record(path: Path) -> StopRecord | None:
    """The record of a stop's directory, or None where the stop was not finished.

    Raises:
        RecordError: it is there and damaged.
    """
    name = path / STOP_NAME
    if not name.is_file():
        return None
    try:
        return StopRecord.model_validate(json.loads(name.read_text(encoding="utf-8")))
    except (OSError, UnicodeDecodeError, ValueError, ValidationError) as error:
        raise RecordError(
            f"{name}: {error}", fix="remove the stop's directory; it is then done again"
        ) from None
