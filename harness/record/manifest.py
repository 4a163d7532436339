"""manifest.json: what was run, on what, and how it ended.

The file is rewritten whole and atomically whenever the state changes, so that a run that was
killed at any moment leaves a manifest one can read. A manifest that still says ``running``
while its process is gone tells of a run that was killed: see ``Manifest.ending``.
"""

from __future__ import annotations

import enum
import os
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from harness.errors import RecordError

SCHEMA_VERSION = 1
MANIFEST_NAME = "manifest.json"


class OutcomeKind(enum.StrEnum):
    RUNNING = "running"
    COMPLETED = "completed"
    OOM_KILLED = "oom-killed"
    """A workload, not the agent, was killed by the guest's OOM killer: data, not a failure."""
    WORKLOAD_FAILED = "workload-failed"
    """The run came to its end, but a workload did not do what it was asked for."""
    PANICKED = "panicked"
    TIMED_OUT = "timed-out"
    INTERRUPTED = "interrupted"
    FAILED = "failed"
    KILLED = "killed"
    """Never written by the run itself; inferred by the reader."""


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Outcome(_Record):
    kind: OutcomeKind
    message: str = ""
    fix: str | None = None
    exit_code: int = 0


class Process(_Record):
    """Who writes this run: pid and start time (clock ticks since boot) name it without doubt."""

    pid: int
    start_ticks: int
    boot_id: str


class KernelRecord(_Record):
    name: str
    release: str
    arch: str
    """``x86_64``, ``arm64`` or ``i386``."""
    package: str
    version: str
    sha256: dict[str, str]
    """Package file name → sha256 of the .deb, verified against the signed index."""


class ImageRecord(_Record):
    initramfs_sha256: str
    root_sha256: str
    packages: dict[str, str]
    """Guest package → version in the read-only root."""
    modules: list[str]


class NodeRecord(_Record):
    node: int
    size_bytes: int
    """0 for a memory-less node."""
    cpus: list[int]


class MachineRecord(_Record):
    arch: str
    accel: str
    cpu_model: str
    cpus: int
    nodes: list[NodeRecord]
    """Empty for plain UMA without any NUMA description (see ``memory_bytes``)."""
    memory_bytes: int
    distances: dict[str, int]
    """``"0,1"`` → 20."""
    cmdline: str
    qemu: str
    qemu_argv: list[str]
    shapes: list[str] = []
    """Names of the catalogue of shapes that it was put together from."""
    steps: list[str] = []
    """What these shapes did in the guest after boot, in words."""


class PhaseRecord(_Record):
    """One step of the experiment, as it was run."""

    name: str
    workload: str
    argv: list[str]
    node: int | None
    """The node the workload was bound to, as the guest's kernel numbers it."""
    params: dict[str, Any]
    status: int | None = None
    """Exit status; 128 + N for signal N; None while it runs or when it never ended."""
    outcome: str = "running"
    wall_s: float | None = None


class WindowRecord(_Record):
    """A phase during which every allocation was traced, between two memory samples."""

    name: str
    """The phase's name."""
    trace: str
    """Directory of its trace, relative to the run directory: ``trace/03-anon``; empty when it
    never began."""
    samples: list[str]
    """Its memory samples in order, relative: the state at the begin, any between, at the end."""
    again_of: str | None = None
    """The window whose load this one runs once more, from the same state of the machine."""
    retaken_as: str | None = None
    """The window that was taken in its place, from the same state: of this one events were lost."""
    clone: str | None = None
    """Directory with the logs of the clone it ran on; None: the machine that was booted."""
    proc_sampler: bool = False
    """The /proc sampler ran meanwhile."""
    quiet_begin: bool | None = None
    """No page moved any more when the first sample was taken; None: it came not so far."""
    quiet_end: bool | None = None


class FileRecord(_Record):
    size_bytes: int
    sha256: str


class Manifest(_Record):
    schema_version: int = SCHEMA_VERSION
    name: str
    created: str
    """UTC, ISO 8601."""
    mmscope: str
    argv: list[str]
    process: Process
    outcome: Outcome
    seed: int = 1
    experiment: dict[str, Any] = {}
    kernel: KernelRecord | None = None
    image: ImageRecord | None = None
    machine: MachineRecord | None = None
    phases: list[PhaseRecord] = []
    windows: list[WindowRecord] = []
    timings_s: dict[str, float] = {}
    files: dict[str, FileRecord] = {}
    """Relative path → size and digest; filled when the run ends in order."""

    def ending(self) -> Outcome:
        """How the run ended, as far as anyone can tell by now."""
        if self.outcome.kind is not OutcomeKind.RUNNING or process_is_alive(self.process):
            return self.outcome
        return Outcome(
            kind=OutcomeKind.KILLED,
            message=f"mmscope (pid {self.process.pid}) was killed before it could end the run",
            fix="run the experiment again; what was recorded up to then is sound",
            exit_code=3,
        )


def this_process() -> Process:
    """The identity of the running process."""
    return Process(pid=os.getpid(), start_ticks=_start_ticks(os.getpid()), boot_id=_boot_id())


def process_is_alive(process: Process) -> bool:
    """Whether exactly this process, not a later one with its pid, still runs here."""
    try:
        return _boot_id() == process.boot_id and _start_ticks(process.pid) == process.start_ticks
    except OSError:
        return False


def parse_manifest(text: str, source: str) -> Manifest:
    """Raises RecordError naming ``source`` and the field when the text is not a manifest."""
    try:
        manifest = Manifest.model_validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the file"
        raise RecordError(
            f"{source}: not a manifest of schema {SCHEMA_VERSION}: {where}: {first['msg']}",
            fix="point at a directory made by `mmscope run`",
        ) from None
    if manifest.schema_version != SCHEMA_VERSION:
        raise RecordError(
            f"{source}: schema {manifest.schema_version}, this mmscope reads {SCHEMA_VERSION}",
            fix="use the mmscope release that made the run",
        )
    return manifest


def _start_ticks(pid: int) -> int:
    # Field 22 of /proc/PID/stat; the command name before it may hold spaces and brackets.
    text = Path(f"/proc/{pid}/stat").read_text()
    return int(text[text.rindex(")") + 2 :].split()[19])


def _boot_id() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
