"""What a machine is made of: an immutable description, checked before anything starts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.errors import UsageError
from harness.machine.chunks import MAX_CHUNKS, MAX_SPAN_BYTES, place_chunks
from harness.units import format_size

MIB = 1 << 20

CHUNK_ARCHES = frozenset({"m68k"})
"""Where a node is a piece of memory that the kernel is told of, not a thing of the firmware."""

NODE_ALIGN_BYTES = 2 * MIB
"""Memory of a node must divide by this: the x86 memory map and memory backends want it whole."""

MIN_MEMORY_BYTES = 128 * MIB
"""A stock kernel with its initramfs does not unpack in less."""

MAX_MEMORY_BYTES = 1 << 40
"""The emulated CPUs address 40 bits."""

PAE_MEMORY_BYTES = 62 << 30
"""i386 kernels address 36 bits at most, and q35 leaves a hole of 2 GiB below 4 GiB."""

_Q35_SPLIT_BYTES = 0xB000_0000
_Q35_LOW_BYTES = 2 << 30
"""QEMU's q35 puts RAM of this size or more into two pieces: so much of it below 4 GiB, the rest
above."""

MAX_NODES = 128
"""QEMU's own limit (MAX_NODES)."""

REMOTE_DISTANCE = 20
"""What QEMU and ACPI take for two nodes of which nothing is said."""

_ACPI_ARCHES = frozenset({"x86_64", "i386"})
"""Where the kernel learns of its nodes from ACPI tables."""

MAX_CPUS = 255
"""Limit of the q35 machine without an IOMMU, and above what virt takes with a GICv3 by default."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeSpec:
    """One NUMA node. ``size_bytes`` 0 is a memory-less node; ``cpus`` may be empty."""

    size_bytes: int
    cpus: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class HotMemory:
    """Memory that the guest does not boot with: a device that is given it when it runs."""

    by: str
    """``pc-dimm``: plugged in; ``virtio-mem``: there from the start, and empty until it is asked
    to grow."""
    size_bytes: int
    node: int = 0


HOT_BY = ("pc-dimm", "virtio-mem")

HOT_ALIGN_BYTES = 128 * MIB
"""Hot-added memory comes in whole memory blocks: a section of x86 and of arm64 with 4 KiB or
16 KiB pages (64 KiB: 512 MiB)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MachineSpec:
    """Everything that decides QEMU's argument list, and nothing that does not.

    A single node is plain UMA: no NUMA description is given to the guest at all.
    """

    arch: str
    accel: str = "tcg"
    nodes: tuple[NodeSpec, ...]
    distances: tuple[tuple[int, int, int], ...] = ()
    """(from, to, distance); what is not listed is QEMU's default, 10 local and 20 remote."""
    kernel: Path
    initramfs: Path
    root: Path | None = None
    """Read-only root file system, or None for a guest that stays in its initramfs."""
    append: tuple[str, ...] = ()
    """Extra kernel parameters, after ours."""
    kaslr: bool = False
    """Whether the kernel may choose its addresses at random; a kernel entered through PVH
    cannot, only one that unpacks itself (x86_64) or gets a seed from QEMU (arm64)."""
    scratch_bytes: int = 4 << 30
    """Size of the null block device that page-cache loads read and write."""
    swap_bytes: int = 0
    """Size of an empty disk in host memory for the guest to swap to; 0: there is none."""
    dma_disk: bool = False
    """A second null disk whose rings the driver takes from DMA memory, which is contiguous memory
    (CMA) on kernels that have it: taken each time the driver is bound to the disk."""
    hot: tuple[HotMemory, ...] = ()
    """Memory to be added once the guest runs; see ``harness.machine.hotplug``."""
    network: bool = False
    """User-mode network, loopback only, no way out, one forwarded port for ssh."""

    @property
    def is_numa(self) -> bool:
        return len(self.nodes) > 1

    @property
    def cpus(self) -> int:
        return sum(len(node.cpus) for node in self.nodes)

    @property
    def memory_bytes(self) -> int:
        return sum(node.size_bytes for node in self.nodes)

    @property
    def span_bytes(self) -> int:
        """What QEMU is asked for: the memory, and where nodes are pieces of one the holes too."""
        if self.arch not in CHUNK_ARCHES:
            return self.memory_bytes
        return place_chunks([node.size_bytes for node in self.nodes])[-1].end

    @property
    def hot_bytes(self) -> int:
        """What can be added to ``memory_bytes``."""
        return sum(part.size_bytes for part in self.hot)


