"""Run directories, sound, damaged and missing."""

from __future__ import annotations

from pathlib import Path

import pytest

from analysis.bundle import Damage, Mark, ReadFailure, open_bundle
from analysis.errors import BundleError
from harness.record.frames import HEADER_BYTES, Frame, FrameType
from harness.record.manifest import OutcomeKind
from tests.recorded_run import fixture_round, stream, write_run

KERNEL = "6.1-x86_64-3nodes"


def make(path: Path, rounds: int = 2, *, digests: bool = True) -> Path:
    texts = [fixture_round(KERNEL, number % 2) for number in range(rounds)]
    marks = {0: ["settle/end"], 1: ["pktring/0/before", "pktring/1/take/64/5"]}
    write_run(path, stream(texts, marks), digests=digests)
    return path


def test_sound_run(tmp_path: Path) -> None:
    bundle = open_bundle(make(tmp_path))
    assert bundle.ending.kind is OutcomeKind.COMPLETED
    assert bundle.finished
    assert bundle.damage == ()
    assert bundle.missing == ()
    assert bundle.release == "6.1.0-56-amd64"
    assert bundle.hello == {"agent": "1", "page_size": "4096", "clock_tick": "100", "cpus": "2"}
    assert bundle.sources == tuple(fixture_round(KERNEL))
    assert bundle.complete_rounds == (0, 1)
    assert [mark.label for mark in bundle.marks] == [
        "settle/end",
        "pktring/0/before",
        "pktring/1/take/64/5",
    ]
    assert bundle.marks[0] == Mark(round=0, t_ns=5_000_000_000, label="settle/end")
    samples = list(bundle.samples())
    assert [sample.name for sample in samples] == list(bundle.sources) * 2
    assert samples[0].payload == fixture_round(KERNEL)["buddyinfo"]
    assert samples[0].start_ns < samples[0].end_ns <= samples[1].start_ns
    assert [sample.round for sample in samples] == [0] * (len(samples) // 2) + [1] * (
        len(samples) // 2
    )
    assert list(bundle.samples()) == samples


def test_files_read_once(tmp_path: Path) -> None:
    bundle = open_bundle(make(tmp_path))
    assert bundle.text("proc/cmdline") == "console=ttyS0\n"
    assert bundle.texts("proc/sys/vm/*") == {"proc/sys/vm/min_free_kbytes": "4008\n"}
    assert bundle.texts().keys() == {"proc/cmdline", "proc/sys/vm/min_free_kbytes", "dmesg"}
    with pytest.raises(BundleError, match="proc/none: No such file") as caught:
        bundle.text("proc/none")
    assert caught.value.fix
    for name in ("../manifest.json", "/etc/hostname"):
        with pytest.raises(BundleError, match="leads out of"):
            bundle.text(name)


def test_not_a_run_directory(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="not a run directory") as caught:
        open_bundle(tmp_path / "none")
    assert "mmscope run" in str(caught.value.fix)


def test_run_without_samples(tmp_path: Path) -> None:
    make(tmp_path)
    (tmp_path / "samples.mms").unlink()
    with pytest.raises(BundleError, match=r"samples\.mms: the run has no samples") as caught:
        open_bundle(tmp_path)
    assert caught.value.fix
    (tmp_path / "samples.mms").write_bytes(b"")
    with pytest.raises(BundleError, match="no sample could be read"):
        open_bundle(tmp_path)


def test_run_that_was_killed(tmp_path: Path) -> None:
    write_run(
        tmp_path,
        stream([fixture_round(KERNEL)], end=False),
        outcome=OutcomeKind.RUNNING,
        digests=False,
    )
    bundle = open_bundle(tmp_path)
    assert bundle.ending.kind is OutcomeKind.KILLED
    assert not bundle.finished
    assert bundle.damage == ()
    assert bundle.complete_rounds == (0,)


def test_every_cut_leaves_the_sound_prefix(tmp_path: Path) -> None:
    make(tmp_path, digests=False)
    path = tmp_path / "samples.mms"
    whole = path.read_bytes()
    samples = list(open_bundle(tmp_path).samples())
    ends: list[int] = []
    offset = 0
    for frame in stream([fixture_round(KERNEL, 0), fixture_round(KERNEL, 1)]):
        offset += HEADER_BYTES + len(frame.payload)
        ends.append(offset)
    for cut in (len(whole) - 1, len(whole) // 2, len(whole) // 3, ends[-8] + 60):
        path.write_bytes(whole[:cut])
        bundle = open_bundle(tmp_path)
        (damage,) = bundle.damage
        assert damage.file == "samples.mms"
        assert damage.offset is not None
        assert damage.offset < cut
        assert "ends inside a frame" in damage.message
        found = list(bundle.samples())
        assert found == samples[: len(found)]
        assert not bundle.finished
    path.write_bytes(whole[:10])
    with pytest.raises(BundleError, match="damaged at byte 0"):
        open_bundle(tmp_path)


def test_flipped_bit(tmp_path: Path) -> None:
    make(tmp_path)
    path = tmp_path / "samples.mms"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    bundle = open_bundle(tmp_path)
    stream_damage, digest_damage = bundle.damage
    assert "CRC" in stream_damage.message
    assert digest_damage.file == "samples.mms"
    assert "sha256" in digest_damage.message
    assert len(open_bundle(tmp_path, verify=False).damage) == 1
    assert 0 < len(list(bundle.samples())) < 2 * len(bundle.sources)


def test_files_that_are_not_as_recorded(tmp_path: Path) -> None:
    make(tmp_path)
    (tmp_path / "guest" / "dmesg").unlink()
    (tmp_path / "guest" / "proc" / "cmdline").write_text("longer than it was\n")
    damage = {item.file: item.message for item in open_bundle(tmp_path).damage}
    assert damage.keys() == {"guest/dmesg", "guest/proc/cmdline"}
    assert "No such file" in damage["guest/dmesg"]
    assert damage["guest/proc/cmdline"] == "19 bytes, the manifest says 14"


def test_source_that_could_not_be_read(tmp_path: Path) -> None:
    frames = [
        Frame(type=FrameType.SOURCE, source=0, payload=b"buddyinfo"),
        Frame(type=FrameType.SOURCE, source=1, payload=b"pressure/io"),
        Frame(type=FrameType.SAMPLE, source=0, payload=b"Node 0, zone DMA 1 \n"),
        Frame(type=FrameType.ERROR, source=1, seq=0, payload=b"Operation not supported"),
        Frame(type=FrameType.ROUND_END),
    ]
    write_run(tmp_path, iter(frames))
    bundle = open_bundle(tmp_path)
    assert bundle.missing == ("pressure/io",)
    assert bundle.failures == (
        ReadFailure(name="pressure/io", round=0, message="Operation not supported"),
    )


@pytest.mark.parametrize(
    "frame",
    [
        Frame(type=FrameType.SAMPLE, source=999, payload=b"x\n"),
        Frame(type=FrameType.ERROR, source=999, payload=b"x"),
        Frame(type=FrameType.STDOUT, payload=b"x"),
    ],
    ids=["sample", "error", "stdout"],
)
def test_sound_frame_out_of_place_is_damage(tmp_path: Path, frame: Frame) -> None:
    frames = list(stream([fixture_round(KERNEL)]))
    write_run(tmp_path, iter([*frames[:-1], frame, *frames[:-1]]))
    bundle = open_bundle(tmp_path)
    (damage,) = bundle.damage
    assert isinstance(damage, Damage)
    assert damage.offset == sum(HEADER_BYTES + len(f.payload) for f in frames[:-1])
    assert len(list(bundle.samples())) == len(bundle.sources)
