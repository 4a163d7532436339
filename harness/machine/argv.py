"""From a machine's description to QEMU's argument list: a pure function."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from harness.errors import UsageError
from harness.machine.spec import CHUNK_ARCHES, MachineSpec
from harness.units import format_size

CONTROL_PORT = "org.mmscope.control"
STREAM_PORT = "org.mmscope.stream"
TRACE_PORT = "org.mmscope.trace"
ROOT_SERIAL = "mmscope-root"
SCRATCH_SERIAL = "mmscope-scratch"
SWAP_SERIAL = "mmscope-swap"
DMA_SERIAL = "mmscope-dma"


_DMA_DISK_BYTES = 64 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Platform:
    """What differs between architectures."""

    binary: str
    debian_package: str
    machine: str
    cpu_model: str
    console: str
    parameters: tuple[str, ...]
    control: str = ""
    """The guest's name of the serial port that the agent answers on, where there is no PCI and so
    no virtio: neither disks nor network, and no streams of samples or traces. It takes requests
    from the console's port: both are channels of one chip, and Linux hands what either channel
    receives to the one that was opened first (drivers/tty/serial/pmac_zilog.c, pmz_interrupt)."""


_NO_KASLR = "nokaslr"
_COMMON_PARAMETERS = (
    "panic=-1",  # with -no-reboot a panic ends QEMU at once
    "psi=1",  # pressure files; stock Debian has them compiled in and off
    _NO_KASLR,
    "mitigations=off",
    "cryptomgr.notests",
    "audit=0",
    "random.trust_cpu=on",
)

PLATFORMS: Mapping[str, Platform] = MappingProxyType(
    {
        "x86_64": Platform(
            binary="qemu-system-x86_64",
            debian_package="qemu-system-x86",
            machine="q35",
            # rdrand: without it the guest's random pool, which ssh keys wait for, takes a second
            cpu_model="Nehalem,+rdrand",
            console="ttyS0",
            # no_timer_check: under TCG the IO-APIC timer test may fail on a loaded host
            parameters=("tsc=reliable", "no_timer_check"),
        ),
        "arm64": Platform(
            binary="qemu-system-aarch64",
            debian_package="qemu-system-arm",
            machine="virt,gic-version=3",
            # has every page size, and no pointer authentication, which TCG computes slowly
            cpu_model="cortex-a76",
            console="ttyAMA0",
            parameters=(),
        ),
        "i386": Platform(
            # not qemu-system-i386, whose PAE guests hang once they have memory above 4 GiB
            # (seen with 7.2); so the CPU is that of x86_64 guests, left in its 32-bit modes. It has
            # all that 686-pae kernels want; Linux turns PAT off on Intel's older models, and huge
            # pages on the 32-bit Atom.
            binary="qemu-system-x86_64",
            debian_package="qemu-system-x86",
            machine="q35",
            cpu_model="Nehalem,+rdrand",
            console="ttyS0",
            parameters=("tsc=reliable", "no_timer_check"),
        ),
        "m68k": Platform(
            binary="qemu-system-m68k",
            debian_package="qemu-system-misc",
            machine="q800",
            cpu_model="m68040",
            console="ttyS0",
            parameters=(),
            control="/dev/ttyS1",
        ),
    }
)


def platform_of(arch: str) -> Platform:
    """Raises UsageError for an architecture that mmscope does not boot."""
    try:
        return PLATFORMS[arch]
    except KeyError:
        raise UsageError(
            f"unknown architecture {arch!r}", fix=f"use one of: {', '.join(PLATFORMS)}"
        ) from None


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoints:
    """File descriptors that QEMU inherits: sockets, and one memory file a node with memory."""

    qmp: int
    console: int
    control: int
    stream: int
    trace: int
    memory: tuple[int | None, ...]
    """Aligned with the spec's nodes, then its hot memory; None for a memory-less node."""
    swap: int | None = None
    """The swap disk, where the spec has one."""
    restored: bool = False
    """RAM and disk are a saved machine's: QEMU waits for its state instead of booting."""
    private_memory: bool = False
    """The guest's writes stay in QEMU and never reach the memory files."""


