"""What every verb that boots needs first: a kernel, an image, an accelerator, a sound spec."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from harness.image.assembly import Image, build_image
from harness.kernel.fetch import obtain
from harness.kernel.kconfig import is_set, max_nodes, read_kconfig
from harness.kernel.kernel_file import file_arch
from harness.kernel.needs import check_guest
from harness.kernel.own import NO_FILES, OwnFiles, names_file, obtain_own
from harness.kernel.package import Kernel
from harness.machine.accel import choose_accel
from harness.machine.argv import platform_of
from harness.machine.qemu import find_qemu
from harness.machine.shape import Composition, check_needs, compose
from harness.machine.shape_catalog import find_shapes
from harness.machine.spec import (
    KernelLimits,
    MachineSpec,
    NodeSpec,
    check_spec,
    kernel_node_numbers,
    unseen_bytes,
)
from harness.units import format_size

DEFAULT_RUNS = Path("runs")
DEFAULT_ARCH = "x86_64"


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """A kernel and its guest image, ready to boot."""

    kernel: Kernel
    image: Image


def asked_machine(
    node: Sequence[str] | None,
    distance: Sequence[str] | None,
    cpus: int | None,
    append: Sequence[str] | None,
    *,
    arch: str = "x86_64",
    shape: Sequence[str] | None = None,
) -> Composition:
    """The machine that --shape, --node, --distance, --cpus and --append describe together; one
    node of 1 GiB where nothing lays out the nodes.

    Raises:
        UsageError: one of them is malformed, or they do not fit together.
    """
    words = tuple(word for text in append or [] for word in text.split())
    return compose(
        find_shapes(shape or []),
        arch=arch,
        nodes=tuple(node or ()),
        cpus=cpus,
        distances=tuple(distance or ()),
        append=words,
    )


def asked_spec(
    asked: Composition, prepared: Prepared, accel: str | None, note: Callable[[str], None]
) -> MachineSpec:
    """The asked machine with this kernel and image, checked, its accelerator chosen.

    Raises:
        UsageError: QEMU or the kernel would refuse it.
    """
    spec = replace(
        bare_spec(prepared, asked.nodes, distances=asked.distances, append=asked.append),
        hot=asked.hot,
        swap_bytes=asked.swap_bytes,
    )
    return checked_spec(spec, prepared.kernel, accel, note)


def chosen_arch(arch: str | None, kernel_name: str | None) -> str:
    """The architecture asked for; else that of the image that the kernel is given by.

    Raises:
        UsageError: no such architecture here, or the image is no kernel.
    """
    if arch is None and kernel_name is not None and names_file(kernel_name):
        arch = file_arch(Path(kernel_name).expanduser())
    arch = arch or DEFAULT_ARCH
    platform_of(arch)
    return arch


def prepare(
    arch: str,
    kernel_name: str | None,
    note: Callable[[str], None],
    shape: Composition | None = None,
    files: OwnFiles = NO_FILES,
) -> Prepared:
    """Fetches, verifies and builds what is not in the cache yet; ``files`` go with a kernel that
    is named by the path of its image.

    Raises:
        UsageError: a guest, or the shape, needs what this kernel is built without; or the image is
            no kernel of ``arch``.
    """
    find_qemu(arch)
    if kernel_name is not None and names_file(kernel_name):
        kernel = obtain_own(kernel_name, arch, files=files, progress=note)
    else:
        files.check_path(kernel_name)
        kernel = obtain(kernel_name, arch, progress=note)
        check_guest(read_kconfig(kernel.config_path), arch, kernel.release)
    modules: tuple[str, ...] = ()
    if shape is not None:
        check_needs(shape, read_kconfig(kernel.config_path), kernel.release)
        modules = shape.modules
    return Prepared(kernel=kernel, image=build_image(kernel, progress=note, modules=modules))


def bare_spec(
    prepared: Prepared,
    nodes: tuple[NodeSpec, ...],
    *,
    distances: tuple[tuple[int, int, int], ...] = (),
    append: tuple[str, ...] = (),
) -> MachineSpec:
    """A machine of these nodes with the prepared kernel and image, under TCG."""
    return MachineSpec(
        arch=prepared.kernel.arch,
        nodes=nodes,
        distances=distances,
        kernel=prepared.kernel.boot_image,
        initramfs=prepared.image.initramfs,
        root=prepared.image.root,
        append=append,
    )


def checked_spec(
    spec: MachineSpec, kernel: Kernel, requested_accel: str | None, note: Callable[[str], None]
) -> MachineSpec:
    """The spec with its accelerator chosen, after the kernel's own limits were asked.

    Raises:
        UsageError: QEMU or the kernel would refuse it.
    """
    config = read_kconfig(kernel.config_path)
    numa = is_set(config, "CONFIG_NUMA")
    limits = KernelLimits(
        max_nodes=max_nodes(config),
        numa=numa,
        pae=spec.arch != "i386" or is_set(config, "CONFIG_X86_PAE"),
        release=kernel.release,
    )
    check_spec(spec, limits)
    if unseen := unseen_bytes(spec, limits):
        note(
            f"{kernel.release} has no PAE: the {format_size(unseen)} above 4 GiB stay unused "
            f"(686-pae kernels use them)"
        )
    numbers = kernel_node_numbers(spec)
    if list(numbers) != sorted(numbers):
        pairs = ", ".join(f"{ours} is {theirs}" for ours, theirs in enumerate(numbers))
        note(f"nodes without CPUs are numbered last by this kernel: node {pairs}")
    requested = requested_accel or os.environ.get("MMSCOPE_ACCEL", "auto")
    with tempfile.TemporaryDirectory(prefix="mmscope-probe-") as scratch:
        accel = choose_accel(requested, spec, scratch=Path(scratch), progress=note)
    return replace(spec, accel=accel)
