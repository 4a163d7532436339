"""A tracefs instance in the guest: set up and taken down by one small shell script each.

Scripts run between windows only; within one nothing is started in the guest. An instance of our
own keeps its rings and switches apart from the guest's; kprobe definitions alone are global, and
lie in a group of ours.

*Kernel:* kernel/trace/trace.c (instances, options, per_cpu/cpuN/stats), trace_kprobe.c
(kprobe_events, kprobe_profile), 6.1 to 7.3.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from harness.deadline import StallClock
from harness.errors import SessionError
from harness.sampling.trace.events import MARKER
from harness.sampling.trace.probes import GROUP
from harness.sampling.trace.symbols import PlannedProbe, parse_symbols
from harness.session.agent import ReadResult
from harness.session.protocol import CommandResult, Output

TRACEFS = "/sys/kernel/tracing"
INSTANCE = f"{TRACEFS}/instances/{GROUP}"
CLOCK = "counter"
"""One number for all CPUs, up by one an event: the order in which things happened."""

OPTIONS = ("irq-info", "norecord-cmd", "norecord-tgid", "overwrite", "nopause-on-trace")
"""irq-info: whether an event came from an interrupt. overwrite: when a ring is full its oldest
events go, and the ring says in which place; keeping the oldest would lose silently."""

_REMOVE_PROBES = (
    f"for probe in {TRACEFS}/events/{GROUP}/*/; do"
    f" probe=${{probe%/}}; [ ! -d $probe ] ||"
    f" echo -:{GROUP}/${{probe##*/}} >> {TRACEFS}/kprobe_events; done"
)
_SHELL = ("busybox", "sh", "-c")
_STALL_S = 120.0
_CEILING_S = 600.0
_STATS = re.compile(r"^([a-z ]+): *(\d+)$", re.MULTILINE)
_PROFILE = re.compile(r"^ *(\S+) +(\d+) +(\d+)$", re.MULTILINE)
_ERROR = re.compile(r"^\[[ .0-9]+\] (.*)$", re.MULTILINE)


class GuestFiles(Protocol):
    """What this needs of an agent."""

    def run(
        self,
        argv: Sequence[str],
        *,
        clock: StallClock | None = None,
        on_output: Output | None = None,
    ) -> CommandResult:
        """See ``Session.run``."""

    def read(self, patterns: Sequence[str]) -> ReadResult:
        """See ``AgentSession.read``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RingStats:
    """Counters of one CPU's ring since it was made."""

    overrun: int
    commit_overrun: int
    dropped_events: int
    read_events: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Counters:
    """What the kernel itself counted, at one moment."""

    rings: Mapping[int, RingStats]
    missed: Mapping[str, int]
    """Probe → hits lost since it was made."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    """What became of what was asked for."""

    events: tuple[str, ...]
    events_missing: tuple[str, ...]
    probe_errors: Mapping[str, str]
    """Probe → why the kernel refused it."""
    buffer_kb: int
    """Of each CPU's ring, as the kernel rounded it."""
    options_missing: tuple[str, ...]


def read_symbols(agent: GuestFiles, functions: Sequence[str]) -> frozenset[str]:
    """Which of these functions, or compiler-made copies of them, the kernel has.

    Raises:
        SessionError: /proc/kallsyms cannot be read.
    """
    wanted = [word for name in functions for word in ("-e", name)]
    answer = agent.run(["busybox", "grep", "-F", *wanted, "/proc/kallsyms"], clock=_clock())
    if answer.status not in (0, 1):
        raise _failed("looking up functions in /proc/kallsyms", answer)
    return parse_symbols(answer.stdout.decode(errors="replace"))


def setup_script(events: Sequence[str], probes: Iterable[PlannedProbe], buffer_kb: int) -> str:
    """Makes the instance, defines the probes, enables all, with recording still off.

    Prints ``missing EVENT``, ``refused PROBE``, ``option OPTION``, each followed by what the
    kernel said, and at the end ``buffer_kb N``.
    """
    lines = [
        f"cd {TRACEFS} && mkdir -p instances/{GROUP} && cd instances/{GROUP} || exit 1",
        "echo 0 > tracing_on || exit 1",
        "echo 0 > events/enable",
        _REMOVE_PROBES,  # of a session that could not end in order
        f"echo {CLOCK} > trace_clock || exit 1",
        f"echo {buffer_kb} > buffer_size_kb || exit 1",
        *(f"echo {name} > trace_options || echo option {name}" for name in OPTIONS),
    ]
    for event in events:
        lines.append(f"if [ -e events/{event}/enable ]; then echo 1 > events/{event}/enable")
        lines.append(f"else echo missing {event}; fi")
    lines += [
        f"if echo {shlex.quote(probe.definition)} >> {TRACEFS}/kprobe_events; then"
        f" echo 1 > events/{GROUP}/{probe.name}/enable || echo refused {probe.name};"
        f" else echo refused {probe.name}; tail -n 4 {TRACEFS}/error_log; fi"
        for probe in probes
        if probe.symbol is not None
    ]
    lines += [
        "echo > trace",
        'echo "buffer_kb $(cat per_cpu/cpu0/buffer_size_kb)"',
    ]
    return "exec 2>&1\n" + "\n".join(lines) + "\n"


