"""The evidence of a stop, read back: what each of its guests showed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any

from analysis.capture.snapshot import Snapshot
from analysis.capture.source import open_source
from analysis.errors import CaptureError, MissingInputError, ParseError

BOOT_NAME = "boot.json"
STOP_NAME = "stop.json"
_FILES = "files"
_AGAIN = "walk the stop again with `mmscope tour STOP --again`"


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """A command that ran in the guest."""

    argv: tuple[str, ...]
    status: int
    seconds: float
    stderr: str = ""


class BootEvidence:
    """What one guest showed; everything raises MissingInputError where it was not kept."""

    def __init__(self, path: Path) -> None:
        """The directory of a boot.

        Raises:
            CaptureError: it has no sound ``boot.json``.
        """
        self.path = path
        name = path / BOOT_NAME
        try:
            self.record: Mapping[str, Any] = json.loads(name.read_text(encoding="utf-8"))
            self.label = str(self.record["label"])
            self.release = str(self.record["release"])
            self.arch = str(self.record["arch"])
            self.cmdline = str(self.record.get("cmdline", ""))
            self.notes = tuple(map(str, self.record.get("notes", ())))
            self._commands = {
                str(key): Command(
                    argv=tuple(map(str, value["argv"])),
                    status=int(value["status"]),
                    seconds=float(value["seconds"]),
                    stderr=str(value.get("stderr", "")),
                )
                for key, value in self.record.get("commands", {}).items()
            }
        except OSError as error:
            raise CaptureError(f"{name}: {error.strerror}", fix=_AGAIN) from None
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise CaptureError(
                f"{name}: not the record of a boot ({type(error).__name__}: {error})", fix=_AGAIN
            ) from None
        self._snapshots: dict[str, Snapshot] = {}

    def text(self, name: str) -> str:
        """What was kept as ``NAME.txt``: a command's output."""
        return self._bytes(f"{name}.txt").decode("utf-8", "surrogateescape")

    def json(self, name: str) -> Any:
        """What was kept as ``NAME.json``.

        Raises:
            ParseError: it is no JSON.
        """
        text = self._bytes(f"{name}.json").decode("utf-8", "replace")
        try:
            return json.loads(text)
        except ValueError as error:
            raise ParseError(f"{name}.json", 0, str(error), "JSON", release=self.release) from None

    def data(self, name: str) -> bytes:
        """What was kept under a file name with its ending."""
        return self._bytes(name)

    def file(self, path: str) -> str:
        """The text of a file of the guest by its absolute path: ``/proc/zoneinfo``."""
        return self.file_data(path).decode("utf-8", "surrogateescape")

    def file_data(self, path: str) -> bytes:
        """The bytes of a file of the guest by its absolute path."""
        return self._bytes(f"{_FILES}/{path.lstrip('/')}")

    def files(self, pattern: str = "**/*") -> tuple[str, ...]:
        """Absolute paths of the guest's files that were read and match a glob pattern."""
        root = self.path / _FILES
        found = root.glob(pattern.lstrip("/"))
        return tuple(sorted(f"/{path.relative_to(root)}" for path in found if path.is_file()))

    def has(self, name: str) -> bool:
        """Whether something was kept by this path below the boot's directory."""
        return (self.path / name).exists()

    def command(self, name: str) -> Command:
        """The command that printed ``NAME.txt``."""
        if name not in self._commands:
            raise MissingInputError(f"the command {name!r} of the boot {self.label!r}")
        return self._commands[name]

    def snapshot(self, name: str = "capture") -> Snapshot:
        """A capture that was taken, opened once.

        Raises:
            CaptureError: it is not there, or no capture.
        """
        if name not in self._snapshots:
            self._snapshots[name] = Snapshot(open_source(self.path / name))
        return self._snapshots[name]

    @cached_property
    def boot_s(self) -> float:
        """How long the guest took to come up."""
        return float(self.record.get("boot_s", 0.0))

    def _bytes(self, name: str) -> bytes:
        try:
            return (self.path / name).read_bytes()
        except OSError:
            raise MissingInputError(f"{name} of the boot {self.label!r}") from None


@dataclass(frozen=True, slots=True, kw_only=True)
class StopEvidence:
    """All boots of a stop, by label in the order in which they were made."""

    name: str
    boots: Mapping[str, BootEvidence]

    def boot(self, label: str = "main") -> BootEvidence:
        """One of them.

        Raises:
            MissingInputError: there is no such boot.
        """
        if label not in self.boots:
            raise MissingInputError(f"the boot {label!r} of the stop {self.name}")
        return self.boots[label]


def open_stop(name: str, path: Path) -> StopEvidence:
    """The evidence of a stop in its directory, one boot a subdirectory.

    Boots are in the order in which they were made where ``stop.json`` tells it, else by name.

    Raises:
        CaptureError: there is no boot, or one that cannot be read.
    """
    found = [BootEvidence(file.parent) for file in sorted(path.glob(f"*/{BOOT_NAME}"))]
    order = _labels(path)
    found.sort(key=lambda boot: order.index(boot.label) if boot.label in order else len(order))
    boots = {boot.label: boot for boot in found}
    if not boots:
        raise CaptureError(f"{path}: no boot of the stop {name} here", fix=_AGAIN)
    return StopEvidence(name=name, boots=MappingProxyType(boots))


def _labels(path: Path) -> list[str]:
    try:
        return list(map(str, json.loads((path / STOP_NAME).read_text(encoding="utf-8"))["labels"]))
    except (OSError, ValueError, KeyError, TypeError):
        return []
