"""Run directories made from fixture texts, as a run would leave them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from harness.record.frames import Frame, FrameType
from harness.record.manifest import (
    KernelRecord,
    Manifest,
    Outcome,
    OutcomeKind,
    Process,
)
from harness.record.rundir import RunDirectory

FIXTURES = Path(__file__).with_name("fixtures")
SPARSE = ("pagetypeinfo", "slabinfo")
_NOT_SAMPLED = ("version", "cmdline")
ROUND_NS = 250_000_000
READ_NS = 40_000
NO_PROCESS = Process(pid=2**22 + 1, start_ticks=0, boot_id="none")
"""A process that cannot be alive."""


def fixture_round(name: str, number: int = 0) -> dict[str, bytes]:
    """The texts of one captured round by source name, in the order the sampler reads them."""
    root = FIXTURES / name / f"round{number}"
    texts = {
        str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()
    }
    first = ("buddyinfo", "pagetypeinfo", "zoneinfo", "unusable_index", "extfrag_index")
    order = (*first, "buddyinfo.after", "slabinfo", "vmstat", "meminfo")
    names = [name for name in order if name in texts]
    names += sorted(name for name in texts if name not in order and name not in _NOT_SAMPLED)
    return {name: texts[name] for name in names}


def stream(
    rounds: Sequence[Mapping[str, bytes]],
    marks: Mapping[int, Sequence[str]] | None = None,
    *,
    end: bool = True,
) -> Iterator[Frame]:
    """The sampler's frames; the labels of a round stand before its samples."""
    yield Frame(type=FrameType.HELLO, payload=b"agent=1\npage_size=4096\nclock_tick=100\ncpus=2\n")
    names = list(dict.fromkeys(name for texts in rounds for name in texts))
    for number, name in enumerate(names):
        yield Frame(type=FrameType.SOURCE, source=number, payload=name.encode())
    for seq, texts in enumerate(rounds):
        now_ns = 5_000_000_000 + seq * ROUND_NS
        for label in (marks or {}).get(seq, ()):
            yield Frame(
                type=FrameType.MARK, seq=seq, start_ns=now_ns, end_ns=now_ns, payload=label.encode()
            )
        for name, text in texts.items():
            yield Frame(
                type=FrameType.SAMPLE,
                source=names.index(name),
                seq=seq,
                start_ns=now_ns,
                end_ns=now_ns + READ_NS,
                payload=text,
            )
            now_ns += READ_NS + 1_000
        yield Frame(type=FrameType.ROUND_END, seq=seq, start_ns=now_ns, end_ns=now_ns)
    if end:
        yield Frame(type=FrameType.END)


def write_run(
    path: Path,
    frames: Iterator[Frame],
    *,
    outcome: OutcomeKind = OutcomeKind.COMPLETED,
    digests: bool = True,
) -> RunDirectory:
    """A run directory with these frames and a manifest that goes with them."""
    directory = RunDirectory(path)
    guest = {
        "proc/cmdline": "console=ttyS0\n",
        "proc/sys/vm/min_free_kbytes": "4008\n",
        "dmesg": "",
    }
    for name, text in guest.items():
        target = directory.guest_path / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)
    with directory.samples_path.open("wb") as target_stream:
        for frame in frames:
            target_stream.write(frame.encode())
    directory.write_manifest(
        Manifest(
            name="test",
            created="2026-01-01T00:00:00Z",
            mmscope="0",
            argv=["mmscope", "run"],
            process=NO_PROCESS,
            outcome=Outcome(kind=outcome),
            kernel=KernelRecord(
                name="bookworm",
                release="6.1.0-56-amd64",
                arch="x86_64",
                package="linux-image-6.1.0-56-amd64",
                version="6.1.192-2",
                sha256={},
            ),
            files=directory.digest_files() if digests else {},
        )
    )
    return directory
