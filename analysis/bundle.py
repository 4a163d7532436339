"""Opens a run directory, checks it, and hands out what was recorded of the guest.

What a damaged run still holds is used: the sound part of a stream that breaks off, files whose
digest is wrong. Everything that is not as it should be is listed in ``Bundle.damage``. Only a
directory with neither a sample of /proc nor a traced window is refused.

This module gives texts and bytes; other sources of them (a plain capture of /proc) can make a
``Bundle`` of their own, since everything above needs no more than its attributes and methods.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from analysis.errors import BundleError
from harness.errors import RecordError
from harness.record.config_diff import Difference, diff_configs
from harness.record.frames import HEADER_BYTES, Frame, FrameError, FrameType, read_frames
from harness.record.manifest import MANIFEST_NAME, Manifest, Outcome, WindowRecord
from harness.record.memory import MemorySample, load_memory_sample
from harness.record.rundir import RunDirectory
from harness.record.sweep import SWEEP_NAME, SweepRecord, read_sweep
from harness.record.trace import TraceRecord, formats_path, read_trace_record, ring_path

__all__ = [
    "MANIFEST_NAME",
    "NO_SOURCE",
    "SWEEP_NAME",
    "Bundle",
    "Damage",
    "Difference",
    "Mark",
    "MemorySample",
    "ReadFailure",
    "RecordError",
    "RecordedTrace",
    "Sample",
    "SweepRecord",
    "TraceRecord",
    "WindowRecord",
    "diff_configs",
    "load_memory_sample",
    "open_bundle",
    "read_sweep",
    "recorded_trace",
]

NO_SOURCE = 0
"""Source of an ERROR about a file that could not be opened; those announced count from 1."""

_RUN_AGAIN = "run the experiment again with `mmscope run`"


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One file of the guest, read once."""

    name: str
    """As the sampler calls its sources: ``buddyinfo``, ``node0/vmstat``, ``kswapd0/stat``."""
    round: int
    start_ns: int
    end_ns: int
    """CLOCK_MONOTONIC of the guest before and after the read."""
    payload: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """A label that a workload or the runner set; the samples of ``round`` follow it."""

    round: int
    t_ns: int
    label: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadFailure:
    """A source that the sampler could not read in a round."""

    name: str
    round: int
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Damage:
    """Something of the run that is not as it was recorded."""

    file: str
    """Relative to the run directory."""
    message: str
    offset: int | None = None
    """First byte of ``file`` that cannot be trusted, where that is known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bundle:
    """A run, opened; see ``open_bundle``."""

    path: Path
    manifest: Manifest
    ending: Outcome
    """How the run ended; a run that was killed says so (``OutcomeKind.KILLED``)."""
    hello: Mapping[str, str]
    """What the agent said of the guest: ``page_size``, ``clock_tick``, ``cpus`` …"""
    sources: tuple[str, ...]
    """Names announced by the sampler, in the order of a round."""
    missing: tuple[str, ...]
    """Announced, but without a single sample."""
    failures: tuple[ReadFailure, ...]
    marks: tuple[Mark, ...]
    complete_rounds: tuple[int, ...]
    """Rounds that the sampler finished, in order."""
    finished: bool
    """The sampler stopped in order and the whole stream is sound."""
    damage: tuple[Damage, ...]

    @property
    def windows(self) -> tuple[WindowRecord, ...]:
        """The traced windows, in the order in which they were run."""
        return tuple(self.manifest.windows)

    def memory_sample(self, name: str) -> MemorySample:
        """A memory sample by its path in the run, as a window's record names it.

        Raises:
            BundleError: the path leads out of the run.
            RecordError: the file is missing or damaged.
        """
        return load_memory_sample(_inside(self.path, name))

    @property
    def release(self) -> str | None:
        """The kernel's release, if the manifest has it."""
        return self.manifest.kernel.release if self.manifest.kernel else None

    def samples(self) -> Iterator[Sample]:
        """All sound samples in the order of the stream, read from disk each time."""
        names: dict[int, str] = {}
        for frame in self._sound_frames():
            if frame.type is FrameType.SAMPLE:
                yield Sample(
                    name=names[frame.source],
                    round=frame.seq,
                    start_ns=frame.start_ns,
                    end_ns=frame.end_ns,
                    payload=frame.payload,
                )
            elif frame.type is FrameType.SOURCE:
                names[frame.source] = _text(frame.payload)

    def text(self, name: str) -> str:
        """A file that was read once: ``proc/cmdline``, ``dmesg``, ``config``.

        Raises:
            BundleError: the run has no such file.
        """
        path = _inside(RunDirectory(self.path).guest_path, name)
        try:
            return _text(path.read_bytes())
        except OSError as error:
            raise BundleError(
                f"{path}: {error.strerror}",
                fix=f"{_RUN_AGAIN}; the guest's files are read at the end of its boot",
            ) from None

    def texts(self, pattern: str = "**/*") -> dict[str, str]:
        """All files read once whose path matches a glob pattern, by path in the guest."""
        root = RunDirectory(self.path).guest_path
        found = sorted(path for path in root.glob(pattern) if path.is_file())
        return {
            str(path.relative_to(root)): self.text(str(path.relative_to(root))) for path in found
        }

    def _sound_frames(self) -> Iterator[Frame]:
        path = RunDirectory(self.path).samples_path
        if not path.is_file():
            return  # The /proc sampler was off: a run of windows only.
        try:
            yield from _known_frames(path)
        except FrameError:
            return  # Told by ``damage``, which was found when the bundle was opened.


