"""Every mechanism under the name that experiments give it, and several of them at once."""

from __future__ import annotations

import shlex
from typing import Annotated, Literal

from pydantic import Field

from harness.workload.command import Command
from harness.workload.fallback import Fallback
from harness.workload.files import Files
from harness.workload.forks import Forks
from harness.workload.fragment import Fragment
from harness.workload.hugetlb import Hugetlb
from harness.workload.loopback import Loopback
from harness.workload.mechanism import BUSYBOX, Mechanism, Placement
from harness.workload.pagecache import Pagecache
from harness.workload.pktring import Pktring
from harness.workload.rebind import Rebind
from harness.workload.slabchurn import Slabchurn
from harness.workload.stress_ng import StressNg
from harness.workload.thp import Thp
from harness.workload.thrash import Thrash

SingleLoad = Annotated[
    Command
    | Fallback
    | Files
    | Forks
    | Fragment
    | Hugetlb
    | Loopback
    | Pagecache
    | Pktring
    | Rebind
    | Slabchurn
    | StressNg
    | Thp
    | Thrash,
    Field(discriminator="workload"),
]


class Together(Mechanism):
    """Several loads that start at once; ends when all have ended, with the worst status.

    Each has a seed of its own, counted up from the phase's.
    """

    workload: Literal["together"] = "together"
    loads: list[SingleLoad] = Field(min_length=2, max_length=16)

    def argv(self, placement: Placement) -> list[str]:
        lines = []
        for number, load in enumerate(self.loads):
            seed = placement.seed + number
            label = None if placement.label is None else f"{placement.label}.{number}"
            part = placement.model_copy(update={"seed": seed, "label": label})
            lines.append(f'{shlex.join(load.argv(part))} & jobs="$jobs $!"')
        lines.append("for job in $jobs; do wait $job; s=$?; [ $s -gt $worst ] && worst=$s; done")
        lines.append("exit $worst")
        return [BUSYBOX, "sh", "-c", "\n".join(["worst=0", *lines])]


Load = Annotated[
    Command
    | Fallback
    | Files
    | Forks
    | Fragment
    | Hugetlb
    | Loopback
    | Pagecache
    | Pktring
    | Rebind
    | Slabchurn
    | StressNg
    | Thp
    | Thrash
    | Together,
    Field(discriminator="workload"),
]
