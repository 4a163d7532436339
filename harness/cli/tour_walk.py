"""The stops of a tour walked, each in a process of its own."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from harness.cli.terminal import TerminalProgress
from harness.cli.tour_boot import prepare_stops
from harness.cli.tour_kernel import OtherKernel
from harness.kernel.own import NO_FILES
from harness.mortal import mortal
from harness.tour.record import StopRecord
from harness.tour.runner import walk_all
from harness.tour.stop import Stop
from harness.tour.tours import State, Tour
from harness.tour.walk import failed_record


@dataclass(frozen=True, slots=True, kw_only=True)
class TourWalk:
    """Where stops are walked to, and how."""

    tour: Tour
    other: OtherKernel | None
    """The kernel that the stops were moved to, if they were."""
    build: bool
    accel: str | None
    progress: TerminalProgress

    def walk(self, stops: Sequence[Stop], *, jobs: int, again: bool) -> None:
        """Walks those that are not done, ``jobs`` at a time; all of them when ``again``.

        What goes wrong with a stop is in its record.

        Raises:
            KeyboardInterrupt: after the stops under way were ended.
            DiskFullError, RecordError: a record cannot be written.
        """
        stage = self.progress.stage
        wanted = [stop for stop in stops if again or self.tour.state(stop) is not State.DONE]
        if done_before := len(stops) - len(wanted):
            stage(f"{done_before} walked already in {self.tour.path}; --again walks anew")
        if not wanted:
            return
        ready = self._ready(wanted)
        done = 0

        def ended(stop: Stop, record: StopRecord) -> None:
            nonlocal done
            done += 1
            said = record.complaint or f"walked in {record.seconds:.0f} s"
            stage(f"{stop.name}: {said} ({done} of {len(ready)})")

        walk_all(
            ready,
            self.tour,
            self._start,
            jobs=jobs,
            begun=lambda stop: stage(stop.name),
            ended=ended,
        )

    def _ready(self, wanted: Sequence[Stop]) -> list[Stop]:
        """Those whose kernels and images are there now; the others are recorded as failed."""
        self.progress.stage("kernels and guest images")
        files = self.other.files if self.other else NO_FILES
        lacking = prepare_stops(wanted, build=self.build, note=self.progress.note, files=files)
        ready = []
        for stop in wanted:
            error = lacking.get(stop.name)
            if error is None:
                ready.append(stop)
                continue
            self.tour.install(stop, self.tour.draft(stop), failed_record(stop, error))
            self.progress.stage(f"{stop.name}: {error.message}")
        return ready

    def _start(self, stop: Stop) -> subprocess.Popen[bytes]:
        argv = [sys.executable, "-m", "harness", "tour-stop", stop.name, str(self.tour.path)]
        argv += self.other.options() if self.other else []
        argv += ["--accel", self.accel] if self.accel else []
        log = self.tour.log_path(stop)
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("wb") as output:
            # In a session of its own: a Ctrl-C reaches us alone, and we end it in order.
            return subprocess.Popen(
                mortal(argv),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
