"""What a run was made of, in the manifest's words."""

from __future__ import annotations

from harness.image.assembly import Image
from harness.kernel.package import Kernel
from harness.machine.argv import cpu_model, kernel_command_line
from harness.machine.qemu import qemu_version
from harness.machine.shape import UNSHAPED, Shaped
from harness.machine.spec import MachineSpec
from harness.record.manifest import ImageRecord, KernelRecord, MachineRecord, NodeRecord


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


def machine_record(spec: MachineSpec, argv: list[str], shaped: Shaped = UNSHAPED) -> MachineRecord:
    """The manifest's words for a machine that was started, and shaped (``Guest.shaped``)."""
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
        shapes=list(shaped.names),
        steps=list(shaped.steps),
    )
