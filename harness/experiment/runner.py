"""From a plan to a run directory that tells everything, however the run ends."""

from __future__ import annotations

import contextlib
import datetime
import fnmatch
import re
import shlex
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import harness
from harness.deadline import StallClock
from harness.errors import (
    BootError,
    GuestTimeoutError,
    KernelCrashError,
    MmscopeError,
    SessionError,
)
from harness.experiment.plan import Plan, Step
from harness.image.assembly import Image
from harness.kernel.package import Kernel
from harness.machine.argv import cpu_model, kernel_command_line
from harness.machine.process import qemu_version
from harness.machine.spec import MachineSpec, kernel_node_numbers, parse_distances
from harness.record.manifest import (
    ImageRecord,
    KernelRecord,
    MachineRecord,
    Manifest,
    NodeRecord,
    Outcome,
    OutcomeKind,
    PhaseRecord,
    this_process,
)
from harness.record.rundir import RunDirectory, write_atomic
from harness.sampling.proc import SampleRecorder
from harness.session.guest import Guest

BUSYBOX = "/run/mmscope/bin/busybox"
WATERMARK_SCALE = "/proc/sys/vm/watermark_scale_factor"

ONCE = (
    "/proc/cmdline",
    "/proc/version",
    "/proc/cpuinfo",
    "/proc/iomem",
    "/proc/modules",
    "/proc/sys/vm/*",
    "/proc/sys/kernel/osrelease",
    "/sys/devices/system/node/node*/distance",
    "/sys/devices/system/node/node*/cpulist",
    "/sys/kernel/mm/transparent_hugepage/enabled",
)
"""Guest files that do not change by themselves, read once before the first load."""

_STREAM_STALL_S = 60.0
_STREAM_CEILING_S = 300.0
_OOM_LINE = re.compile(r"Out of memory: Kill")


class Progress(Protocol):
    """Where a run tells what it is doing."""

    def stage(self, text: str) -> None:
        """A new stage has begun."""

    def note(self, text: str) -> None:
        """Something within the stage happened."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRequest:
    """Everything a run needs, obtained before it starts."""

    plan: Plan
    kernel: Kernel
    image: Image
    accel: str
    runs_root: Path
    arguments: tuple[str, ...] = field(default_factory=lambda: tuple(sys.argv))


def machine_spec(request: RunRequest) -> MachineSpec:
    """The plan's machine with this kernel and image."""
    plan = request.plan
    return MachineSpec(
        arch=request.kernel.arch,
        accel=request.accel,
        nodes=plan.nodes(),
        distances=parse_distances(plan.machine.distances, len(plan.machine.nodes)),
        kernel=request.kernel.boot_image,
        initramfs=request.image.initramfs,
        root=request.image.root,
        append=tuple(plan.machine.append),
    )