def kernel_command_line(spec: MachineSpec) -> str:
    """The guest's kernel parameters, the user's own last so that they win."""
    platform = platform_of(spec.arch)
    words = [f"console={platform.console}", *_COMMON_PARAMETERS, *platform.parameters]
    if spec.kaslr:
        words.remove(_NO_KASLR)  # no later word would take it back
    if spec.root is None:
        words.append("mmscope.root=none")
    if platform.control:
        words.append(f"mmscope.control={platform.control}")
        words.append(f"mmscope.requests=/dev/{platform.console}")
    return " ".join([*words, *spec.append])


def cpu_model(spec: MachineSpec) -> str:
    """The emulated CPU: the host's own under KVM."""
    return "host" if spec.accel == "kvm" else platform_of(spec.arch).cpu_model


def qemu_argv(spec: MachineSpec, endpoints: Endpoints, *, one_thread: bool = False) -> list[str]:
    """QEMU's whole argument list, program first.

    The guest's RAM lives in memory files shared with the host (one a node); every channel is an
    inherited socket, so there is nothing to clean up and nothing another user could connect to.
    ``one_thread`` has all emulated CPUs take turns in one thread (``harness.machine.qemu``).
    """
    platform = platform_of(spec.arch)
    machine = platform.machine
    if spec.arch == "arm64" and spec.accel == "kvm":
        machine = "virt,gic-version=host"
    take_turns = one_thread and spec.accel == "tcg" and spec.cpus > 1
    if not spec.is_numa or spec.arch in CHUNK_ARCHES:
        machine += ",memory-backend=ram0"
    argv = [
        platform.binary,
        "-name",
        "mmscope",
        "-nodefaults",
        "-no-user-config",
        "-display",
        "none",
        "-no-reboot",
        "-sandbox",
        "on,obsolete=deny,elevateprivileges=deny",
        "-machine",
        machine,
        "-accel",
        f"{spec.accel},thread=single" if take_turns else spec.accel,
        "-cpu",
        cpu_model(spec),
        "-smp",
        str(spec.cpus),
        "-m",
        _memory_size(spec),
    ]
    if spec.arch in CHUNK_ARCHES and spec.is_numa:
        argv.append("-S")  # until its boot records name the pieces of its memory
    argv += _memory_arguments(spec, endpoints)
    argv += _hot_arguments(spec, endpoints)
    argv += [
        "-kernel",
        str(spec.kernel),
        "-initrd",
        str(spec.initramfs),
        "-append",
        kernel_command_line(spec),
        "-chardev",
        f"socket,id=console,fd={endpoints.console}",
        "-serial",
        "chardev:console",
        "-chardev",
        f"socket,id=qmp,fd={endpoints.qmp}",
        "-mon",
        "chardev=qmp,mode=control",
    ]
    argv += _channels(endpoints) if not platform.control else _serial_channel(endpoints)
    if spec.root is not None:
        argv += [
            "-blockdev",
            f"driver=raw,node-name=root,read-only=on,file.driver=file,file.filename={spec.root}",
            "-device",
            f"virtio-blk-pci,drive=root,serial={ROOT_SERIAL}",
            "-blockdev",
            f"driver=null-co,node-name=scratch,size={spec.scratch_bytes},read-zeroes=on",
            "-device",
            f"virtio-blk-pci,drive=scratch,serial={SCRATCH_SERIAL}",
        ]
    if endpoints.swap is not None:
        argv += [
            # No lock: the file is in memory, and nobody else has it.
            "-blockdev",
            (
                "driver=raw,node-name=swap,file.driver=file,file.locking=off,"
                f"file.filename=/proc/self/fd/{endpoints.swap}"
            ),
            "-device",
            f"virtio-blk-pci,drive=swap,serial={SWAP_SERIAL}",
        ]
    if spec.dma_disk:
        argv += [
            "-blockdev",
            f"driver=null-co,node-name=dma,size={_DMA_DISK_BYTES},read-zeroes=on",
            # iommu_platform: the driver must use the DMA interface even where no IOMMU is; the
            # longest queue has the largest ring.
            "-device",
            (
                f"virtio-blk-pci,drive=dma,serial={DMA_SERIAL},disable-legacy=on,"
                "iommu_platform=on,queue-size=1024"
            ),
        ]
    if spec.network:
        argv += [
            "-netdev",
            "user,id=net,restrict=on,hostfwd=tcp:127.0.0.1:0-:22",
            "-device",
            "virtio-net-pci,netdev=net,romfile=",
        ]
    if endpoints.restored:
        argv += ["-incoming", "defer"]
    return argv


