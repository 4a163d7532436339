"""tracefs' own descriptions of what its rings hold: ``events/**/format`` and the two headers.

A kernel describes each event once, in text: where every field of the record lies, how long it
is, whether it is signed. Nothing about an event is known here beforehand but where its type
stands; so events of any release, and kprobes made on the spot, are read alike.

*Kernel:* kernel/trace/trace_events.c, f_show (format files); kernel/trace/ring_buffer.c,
ring_buffer_print_page_header and ring_buffer_print_entry_header; the same from 5.10 to 7.3,
except that ``common_`` fields come and go.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from types import MappingProxyType

from analysis.errors import BundleError, ParseError

FORMAT_NAME = "format"
HEADER_PAGE = "header_page"
HEADER_EVENT = "header_event"

MAX_RECORD_BYTES = 1 << 16
"""No record is longer: dynamic fields address it with 16 bits."""

_ID_BYTES = 2


class Storage(Enum):
    """Where a field's bytes are."""

    INLINE = "inline"
    DATA_LOC = "__data_loc"
    """A 32-bit word at the field's place: offset from the start of the record in the low half,
    length in bytes in the high half."""
    REL_LOC = "__rel_loc"
    """The same, but the offset counts from the end of that word."""
    TAIL = "tail"
    """From the field's offset to the end of the record."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """One member of a record."""

    name: str
    type: str
    """C type without storage words and brackets: ``unsigned long``, ``char``."""
    offset: int
    size_bytes: int
    """As the file says; of a dynamic field this is the size of its locator word."""
    signed: bool
    count: int | None
    """Elements of an array; None for a plain value."""
    storage: Storage

    @property
    def end(self) -> int:
        """First byte behind the field's fixed part."""
        return self.offset + self.size_bytes

    @property
    def element_bytes(self) -> int:
        """Size of one element of an inline field."""
        return self.size_bytes // self.count if self.count else self.size_bytes

    @property
    def is_text(self) -> bool:
        """An array of plain ``char``: a string that ends at its first NUL."""
        array = self.count is not None or self.storage is not Storage.INLINE
        return array and self.type.removeprefix("const ") == "char"


@dataclass(frozen=True, slots=True, kw_only=True)
class EventFormat:
    """One event type."""

    system: str
    name: str
    id: int
    common: tuple[Field, ...]
    """The ``common_`` fields that every record begins with."""
    fields: tuple[Field, ...]
    print_fmt: str
    """How the kernel prints it: a C format and its arguments."""

    @property
    def full_name(self) -> str:
        return f"{self.system}/{self.name}"

    @property
    def fixed_bytes(self) -> int:
        """Length of the part that every record of this type has."""
        return max(field.end for field in (*self.common, *self.fields))

    @property
    def is_dynamic(self) -> bool:
        """Whether records of this type differ in length."""
        return any(field.storage is not Storage.INLINE for field in self.fields)


@dataclass(frozen=True, slots=True, kw_only=True)
class PageHeader:
    """How a sub-buffer begins."""

    commit_offset: int
    commit_bytes: int
    """Size of the kernel's ``long``: 4 or 8. The time stamp is always 64 bits at offset 0."""
    data_offset: int
    data_bytes: int
    """Most data that a sub-buffer holds."""

    @property
    def subbuffer_bytes(self) -> int:
        return self.data_offset + self.data_bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Formats:
    """Everything needed to read the rings of one kernel."""

    page: PageHeader
    by_id: Mapping[int, EventFormat]

    @property
    def by_name(self) -> Mapping[str, EventFormat]:
        """By full name."""
        return MappingProxyType({event.full_name: event for event in self.by_id.values()})


_FIELD = re.compile(
    r"\tfield:\s*(?P<declaration>[^;]+);"
    r"\s*offset:(?P<offset>\d+);\s*size:(?P<size>\d+);\s*signed:(?P<signed>[01]);"
)
_DECLARATION = re.compile(
    r"(?P<type>\S.*?)\s*(?<!\w)(?P<name>[A-Za-z_]\w*)\s*(?:\[(?P<count>[^\]]*)\])?"
)
_DYNAMIC = re.compile(
    r"(?P<where>__data_loc|__rel_loc)\s+(?P<type>\S.*?)\s*(?:\[[^\]]*\])+\s*(?P<name>[A-Za-z_]\w*)"
)
_FIXED_SIZES = re.compile(r"(?:__)?[us](8|16|32|64)")
_COMMON = "common_"


