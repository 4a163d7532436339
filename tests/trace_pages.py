"""Writes ring-buffer sub-buffers as a kernel does, from the documented layout.

An encoder of its own, sharing nothing with the decoder under test: Python integers, one event
at a time, the rules in the order in which a writing kernel applies them.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass, field

PAGE_BYTES = 4096
HEADER_BYTES = 16
CAPACITY = PAGE_BYTES - HEADER_BYTES
_DELTA_BITS = 27

HEADER_PAGE = """\
\tfield: u64 timestamp;\toffset:0;\tsize:8;\tsigned:0;
\tfield: local_t commit;\toffset:8;\tsize:8;\tsigned:1;
\tfield: int overwrite;\toffset:8;\tsize:1;\tsigned:1;
\tfield: char data;\toffset:16;\tsize:4080;\tsigned:1;
"""
HEADER_PAGE_32 = """\
\tfield: u64 timestamp;\toffset:0;\tsize:8;\tsigned:0;
\tfield: local_t commit;\toffset:8;\tsize:4;\tsigned:1;
\tfield: int overwrite;\toffset:8;\tsize:1;\tsigned:1;
\tfield: char data;\toffset:12;\tsize:4084;\tsigned:0;
"""
HEADER_EVENT = """\
# compressed entry header
\ttype_len    :    5 bits
\ttime_delta  :   27 bits
\tarray       :   32 bits

\tpadding     : type == 29
\ttime_extend : type == 30
\ttime_stamp : type == 31
\tdata max type_len  == 28
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """An event to be written."""

    counter: int
    record: bytes
    absolute: bool = False
    """Carries its whole time stamp, like one that interrupted another's reservation."""
    discarded: bool = False
    """Was given up after other events had followed it."""


@dataclass(slots=True)
class RingWriter:
    """One CPU's ring. ``pages()`` is what a reader gets of it."""

    long_bytes: int = 8
    align: int = 4
    """8 on architectures that want 64-bit values aligned: every record then has a length word."""
    _done: list[bytes] = field(default_factory=list)
    _data: bytearray = field(default_factory=bytearray)
    _stamp: int = 0
    _last: int = 0
    _missed: int | None = None

    @property
    def last(self) -> int:
        """Counter of the event written last; 0 before the first."""
        return self._last

    @property
    def capacity(self) -> int:
        return PAGE_BYTES - 8 - self.long_bytes

    def write(self, event: Written) -> None:
        body = _body(event.record, self.align)
        delta = event.counter - self._last
        stamped = event.absolute or delta >= 1 << _DELTA_BITS
        if self._data and len(self._data) + len(body) + 8 * stamped > self.capacity:
            self.end_page()
        if not self._data:
            self._stamp, delta = event.counter, 0
            stamped = event.absolute
        if stamped:
            value = event.counter & (1 << 59) - 1 if event.absolute else delta
            low, high = value & (1 << _DELTA_BITS) - 1, value >> _DELTA_BITS
            self._data += struct.pack("<II", (31 if event.absolute else 30) | low << 5, high)
            delta = 0
        if event.discarded:
            self._data += struct.pack("<II", 29 | max(delta, 1) << 5, len(body) - 4)
            self._data += body[8:]
        else:
            head = struct.unpack_from("<I", body)[0]
            self._data += struct.pack("<I", head | delta << 5) + body[4:]
        self._last = event.counter

    def miss(self, count: int) -> None:
        """Before the page that is being written, ``count`` events were overwritten."""
        self._missed = count

    def end_page(self, *, padded: bool = False) -> None:
        """Goes on to the next page; ``padded``: the rest of this one is an event of padding."""
        if not self._data:
            return
        size = len(self._data)
        if padded and self.capacity - size >= 8:
            self._data += struct.pack("<II", 29 | 1 << 5, self.capacity - size - 4)
            self._data += bytes(self.capacity - len(self._data))
            size = self.capacity
        commit = size
        data = bytes(self._data)
        if self._missed is not None:
            commit -= 1 << 31
            count = self._missed.to_bytes(self.long_bytes, "little")
            if self.capacity - size >= self.long_bytes:
                commit += 1 << 30
                data += count
        head = struct.pack("<Q", self._stamp) + commit.to_bytes(
            self.long_bytes, "little", signed=True
        )
        self._done.append((head + data).ljust(PAGE_BYTES, b"\0"))
        self._data = bytearray()
        self._missed = None

    def read_so_far(self) -> None:
        """A reader takes what is on the page; what comes then continues from its last stamp."""
        self.end_page()
        self._stamp = self._last

    def write_on(self, event: Written) -> None:
        """Writes the first event behind what ``read_so_far`` took of the page."""
        body = _body(event.record, self.align)
        head = struct.unpack_from("<I", body)[0]
        delta = event.counter - self._last
        assert 0 <= delta < 1 << _DELTA_BITS
        self._data += struct.pack("<I", head | delta << 5) + body[4:]
        self._last = event.counter

    def pages(self) -> bytes:
        self.end_page()
        return b"".join(self._done)


