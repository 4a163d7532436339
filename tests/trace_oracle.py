"""Holds a decoded capture against the kernel's own text of it, event by event, field by field."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from analysis.trace import EventStream, Formats, decode, read_formats
from tests.trace_capture import Capture
from tests.trace_text import Printed, context, parse_trace, render

_ADDRESS = re.compile(r"(?:[^\s(]+\+0x[0-9a-f]+/0x[0-9a-f]+|0x[0-9a-f]+) <([0-9a-f]+)>")
_RETURN = re.compile(r"^\((\S+) <- \S+ <(\S+)>\)")
"""A return probe's line names the caller first; the function's symbol has no offset."""
_PAGE = re.compile(r"^page=([0-9a-f]+) (?=pfn=(0x[0-9a-f]+))")


def formats_of(capture: Capture) -> Formats:
    with tempfile.TemporaryDirectory() as directory:
        capture.write_formats(Path(directory))
        return read_formats(Path(directory))


def assert_agrees(capture: Capture) -> EventStream:
    """Decodes a capture and compares all of it with the kernel's text; returns it decoded."""
    stream = decode(capture.rings, formats_of(capture))
    assert not stream.damage, str(stream.damage[:3])
    assert not stream.unknown
    printed = list(parse_trace(capture.text))
    assert printed, "the kernel printed no event"
    merged = stream.merged()
    assert len(merged) == len(printed), f"{len(merged)} decoded, {len(printed)} printed"
    pages: dict[str, str] = {}
    for line, kind, number in zip(printed, merged.kind, merged.row, strict=True):
        name = merged.names[kind]
        row = stream[name][number]
        place = (int(row["counter"]), int(row["cpu"]), int(row["pid"]))
        assert (line.counter, line.cpu, line.pid) == place, f"kernel: {line}, decoded: {place}"
        expected = context(int(row["common_flags"]), int(row["preempt_count"]))
        assert line.context == expected, f"kernel: {line}, decoded: {expected}"
        _compare(stream, name, _plain(row), line, pages)
    assert len(set(pages.values())) == len(pages), "two pages were printed with one frame number"
    return stream


def _plain(row: Any) -> dict[str, Any]:
    plain: dict[str, Any] = {}
    for name in row.dtype.names:
        value = row[name].tolist() if hasattr(row[name], "tolist") else row[name]
        plain[name] = value.decode() if isinstance(value, bytes) else value
    return plain


def _compare(
    stream: EventStream,
    name: str,
    row: Mapping[str, Any],
    line: Printed,
    pages: dict[str, str],
) -> None:
    if name == "ftrace/print":
        address, _, text = line.text.partition(": ")
        shown = _ADDRESS.sub(r"\1", address)
        if shown != "tracing_mark_write":  # What 6.1 prints of an address it does not keep.
            assert int(shown, 16) == row["ip"]
        assert text == row["buf"].rstrip("\n")
        return
    event, _, text = line.text.partition(": ")
    assert name.endswith(f"/{event}")
    expected = render(stream.formats[name].print_fmt, row)
    # Addresses are shown with their symbols, page structures as hashes of their addresses.
    if row.get("name") == "":
        text = text.replace("name=(fault)", 'name=""')  # A string that could not be read.
    text = _RETURN.sub(r"(\2 <- \1)", _ADDRESS.sub(r"\1", text))
    if (page := _PAGE.match(text)) is not None:
        assert pages.setdefault(page[1], page[2]) == page[2]
        text = text.removeprefix(page[0])
    assert text.rstrip() == expected.rstrip(), f"kernel: {text!r}, decoded: {expected!r}"
