"""The frame codec: whatever is written is read, and damage never passes for data."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.record.frames import (
    HEADER_BYTES,
    MAX_PAYLOAD_BYTES,
    Frame,
    FrameDecoder,
    FrameError,
    FrameType,
    read_frames,
)

FRAMES = st.builds(
    Frame,
    type=st.sampled_from(FrameType),
    source=st.integers(0, 0xFFFF),
    seq=st.integers(0, 0xFFFFFFFF),
    start_ns=st.integers(0, 2**64 - 1),
    end_ns=st.integers(0, 2**64 - 1),
    payload=st.binary(max_size=300),
)


@given(st.lists(FRAMES, max_size=5), st.integers(1, 97))
def test_frames_survive_any_cutting(frames: list[Frame], step: int) -> None:
    data = b"".join(frame.encode() for frame in frames)
    decoder = FrameDecoder("test")
    read = [
        frame
        for start in range(0, len(data), step)
        for frame in decoder.feed(data[start : start + step])
    ]
    decoder.finish()
    assert read == frames


@given(FRAMES, st.data())
def test_a_flipped_bit_is_never_accepted(frame: Frame, data: st.DataObject) -> None:
    raw = bytearray(frame.encode())
    bit = data.draw(st.integers(0, len(raw) * 8 - 1))
    raw[bit // 8] ^= 1 << bit % 8
    decoder = FrameDecoder("test")
    accepted: list[Frame] = []
    with pytest.raises(FrameError):  # noqa: PT012 - damage shows while feeding or at the end
        accepted += decoder.feed(bytes(raw))
        decoder.finish()
    assert accepted == []


@given(FRAMES, st.data())
def test_truncation_is_told_with_the_offset(frame: Frame, data: st.DataObject) -> None:
    whole = frame.encode()
    cut = data.draw(st.integers(1, len(whole) - 1))
    decoder = FrameDecoder("stream")
    assert list(decoder.feed(whole + whole[:cut])) == [frame]
    with pytest.raises(FrameError, match=f"stream: damaged at byte {len(whole)}"):
        decoder.finish()


def test_an_impossible_length_is_refused_before_it_is_awaited() -> None:
    frame = Frame(type=FrameType.SAMPLE, payload=b"x" * (MAX_PAYLOAD_BYTES + 1))
    with pytest.raises(FrameError, match="over"):
        list(FrameDecoder("test").feed(frame.encode()[:HEADER_BYTES]))


def test_the_sound_part_of_a_file_is_read_first(tmp_path: Path) -> None:
    path = tmp_path / "samples.mms"
    good = Frame(type=FrameType.SAMPLE, payload=b"good")
    path.write_bytes(good.encode() + b"MMS1 and then noise" * 4)
    frames = read_frames(path)
    assert next(frames) == good
    with pytest.raises(FrameError, match=r"samples\.mms: damaged at byte 44"):
        next(frames)