def open_bundle(path: Path, *, verify: bool = True) -> Bundle:
    """Opens a run directory and reads its stream once from end to end.

    ``verify`` compares size and sha256 of every file that the manifest lists.

    Raises:
        BundleError: no run directory; or no window, and no stream with a sound sample in it.
        RecordError: the manifest is damaged or of another schema.
    """
    directory = RunDirectory(path)
    if not directory.manifest_path.is_file():
        raise BundleError(
            f"{path}: no {MANIFEST_NAME} here, so it is not a run directory",
            fix="point at a directory made by `mmscope run`",
        )
    manifest = directory.read_manifest()
    ending = manifest.ending()
    samples_path = directory.samples_path
    if not samples_path.is_file() and not manifest.windows:
        raise BundleError(
            f"{samples_path}: the run has no samples ({_how(ending)})",
            fix=ending.fix or _RUN_AGAIN,
        )
    digest_damage = _verify(directory, manifest) if verify else []
    survey = _Survey()
    damage: list[Damage] = []
    try:
        for frame in _known_frames(samples_path) if samples_path.is_file() else ():
            survey.take(frame)
    except FrameError as error:
        damage.append(Damage(file=samples_path.name, message=error.reason, offset=error.offset))
    except OSError as error:
        raise BundleError(
            f"{samples_path}: {error.strerror}", fix="make the run directory readable"
        ) from None
    if not survey.sampled and not manifest.windows:
        reason = f"damaged at byte {damage[0].offset}: {damage[0].message}; " if damage else ""
        raise BundleError(
            f"{samples_path}: {reason}no sample could be read ({_how(ending)})",
            fix=ending.fix or _RUN_AGAIN,
        )
    return Bundle(
        path=path,
        manifest=manifest,
        ending=ending,
        hello=MappingProxyType(survey.hello),
        sources=tuple(survey.names.values()),
        missing=tuple(name for name in survey.names.values() if name not in survey.sampled),
        failures=tuple(survey.failures),
        marks=tuple(survey.marks),
        complete_rounds=tuple(survey.complete_rounds),
        finished=survey.ended and not damage,
        damage=(*damage, *digest_damage),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordedTrace:
    """The raw trace of a window, not yet looked into."""

    window: str
    record: TraceRecord
    formats: Path
    """A copy of tracefs' ``events`` directory."""
    rings: Mapping[int, Path]
    """CPU → its sub-buffers. Files that are there; whether any lacks is in ``missing``."""
    missing: tuple[int, ...]
    """CPUs that the record lists and that have no file."""
    store: Path
    """Where tables of this window belong."""


def recorded_trace(run: Path, window: WindowRecord) -> RecordedTrace:
    """Finds the trace of a window of the run directory ``run``.

    Raises:
        BundleError: the window's directory leads out of the run.
        RecordError: it has no trace record, or one that is damaged.
    """
    directory = RunDirectory(run)
    path = _inside(run, window.trace)
    record = read_trace_record(path)
    rings = {cpu.cpu: ring_path(path, cpu.cpu) for cpu in record.cpus}
    return RecordedTrace(
        window=window.name,
        record=record,
        formats=formats_path(path),
        rings=MappingProxyType({cpu: ring for cpu, ring in rings.items() if ring.is_file()}),
        missing=tuple(cpu for cpu, ring in rings.items() if not ring.is_file()),
        store=directory.tables_path / "trace" / path.name,
    )


class _Survey:
    """What one pass over a stream tells, without its payloads."""

    def __init__(self) -> None:
        self.hello: dict[str, str] = {}
        self.names: dict[int, str] = {}
        self.sampled: set[str] = set()
        self.failures: list[ReadFailure] = []
        self.marks: list[Mark] = []
        self.complete_rounds: list[int] = []
        self.ended = False
        self._takers: Mapping[FrameType, Callable[[Frame], None]] = {
            FrameType.HELLO: self._take_hello,
            FrameType.SOURCE: self._take_source,
            FrameType.SAMPLE: self._take_sample,
            FrameType.ERROR: self._take_error,
            FrameType.MARK: self._take_mark,
            FrameType.ROUND_END: self._take_round_end,
            FrameType.END: self._take_end,
        }

    def take(self, frame: Frame) -> None:
        self._takers[frame.type](frame)

    def _take_hello(self, frame: Frame) -> None:
        pairs = (line.partition("=") for line in _text(frame.payload).splitlines())
        self.hello.update((name, value) for name, _, value in pairs)

    def _take_source(self, frame: Frame) -> None:
        self.names[frame.source] = _text(frame.payload)

    def _take_sample(self, frame: Frame) -> None:
        self.sampled.add(self.names[frame.source])

    def _take_error(self, frame: Frame) -> None:
        text = _text(frame.payload)
        name = self.names.get(frame.source)
        if name is None:  # never opened, so never announced: the text begins with its name
            name, _, text = text.partition(": ")
        self.failures.append(ReadFailure(name=name, round=frame.seq, message=text))

    def _take_mark(self, frame: Frame) -> None:
        self.marks.append(Mark(round=frame.seq, t_ns=frame.start_ns, label=_text(frame.payload)))

    def _take_round_end(self, frame: Frame) -> None:
        self.complete_rounds.append(frame.seq)

    def _take_end(self, _: Frame) -> None:
        self.ended = True


_STREAM_TYPES = frozenset(
    {
        FrameType.HELLO,
        FrameType.SOURCE,
        FrameType.SAMPLE,
        FrameType.MARK,
        FrameType.ERROR,
        FrameType.END,
        FrameType.ROUND_END,
    }
)


def _known_frames(path: Path) -> Iterator[Frame]:
    """Frames of a sample stream; a sound frame that makes no sense there is damage as well."""
    announced: set[int] = set()
    offset = 0
    for frame in read_frames(path):
        if frame.type not in _STREAM_TYPES:
            raise FrameError(str(path), offset, f"a {frame.type.name} frame among the samples")
        if frame.type is FrameType.SOURCE:
            announced.add(frame.source)
        elif frame.type is FrameType.ERROR and frame.source == NO_SOURCE:
            pass  # A file that this kernel does not have.
        elif frame.type in (FrameType.SAMPLE, FrameType.ERROR) and frame.source not in announced:
            raise FrameError(str(path), offset, f"source {frame.source} was never announced")
        yield frame
        offset += HEADER_BYTES + len(frame.payload)


def _verify(directory: RunDirectory, manifest: Manifest) -> list[Damage]:
    damage: list[Damage] = []
    for name, record in manifest.files.items():
        path = _inside(directory.path, name)
        try:
            with path.open("rb") as stream:
                digest = hashlib.file_digest(stream, "sha256").hexdigest()
                size_bytes = stream.tell()
        except OSError as error:
            damage.append(Damage(file=name, message=f"cannot be read: {error.strerror}"))
            continue
        if size_bytes != record.size_bytes:
            message = f"{size_bytes} bytes, the manifest says {record.size_bytes}"
            damage.append(Damage(file=name, message=message))
        elif digest != record.sha256:
            message = f"sha256 is {digest}, the manifest says {record.sha256}"
            damage.append(Damage(file=name, message=message))
    return damage


def _inside(root: Path, name: str) -> Path:
    """``root/name``, refused when the name leads out of ``root``."""
    relative = Path(name)
    if relative.is_absolute() or ".." in relative.parts:
        raise BundleError(f"{name}: leads out of {root}", fix="give a path inside the run")
    return root / relative


def _how(ending: Outcome) -> str:
    return f"{ending.kind.value}: {ending.message}" if ending.message else ending.kind.value


def _text(payload: bytes) -> str:
    # Command names and labels may hold any byte; none is lost.
    return payload.decode("utf-8", "surrogateescape")
