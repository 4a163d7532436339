"""An experiment as a file: validated, with every default spelled out."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from harness.errors import UsageError
from harness.machine.spec import NodeSpec, parse_distances, spread_cpus
from harness.units import parse_size_bytes
from harness.workload.command import Command
from harness.workload.fragment import Fragment
from harness.workload.mechanism import Mechanism, Placement, Size
from harness.workload.pagecache import Pagecache
from harness.workload.pktring import Pktring
from harness.workload.slabchurn import Slabchurn
from harness.workload.stress_ng import StressNg

DEFINITIONS = Path(__file__).with_name("definitions")

Load = Annotated[
    Pktring | Fragment | Slabchurn | Pagecache | StressNg | Command,
    Field(discriminator="workload"),
]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class MachinePlan(_Part):
    nodes: list[Size] = Field(min_length=1)
    cpus: int | None = None
    distances: list[str] = []
    append: list[str] = []


class SamplingPlan(_Part):
    period_ms: int = Field(default=250, ge=10, le=60_000)
    sparse_every: int = Field(default=20, ge=1)
    """pagetypeinfo and slabinfo are read in every Nth round, and at marks."""


class PhasePlan(_Part):
    name: str = Field(pattern=r"^[a-z][a-z0-9-]*$")
    load: Load
    node: int | None = Field(default=None, ge=0)
    each_node: bool = False
    """Once for every node with memory, bound to it, as NAME-nodeN."""
    stall_s: float = Field(default=300.0, gt=0)
    """Longest time in which the workload neither prints nor sets a mark."""
    ceiling_s: float = Field(default=600.0, gt=0)

    @model_validator(mode="after")
    def _one_way_to_bind(self) -> PhasePlan:
        if self.each_node and self.node is not None:
            raise ValueError("node and each_node exclude each other")
        return self


class Plan(_Part):
    name: str = Field(pattern=r"^[a-z][a-z0-9-]*$")
    description: str = ""
    seed: int = Field(default=1, ge=0, lt=1 << 31)
    machine: MachinePlan
    sampling: SamplingPlan = SamplingPlan()
    phases: list[PhasePlan] = Field(min_length=1)

    @model_validator(mode="after")
    def _sound(self) -> Plan:
        nodes = self.nodes()
        parse_distances(self.machine.distances, len(nodes))
        names = [step.name for step in self.steps()]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"two phases are called {name!r}")
        for phase in self.phases:
            if phase.node is not None and phase.node >= len(nodes):
                raise ValueError(f"phase {phase.name!r}: there is no node {phase.node}")
            if phase.node is not None and not nodes[phase.node].size_bytes:
                raise ValueError(f"phase {phase.name!r}: node {phase.node} has no memory")
        return self

    def nodes(self) -> tuple[NodeSpec, ...]:
        """The machine's nodes with CPUs dealt out."""
        sizes = [parse_size_bytes(size) for size in self.machine.nodes]
        return spread_cpus(sizes, self.machine.cpus)

    def steps(self) -> Iterator[Step]:
        """The phases with ``each_node`` spelled out."""
        with_memory = [node for node, part in enumerate(self.nodes()) if part.size_bytes]
        uma = len(self.machine.nodes) == 1
        for phase in self.phases:
            if not phase.each_node or uma:
                yield Step(name=phase.name, node=phase.node, phase=phase)
                continue
            for node in with_memory:
                yield Step(name=f"{phase.name}-node{node}", node=node, phase=phase)


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One phase on one node (None: wherever the kernel puts it)."""

    name: str
    node: int | None
    phase: PhasePlan

    @property
    def mechanism(self) -> Mechanism:
        return self.phase.load

    def argv(self, seed: int, node: int | None) -> list[str]:
        """The command to run in the guest, bound to a node by the kernel's number of it."""
        return self.mechanism.argv(Placement(label=self.name, seed=seed, node=node))


def known_plans() -> list[str]:
    """Names of the experiments that come with mmscope."""
    return sorted(path.stem for path in DEFINITIONS.glob("*.toml"))


def load_plan(name_or_path: str) -> Plan:
    """A plan by its name, or from a file ending in .toml.

    Raises:
        UsageError: no such plan, not TOML, or a value out of place (names file and field).
    """
    path = Path(name_or_path)
    if path.suffix != ".toml":
        path = DEFINITIONS / f"{name_or_path}.toml"
        if not path.is_file():
            raise UsageError(
                f"no experiment is called {name_or_path!r}",
                fix=f"use one of {', '.join(known_plans())}, or the path of a .toml file",
            )
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UsageError(f"{path}: {error}") from None
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
