"""From a plan to a run directory that tells everything, however the run ends."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import harness
from harness.deadline import StallClock
from harness.errors import MmscopeError
from harness.experiment.instruments import Instruments
from harness.experiment.outcome import outcome_of, workload_outcome
from harness.experiment.phase import PhaseRun, run_load
from harness.experiment.plan import Plan, Step
from harness.experiment.preparation import (
    keep_dmesg,
    read_once,
    run_shell,
    settle_watermarks,
    swap_on,
)
from harness.experiment.provenance import image_record, kernel_record, machine_record
from harness.experiment.shaping import apply_shape
from harness.experiment.window import SampleShelf, Window
from harness.image.assembly import Image
from harness.kernel.package import Kernel
from harness.machine.snapshot import Template
from harness.machine.spec import MachineSpec, kernel_node_numbers
from harness.record.manifest import (
    Manifest,
    Outcome,
    OutcomeKind,
    PhaseRecord,
    WindowRecord,
    this_process,
)
from harness.record.rundir import RunDirectory
from harness.sampling.proc import SampleRecorder
from harness.session.guest import Guest

_STREAM_STALL_S = 60.0
_STREAM_CEILING_S = 300.0


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
    shape = plan.composition(request.kernel.arch)
    return MachineSpec(
        arch=request.kernel.arch,
        accel=request.accel,
        nodes=shape.nodes,
        distances=shape.distances,
        kernel=request.kernel.boot_image,
        initramfs=request.image.initramfs,
        root=request.image.root,
        append=shape.append,
        hot=shape.hot,
        swap_bytes=plan.swap_bytes,
        dma_disk=plan.machine.dma_disk,
    )


class Run:
    """One run under way: its directory, its manifest, and the steps that fill them."""

    def __init__(
        self, request: RunRequest, progress: Progress, instruments: Instruments | None = None
    ) -> None:
        self._request = request
        self._progress = progress
        plan = request.plan
        self._instruments = instruments or Instruments(
            request.kernel, groups=plan.groups, buffer_kb=plan.trace.buffer_kb
        )
        self._spec = machine_spec(request)
        self._shape = plan.composition(request.kernel.arch)
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
        self._shelf = SampleShelf(self.directory)
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
        plan = self._request.plan
        steps = list(enumerate(plan.steps(self._spec.arch), start=1))
        windows = [pair for pair in steps if pair[1].phase.traced]
        on_clones = windows if plan.trace.snapshot else []
        with contextlib.ExitStack() as saved:
            self._progress.stage("boot")
            with Guest(self._spec, self.directory, progress=self._progress.note) as guest:
                self._start(guest)
                if plan.trace.proc_sampler:
                    self._sampled(guest, steps)
                else:
                    self._sampled(guest, steps[: len(steps) - len(windows)])
                    if not on_clones:
                        self._unsampled(guest, windows)
                keep_dmesg(guest, self.directory)
                if on_clones:
                    self._progress.stage("save the machine")
                    prepared = self._instruments.prepare(guest)
                    template = saved.enter_context(guest.save())
                self._progress.stage("shut down")
            for number, step in on_clones:
                self._window_on_clone(template, prepared, number, step)

    def _start(self, guest: Guest) -> None:
        apply_shape(guest, self._shape, self._progress.note)
        self.manifest.machine = machine_record(self._spec, guest.machine.argv, guest.shaped)
        self.manifest.timings_s["boot"] = round(guest.boot_s, 3)
        self._save()
        run_shell(guest, self._request.plan.setup, "setup")
        settle_watermarks(guest)
        errors = read_once(guest, self._request.kernel, self.directory)
        if errors:
            self._progress.note("; ".join(errors))

    def _sampled(self, guest: Guest, steps: Sequence[tuple[int, Step]]) -> None:
        """Runs steps with the /proc sampler beside them; its stream is whole afterwards."""
        sampling = self._request.plan.sampling
        with SampleRecorder(guest.machine.stream, self.directory.samples_path) as recorder:
            guest.vitals.add_check(recorder.check)
            guest.agent.start_sampling(sampling.period_ms, sampling.sparse_every)
            guest.agent.mark("settle/end")
            for number, step in steps:
                self._progress.stage(step.name)
                if step.phase.traced:
                    self._window(guest, number, step)
                else:
                    self._phase(guest, recorder, number, step)
            guest.agent.stop_sampling()
            recorder.wait_end(guest.vitals, StallClock(_STREAM_STALL_S, _STREAM_CEILING_S))

    def _unsampled(self, guest: Guest, windows: Sequence[tuple[int, Step]]) -> None:
        for number, step in windows:
            self._progress.stage(step.name)
            self._window(guest, number, step)

    def _phase(self, guest: Guest, recorder: SampleRecorder, number: int, step: Step) -> None:
        run, record = self._begin(number, step, marks=True)
        self._prepare(guest, step)
        guest.agent.mark(f"{step.name}/begin")
        self._load(run, guest, record)
        guest.agent.mark(f"{step.name}/end")
        recorder.check()

    def _window_on_clone(
        self, template: Template, prepared: object, number: int, step: Step
    ) -> None:
        """Once more, on another clone, where events were lost: both are kept."""
        lost = self._take_on_clone(template, prepared, number, step)
        if lost:
            retake = dataclasses.replace(step, name=f"{step.name}-retaken", again_of=step.name)
            self._progress.note(f"{lost} events were lost: the window is taken again")
            first = self.manifest.windows[-1]
            self._take_on_clone(template, prepared, number, retake)
            first.retaken_as = retake.name

    def _take_on_clone(self, template: Template, prepared: object, number: int, step: Step) -> int:
        self._progress.stage(step.name)
        path = self.directory.clones_path / f"{number:02d}-{step.name}"
        clone = Guest.restored(
            template, RunDirectory(path), private=False, progress=self._progress.note
        )
        with clone as guest:
            clone_path = str(path.relative_to(self.directory.path))
            return self._window(guest, number, step, clone=clone_path, prepared=prepared)

    def _window(
        self,
        guest: Guest,
        number: int,
        step: Step,
        *,
        clone: str | None = None,
        prepared: object = None,
    ) -> int:
        """Takes a window; how many of its events are known to be lost."""
        plan = self._request.plan
        run, record = self._begin(number, step, marks=plan.trace.proc_sampler)
        self._prepare(guest, step)
        window = WindowRecord(
            name=step.name,
            trace="",
            samples=[],
            again_of=step.again_of,
            clone=clone,
            proc_sampler=plan.trace.proc_sampler,
        )
        self.manifest.windows.append(window)
        self._save()
        with self._instruments.on(guest, self.directory, prepared) as (sampler, tracer):
            return Window(
                window,
                stem=run.stem,
                groups=plan.groups_of(step),
                sampler=sampler,
                tracer=tracer,
                shelf=self._shelf,
                save=self._save,
                note=self._progress.note,
                every_ms=plan.trace.every_ms,
            ).run(lambda: self._load(run, guest, record), guest.vitals)

    def _begin(self, number: int, step: Step, *, marks: bool) -> tuple[PhaseRun, PhaseRecord]:
        run = PhaseRun(
            number=number,
            step=step,
            seed=self._request.plan.seed,
            node=None if step.node is None else self._numbers[step.node],
            marks=marks,
        )
        record = run.record()
        self.manifest.phases.append(record)
        self._save()
        return run, record

    def _prepare(self, guest: Guest, step: Step) -> None:
        if step.phase.swap and not self._shape.swap_bytes:  # a shape's is on already
            swap_on(guest)
        run_shell(guest, step.phase.before, f"before {step.name}")

    def _load(self, run: PhaseRun, guest: Guest, record: PhaseRecord) -> None:
        run_load(run, guest, record, self.directory, self._progress.note)
        self._save()

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
