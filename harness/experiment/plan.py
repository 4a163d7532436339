"""An experiment as a file: validated, with every default spelled out."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from harness.errors import UsageError
from harness.kernel.package import port_of
from harness.machine.shape import Composition, Layout, common_arch, compose
from harness.machine.shape_catalog import find_shapes
from harness.machine.spec import NodeSpec
from harness.sampling import WINDOW_ARCHES
from harness.units import parse_size_bytes
from harness.workload.load import Load
from harness.workload.mechanism import Mechanism, Placement, Size

DEFINITIONS = Path(__file__).with_name("definitions")

Group = Literal["exact", "predict", "numa", "limit"]
"""A group of probes: see ``harness.sampling.trace.probes``."""


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class MachinePlan(_Part):
    shapes: list[str] = []
    """Names of the catalogue of shapes, put together; one that lays out the nodes takes the place
    of ``nodes``, ``cpus`` and ``distances``."""
    nodes: list[Size] = Field(default=["1G"], min_length=1)
    cpus: int | None = None
    distances: list[str] = []
    append: list[str] = []
    swap: Size = "0"
    """Size of a swap disk in host memory; phases with ``swap`` use it."""
    dma_disk: bool = False
    """A disk whose rings are DMA memory, for loads that rebind it."""


class SamplingPlan(_Part):
    period_ms: int = Field(default=250, ge=10, le=60_000)
    sparse_every: int = Field(default=20, ge=1)
    """pagetypeinfo and slabinfo are read in every Nth round, and at marks."""


class TracePlan(_Part):
    """How traced phases are traced: each is a window between two memory samples."""

    groups: list[Group] = ["exact", "predict"]
    """Groups of probes that every window has."""
    buffer_kb: int = Field(default=16_384, ge=64, le=1 << 20)
    """Ring size a CPU."""
    every_ms: int = Field(default=0, ge=0, le=60_000)
    """Light memory samples so often while the load runs; 0: only at begin and end."""
    snapshot: bool = True
    """Each window begins on a clone of the machine as it stood when all that comes before was
    done; without, windows follow each other on the machine that was booted."""
    proc_sampler: bool = False
    """Let the /proc sampler run during windows, where its reads are traced as any other load."""


class PhasePlan(_Part):
    name: str = Field(pattern=r"^[a-z][a-z0-9-]*$")
    load: Load
    node: int | None = Field(default=None, ge=0)
    each_node: bool = False
    """Once for every node with memory, bound to it, as NAME-nodeN."""
    stall_s: float = Field(default=300.0, gt=0)
    """Longest time in which the workload neither prints nor sets a mark."""
    ceiling_s: float = Field(default=600.0, gt=0)
    arch: list[Literal["x86_64", "arm64", "i386"]] = ["x86_64", "arm64", "i386"]
    """Elsewhere the phase is left out."""
    before: list[str] = []
    """Shell lines that run in the guest before the load, and before its window."""
    repeat: int = Field(default=1, ge=1, le=1000)
    """The load runs so often, one after the other, each time with the next seed."""
    traced: bool = False
    limit: bool = False
    """The load goes to the limit of memory: also probe what decides there."""
    groups: list[Group] = []
    """Further groups of probes for this window."""
    again: bool = False
    """Run the same load once more on another clone, as NAME-again: how far do two runs of the
    real kernel differ that begin in the same state?"""
    swap: bool = False
    """Turn the machine's swap disk on before the load."""

    @model_validator(mode="after")
    def _consistent(self) -> PhasePlan:
        if self.each_node and self.node is not None:
            raise ValueError("node and each_node exclude each other")
        if not self.traced:
            for field in ("limit", "groups", "again"):
                if getattr(self, field):
                    raise ValueError(f"{field} says how a phase is traced: set traced = true")
        return self