def _body(record: bytes, align: int) -> bytes:
    """The event with a time delta of 0: header word, length word where one is needed, record."""
    if len(record) <= 112 and align == 4:
        payload = record.ljust(-(-max(len(record), 1) // 4) * 4, b"\0")
        if len(payload) == 8:  # 12 bytes in all would leave no room to discard it.
            payload = payload.ljust(12, b"\0")
        return struct.pack("<I", len(payload) // 4) + payload
    total = -(-(len(record) + 8) // align) * align
    return struct.pack("<II", 0, total - 4) + record.ljust(total - 8, b"\0")


def format_text(name: str, number: int, fields: Sequence[str]) -> str:
    """A format file; ``fields`` like ``unsigned long pfn;offset:8;size:8;signed:0``."""
    common = (
        "unsigned short common_type;offset:0;size:2;signed:0",
        "unsigned char common_flags;offset:2;size:1;signed:0",
        "unsigned char common_preempt_count;offset:3;size:1;signed:0",
        "int common_pid;offset:4;size:4;signed:1",
    )

    def line(text: str) -> str:
        return "\tfield:" + text.replace(";", ";\t") + ";\n"

    return (
        f"name: {name}\nID: {number}\nformat:\n"
        + "".join(map(line, common))
        + "\n"
        + "".join(map(line, fields))
        + '\nprint fmt: "", 0\n'
    )


PAGE_ALLOC = format_text(
    "mm_page_alloc",
    547,
    (
        "unsigned long pfn;offset:8;size:8;signed:0",
        "unsigned int order;offset:16;size:4;signed:0",
        "unsigned long gfp_flags;offset:24;size:8;signed:0",
        "int migratetype;offset:32;size:4;signed:1",
    ),
)
OPENED = format_text(
    "opened",
    1348,
    (
        "unsigned long __probe_ip;offset:8;size:8;signed:0",
        "__data_loc char[] name;offset:16;size:4;signed:1",
        "s8 dfd;offset:20;size:1;signed:1",
        "u16 pair[];offset:21;size:4;signed:0",
    ),
)
BARE = format_text("bare", 12, ())
BYTES = format_text("bytes", 13, ("__rel_loc u8[] data;offset:8;size:4;signed:0",))
PRINT = format_text(
    "print",
    5,
    ("unsigned long ip;offset:8;size:8;signed:0", "char buf[];offset:16;size:0;signed:0"),
)


def common(number: int, *, pid: int = 1, flags: int = 0, preempt_count: int = 0) -> bytes:
    return struct.pack("<HBBi", number, flags, preempt_count, pid)


def page_alloc(
    pfn: int, order: int = 0, gfp_flags: int = 0xCC0, migratetype: int = 0, *, pid: int = 1
) -> bytes:
    # The structure ends with 4 bytes that no field has.
    body = struct.pack("<QI4xQi4x", pfn, order, gfp_flags, migratetype)
    return common(547, pid=pid) + body


def opened(ip: int, name: bytes, dfd: int, pair: tuple[int, int]) -> bytes:
    fixed = struct.pack("<Q", ip) + struct.pack("<HH", 25, len(name) + 1)
    return common(1348) + fixed + struct.pack("<bHH", dfd, *pair) + name + b"\0"


def octets(data: bytes) -> bytes:
    return common(13) + struct.pack("<HH", 0, len(data)) + data


def printed(ip: int, text: bytes) -> bytes:
    return common(5) + struct.pack("<Q", ip) + text + b"\0"