def _channels(endpoints: Endpoints) -> list[str]:
    return [
        "-device",
        # no ioeventfd: what the guest writes is taken at once by the thread that writes it, so
        # that no buffers pile up in the guest, to be allocated and freed again
        "virtio-serial-pci,ioeventfd=off",
        "-chardev",
        f"socket,id=control,fd={endpoints.control}",
        "-device",
        f"virtserialport,chardev=control,name={CONTROL_PORT}",
        "-chardev",
        f"socket,id=stream,fd={endpoints.stream}",
        "-device",
        f"virtserialport,chardev=stream,name={STREAM_PORT}",
        "-chardev",
        f"socket,id=trace,fd={endpoints.trace}",
        "-device",
        f"virtserialport,chardev=trace,name={TRACE_PORT}",
    ]


def _serial_channel(endpoints: Endpoints) -> list[str]:
    return [
        "-chardev",
        f"socket,id=control,fd={endpoints.control}",
        "-serial",
        "chardev:control",
    ]


def _memory_arguments(spec: MachineSpec, endpoints: Endpoints) -> list[str]:
    argv: list[str] = []
    share = "off" if endpoints.private_memory else "on"
    if spec.arch in CHUNK_ARCHES:
        backend = f"memory-backend-file,id=ram0,size={spec.span_bytes}"
        return ["-object", f"{backend},mem-path=/proc/self/fd/{endpoints.memory[0]},share={share}"]
    files = endpoints.memory[: len(spec.nodes)]
    for node, (part, memory_fd) in enumerate(zip(spec.nodes, files, strict=True)):
        if part.size_bytes:
            assert memory_fd is not None
            argv += [
                "-object",
                (
                    f"memory-backend-file,id=ram{node},size={part.size_bytes},"
                    f"mem-path=/proc/self/fd/{memory_fd},share={share}"
                ),
            ]
        if spec.is_numa:
            memdev = f",memdev=ram{node}" if part.size_bytes else ""
            cpus = "".join(f",cpus={cpu}" for cpu in part.cpus)
            argv += ["-numa", f"node,nodeid={node}{memdev}{cpus}"]
    if spec.is_numa:
        for source, target, distance in spec.distances:
            argv += ["-numa", f"dist,src={source},dst={target},val={distance}"]
    return argv


def _memory_size(spec: MachineSpec) -> str:
    """``-m``: a machine that memory is never added to has no slots for it."""
    size = format_size(spec.span_bytes)
    if not spec.hot:
        return size
    most = format_size(spec.memory_bytes + spec.hot_bytes)
    return f"size={size},slots={len(spec.hot)},maxmem={most}"


def hot_backend(spec: MachineSpec, index: int) -> str:
    """Name of the backend of ``spec.hot[index]``: numbered on from the nodes', as its file is."""
    return f"ram{len(spec.nodes) + index}"


def hot_device(index: int) -> str:
    """Name of the device of ``spec.hot[index]``."""
    return f"hot{index}"


def _hot_arguments(spec: MachineSpec, endpoints: Endpoints) -> list[str]:
    """Devices that must be there from the start: what sits on PCI's root bus, which takes none
    later, and, in a machine that goes on from a saved one, what was plugged into that. That came
    later there, and took what addresses were left."""
    argv: list[str] = []
    share = "off" if endpoints.private_memory else "on"
    files = endpoints.memory[len(spec.nodes) :]
    hot = sorted(enumerate(spec.hot), key=lambda pair: pair[1].by == "pc-dimm")
    for index, part in hot:
        memory_fd = files[index]
        if part.by == "pc-dimm" and not endpoints.restored:
            continue
        backend = hot_backend(spec, index)
        device = f"id={hot_device(index)},memdev={backend},node={part.node}"
        argv += [
            "-object",
            (
                f"memory-backend-file,id={backend},size={part.size_bytes},"
                f"mem-path=/proc/self/fd/{memory_fd},share={share}"
            ),
            "-device",
            f"virtio-mem-pci,{device},requested-size=0"
            if part.by == "virtio-mem"
            else f"pc-dimm,{device}",
        ]
    return argv
