"""Walking one stop: its boots in order, and a record however it ends."""

from __future__ import annotations

import contextlib
import datetime
import time
import traceback
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

from harness.errors import MmscopeError
from harness.tour.evidence import Evidence
from harness.tour.record import StopRecord
from harness.tour.stop import Stop, StopBoot
from harness.tour.tours import Tour

Booter = Callable[[StopBoot, Path], AbstractContextManager[Evidence]]
"""Boots a guest whose directory exists, and ends it."""

INTERRUPTED = "interrupted"
_GO_ON = "walk the tour again: it goes on here"
_EXIT_INFRASTRUCTURE = 3
_EXIT_INTERRUPTED = 130


def walk_stop(
    stop: Stop, tour: Tour, boot: Booter, *, stage: Callable[[str], None] = lambda _: None
) -> StopRecord:
    """Boots and gathers, and puts the evidence in its place with a record of how it went.

    What goes wrong is in the record (``complaint``, ``fix``) and is not raised.

    Raises:
        KeyboardInterrupt: after the record is written.
        DiskFullError, RecordError: not even the record can be written.
    """
    start_s = time.monotonic()
    draft = tour.draft(stop)
    record = StopRecord(
        name=stop.name,
        definition=stop.digest(),
        made=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        labels=[part.label for part in stop.boots],
        seconds=0.0,
    )
    try:
        for part in stop.boots:
            stage(f"{stop.name}: {part.label} ({part.arch}, {part.kernel})")
            directory = draft / part.label
            directory.mkdir()
            try:
                with boot(part, directory) as evidence:
                    part.gather(evidence)
            except MmscopeError as error:
                if len(stop.boots) > 1:
                    error.details.setdefault("boot", part.label)
                raise
    except MmscopeError as error:
        place = str(tour.stop_path(stop))
        details = {name: text.replace(str(draft), place) for name, text in error.details.items()}
        _complain(record, error.message, error.fix or "", details, error.exit_code)
    except KeyboardInterrupt:
        _complain(
            record, INTERRUPTED, "walk the tour again: it goes on here", {}, _EXIT_INTERRUPTED
        )
        with contextlib.suppress(MmscopeError):
            _end(stop, tour, draft, record, start_s)
        raise
    except Exception as error:  # noqa: BLE001 - a mistake in one stop must not end the tour
        details = {"traceback": traceback.format_exc(limit=-6).strip()}
        message = f"the stop is at fault: {type(error).__name__}: {error}"
        _complain(record, message, "report it", details, _EXIT_INFRASTRUCTURE)
    _end(stop, tour, draft, record, start_s)
    return record


def failed_record(stop: Stop, error: MmscopeError) -> StopRecord:
    """The record of a stop that could not even be begun."""
    record = StopRecord(
        name=stop.name,
        definition=stop.digest(),
        made=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        labels=[part.label for part in stop.boots],
        seconds=0.0,
    )
    _complain(record, error.message, error.fix or "", error.details, error.exit_code)
    return record


def _end(stop: Stop, tour: Tour, draft: Path, record: StopRecord, start_s: float) -> None:
    record.seconds = round(time.monotonic() - start_s, 1)
    tour.install(stop, draft, record)


def _complain(
    record: StopRecord, message: str, fix: str, details: dict[str, str], exit_code: int
) -> None:
    record.complaint = message
    record.fix = fix
    record.details = dict(details)
    record.exit_code = exit_code
