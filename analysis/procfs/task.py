"""/proc/PID/{stat,schedstat,status}: one task's account.

Kernel: fs/proc/array.c, do_task_stat and proc_pid_status; fs/proc/base.c, proc_pid_schedstat.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from analysis.procfs.scan import NUMBER, Reader

_STAT = re.compile(r"([0-9]{1,10}) \((.*)\) (\S)((?: -?[0-9]{1,20})+)$", re.DOTALL)
_STAT_FIRST = 4
"""``values[0]`` is field 4 as proc(5) counts."""
_STAT_FIELDS_MIN = 41
"""Up to ``policy``, there since 2.6; later kernels only added at the end."""
_SCHEDSTAT = re.compile(rf"{NUMBER} {NUMBER} {NUMBER}$")
_STATUS = re.compile(r"([^\s:]+):\s?(.*)$")


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskStat:
    pid: int
    comm: str
    state: str
    values: tuple[int, ...]
    """Fields 4, 5, … as printed."""

    @property
    def utime_ticks(self) -> int:
        """User time in clock ticks (USER_HZ)."""
        return self.values[14 - _STAT_FIRST]

    @property
    def stime_ticks(self) -> int:
        """System time in clock ticks (USER_HZ)."""
        return self.values[15 - _STAT_FIRST]


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedstat:
    """All three stay zero when the kernel keeps no scheduler information."""

    run_ns: int
    """Time on a cpu."""
    wait_ns: int
    """Time runnable but waiting for a cpu."""
    timeslices: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskStatus:
    fields: Mapping[str, str]
    """As printed, without the blanks around the value."""
    voluntary_ctxt_switches: int
    nonvoluntary_ctxt_switches: int


def parse_stat(text: str, *, source: str = "stat") -> TaskStat:
    """Fields of /proc/PID/stat; the command's name may hold blanks, brackets and newlines.

    Raises:
        ParseError: malformed, or fewer fields than any kernel prints.
    """
    reader = Reader(text, source)
    match = _STAT.match(text.removesuffix("\n"))
    if match is None:
        raise reader.error(reader.lines[0], "'PID (COMMAND) STATE' and numbers")
    values = tuple(map(int, match[4].split()))
    if len(values) + _STAT_FIRST - 1 < _STAT_FIELDS_MIN:
        raise reader.error(reader.lines[-1], f"at least {_STAT_FIELDS_MIN} fields")
    return TaskStat(pid=int(match[1]), comm=match[2], state=match[3], values=values)


def parse_schedstat(text: str, *, source: str = "schedstat") -> Schedstat:
    """The three numbers of /proc/PID/schedstat.

    Raises:
        ParseError: anything but one line of three numbers.
    """
    reader = Reader(text, source)
    match = _SCHEDSTAT.match(reader.lines[0].text)
    if match is None or len(reader.lines) != 1:
        raise reader.error(reader.lines[0], "one line of three numbers")
    return Schedstat(run_ns=int(match[1]), wait_ns=int(match[2]), timeslices=int(match[3]))


def parse_status(text: str, *, source: str = "status") -> TaskStatus:
    """Fields of /proc/PID/status.

    Raises:
        ParseError: a malformed line, a field twice, or no context switches: they stand at the
            end, so a text cut short lacks them.
    """
    reader = Reader(text, source)
    fields: dict[str, str] = {}
    for line in reader:
        match = _STATUS.match(line.text)
        if match is None:
            raise reader.error(line, "'Name:' and a value")
        if match[1] in fields:
            raise reader.error(line, f"the field {match[1]!r} once")
        fields[match[1]] = match[2].strip()
    switches = []
    for name in ("voluntary_ctxt_switches", "nonvoluntary_ctxt_switches"):
        value = fields.get(name, "")
        if re.fullmatch(NUMBER, value) is None:
            raise reader.missing(f"{name} with a number")
        switches.append(int(value))
    return TaskStatus(
        fields=fields,
        voluntary_ctxt_switches=switches[0],
        nonvoluntary_ctxt_switches=switches[1],
    )