class Run:
    """One run under way: its directory, its manifest, and the steps that fill them."""

    def __init__(self, request: RunRequest, progress: Progress) -> None:
        self._request = request
        self._progress = progress
        self._spec = machine_spec(request)
        self._numbers = kernel_node_numbers(self._spec)
        self.directory = RunDirectory.create(
            request.runs_root, f"{request.plan.name}-{request.kernel.arch}"
        )
        self.manifest = Manifest(
            name=request.plan.name,
            created=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            mmscope=harness.__version__,
            argv=list(request.arguments),
            process=this_process(),
            outcome=Outcome(kind=OutcomeKind.RUNNING),
            seed=request.plan.seed,
            experiment=request.plan.model_dump(),
            kernel=kernel_record(request.kernel),
            image=image_record(request.image),
        )
        self._save()

    def execute(self) -> RunDirectory:
        """Boots, loads, samples and ends; the directory says how, whatever happens.

        Raises:
            MmscopeError, KeyboardInterrupt: after the outcome is written.
        """
        start_s = time.monotonic()
        try:
            self._in_guest()
        except BaseException as error:
            outcome = outcome_of(error)
            if isinstance(error, MmscopeError):
                error.details.setdefault("run directory", str(self.directory.path))
            with contextlib.suppress(MmscopeError, OSError):
                self._finish(outcome, start_s)
            raise
        self._finish(workload_outcome(self.manifest.phases), start_s)
        return self.directory

    def _in_guest(self) -> None:
        self._progress.stage("boot")
        with Guest(self._spec, self.directory, progress=self._progress.note) as guest:
            self.manifest.machine = machine_record(self._spec, guest.machine.argv)
            self.manifest.timings_s["boot"] = round(guest.boot_s, 3)
            self._save()
            with SampleRecorder(guest.machine.stream, self.directory.samples_path) as recorder:
                guest.vitals.add_check(recorder.check)
                self._settle(guest)
                self._read_once(guest)
                sampling = self._request.plan.sampling
                guest.agent.start_sampling(sampling.period_ms, sampling.sparse_every)
                guest.agent.mark("settle/end")
                for number, step in enumerate(self._request.plan.steps(), start=1):
                    self._phase(guest, recorder, number, step)
                guest.agent.stop_sampling()
                recorder.wait_end(guest.vitals, StallClock(_STREAM_STALL_S, _STREAM_CEILING_S))
            self._keep_dmesg(guest)
            self._progress.stage("shut down")

    def _settle(self, guest: Guest) -> None:
        """Makes the kernel compute its watermarks anew, now that boot memory is handed over.

        Kernel: mm/page_alloc.c, watermark_scale_factor_sysctl_handler() calls
        setup_per_zone_wmarks() for a write of any value, the present one too.
        """
        script = f"v=$({BUSYBOX} cat {WATERMARK_SCALE}) && echo $v > {WATERMARK_SCALE}"
        result = guest.agent.run([BUSYBOX, "sh", "-c", script])
        if result.status:
            raise SessionError(
                f"vm.watermark_scale_factor cannot be written in the guest: "
                f"{result.stderr.decode(errors='replace').strip()}"
            )

    def _read_once(self, guest: Guest) -> None:
        answer = guest.agent.read(ONCE)
        for path, content in answer.files.items():
            write_atomic(self.directory.guest_path / guest_file(path), content)
        if answer.errors:
            self._progress.note("; ".join(answer.errors))
        write_atomic(
            self.directory.guest_path / "config", self._request.kernel.config_path.read_bytes()
        )
        self._keep_dmesg(guest)

    def _keep_dmesg(self, guest: Guest) -> None:
        result = guest.agent.run([BUSYBOX, "dmesg"])
        write_atomic(self.directory.guest_path / "dmesg", result.stdout)

    def _phase(self, guest: Guest, recorder: SampleRecorder, number: int, step: Step) -> None:
        node = None if step.node is None else self._numbers[step.node]
        argv = step.argv(self._request.plan.seed, node)
        record = PhaseRecord(
            name=step.name,
            workload=step.phase.load.workload,
            argv=argv,
            node=node,
            params=step.mechanism.model_dump(exclude={"workload"}),
        )
        self.manifest.phases.append(record)
        self._save()
        self._progress.stage(step.name)
        findings = len(guest.machine.console.findings)
        clock = StallClock(step.phase.stall_s, step.phase.ceiling_s)
        guest.agent.mark(f"{step.name}/begin")
        result = guest.agent.run(argv, clock=clock)
        guest.agent.mark(f"{step.name}/end")
        recorder.check()
        stem = self.directory.workloads_path / f"{number:02d}-{step.name}"
        write_atomic(stem.with_name(stem.name + ".stdout"), result.stdout)
        write_atomic(stem.with_name(stem.name + ".stderr"), result.stderr)
        fresh = guest.machine.console.findings[findings:]
        oom = any(_OOM_LINE.search(finding.line) for finding in fresh)
        record.status = result.status
        record.wall_s = round(result.wall_s, 3)
        record.outcome = phase_outcome(result.status, oom=oom)
        self._save()
        self._progress.note(f"{record.outcome} after {result.wall_s:.1f} s")
        if record.outcome == "failed":
            complaint = result.stderr.decode(errors="replace").strip()[-500:]
            self._progress.note(f"{shlex.join(argv)} → {result.status}: {complaint}")

    def _finish(self, outcome: Outcome, start_s: float) -> None:
        self.manifest.outcome = outcome
        self.manifest.timings_s["run"] = round(time.monotonic() - start_s, 3)
        for phase in self.manifest.phases:
            if phase.outcome == "running":
                phase.outcome = outcome.kind.value
        self.manifest.files = self.directory.digest_files()
        self._save()

    def _save(self) -> None:
        self.directory.write_manifest(self.manifest)