def parse_format(text: str, source: str, system: str) -> EventFormat:
    """Reads one ``format`` file.

    Raises:
        ParseError: naming ``source`` and the line.
    """
    lines = text.splitlines()
    name = _head(lines, 0, "name: ", source)
    number = _head(lines, 1, "ID: ", source)
    if not number.isdigit() or int(number) >= 1 << (8 * _ID_BYTES):
        raise ParseError(source, 2, lines[1], "an event id of 16 bits")
    if len(lines) < 3 or lines[2] != "format:":
        raise _missing(lines, 2, "'format:'", source)
    common: list[Field] = []
    own: list[Field] = []
    print_fmt = ""
    for line_number, line in enumerate(lines[3:], 4):
        if line.startswith("print fmt:"):
            print_fmt = "\n".join(lines[line_number - 1 :]).removeprefix("print fmt:").strip()
            break
        if not line.strip():
            continue
        field = _field(line, line_number, source)
        if any(field.name == known.name for known in (*common, *own)):
            raise ParseError(source, line_number, line, "a name that no field above has")
        if own or not field.name.startswith(_COMMON):
            own.append(field)
        else:
            common.append(field)
    else:
        raise _missing(lines, len(lines), "'print fmt:'", source)
    _check_common(common, lines, source)
    return EventFormat(
        system=system,
        name=name,
        id=int(number),
        common=tuple(common),
        fields=tuple(own),
        print_fmt=print_fmt,
    )


def parse_header_page(text: str, source: str = HEADER_PAGE) -> PageHeader:
    """Reads ``events/header_page``.

    Raises:
        ParseError: naming ``source`` and the line.
    """
    found: dict[str, Field] = {}
    lines = text.splitlines()
    for line_number, line in enumerate(lines, 1):
        if line.strip():
            field = _field(line, line_number, source)
            found[field.name] = field
    for name in ("timestamp", "commit", "data"):
        if name not in found:
            raise _missing(lines, len(lines), f"a field named {name}", source)
    stamp, commit, data = found["timestamp"], found["commit"], found["data"]
    sound = (
        (stamp.offset, stamp.size_bytes) == (0, 8)
        and commit.offset == 8
        and commit.size_bytes in (4, 8)
        and data.offset >= commit.end
        and data.offset % 4 == data.size_bytes % 4 == 0
        and 0 < data.size_bytes < 1 << 30
    )
    if not sound:
        raise ParseError(
            source, 0, text.strip(), "a 64-bit time stamp, a commit word of 32 or 64 bits, data"
        )
    return PageHeader(
        commit_offset=commit.offset,
        commit_bytes=commit.size_bytes,
        data_offset=data.offset,
        data_bytes=data.size_bytes,
    )


_EVENT_HEADER = MappingProxyType(
    {
        r"type_len\s*:\s*(\d+) bits": 5,
        r"time_delta\s*:\s*(\d+) bits": 27,
        r"array\s*:\s*(\d+) bits": 32,
        r"padding\s*: type == (\d+)": 29,
        r"time_extend\s*: type == (\d+)": 30,
        r"time_stamp\s*: type == (\d+)": 31,
        r"data max type_len\s*== (\d+)": 28,
    }
)


def check_header_event(text: str, source: str = HEADER_EVENT) -> None:
    """Makes sure that ``events/header_event`` tells of the one layout ``ring`` can walk.

    Raises:
        ParseError: a width or a type number is another than in every kernel so far.
    """
    for pattern, expected in _EVENT_HEADER.items():
        match = re.search(pattern, text)
        if match is None:
            raise ParseError(source, 0, text.strip(), f"a line like {pattern!r}")
        if int(match[1]) != expected:
            line_number = text.count("\n", 0, match.start()) + 1
            raise ParseError(source, line_number, match[0], f"{expected} there")