def spread_cpus(sizes_bytes: Sequence[int], cpus: int | None) -> tuple[NodeSpec, ...]:
    """Nodes of these sizes with CPUs dealt out in contiguous, even blocks.

    Memory-less nodes come first when there are fewer CPUs than nodes, since a node with neither
    memory nor CPUs does not exist for the kernel. Without a number every node gets one CPU, and
    a machine at least two.

    Raises:
        UsageError: too few CPUs for the memory-less nodes, or a number out of range.
    """
    count = max(2, len(sizes_bytes)) if cpus is None else cpus
    memoryless = [node for node, size in enumerate(sizes_bytes) if size == 0]
    if not 1 <= count <= MAX_CPUS:
        raise UsageError(f"--cpus {count}: between 1 and {MAX_CPUS} are possible")
    if count < len(memoryless):
        raise UsageError(
            f"--cpus {count}: {len(memoryless)} memory-less nodes need at least one CPU each",
            fix=f"use --cpus {len(memoryless)} or more",
        )
    share = [0] * len(sizes_bytes)
    order = memoryless + [node for node in range(len(sizes_bytes)) if node not in memoryless]
    for turn in range(count):
        share[order[turn % len(order)]] += 1
    nodes: list[NodeSpec] = []
    first = 0
    for size_bytes, number in zip(sizes_bytes, share, strict=True):
        nodes.append(NodeSpec(size_bytes=size_bytes, cpus=tuple(range(first, first + number))))
        first += number
    return tuple(nodes)


def kernel_node_numbers(spec: MachineSpec) -> tuple[int, ...]:
    """The guest kernel's number of each of our nodes.

    Kernel: arch/x86/mm/srat.c and drivers/acpi/numa/srat.c number nodes in the order in which
    the firmware's table names them, and QEMU lists CPUs before memory; so nodes without CPUs
    come last. arm64 reads the numbers themselves from the device tree.
    """
    order = list(range(len(spec.nodes)))
    if spec.arch in _ACPI_ARCHES:
        order.sort(key=lambda node: not spec.nodes[node].cpus)
    return tuple(order.index(node) for node in range(len(spec.nodes)))


def parse_distances(texts: Sequence[str], nodes: int) -> tuple[tuple[int, int, int], ...]:
    """``["0,1=20"]`` → both directions, or one where the other is given too.

    QEMU wants all distances or none, so that pairs not named get its default, 20.

    Raises:
        UsageError: malformed, unknown node, or a distance that ACPI and the kernel do not take.
    """
    given: dict[tuple[int, int], int] = {}
    for text in texts:
        pair, sign, value = text.partition("=")
        ends = pair.split(",")
        if not sign or len(ends) != 2 or not all(part.strip().isdigit() for part in (*ends, value)):
            raise UsageError(
                f"--distance {text!r} is not FROM,TO=DISTANCE", fix="write for example 0,1=20"
            )
        source, target, distance = int(ends[0]), int(ends[1]), int(value)
        if max(source, target) >= nodes:
            raise UsageError(
                f"--distance {text!r}: there is no node {max(source, target)}",
                fix=f"the {nodes} nodes are numbered 0 to {nodes - 1}",
            )
        low, high = (10, 10) if source == target else (11, 254)
        if not low <= distance <= high:
            raise UsageError(
                f"--distance {text!r}: {distance} is out of range",
                fix="a node is 10 from itself and 11 to 254 from any other",
            )
        given[source, target] = distance
    for (source, target), distance in list(given.items()):
        given.setdefault((target, source), distance)
    if given:
        for source in range(nodes):
            for target in range(nodes):
                given.setdefault((source, target), REMOTE_DISTANCE)
    return tuple((s, t, d) for (s, t), d in sorted(given.items()) if s != t)


@dataclass(frozen=True, slots=True, kw_only=True)
class KernelLimits:
    """What the guest kernel's configuration allows, read from its .config."""

    max_nodes: int
    numa: bool = True
    pae: bool = True
    """False for a kernel that sees no memory above 4 GiB; only i386 has such kernels."""
    release: str = ""


def q35_low_bytes(memory_bytes: int) -> int:
    """How much of a q35 machine's memory lies below 4 GiB."""
    return memory_bytes if memory_bytes < _Q35_SPLIT_BYTES else _Q35_LOW_BYTES


def unseen_bytes(spec: MachineSpec, limits: KernelLimits) -> int:
    """How much of the memory lies where this kernel cannot address it."""
    return 0 if limits.pae else spec.memory_bytes - q35_low_bytes(spec.memory_bytes)


