"""Decompression of the lz4 legacy format, as kernels of Debian's x86_64 cloud flavour use it.

A magic number, then blocks of at most 8 MiB uncompressed, each with its compressed length before
it; the kernel's build appends the uncompressed length of the whole. Formats:
doc/lz4_Frame_format.md and doc/lz4_Block_format.md of lz4. Python has no decoder and a kernel is
unpacked once, so two seconds of plain Python spare a dependency.
"""

from __future__ import annotations

import struct

MAGIC = b"\x02\x21\x4c\x18"

_BLOCK_BYTES = 8 << 20
_MIN_MATCH = 4


def decompress_legacy(data: bytes) -> bytes:
    """The content of a legacy stream that ends, as in a kernel, with its uncompressed length.

    Raises:
        ValueError: the stream is truncated or damaged.
    """
    if data[:4] != MAGIC:
        raise ValueError("no lz4 legacy magic")
    out: list[bytes] = []
    offset = 4
    while offset + 4 < len(data):
        (length,) = struct.unpack_from("<I", data, offset)
        start, offset = offset + 4, offset + 4 + length
        if offset > len(data):
            raise ValueError("the stream ends early")
        out.append(_decompress_block(data[start:offset]))
    content = b"".join(out)
    if data[offset:] != struct.pack("<I", len(content)):
        raise ValueError("the stream ends early")
    return content


def _decompress_block(block: bytes) -> bytes:
    out = bytearray()
    position = 0
    try:
        while True:
            token = block[position]
            position += 1
            literals = token >> 4
            if literals == 15:
                while True:
                    more = block[position]
                    position += 1
                    literals += more
                    if more != 255:
                        break
            if position + literals > len(block):
                raise ValueError("literals reach beyond the block")
            out += block[position : position + literals]
            position += literals
            if position == len(block):
                return bytes(out)
            distance = block[position] | block[position + 1] << 8
            position += 2
            match = (token & 15) + _MIN_MATCH
            if token & 15 == 15:
                while True:
                    more = block[position]
                    position += 1
                    match += more
                    if more != 255:
                        break
            start = len(out) - distance
            if distance == 0 or start < 0 or len(out) + match > _BLOCK_BYTES:
                raise ValueError("a match reaches outside the block")
            if distance >= match:
                out += out[start : start + match]
            else:
                repeats = match // distance + 1
                out += (out[start:] * repeats)[:match]
    except IndexError:
        raise ValueError("a block ends early") from None