def build_formats(page: PageHeader, events: Iterable[EventFormat]) -> Formats:
    """Puts the descriptions together.

    Raises:
        ParseError: two events have the same id.
    """
    by_id: dict[int, EventFormat] = {}
    for event in events:
        other = by_id.setdefault(event.id, event)
        if other is not event:
            raise ParseError(
                event.full_name, 2, f"ID: {event.id}", f"an id other than that of {other.full_name}"
            )
    return Formats(page=page, by_id=MappingProxyType(by_id))


def read_formats(directory: Path) -> Formats:
    """Reads a copy of tracefs' ``events`` directory, whole or in part.

    Raises:
        BundleError: a header file is missing, or something cannot be read.
        ParseError: naming the file and the line.
    """
    page = parse_header_page(_read(directory / HEADER_PAGE), str(directory / HEADER_PAGE))
    check_header_event(_read(directory / HEADER_EVENT), str(directory / HEADER_EVENT))
    return build_formats(page, _events(directory))


def _events(directory: Path) -> Iterator[EventFormat]:
    for path in sorted(directory.glob(f"*/*/{FORMAT_NAME}")):
        yield parse_format(_read(path), str(path), path.parent.parent.name)


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise BundleError(
            f"{path}: {reason}", fix="the trace needs the kernel's format files; run again"
        ) from None


def _field(line: str, number: int, source: str) -> Field:
    match = _FIELD.match(line)
    if match is None:
        raise ParseError(source, number, line, "'field:TYPE NAME; offset:N; size:N; signed:N;'")
    declaration, offset, size = match["declaration"], int(match["offset"]), int(match["size"])
    if offset + size > MAX_RECORD_BYTES:
        raise ParseError(source, number, line, f"a field within {MAX_RECORD_BYTES} bytes")
    count: int | None = None
    storage = Storage.INLINE
    if dynamic := _DYNAMIC.fullmatch(declaration):
        if size != 4:
            raise ParseError(source, number, line, "a locator of 4 bytes")
        name, c_type, storage = dynamic["name"], dynamic["type"], Storage(dynamic["where"])
    elif plain := _DECLARATION.fullmatch(declaration):
        name, c_type = plain["name"], plain["type"]
        if plain["count"] is not None:
            if size == 0:
                storage = Storage.TAIL
            else:
                count = _count(c_type, plain["count"], size)
        elif size == 0:
            raise ParseError(source, number, line, "a size above 0")
    else:
        raise ParseError(source, number, line, "a C declaration after 'field:'")
    return Field(
        name=name,
        type=c_type,
        offset=offset,
        size_bytes=size,
        signed=match["signed"] == "1",
        count=count,
        storage=storage,
    )


def _count(c_type: str, brackets: str, size: int) -> int:
    """Elements of an inline array; kprobes leave the brackets empty, some events put a name."""
    if (sized := _FIXED_SIZES.fullmatch(c_type)) and size % (int(sized[1]) // 8) == 0:
        return size // (int(sized[1]) // 8)
    if brackets.isdigit() and int(brackets) and size % int(brackets) == 0:
        return int(brackets)
    return size  # A length that is not a plain number: bytes.


def _head(lines: list[str], index: int, prefix: str, source: str) -> str:
    if len(lines) <= index or not lines[index].startswith(prefix):
        raise _missing(lines, index, repr(prefix), source)
    return lines[index].removeprefix(prefix).strip()


def _missing(lines: list[str], index: int, expected: str, source: str) -> ParseError:
    found = lines[index] if index < len(lines) else ""
    return ParseError(source, min(index, len(lines)) + 1, found, expected)


def _check_common(common: list[Field], lines: list[str], source: str) -> None:
    places = {field.name: (field.offset, field.size_bytes) for field in common}
    if places.get("common_type") != (0, _ID_BYTES):
        raise ParseError(source, 0, "\n".join(lines[:4]), "common_type, 16 bits at offset 0")
    for name in ("common_flags", "common_preempt_count", "common_pid"):
        if name not in places:
            raise ParseError(source, 0, "\n".join(lines[:4]), f"a field named {name}")