def parse_setup(output: str, events: Sequence[str]) -> Setup:
    """Reads what ``setup_script`` printed.

    Raises:
        SessionError: it did not come to its end.
    """
    missing: list[str] = []
    options: list[str] = []
    errors: dict[str, str] = {}
    refused: str | None = None
    complaint = ""
    buffer_kb = 0
    for line in output.splitlines():
        word, _, rest = line.partition(" ")
        if word == "missing":
            missing.append(rest)
        elif word == "option":
            options.append(rest)
        elif word == "refused":
            refused = rest
            errors[refused] = complaint or "refused"
        elif word == "buffer_kb":
            buffer_kb = int(rest.split()[0])
        elif (match := _ERROR.match(line)) is not None and refused is not None:
            errors[refused] = match[1]
        else:
            complaint = line
    if not buffer_kb:
        raise SessionError(
            "tracefs could not be set up in the guest", details={"the guest said": output}
        )
    return Setup(
        events=tuple(event for event in events if event not in missing),
        events_missing=tuple(missing),
        probe_errors=errors,
        buffer_kb=buffer_kb,
        options_missing=tuple(options),
    )


def set_up(
    agent: GuestFiles, events: Sequence[str], probes: Sequence[PlannedProbe], buffer_kb: int
) -> Setup:
    """Runs the set-up script.

    Raises:
        SessionError: it failed; what the kernel lacks or refuses is in the answer instead.
    """
    answer = agent.run([*_SHELL, setup_script(events, probes, buffer_kb)], clock=_clock())
    if answer.status != 0:
        raise _failed("setting up tracefs", answer)
    return parse_setup(answer.stdout.decode(errors="replace"), events)


def enable(agent: GuestFiles, *, on: Iterable[str], off: Iterable[str]) -> None:
    """Switches probes of the instance on and off.

    Raises:
        SessionError: the kernel refused one.
    """
    switches = [*((name, 1) for name in on), *((name, 0) for name in off)]
    lines = [
        f"echo {value} > {INSTANCE}/events/{GROUP}/{name}/enable || exit 1"
        for name, value in switches
    ]
    answer = agent.run([*_SHELL, "exec 2>&1\n" + "\n".join(lines)], clock=_clock())
    if answer.status != 0:
        raise _failed("switching probes", answer)


def take_down(agent: GuestFiles) -> None:
    """Removes the instance and our probes.

    Raises:
        SessionError: something of it is still there.
    """
    lines = [
        "exec 2>&1",
        f"if [ -d {INSTANCE} ]; then cd {INSTANCE} || exit 1",
        "echo 0 > tracing_on; echo 0 > events/enable",
        f"cd /; rmdir {INSTANCE} || exit 1; fi",
        _REMOVE_PROBES,
        f"[ ! -d {TRACEFS}/events/{GROUP} ]",
    ]
    answer = agent.run([*_SHELL, "\n".join(lines)], clock=_clock())
    if answer.status != 0:
        raise _failed("taking down tracefs", answer)


def read_formats(agent: GuestFiles, setup: Setup, probes: Iterable[str]) -> dict[str, bytes]:
    """The kernel's descriptions: ``header_page``, ``kmem/mm_page_alloc/format`` …

    Raises:
        SessionError: one of them cannot be read.
    """
    events = [*setup.events, MARKER, *(f"{GROUP}/{name}" for name in probes)]
    wanted = ["header_page", "header_event", *(f"{event}/format" for event in events)]
    paths = {f"{TRACEFS}/events/{name}": name for name in wanted}
    result = agent.read(list(paths))
    formats = {paths[path]: text for path, text in result.files.items()}
    absent = [name for name in wanted if not formats.get(name)]
    if absent:
        raise SessionError(
            f"the guest has no description of {', '.join(absent)}",
            details={"the agent said": "\n".join(result.errors)} if result.errors else None,
        )
    return formats


def read_counters(agent: GuestFiles) -> Counters:
    """What rings and probes counted so far.

    Raises:
        SessionError: the instance has no rings, or their counters are not as expected.
    """
    result = agent.read([f"{INSTANCE}/per_cpu/cpu*/stats", f"{TRACEFS}/kprobe_profile"])
    rings: dict[int, RingStats] = {}
    missed: dict[str, int] = {}
    for path, content in result.files.items():
        text = content.decode(errors="replace")
        if path.endswith("/kprobe_profile"):
            missed = parse_profile(text)
        else:
            cpu = int(path.split("/")[-2].removeprefix("cpu"))
            rings[cpu] = parse_stats(text, path)
    if not rings:
        raise SessionError("the guest's trace instance has no rings", details=_said(result))
    return Counters(rings=rings, missed=missed)


def parse_stats(text: str, source: str) -> RingStats:
    """Raises SessionError naming ``source`` when a counter is not there."""
    values = {match[1]: int(match[2]) for match in _STATS.finditer(text)}
    try:
        return RingStats(
            overrun=values["overrun"],
            commit_overrun=values["commit overrun"],
            dropped_events=values["dropped events"],
            read_events=values["read events"],
        )
    except KeyError as error:
        raise SessionError(f"{source}: no counter {error}", details={"text": text}) from None


def parse_profile(text: str) -> dict[str, int]:
    """Probe → hits missed, from kprobe_profile (name, hits, misses a line)."""
    return {match[1]: int(match[3]) for match in _PROFILE.finditer(text)}


def _clock() -> StallClock:
    return StallClock(_STALL_S, _CEILING_S)


def _said(result: ReadResult) -> dict[str, str]:
    return {"the agent said": "\n".join(result.errors)} if result.errors else {}


def _failed(doing: str, answer: CommandResult) -> SessionError:
    said = (answer.stdout + answer.stderr).decode(errors="replace").strip()
    return SessionError(
        f"{doing} failed (status {answer.status})", details={"the guest said": said}
    )
