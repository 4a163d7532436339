"""The kernel's messages, as dmesg, ``dmesg -T`` or a journal prints them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

_STAMP = re.compile(r"(?:<\d+>)?\[ *(\d+\.\d+)\] ?(?:\[[ TC]*\d+\] )?")
_DATE = re.compile(r"(?:<\d+>)?\[\w{3} \w{3} [^\]]*\] ?")
_RUNS_INIT = re.compile(r"Run \S+ as init process$")
_WITH_INIT_MEMORY = ("Freeing ", "Write protecting", "NX-protecting")
"""What stands between the lines about init memory on x86."""
_ALLOCATOR_UP = re.compile(r"SLUB: HWalign=|Memory: \d+K/\d+K available")
"""Printed when memblock has handed over: the first thing that the slab allocator says, or the
``Memory:`` line where that comes before."""
_JOURNAL = re.compile(r"\w{3} [ \d]\d [\d:.]+ \S+ kernel: ")


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    time_s: float | None
    """Seconds since boot; None where the text has dates or no times."""
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Dmesg:
    messages: tuple[Message, ...]

    @property
    def whole(self) -> bool:
        """Whether the first message of the boot is there: the ring may have lost the oldest."""
        heads = ("Linux version ", "Booting Linux on physical CPU")
        return any(message.text.startswith(heads) for message in self.messages[:12])

    @property
    def reaches_init(self) -> bool:
        """Whether the messages go on to where the kernel has given back its init memory: what was
        handed over during boot is told of before."""
        over = False
        for message in self.messages:
            if _RUNS_INIT.match(message.text):
                return True
            if over and not message.text.startswith(_WITH_INIT_MEMORY):
                return True
            over = over or message.text.startswith("Freeing unused kernel")
        return False

    @property
    def reaches_allocator(self) -> bool:
        """Whether the messages go on to where memory was handed over to the page allocator: maps,
        nodes and zones are told of before."""
        return any(_ALLOCATOR_UP.match(message.text) for message in self.messages)

    @property
    def tells_layout(self) -> bool:
        """Whether what is there of maps, nodes and zones is not cut off at its end. Where the
        begin is lost up to behind the allocator's start, nothing is there."""
        return self.reaches_allocator or self.reaches_init

    def matching(self, pattern: re.Pattern[str]) -> Iterator[re.Match[str]]:
        """The matches of a pattern at the begin of a message, in order."""
        for message in self.messages:
            if match := pattern.match(message.text):
                yield match


def parse(text: str, *, source: str = "dmesg") -> Dmesg:
    """Every line as a message; lines of a journal that are not the kernel's are left out, and so
    are, where messages have times, a first and a last one of which only a part is there."""
    del source
    lines = text.splitlines()
    if len(lines) > 1 and _STAMP.match(lines[1]):
        if not text.endswith("\n"):
            lines.pop()
        if not _STAMP.match(lines[0]):
            lines.pop(0)
    journal = any(_JOURNAL.match(line) for line in lines[:200])
    messages = []
    for line in lines:
        if journal:
            match = _JOURNAL.match(line)
            if match:
                messages.append(Message(time_s=None, text=line[match.end() :]))
        elif match := _STAMP.match(line):
            messages.append(Message(time_s=float(match[1]), text=line[match.end() :]))
        else:
            dated = _DATE.match(line)
            messages.append(Message(time_s=None, text=line[dated.end() :] if dated else line))
    return Dmesg(messages=tuple(messages))
