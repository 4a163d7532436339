"""The directory of a tour: which stops it has, and where each belongs."""

from __future__ import annotations

import datetime
import os
import shutil
import tempfile
from enum import Enum
from pathlib import Path

from harness.errors import RecordError, UsageError
from harness.record.rundir import disk_errors
from harness.tour.record import STOP_NAME, StopRecord, read_stop_record, write_record
from harness.tour.stop import Stop

DEFAULT_TOURS = Path("tours")
_STOPS = "stops"
_LOGS = "logs"
_ATTEMPTS = 1000


class State(Enum):
    """What a tour knows of a stop."""

    ABSENT = "not walked"
    DONE = "walked"
    STALE = "changed since it was walked"
    FAILED = "failed"


class Tour:
    """One tour; its stops may be walked by several processes, each of which installs its own."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    def create(cls, root: Path) -> Tour:
        """A new one below ``root``, named by the time.

        Raises:
            DiskFullError, RecordError: it cannot be made.
        """
        stamp = datetime.datetime.now(datetime.UTC).strftime("%Y%m%dT%H%M%SZ")
        with disk_errors(root):
            for attempt in range(_ATTEMPTS):
                tour = cls(root / (f"{stamp}.{attempt}" if attempt else stamp))
                try:
                    tour.stops_path.mkdir(parents=True)
                except FileExistsError:
                    continue
                return tour
        raise RecordError(f"{root}: a thousand tours named {stamp} exist already")

    @classmethod
    def newest(cls, root: Path) -> Tour | None:
        """The newest tour below ``root``, if there is one."""
        found = sorted(path.parent for path in root.glob(f"*/{_STOPS}") if path.is_dir())
        return cls(found[-1]) if found else None

    @classmethod
    def open(cls, path: Path) -> Tour:
        """The tour at a path.

        Raises:
            UsageError: there is none.
        """
        tour = cls(path)
        if not tour.stops_path.is_dir():
            raise UsageError(
                f"{path}: not a tour: no directory {_STOPS} in it",
                fix="name a directory below the one that --tours names",
            )
        return tour

    @property
    def stops_path(self) -> Path:
        return self.path / _STOPS

    def stop_path(self, stop: Stop) -> Path:
        """Where the evidence of a stop lies."""
        return self.stops_path / stop.directory

    def log_path(self, stop: Stop) -> Path:
        """What the process that walked a stop said."""
        return self.path / _LOGS / f"{stop.directory}.log"

    def record(self, stop: Stop) -> StopRecord | None:
        """What is recorded of a stop, or None.

        Raises:
            RecordError: the record is damaged.
        """
        return read_stop_record(self.stop_path(stop))

    def state(self, stop: Stop) -> State:
        """Whether a stop is to be walked; a damaged record is as good as none."""
        try:
            record = self.record(stop)
        except RecordError:
            return State.ABSENT
        if record is None:
            return State.ABSENT
        if record.complaint:
            return State.FAILED
        return State.DONE if record.definition == stop.digest() else State.STALE

    def draft(self, stop: Stop) -> Path:
        """A directory to gather in; ``install`` puts it in its place.

        Drafts of processes that are gone are removed.
        """
        with disk_errors(self.path):
            self.stops_path.mkdir(parents=True, exist_ok=True)
            for left in self.stops_path.glob(f".{stop.directory}~*~*"):
                pid = left.name.split("~")[1]
                if not Path(f"/proc/{pid}").exists():
                    shutil.rmtree(left, ignore_errors=True)
            draft = self._scratch(stop)
            draft.chmod(0o755)
        return draft

    def install(self, stop: Stop, draft: Path, record: StopRecord) -> None:
        """Ends a draft with its record and puts it where the stop's evidence belongs.

        Raises:
            DiskFullError, RecordError.
        """
        write_record(draft / STOP_NAME, record)
        place = self.stop_path(stop)
        with disk_errors(place):
            old = Path(
                tempfile.mkdtemp(prefix=f".{stop.directory}~{os.getpid()}~", dir=place.parent)
            )
            try:
                if place.exists():
                    os.replace(place, old / "old")
                os.replace(draft, place)
            finally:
                shutil.rmtree(old, ignore_errors=True)

    def _scratch(self, stop: Stop) -> Path:
        prefix = f".{stop.directory}~{os.getpid()}~"
        return Path(tempfile.mkdtemp(prefix=prefix, dir=self.stops_path))
