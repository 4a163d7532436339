"""A machine of the tour, booted: what ``harness.tour`` leaves to the command."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path

from harness.cli.prepare import asked_spec, prepare
from harness.errors import InfrastructureError, MmscopeError
from harness.experiment.shaping import apply_shape
from harness.kernel.custom import custom_kernels
from harness.kernel.own import NO_FILES, OwnFiles
from harness.kernel.zoo import find_custom
from harness.machine.shape import Composition, Layout, compose
from harness.machine.shape_catalog import find_shapes
from harness.record.rundir import RunDirectory
from harness.session.guest import Guest
from harness.tour.evidence import Evidence
from harness.tour.stop import Stop, StopBoot
from harness.tour.walk import Booter
from harness.units import parse_size_bytes


def check_built(arch: str, name: str) -> None:
    """Whether a kernel would have to be built first.

    Raises:
        InfrastructureError: it is a custom one and not in the cache; says how to build it.
    """
    custom = custom_kernels().get(name)
    if custom is None:
        return
    custom.check_arch(arch)
    if find_custom(custom, arch) is None:
        where = "" if arch == "x86_64" else f" --arch {arch}"
        raise InfrastructureError(
            f"the kernel {name!r} is not built for {arch}",
            fix=f"mmscope kernels build {name}{where}, or give --build",
        )


def prepare_stops(
    stops: Iterable[Stop],
    *,
    build: bool,
    note: Callable[[str], None],
    files: OwnFiles = NO_FILES,
) -> dict[str, MmscopeError]:
    """Fetches the kernels and makes the images of all boots, each once.

    By the name of a stop that cannot be walked, the first reason. ``files`` go with a kernel of
    one's own that the stops are walked on.
    """
    failed: dict[str, MmscopeError] = {}
    known: dict[tuple[str, str, tuple[str, ...]], MmscopeError | None] = {}
    for stop in stops:
        for part in stop.boots:
            key = (part.arch, part.kernel, part.shapes)
            if key not in known:
                known[key] = _lacks(part, files, build=build, note=note)
            error = known[key]
            if error is not None:
                failed[stop.name] = error
                break  # what else it would need is of no use now
    return failed


def _lacks(
    part: StopBoot, files: OwnFiles, *, build: bool, note: Callable[[str], None]
) -> MmscopeError | None:
    try:
        if not build:
            check_built(part.arch, part.kernel)
        prepare(part.arch, part.kernel, note, machine_of(part), files)
    except MmscopeError as error:
        return error
    return None


def machine_of(part: StopBoot) -> Composition:
    """The machine of a boot: its shapes, and its own words where they say nothing.

    Raises:
        UsageError: they do not fit together.
    """
    return compose(
        find_shapes(part.shapes),
        arch=part.arch,
        append=part.append.split(),
        default=Layout(nodes=part.nodes, cpus=part.cpus, distances=part.distances),
    )


def booter(accel: str | None, note: Callable[[str], None], files: OwnFiles = NO_FILES) -> Booter:
    """What boots the machines of a stop; ``files`` go with a kernel of one's own."""

    @contextlib.contextmanager
    def boot(part: StopBoot, directory: Path) -> Iterator[Evidence]:
        machine = machine_of(part)
        prepared = prepare(part.arch, part.kernel, note, machine, files)
        # A stop's own disk, which it turns on when it wants to; a shape's would be on from boot.
        swap_bytes = parse_size_bytes(part.swap) or machine.swap_bytes
        spec = asked_spec(replace(machine, swap_bytes=swap_bytes), prepared, accel, note)
        with Guest(spec, RunDirectory(directory), progress=note) as guest:
            apply_shape(guest, machine, note)
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
