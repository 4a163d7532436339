"""Tracing a guest, window by window.

::

    with TraceSession(guest, run) as trace:
        trace.begin("03-anon")         # recording is on when this returns
        ...                            # memory sample, load, memory sample
        record = trace.end()           # drained to the end, written to trace/03-anon

Set-up and take-down start programs in the guest; between ``begin`` and ``end`` nothing is
started there: the reader is told what to do over its port.
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Protocol

from harness.deadline import Deadline, StallClock
from harness.errors import MmscopeError, SessionError
from harness.record.rundir import RunDirectory, disk_errors
from harness.record.trace import TraceRecord, write_formats, write_trace_record
from harness.sampling.trace import instance
from harness.sampling.trace.events import EVENTS
from harness.sampling.trace.instance import Counters
from harness.sampling.trace.preparation import (
    BUFFER_KB,
    Preparation,
    TracedAgent,
    prepare_trace,
)
from harness.sampling.trace.probes import ALWAYS
from harness.sampling.trace.reader import Reader
from harness.sampling.trace.receiver import Received, TraceReceiver
from harness.sampling.trace.summary import probe_records, summarise
from harness.sampling.trace.symbols import probes_of
from harness.session.vitals import Vitals

PERIOD_MS = 20
"""How often the reader looks. At 100,000 events a second that finds 15 sub-buffers."""

_STALL_S = 60.0
_CEILING_S = 600.0
_LAST_WORDS_S = 5.0


class _Vitals(Vitals, Protocol):
    def add_pulse(self, counter: Callable[[], int]) -> None: ...


class _Machine(Protocol):
    @property
    def trace(self) -> socket.socket: ...


class TracedGuest(Protocol):
    """What this needs of a guest (``harness.session.guest.Guest``)."""

    @property
    def agent(self) -> TracedAgent: ...

    @property
    def vitals(self) -> _Vitals: ...

    @property
    def machine(self) -> _Machine: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class _Window:
    name: str
    groups: tuple[str, ...]
    received: Received
    reader: Reader
    before: Counters


class TraceSession:
    """Traces a guest in windows; see the module.

    ``groups`` are the groups of probes that windows may ask for (``probes.GROUPS``), ``events``
    the tracepoints; ``buffer_kb`` is the size of each CPU's ring. A guest that was prepared
    before it was saved is traced by ``on_clone``.
    """

    def __init__(
        self,
        guest: TracedGuest,
        run: RunDirectory,
        *,
        groups: Sequence[str] = ALWAYS,
        events: Sequence[str] = EVENTS,
        buffer_kb: int = BUFFER_KB,
        period_ms: int = PERIOD_MS,
    ) -> None:
        self._guest = guest
        self._agent = guest.agent
        self._run = run
        self._groups = tuple(groups)
        self._events = tuple(events)
        self._buffer_kb = buffer_kb
        self._period_ms = period_ms
        self._window: _Window | None = None
        self._given: Preparation | None = None

    @classmethod
    def on_clone(
        cls,
        guest: TracedGuest,
        run: RunDirectory,
        preparation: Preparation,
        *,
        period_ms: int = PERIOD_MS,
    ) -> TraceSession:
        """A session on a guest in which all is there already: it sets up and takes down nothing."""
        session = cls(guest, run, groups=preparation.groups, period_ms=period_ms)
        session._given = preparation
        return session

    def __enter__(self) -> TraceSession:
        """Defines probes and makes the rings.

        Raises:
            SessionError: the guest has no tracefs, or it does not do what it should.
        """
        self._there = self._given or prepare_trace(
            self._agent, groups=self._groups, events=self._events, buffer_kb=self._buffer_kb
        )
        self._enabled = self._groups
        self._receiver = TraceReceiver(self._guest.machine.trace)
        self._guest.vitals.add_pulse(lambda: self._receiver.received_bytes)
        return self

    def begin(self, window: str, *, groups: Sequence[str] | None = None) -> str:
        """Switches recording on; the window's directory, relative to the run's.

        ``window`` names it below ``trace/``. ``groups`` are those of the session by default, and
        may be fewer.

        Raises:
            SessionError: a window is open already, or the reader did not start.
            GuestTimeoutError, KernelCrashError, LostMachineError: the guest is gone.
            RecordError: there is such a window already.
        """
        if self._window is not None:
            raise SessionError(f"window {self._window.name} is still open")
        wanted = self._groups if groups is None else tuple(groups)
        self._enable(wanted)
        path = self._run.trace_path / window
        with disk_errors(path):
            path.mkdir(parents=True)
        write_formats(path, self._there.formats)
        before = instance.read_counters(self._agent)
        received = self._receiver.open_window(path)
        reader = Reader(self._agent, window, self._period_ms)
        self._window = _Window(
            name=window, groups=wanted, received=received, reader=reader, before=before
        )
        try:
            self._wait(lambda: bool(received.marks) or reader.ended, "start")
        except MmscopeError as error:
            self._abandon(error.message)
            raise
        if not received.marks:
            why = reader.complaint() or "; ".join(received.problems) or "it said nothing"
            self._abandon("the reader did not start")
            raise SessionError(f"the trace reader did not start: {why}")
        return path.relative_to(self._run.path).as_posix()

    def check(self) -> None:
        """Raises SessionError when the open window's trace is known to be incomplete already."""
        window = self._opened()
        problems = list(window.received.problems)
        if window.reader.ended:
            problems.append(f"the reader {window.reader.complaint() or 'is gone'}")
        if problems:
            raise SessionError(f"the trace of {window.name} is broken: {'; '.join(problems)}")

    def mark(self, text: str) -> None:
        """Puts a line into the trace, and returns when it is there.

        Raises:
            SessionError: no window is open, or its reader is gone.
        """
        window = self._opened()
        assert "\n" not in text
        before = len(window.received.marks)
        self._receiver.send(f"mark {window.name} {text}")
        self._wait(lambda: len(window.received.marks) > before or window.reader.ended, "mark")
        if len(window.received.marks) == before:
            raise SessionError(f"mark {text!r} is not in the trace: the reader is gone")

    def end(self) -> TraceRecord:
        """Switches recording off, drains what is left, and writes the window's record.

        A trace that is not whole says so in the record (``complete``, ``problems``).

        Raises:
            SessionError: no window is open, or the guest no longer answers.
            GuestTimeoutError, KernelCrashError, LostMachineError: the guest is gone. The record
                is written all the same, and says why it is incomplete.
        """
        window = self._opened()
        received, reader = window.received, window.reader
        early = reader.ended
        try:
            with contextlib.suppress(SessionError):
                self._receiver.send(f"stop {window.name}")
            self._wait(lambda: reader.ended, "end")
            # It has ended; what it wrote last may still be under way.
            last = Deadline(_LAST_WORDS_S)
            self._wait(
                lambda: received.end is not None or received.damaged or last.expired, "last words"
            )
            after = instance.read_counters(self._agent)
        except MmscopeError as error:
            self._abandon(error.message)
            raise
        if early:
            received.problems.append("reader: it ended before the window did")
        elif not reader.ended:
            received.problems.append("trace port: it was closed while the reader was at work")
            reader.give_up()
        return self._finish(window, after)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._window is not None:
            if isinstance(error, Exception) or kind is None:
                with contextlib.suppress(MmscopeError):
                    self.end()
            if self._window is not None:
                self._abandon("the run was broken off")
        try:
            with contextlib.ExitStack() as stack:
                if kind is not None:
                    stack.enter_context(contextlib.suppress(MmscopeError))
                if self._given is None:
                    instance.take_down(self._agent)
        finally:
            self._receiver.close()

    def _opened(self) -> _Window:
        if self._window is None:
            raise SessionError("no window is open")
        return self._window

    def _wait(self, until: Callable[[], bool], what: str) -> None:
        clock = StallClock(_STALL_S, _CEILING_S)
        self._receiver.wait(until, f"tracing ({what})", self._guest.vitals, clock)

    def _enable(self, groups: tuple[str, ...]) -> None:
        probes_of(groups)
        beyond = set(groups) - set(self._groups)
        if beyond:
            raise SessionError(f"this session defines no probes of {', '.join(sorted(beyond))}")
        if groups == self._enabled:
            return
        names = {probe.name for probe in probes_of(groups)}
        instance.enable(
            self._agent,
            on=[name for name in self._there.set_probes if name in names],
            off=[name for name in self._there.set_probes if name not in names],
        )
        self._enabled = groups

    def _abandon(self, why: str) -> None:
        window = self._opened()
        window.received.problems.append(why)
        window.reader.give_up()
        self._finish(window, None)

    def _finish(self, window: _Window, after: Counters | None) -> TraceRecord:
        self._window = None
        self._receiver.close_window()
        probes = {probe.name for probe in probes_of(window.groups)}
        record = summarise(
            window.name,
            setup=self._there.setup,
            probes=probe_records(
                [probe for probe in self._there.planned if probe.name in probes],
                errors=self._there.setup.probe_errors,
                before=window.before,
                after=after,
            ),
            received=window.received,
            complaint=window.reader.complaint(),
            before=window.before,
            after=after,
        )
        write_trace_record(window.received.path, record)
        return record