class Plan(_Part):
    name: str = Field(pattern=r"^[a-z][a-z0-9-]*$")
    description: str = ""
    seed: int = Field(default=1, ge=0, lt=1 << 31)
    machine: MachinePlan
    sampling: SamplingPlan = SamplingPlan()
    trace: TracePlan = TracePlan()
    setup: list[str] = []
    """Shell lines that run in the guest once, before the first phase."""
    phases: list[PhasePlan] = Field(min_length=1)

    @model_validator(mode="after")
    def _sound(self) -> Plan:
        nodes = self.nodes()
        names = [step.name for step in self.steps()]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"two phases are called {name!r}")
        for phase in self.phases:
            if phase.node is not None and phase.node >= len(nodes):
                raise ValueError(f"phase {phase.name!r}: there is no node {phase.node}")
            if phase.node is not None and not nodes[phase.node].size_bytes:
                raise ValueError(f"phase {phase.name!r}: node {phase.node} has no memory")
            if phase.swap and not self.swap_bytes:
                raise ValueError(f"phase {phase.name!r}: the machine has no swap disk")
            if phase.again and not self.trace.snapshot:
                raise ValueError(f"phase {phase.name!r}: again needs trace.snapshot")
        self._check_order()
        return self

    def _check_order(self) -> None:
        if self.trace.proc_sampler:
            if self.trace.snapshot and any(phase.traced for phase in self.phases):
                raise ValueError("trace.proc_sampler needs trace.snapshot = false")
            return
        windows = False
        for phase in self.phases:
            if windows and not phase.traced:
                raise ValueError(
                    f"phase {phase.name!r}: the /proc sampler ends where the windows begin, so "
                    f"phases that are not traced come first"
                )
            windows |= phase.traced

    def check_arch(self, arch: str) -> None:
        """Raises UsageError when a phase cannot be on this architecture."""
        if not port_of(arch).archived:
            raise UsageError(
                f"{self.name}: {arch} guests have no shell and none of the programs that loads "
                f"are made of; they can be booted and captured",
                fix=f"use --arch {WINDOW_ARCHES[0]}, or `mmscope capture --arch {arch}`",
            )
        if arch in WINDOW_ARCHES:
            return
        for step in self.steps(arch):
            if step.phase.traced:
                raise UsageError(
                    f"{self.name}: phase {step.name!r} is traced, which {arch} guests cannot be: "
                    f"neither their memory nor their trace is read",
                    fix=f"use --arch {WINDOW_ARCHES[0]}, or an experiment without traced phases",
                )

    def groups_of(self, step: Step) -> tuple[str, ...]:
        """Groups of probes of a traced step."""
        limit = ["limit"] if step.phase.limit else []
        return tuple(dict.fromkeys((*self.trace.groups, *step.phase.groups, *limit)))

    @property
    def groups(self) -> tuple[str, ...]:
        """Groups of probes of all windows together."""
        wanted = [self.groups_of(step) for step in self.steps() if step.phase.traced]
        return tuple(dict.fromkeys(group for groups in wanted for group in groups))

    @property
    def swap_bytes(self) -> int:
        """Size of the swap disk; 0: there is none."""
        return self.composition().swap_bytes or parse_size_bytes(self.machine.swap)

    def composition(self, arch: str | None = None) -> Composition:
        """The machine that its shapes and the rest of ``machine`` make together.

        Without an architecture, on one where all its shapes are possible.

        Raises:
            UsageError: they contradict each other, or are impossible on this architecture.
        """
        machine = self.machine
        shapes = find_shapes(machine.shapes)
        return compose(
            shapes,
            arch=arch or common_arch(shapes),
            append=[word for text in machine.append for word in text.split()],
            default=Layout(
                nodes=tuple(machine.nodes), cpus=machine.cpus, distances=tuple(machine.distances)
            ),
        )

    def with_shapes(self, names: Sequence[str]) -> Plan:
        """The same on a machine with further shapes.

        Raises:
            UsageError: there is no such shape, or a phase does not fit the machine any more.
        """
        machine = self.machine.model_copy(update={"shapes": [*self.machine.shapes, *names]})
        try:
            return Plan.model_validate(self.model_dump() | {"machine": machine.model_dump()})
        except ValidationError as error:
            first = error.errors()[0]["msg"].removeprefix("Value error, ")
            raise UsageError(
                f"{self.name} cannot run on the shapes {', '.join(names)}: {first}",
                fix="leave them out, or choose another experiment",
            ) from None

    def nodes(self) -> tuple[NodeSpec, ...]:
        """The machine's nodes with CPUs dealt out."""
        return self.composition().nodes

    def steps(self, arch: str | None = None) -> Iterator[Step]:
        """The phases with ``each_node`` and ``again`` spelled out; those for ``arch``, or all."""
        with_memory = [node for node, part in enumerate(self.nodes()) if part.size_bytes]
        uma = len(self.nodes()) == 1
        for phase in self.phases:
            if arch is not None and arch not in phase.arch:
                continue
            nodes = with_memory if phase.each_node and not uma else [phase.node]
            for node in nodes:
                name = phase.name if node == phase.node else f"{phase.name}-node{node}"
                yield Step(name=name, node=node, phase=phase)
                if phase.again:
                    yield Step(name=f"{name}-again", node=node, phase=phase, again_of=name)


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One phase on one node (None: wherever the kernel puts it)."""

    name: str
    node: int | None
    phase: PhasePlan
    again_of: str | None = None
    """The step that this one repeats from the same state."""

    @property
    def mechanism(self) -> Mechanism:
        return self.phase.load

    def argv(self, seed: int, node: int | None, *, marks: bool = True) -> list[str]:
        """The command to run in the guest, bound to a node by the kernel's number of it.

        ``marks``: a sampler runs, so that the load may set marks in its stream.
        """
        label = self.name if marks else None
        return self.mechanism.argv(Placement(label=label, seed=seed, node=node))


def known_plans() -> list[str]:
    """Names of the experiments that come with mmscope, without comparisons."""
    return sorted(name for name, content in _definitions() if not is_comparison(content))


def known_comparisons() -> list[str]:
    """Names of the comparisons that come with mmscope: see ``experiment.comparison``."""
    return sorted(name for name, content in _definitions() if is_comparison(content))


def is_comparison(content: Mapping[str, Any]) -> bool:
    """Whether a definition is of several configurations, not of one experiment."""
    return "variants" in content


def _definitions() -> Iterator[tuple[str, dict[str, Any]]]:
    for path in DEFINITIONS.glob("*.toml"):
        yield path.stem, parse_definition(path)


def load_plan(name_or_path: str) -> Plan:
    """A plan by its name, or from a file ending in .toml.

    Raises:
        UsageError: no such plan, not TOML, or a value out of place (names file and field).
    """
    path = find_definition(name_or_path, known_plans(), "experiment")
    content = _read(path)
    if is_comparison(content):
        raise UsageError(
            f"{path}: a comparison of several configurations, not one experiment",
            fix=f"run it with `mmscope sweep {name_or_path}`",
        )
    try:
        return Plan.model_validate(content)
    except ValidationError as error:
        lines = [
            f"{'.'.join(str(part) for part in item['loc']) or 'file'}: {item['msg']}"
            for item in error.errors()
        ]
        raise UsageError(
            f"{path}: not a sound experiment", details={"where": "\n".join(lines)}
        ) from None
    except UsageError as error:
        raise UsageError(f"{path}: {error.message}", fix=error.fix) from None


def find_definition(name_or_path: str, known: Sequence[str], kind: str) -> Path:
    """The file of a definition by its name, or the path itself if it ends in .toml.

    Raises:
        UsageError: no definition has that name; ``known`` are those of its ``kind``.
    """
    path = Path(name_or_path)
    if path.suffix != ".toml":
        path = DEFINITIONS / f"{name_or_path}.toml"
        if not path.is_file():
            raise UsageError(
                f"no {kind} is called {name_or_path!r}",
                fix=f"use one of {', '.join(known)}, or the path of a .toml file",
            )
    return path


def _read(path: Path) -> dict[str, Any]:
    """The file's content over that of its ``base``, if it names one: what it says itself wins,
    key by key within ``machine``, ``sampling`` and ``trace``. A base has no base itself."""
    content = parse_definition(path)
    if "base" not in content:
        return content
    base = content.pop("base")
    bases = [
        name
        for name in known_plans()
        if "base" not in parse_definition(DEFINITIONS / f"{name}.toml")
    ]
    if base not in bases:
        raise UsageError(
            f"{path}: base: {base!r} is no experiment to build on",
            fix=f"use one of {', '.join(bases)}",
        )
    below = parse_definition(DEFINITIONS / f"{base}.toml")
    for key in ("machine", "sampling", "trace"):
        own = content.get(key, {})
        if isinstance(own, dict) and (own or key in below):
            content[key] = {**below.get(key, {}), **own}
    return {**below, **content}


def parse_definition(path: Path) -> dict[str, Any]:
    """The file's content.

    Raises:
        UsageError: it cannot be read, or is not TOML.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UsageError(f"{path}: {error}") from None