def check_spec(spec: MachineSpec, limits: KernelLimits) -> None:
    """Raises UsageError for what QEMU or the kernel would refuse, naming it and the remedy."""
    if not spec.nodes:
        raise UsageError("a machine needs at least one node", fix="add --node 512M")
    for node, part in enumerate(spec.nodes):
        if part.size_bytes % NODE_ALIGN_BYTES:
            raise UsageError(
                f"node {node}: {format_size(part.size_bytes)} is not a multiple of "
                f"{format_size(NODE_ALIGN_BYTES)}, QEMU refuses it",
                fix=f"use --node {max(2, -(-part.size_bytes // NODE_ALIGN_BYTES) * 2)}M",
            )
    if spec.memory_bytes < MIN_MEMORY_BYTES:
        raise UsageError(
            f"{format_size(spec.memory_bytes)} of memory in all is too little to boot",
            fix=f"give at least {format_size(MIN_MEMORY_BYTES)}",
        )
    most_bytes = PAE_MEMORY_BYTES if spec.arch == "i386" else MAX_MEMORY_BYTES
    if spec.memory_bytes + spec.hot_bytes > most_bytes:
        raise UsageError(
            f"{format_size(spec.memory_bytes + spec.hot_bytes)} of memory in all is more than the "
            f"emulated CPU can address",
            fix=f"give at most {format_size(most_bytes)}",
        )
    if spec.arch in CHUNK_ARCHES:
        _check_chunks(spec)
    elif spec.is_numa and not limits.numa:
        raise UsageError(
            f"kernel {limits.release} is built without CONFIG_NUMA: {len(spec.nodes)} nodes asked",
            fix="give a single --node, or another --kernel",
        )
    if len(spec.nodes) > MAX_NODES:
        raise UsageError(
            f"QEMU takes {MAX_NODES} nodes, {len(spec.nodes)} asked",
            fix=f"give at most {MAX_NODES} --node options",
        )
    if len(spec.nodes) > limits.max_nodes:
        raise UsageError(
            f"kernel {limits.release} supports {limits.max_nodes} nodes, {len(spec.nodes)} asked",
            fix=f"give at most {limits.max_nodes} --node options",
        )
    if spec.swap_bytes % NODE_ALIGN_BYTES:
        raise UsageError(
            f"a swap disk of {format_size(spec.swap_bytes)} is not a multiple of "
            f"{format_size(NODE_ALIGN_BYTES)}",
            fix="give a whole number of MiB, divisible by 2",
        )
    _check_hot(spec)
    if spec.root is None and spec.network:
        raise UsageError("a guest without a root file system has no ssh server")


def _check_chunks(spec: MachineSpec) -> None:
    if spec.cpus > 1:
        raise UsageError(f"{spec.arch} machines have one CPU", fix="use --cpus 1")
    if len(spec.nodes) > MAX_CHUNKS:
        raise UsageError(
            f"{spec.arch} kernels keep {MAX_CHUNKS} pieces of memory, {len(spec.nodes)} asked",
            fix=f"give at most {MAX_CHUNKS} --node options",
        )
    if any(not part.size_bytes for part in spec.nodes):
        raise UsageError(f"{spec.arch} has no nodes without memory", fix="leave out --node 0")
    if spec.span_bytes > MAX_SPAN_BYTES:
        raise UsageError(
            f"{format_size(spec.span_bytes)} with the holes between the nodes is more than the "
            f"machine takes",
            fix=f"stay below {format_size(MAX_SPAN_BYTES)} in all",
        )
    if spec.distances or spec.swap_bytes or spec.hot or spec.dma_disk or spec.network:
        raise UsageError(
            f"{spec.arch} guests have no distances between nodes, no disks and no network",
            fix="leave these out, or use --arch x86_64",
        )


def _check_hot(spec: MachineSpec) -> None:
    for part in spec.hot:
        if part.by not in HOT_BY:
            raise UsageError(
                f"memory cannot be added by {part.by!r}", fix=f"use one of: {', '.join(HOT_BY)}"
            )
        if not part.size_bytes or part.size_bytes % HOT_ALIGN_BYTES:
            raise UsageError(
                f"{part.by}: {format_size(part.size_bytes)} is not a multiple of "
                f"{format_size(HOT_ALIGN_BYTES)}, the size of a memory block",
                fix=f"add {format_size(HOT_ALIGN_BYTES)} or a multiple of it",
            )
        if part.node >= len(spec.nodes):
            raise UsageError(
                f"{part.by}: there is no node {part.node} to add memory to",
                fix=f"the machine's nodes are numbered 0 to {len(spec.nodes) - 1}",
            )
