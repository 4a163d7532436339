"""What memblock says of itself in the kernel's messages.

Kernel: mm/memblock.c. With ``memblock=debug`` each call that adds, removes, reserves or frees is
printed by ``memblock_dbg`` as ``FUNCTION: [0xFIRST-0xLAST]``, ``nid=`` and ``flags=`` where the
call has them, and the caller; ``__memblock_dump_all`` prints all regions under ``MEMBLOCK
configuration:``. Calls before the parameter was read are not printed, nor are those that set a
node or a flag.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from analysis.errors import ParseError
from analysis.procfs import dmesg

_HEX = "0x([0-9a-f]{1,16})"
_CALL = re.compile(
    rf"(_*memblock_[a-z_]+): \[{_HEX}-{_HEX}\](?: nid=(-?\d+))?(?: flags[= ](?:0x)?([0-9a-f]+))?"
    r"(?: (\S.*))?$"
)
_CALL_HEAD = re.compile(r"_*memblock_[a-z_]+: \[")
_DUMP = "MEMBLOCK configuration:"
_SIZES = re.compile(rf"\s*memory size = {_HEX} reserved size = {_HEX}$")
_COUNT = re.compile(rf"\s*(\w+)\.cnt\s+= {_HEX}$")
_REGION = re.compile(
    rf"\s*(\w+)\[{_HEX}\]\s*\[{_HEX}-{_HEX}\], {_HEX} bytes(?: on node (\d+))? flags: "
    r"(?:0x)?([0-9a-f]+)$"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class MemblockCall:
    """One printed call; ``end`` is the first address after it (``base`` where it is empty)."""

    at: int
    """Index of the message in the log."""
    function: str
    base: int
    end: int
    node: int | None
    flags: int
    caller: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LoggedRegion:
    base: int
    end: int
    node: int | None
    flags: int


@dataclass(frozen=True, slots=True, kw_only=True)
class MemblockDump:
    """One ``MEMBLOCK configuration``."""

    at: int
    memory_bytes: int
    """The sum that memblock keeps beside its regions."""
    reserved_bytes: int
    memory: tuple[LoggedRegion, ...]
    reserved: tuple[LoggedRegion, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class MemblockLog:
    """All of it, in the order printed."""

    events: tuple[MemblockCall | MemblockDump, ...]

    @property
    def dumps(self) -> tuple[MemblockDump, ...]:
        return tuple(event for event in self.events if isinstance(event, MemblockDump))


def parse(text: str, *, source: str = "dmesg") -> MemblockLog:
    """The calls and dumps among the kernel's messages; none where it was not asked to print them.

    Raises:
        ParseError: a call or a dump that is cut short, or whose regions are not as many as it says.
    """
    messages = enumerate(message.text for message in dmesg.parse(text, source=source).messages)
    events: list[MemblockCall | MemblockDump] = []
    for at, line in messages:
        if line == _DUMP:
            events.append(_dump(at, messages, source))
        elif match := _CALL.match(line):
            base = int(match[2], 16)
            node = None if match[4] is None else int(match[4])
            events.append(
                MemblockCall(
                    at=at,
                    function=match[1],
                    base=base,
                    end=_end(base, match[3]),
                    node=node if node is not None and node >= 0 else None,
                    flags=int(match[5] or "0", 16),
                    caller=match[6] or "",
                )
            )
        elif _CALL_HEAD.match(line):
            raise ParseError(source, at + 1, line, "'FUNCTION: [0xFIRST-0xLAST] CALLER'")
    return MemblockLog(events=tuple(events))


def _end(base: int, last: str) -> int:
    """First address after a range. The size may be as good as endless: the last address is then
    printed below the base, and memblock_cap_size() cuts the range at the top of the addresses."""
    top = 1 << 4 * len(last)
    size_bytes = (int(last, 16) - base + 1) % top
    return min(base + size_bytes, top - 1)


def _dump(at: int, messages: Iterator[tuple[int, str]], source: str) -> MemblockDump:
    number, line = next(messages, (at, ""))
    sizes = _SIZES.match(line)
    if sizes is None:
        raise ParseError(source, number + 1, line, "' memory size = 0x… reserved size = 0x…'")
    lists: dict[str, tuple[LoggedRegion, ...]] = {}
    for kind in ("memory", "reserved"):
        number, line = next(messages, (number, ""))
        count = _COUNT.match(line)
        if count is None or count[1] != kind:
            raise ParseError(source, number + 1, line, f"' {kind}.cnt  = 0x…'")
        regions: list[LoggedRegion] = []
        for index in range(int(count[2], 16)):
            number, line = next(messages, (number, ""))
            match = _REGION.match(line)
            if match is None or match[1] != kind or int(match[2], 16) != index:
                raise ParseError(source, number + 1, line, f"' {kind}[{index:#x}] [0x…-0x…], …'")
            if regions and int(match[3], 16) < regions[-1].end:
                raise ParseError(source, number + 1, line, "a region behind the one before")
            regions.append(
                LoggedRegion(
                    base=int(match[3], 16),
                    end=int(match[4], 16) + 1,
                    node=None if match[6] is None else int(match[6]),
                    flags=int(match[7], 16),
                )
            )
        lists[kind] = tuple(region for region in regions if region.end > region.base)
    return MemblockDump(
        at=at,
        memory_bytes=int(sizes[1], 16),
        reserved_bytes=int(sizes[2], 16),
        memory=lists["memory"],
        reserved=lists["reserved"],
    )
