"""The framed byte stream between guest agent and host.

Every frame is a 40-byte little-endian header and a payload::

    offset  size  field
         0     4  magic       "MMS1"
         4     2  type        FrameType
         6     2  source      which file (SAMPLE, SOURCE, ERROR) or CPU (TRACE_PAGES); else 0
         8     4  seq         sampling round, or id of the request answered
        12     4  length      payload bytes, at most MAX_PAYLOAD_BYTES
        16     8  start_ns    CLOCK_MONOTONIC in the guest before the read
        24     8  end_ns      … and after it
        32     4  payload_crc CRC-32 (zlib) of the payload
        36     4  header_crc  CRC-32 (zlib) of bytes 0-35

The guest side of the same contract is ``guest/agent/frame.h``.
"""

from __future__ import annotations

import enum
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from harness.errors import RecordError

MAGIC = b"MMS1"
HEADER = struct.Struct("<4sHHIIQQII")
HEADER_BYTES = HEADER.size
MAX_PAYLOAD_BYTES = 8 << 20


class FrameType(enum.IntEnum):
    HELLO = 1
    """First frame of a port. Payload: ``key=value`` lines (agent, page_size, clock_tick, cpus)."""
    SOURCE = 2
    """Announces that ``source`` stands for the name in the payload (``buddyinfo``)."""
    SAMPLE = 3
    """One file read whole: the payload is its text, start/end bracket the read."""
    MARK = 4
    """A label set by a workload or the host; samples of round ``seq`` follow it."""
    ERROR = 5
    """A source could not be read; the payload says why."""
    END = 6
    """The sampler stopped in order; nothing follows."""
    ROUND_END = 7
    """All samples of round ``seq`` are written."""
    TRACE_PAGES = 8
    """Whole sub-buffers of the trace ring of CPU ``source``; ``seq`` counts such frames."""
    REQUEST = 16
    """Host to guest: NUL-separated words."""
    STDOUT = 17
    STDERR = 18
    EXIT = 19
    """Ends a request. Payload: decimal exit status; a signal N gives 128 + N."""
    FILE = 20
    """Answer to ``read``: path, NUL, content."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    type: FrameType
    source: int = 0
    seq: int = 0
    start_ns: int = 0
    end_ns: int = 0
    payload: bytes = b""

    def encode(self) -> bytes:
        """The frame as it goes over the wire."""
        head = HEADER.pack(
            MAGIC,
            self.type,
            self.source,
            self.seq,
            len(self.payload),
            self.start_ns,
            self.end_ns,
            zlib.crc32(self.payload),
            0,
        )[:-4]
        return head + struct.pack("<I", zlib.crc32(head)) + self.payload


class FrameError(RecordError):
    """The stream is damaged; ``offset`` is the first byte that could not be understood."""

    def __init__(self, stream: str, offset: int, reason: str) -> None:
        super().__init__(
            f"{stream}: damaged at byte {offset}: {reason}",
            fix="frames before that byte are sound; run the experiment again for the rest",
        )
        self.stream = stream
        self.offset = offset
        self.reason = reason


class FrameDecoder:
    """Bytes in, frames out; keeps what is incomplete until the rest arrives."""

    def __init__(self, stream: str) -> None:
        self._stream = stream
        self._buffer = bytearray()
        self._offset = 0

    def feed(self, data: bytes) -> Iterator[Frame]:
        """Frames completed by ``data``, in order.

        Raises:
            FrameError: wrong magic, unknown type, impossible length, or a CRC mismatch.
        """
        self._buffer += data
        while len(self._buffer) >= HEADER_BYTES:
            head = bytes(self._buffer[:HEADER_BYTES])
            magic, kind, source, seq, length, start_ns, end_ns, payload_crc, header_crc = (
                HEADER.unpack(head)
            )
            if magic != MAGIC:
                raise self._error(f"expected the magic {MAGIC!r}, found {magic!r}")
            if zlib.crc32(head[:-4]) != header_crc:
                raise self._error("header CRC does not match")
            if length > MAX_PAYLOAD_BYTES:
                raise self._error(f"payload of {length} bytes is over {MAX_PAYLOAD_BYTES}")
            if len(self._buffer) < HEADER_BYTES + length:
                return
            payload = bytes(self._buffer[HEADER_BYTES : HEADER_BYTES + length])
            if zlib.crc32(payload) != payload_crc:
                raise self._error("payload CRC does not match")
            try:
                frame_type = FrameType(kind)
            except ValueError:
                raise self._error(f"unknown frame type {kind}") from None
            del self._buffer[: HEADER_BYTES + length]
            self._offset += HEADER_BYTES + length
            yield Frame(
                type=frame_type,
                source=source,
                seq=seq,
                start_ns=start_ns,
                end_ns=end_ns,
                payload=payload,
            )

    def finish(self) -> None:
        """Raises FrameError when the stream ends inside a frame."""
        if self._buffer:
            raise self._error(f"ends inside a frame ({len(self._buffer)} bytes left over)")

    def _error(self, reason: str) -> FrameError:
        return FrameError(self._stream, self._offset, reason)


def read_frames(path: Path) -> Iterator[Frame]:
    """Frames of a recorded stream, sound ones first; raises FrameError where it is damaged."""
    decoder = FrameDecoder(str(path))
    with path.open("rb") as stream:
        while chunk := stream.read(1 << 20):
            yield from decoder.feed(chunk)
    decoder.finish()
