from __future__ import annotations

import struct

import pytest

from harness.kernel.lz4 import MAGIC, decompress_legacy


def _stream(content_bytes: int, *blocks: bytes) -> bytes:
    framed = b"".join(struct.pack("<I", len(block)) + block for block in blocks)
    return MAGIC + framed + struct.pack("<I", content_bytes)


LITERALS = b"\x50hello"
OVERLAPPING = b"\x28ab\x02\x00" + b"\x10c"
"""Two literals, twelve bytes copied from two bytes back, one literal."""
LONG_MATCH = b"\x1fx\x01\x00\xff\x05" + b"\x10y"
"""One literal, 15 + 255 + 5 + 4 copies of it, one literal."""


@pytest.mark.parametrize(
    ("block", "content"),
    [(LITERALS, b"hello"), (OVERLAPPING, b"ab" * 7 + b"c"), (LONG_MATCH, b"x" * 280 + b"y")],
)
def test_one_block(block: bytes, content: bytes) -> None:
    assert decompress_legacy(_stream(len(content), block)) == content


def test_blocks_follow_each_other() -> None:
    assert decompress_legacy(_stream(10, LITERALS, LITERALS)) == b"hellohello"


@pytest.mark.parametrize(
    "stream",
    [
        b"",
        MAGIC,
        _stream(4, LITERALS),
        _stream(5, LITERALS)[:-4],
        _stream(10, LITERALS, LITERALS)[:-9],
        _stream(5, LITERALS[:-1]),
        _stream(15, OVERLAPPING[:4]),
        _stream(15, b"\x28ab\x03\x00\x10c"),
        _stream(15, b"\x28ab\x00\x00\x10c"),
        _stream(15, b"\xff\xff"),
    ],
)
def test_damage_is_an_error(stream: bytes) -> None:
    with pytest.raises(ValueError, match=r"early|outside|beyond|magic"):
        decompress_legacy(stream)
