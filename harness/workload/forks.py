"""Processes forked from one with memory that write to part of it and exit: copy on write."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from harness.workload.mechanism import Count, Mechanism, Placement, Size, own_program


class Forks(Mechanism):
    workload: Literal["forks"] = "forks"
    processes: Count
    bytes: Size
    """Memory of the process that is forked."""
    parallel: int = Field(default=4, ge=1, le=1024)
    write: int = Field(default=25, ge=0, le=100)
    """Percentage of its pages that each child writes to."""

    def argv(self, placement: Placement) -> list[str]:
        argv = own_program("forks", placement, "--processes", str(self.processes))
        argv += ["--bytes", self.bytes, "--parallel", str(self.parallel)]
        return [*argv, "--write", str(self.write)]