def guest_file(path: str) -> str:
    """A path of the guest as one below ``guest/``.

    Raises:
        SessionError: the agent named a file that was not asked for; a guest is not trusted with
            names on the host.
    """
    if ".." in path.split("/") or not any(fnmatch.fnmatchcase(path, asked) for asked in ONCE):
        raise SessionError(f"the guest answered with {path!r}, which nobody asked for")
    return path.lstrip("/")


def workload_outcome(phases: Sequence[PhaseRecord]) -> Outcome:
    """How a run ended that came to its end: by the worst of its workloads."""
    failed = [phase for phase in phases if phase.outcome == "failed"]
    if failed:
        names = ", ".join(f"{phase.name} (status {phase.status})" for phase in failed)
        return Outcome(
            kind=OutcomeKind.WORKLOAD_FAILED,
            message=f"workloads failed: {names}",
            fix="see their .stderr under workloads/ in the run directory",
            exit_code=4,
        )
    killed = [phase.name for phase in phases if phase.outcome == "oom-killed"]
    if killed:
        return Outcome(
            kind=OutcomeKind.OOM_KILLED, message=f"the OOM killer struck in {', '.join(killed)}"
        )
    return Outcome(kind=OutcomeKind.COMPLETED)


def phase_outcome(status: int, *, oom: bool) -> str:
    """``completed``, ``oom-killed`` (the guest's OOM killer struck meanwhile) or ``failed``."""
    if oom:
        return "oom-killed"
    return "failed" if status else "completed"


def outcome_of(error: BaseException) -> Outcome:
    """How a run that raised this has ended."""
    if isinstance(error, KeyboardInterrupt):
        return Outcome(kind=OutcomeKind.INTERRUPTED, message="interrupted", exit_code=130)
    kind = OutcomeKind.FAILED
    if isinstance(error, KernelCrashError):
        kind = OutcomeKind.PANICKED
    elif isinstance(error, GuestTimeoutError | BootError):
        kind = OutcomeKind.TIMED_OUT
    if isinstance(error, MmscopeError):
        return Outcome(kind=kind, message=error.message, fix=error.fix, exit_code=error.exit_code)
    return Outcome(kind=kind, message=f"{type(error).__name__}: {error}", exit_code=3)


def kernel_record(kernel: Kernel) -> KernelRecord:
    """The manifest's words for a kernel."""
    return KernelRecord(
        name=kernel.name,
        release=kernel.release,
        arch=kernel.arch,
        package=kernel.package,
        version=kernel.version,
        sha256=dict(kernel.sha256),
    )


def image_record(image: Image) -> ImageRecord:
    """The manifest's words for a guest image."""
    return ImageRecord(
        initramfs_sha256=image.initramfs_sha256,
        root_sha256=image.root_sha256,
        packages=dict(image.packages),
        modules=list(image.modules),
    )


def machine_record(spec: MachineSpec, argv: list[str]) -> MachineRecord:
    """The manifest's words for a machine that was started."""
    return MachineRecord(
        arch=spec.arch,
        accel=spec.accel,
        cpu_model=cpu_model(spec),
        cpus=spec.cpus,
        nodes=[
            NodeRecord(node=node, size_bytes=part.size_bytes, cpus=list(part.cpus))
            for node, part in enumerate(spec.nodes)
        ]
        if spec.is_numa
        else [],
        memory_bytes=spec.memory_bytes,
        distances={f"{source},{target}": value for source, target, value in spec.distances},
        cmdline=kernel_command_line(spec),
        qemu=qemu_version(argv[0]),
        qemu_argv=argv,
    )
