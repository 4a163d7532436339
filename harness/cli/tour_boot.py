"""A machine of the tour, booted: what ``harness.tour`` leaves to the command."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path

from harness.cli.prepare import Prepared, asked_machine, asked_spec, prepare
from harness.errors import InfrastructureError, MmscopeError
from harness.kernel.custom import custom_kernels
from harness.kernel.zoo import find_custom
from harness.machine.spec import MachineSpec
from harness.record.rundir import RunDirectory
from harness.session.guest import Guest
from harness.tour.evidence import Evidence
from harness.tour.stop import Stop, StopBoot
from harness.tour.walk import Booter
from harness.units import parse_size_bytes


def check_built(arch: str, name: str | None) -> None:
    """Whether a kernel would have to be built first.

    Raises:
        InfrastructureError: it is a custom one and not in the cache; says how to build it.
    """
    custom = custom_kernels().get(name or "")
    if custom is None:
        return
    custom.check_arch(arch)
    if find_custom(custom, arch) is None:
        where = "" if arch == "x86_64" else f" --arch {arch}"
        raise InfrastructureError(
            f"the kernel {name!r} is not built for {arch}",
            fix=f"mmscope kernels build {name}{where}, or give --build",
        )


def prepare_kernels(
    stops: Iterable[Stop], *, build: bool, note: Callable[[str], None]
) -> dict[tuple[str, str | None], MmscopeError]:
    """Fetches every kernel of the stops once, and its image; those that cannot be had, and why."""
    failed: dict[tuple[str, str | None], MmscopeError] = {}
    wanted = dict.fromkeys((part.arch, part.kernel) for stop in stops for part in stop.boots)
    for arch, name in wanted:
        try:
            if not build:
                check_built(arch, name)
            prepare(arch, name, note)
        except MmscopeError as error:
            failed[arch, name] = error
    return failed


def booter(accel: str | None, note: Callable[[str], None]) -> Booter:
    """What boots the machines of a stop."""

    @contextlib.contextmanager
    def boot(part: StopBoot, directory: Path) -> Iterator[Evidence]:
        prepared = prepare(part.arch, part.kernel, note)
        spec = part_spec(part, prepared, accel, note)
        with Guest(spec, RunDirectory(directory), progress=note) as guest:
            yield Evidence(
                guest,
                kernel=prepared.kernel,
                image=prepared.image,
                directory=directory,
                label=part.label,
                shapes=part.shapes,
                progress=note,
            )

    return boot


def part_spec(
    part: StopBoot, prepared: Prepared, accel: str | None, note: Callable[[str], None]
) -> MachineSpec:
    """The machine of a boot, checked.

    Raises:
        UsageError: QEMU or the kernel would refuse it.
    """
    asked = asked_machine(part.nodes, part.distances, part.cpus, [part.append])
    spec = asked_spec(asked, prepared, accel, note)
    if swap_bytes := parse_size_bytes(part.swap):
        spec = replace(spec, swap_bytes=swap_bytes)
    return spec
