"""Walking many stops, a few at a time, each in a process of its own."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from harness.errors import GuestTimeoutError, InfrastructureError, RecordError
from harness.mortal import Endable, end_all
from harness.tour.record import STOP_NAME, StopRecord, write_record
from harness.tour.stop import Stop
from harness.tour.tours import Tour
from harness.tour.walk import failed_record

STOP_LIMIT_S = 900.0
"""A stop takes a minute or two; on a busy host ten times as long. Then its process is ended."""

_POLL_S = 0.1
_LOG_LINES = 12
_AGAIN = "walk it again with --again"


@dataclass(slots=True)
class _Under:
    stop: Stop
    walker: Endable
    end_s: float
    before: StopRecord | None


def walk_all(
    stops: Sequence[Stop],
    tour: Tour,
    start: Callable[[Stop], Endable],
    *,
    jobs: int,
    begun: Callable[[Stop], None] = lambda _: None,
    ended: Callable[[Stop, StopRecord], None] = lambda _stop, _record: None,
    limit_s: float = STOP_LIMIT_S,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Walks the stops in order, ``jobs`` at a time; each ends with a record in the tour.

    Raises:
        KeyboardInterrupt: after every process under way was ended, its guest with it.
    """
    waiting = list(stops)
    under: list[_Under] = []
    try:
        while waiting or under:
            while waiting and len(under) < jobs:
                stop = waiting.pop(0)
                begun(stop)
                before = _record(tour, stop)
                under.append(_Under(stop, start(stop), clock() + limit_s, before))
            for each in list(under):
                status = each.walker.poll()
                if status is None and clock() >= each.end_s:
                    end_all([each.walker], clock=clock, sleep=sleep)
                    record = _overdue(tour, each, limit_s)
                elif status is None:
                    continue
                else:
                    record = _of_ended(tour, each, status)
                under.remove(each)
                ended(each.stop, record)
            if under:
                sleep(_POLL_S)
    finally:
        end_all([each.walker for each in under], clock=clock, sleep=sleep)


def _of_ended(tour: Tour, each: _Under, status: int) -> StopRecord:
    """What a process that has ended recorded, or a record of its having left none."""
    record = _record(tour, each.stop)
    if record is not None and record != each.before:
        return record
    log = tour.log_path(each.stop)
    details = {}
    if log.is_file():
        lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
        details["it said"] = "\n".join(lines[-_LOG_LINES:])
    error = InfrastructureError(
        f"the stop left no record: its process ended with status {status}",
        details=details,
        fix=_AGAIN,
    )
    record = failed_record(each.stop, error)
    tour.install(each.stop, tour.draft(each.stop), record)
    return record


def _overdue(tour: Tour, each: _Under, limit_s: float) -> StopRecord:
    """The same for a process that had to be ended; what it gathered is left as it is."""
    error = GuestTimeoutError(f"not through after {limit_s:.0f} s, and ended", fix=_AGAIN)
    record = failed_record(each.stop, error)
    found = _record(tour, each.stop)
    if found is not None and found != each.before:
        write_record(tour.stop_path(each.stop) / STOP_NAME, record)
    else:
        tour.install(each.stop, tour.draft(each.stop), record)
    return record


def _record(tour: Tour, stop: Stop) -> StopRecord | None:
    try:
        return tour.record(stop)
    except RecordError:
        return None
