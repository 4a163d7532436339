"""What every workload has in common: where it runs, its seed, and the command it becomes."""

from __future__ import annotations

from abc import abstractmethod
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from harness.errors import UsageError
from harness.units import parse_size_bytes

PROGRAMS = "/run/mmscope/bin"
"""Where the guest keeps our own programs."""

BUSYBOX = f"{PROGRAMS}/busybox"


def _check_size(text: str) -> str:
    try:
        parse_size_bytes(text)
    except UsageError as error:
        raise ValueError(f"{error.message}; {error.fix}") from None
    return text


Size = Annotated[str, AfterValidator(_check_size)]
"""A number of bytes written as 64M."""

Part = Annotated[str, Field(pattern=r"^([1-9]\d?|100)%$")]
"""A percentage of the memory that is free in the guest, written as 85%."""

Count = Annotated[int, Field(ge=1, le=10_000_000)]


class Placement(BaseModel):
    """Where and with which seed a workload runs; decided by the plan, not by the mechanism."""

    model_config = ConfigDict(frozen=True)

    label: str | None
    """Under which the workload sets marks in the sample stream; None: no sampler runs."""
    seed: int
    node: int | None = None


class Mechanism(BaseModel):
    """Base of all mechanisms; unknown parameters are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    @abstractmethod
    def argv(self, placement: Placement) -> list[str]:
        """The command that runs in the guest."""


def own_program(name: str, placement: Placement, *arguments: str) -> list[str]:
    """The command line of one of our C programs, with their common options."""
    argv = [f"{PROGRAMS}/{name}", "--seed", str(placement.seed)]
    if placement.label is not None:
        argv += ["--label", placement.label]
    if placement.node is not None:
        argv += ["--node", str(placement.node)]
    return [*argv, *arguments]
