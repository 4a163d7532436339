"""Named shapes of a machine, and what several of them make together: pure.

A shape says one thing (two nodes, a DIMM that is plugged in later, swap in compressed memory); a
composition is a whole machine. What each sets is added to what came before. Where two set the
same thing, neither wins: the composition is refused, and both are named.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from harness.errors import UsageError
from harness.kernel.kconfig import is_set
from harness.machine.spec import (
    CHUNK_ARCHES,
    MIB,
    HotMemory,
    NodeSpec,
    parse_distances,
    q35_low_bytes,
    spread_cpus,
)
from harness.units import format_size, parse_size_bytes

PMEM_ALIGN_BYTES = 128 * MIB
"""Persistent memory begins and ends with a section, so that its struct pages are its own."""

PMEM_BELOW_BYTES = 128 * MIB
"""What is left above it, below the end of memory: QEMU puts the initramfs there."""

ARCHES = ("x86_64", "arm64", "i386")
"""Where shapes are possible, unless they say otherwise."""

_REPEATED = frozenset({"memmap", "earlycon", "console"})
"""Kernel parameters that add up when they are given again."""

_SPLITS = frozenset({"movablecore", "kernelcore"})
"""Parameters of which the kernel takes one only (kernelcore wins, mm/mm_init.c)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ShapeNode:
    """A node of a shape; ``cpus`` None: as many as are dealt out to it."""

    size_bytes: int
    cpus: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """One entry of the catalogue (kernel-configs/shapes.toml says what each field means)."""

    name: str
    why: str
    nodes: tuple[ShapeNode, ...] = ()
    cpus: int | None = None
    distances: tuple[str, ...] = ()
    append: tuple[str, ...] = ()
    modules: tuple[str, ...] = ()
    hot: tuple[HotMemory, ...] = ()
    pmem_bytes: int = 0
    swap_bytes: int = 0
    zram_bytes: int = 0
    needs: tuple[str, ...] = ()
    arches: tuple[str, ...] = ARCHES
    elsewhere: str = "its memory is laid out by --node alone"
    """Why not on other architectures."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """Nodes as options say them: sizes, CPUs in all, distances."""

    nodes: tuple[str, ...] = ("1G",)
    cpus: int | None = None
    distances: tuple[str, ...] = ()


PLAIN = Layout()


@dataclass(frozen=True, slots=True, kw_only=True)
class Composition:
    """A whole machine, made of shapes and of what was asked for beside them."""

    shapes: tuple[str, ...] = ()
    nodes: tuple[NodeSpec, ...]
    distances: tuple[tuple[int, int, int], ...] = ()
    append: tuple[str, ...] = ()
    modules: tuple[str, ...] = ()
    hot: tuple[HotMemory, ...] = ()
    pmem_bytes: int = 0
    swap_bytes: int = 0
    zram_bytes: int = 0
    needs: tuple[tuple[str, str], ...] = ()
    """(shape, symbol of the kernel's configuration that it needs)."""

    def steps(self) -> tuple[str, ...]:
        """What is done in the guest after boot, in words; ``apply_shape`` does it."""
        steps: list[str] = []
        for part in self.hot:
            size = format_size(part.size_bytes)
            if part.by == "pc-dimm":
                steps.append(f"plug a DIMM of {size} into node {part.node} (QMP device_add)")
            else:
                steps.append(f"let virtio-mem of node {part.node} grow to {size} (QMP qom-set)")
            steps.append("online its memory blocks as online_movable, the highest first (sysfs)")
        if self.pmem_bytes:
            steps.append("wait for /dev/pmem0, whose driver makes the struct pages")
        if self.swap_bytes:
            steps.append(f"mkswap and swapon the disk of {format_size(self.swap_bytes)}")
        if self.zram_bytes:
            steps.append(f"zram0: disksize {format_size(self.zram_bytes)}, mkswap, swapon")
        return tuple(steps)


@dataclass(frozen=True, slots=True, kw_only=True)
class Shaped:
    """What was made of a guest: the shapes, and what was done in it, in words."""

    names: tuple[str, ...] = ()
    steps: tuple[str, ...] = ()


UNSHAPED = Shaped()


def compose(
    shapes: Sequence[Shape],
    *,
    arch: str,
    nodes: Sequence[str] = (),
    cpus: int | None = None,
    distances: Sequence[str] = (),
    append: Sequence[str] = (),
    default: Layout = PLAIN,
) -> Composition:
    """The machine that shapes and options make together.

    ``nodes``, ``cpus``, ``distances`` and ``append`` are options of a person's (``--node`` …);
    ``default`` counts where neither they nor a shape lay out nodes.

    Raises:
        UsageError: two of them contradict each other, or one is impossible on this architecture.
    """
    if cpus is None and arch in CHUNK_ARCHES:
        cpus = 1
    unique = tuple({shape.name: shape for shape in shapes}.values())
    for shape in unique:
        _check_arch(shape, arch)
    _check_claims(unique, nodes, append)
    layout = next((shape for shape in unique if shape.nodes), None)
    given = Layout(nodes=tuple(nodes)) if nodes else default
    if layout is not None:
        parts = _laid_out(layout, cpus)
    else:
        sizes = [parse_size_bytes(size) for size in given.nodes]
        parts = spread_cpus(sizes, given.cpus if cpus is None else cpus)
    own = (given if layout is None else layout).distances
    pairs = parse_distances((*own, *distances), len(parts))
    if distances and len(parts) == 1:
        raise UsageError("--distance needs more than one --node")
    words = [word for shape in unique for word in shape.append]
    words += [word for shape in unique for word in _pmem_words(shape, parts)]
    return Composition(
        shapes=tuple(shape.name for shape in unique),
        nodes=parts,
        distances=pairs,
        append=(*dict.fromkeys(words), *append),
        modules=tuple(dict.fromkeys(name for shape in unique for name in shape.modules)),
        hot=tuple(part for shape in unique for part in shape.hot),
        pmem_bytes=sum(shape.pmem_bytes for shape in unique),
        swap_bytes=sum(shape.swap_bytes for shape in unique),
        zram_bytes=sum(shape.zram_bytes for shape in unique),
        needs=tuple((shape.name, symbol) for shape in unique for symbol in shape.needs),
    )


def common_arch(shapes: Sequence[Shape]) -> str:
    """An architecture on which all of these shapes are possible.

    Raises:
        UsageError: there is none.
    """
    for arch in ARCHES:
        if all(arch in shape.arches for shape in shapes):
            return arch
    names = ", ".join(shape.name for shape in shapes)
    raise UsageError(
        f"no architecture has all of the shapes {names}", fix="`mmscope shapes list` says which has"
    )


def check_needs(composition: Composition, config: Mapping[str, str], release: str) -> None:
    """Raises UsageError when a shape needs what this kernel's configuration lacks."""
    for name, symbol in composition.needs:
        if not is_set(config, symbol):
            raise UsageError(
                f"shape {name!r} needs {symbol}, which kernel {release} is built without",
                fix=f"leave {name!r} out, or name another --kernel (`mmscope kernels list`)",
            )


def _check_arch(shape: Shape, arch: str) -> None:
    if arch not in shape.arches:
        raise UsageError(
            f"shape {shape.name!r} is not possible on {arch}: {shape.elsewhere}",
            fix=f"use --arch {' or '.join(shape.arches)}, or leave {shape.name!r} out",
        )


def _claims(shape: Shape) -> Iterator[tuple[str, str, str]]:
    """(what may be said once only, how, in words): what a shape says of it."""
    if shape.nodes:
        yield "nodes", "", "lays out the nodes"
    if shape.pmem_bytes:
        yield "pmem", "", "sets memory apart as persistent"
    if shape.swap_bytes or shape.zram_bytes:
        yield "swap", "", "gives the guest its swap"
    yield from _word_claims(shape.append)


def _word_claims(words: Sequence[str]) -> Iterator[tuple[str, str, str]]:
    for word in words:
        key = word.partition("=")[0]
        if key in _SPLITS:
            yield "movable", word, f"says by {word} how much memory is movable"
        elif key not in _REPEATED:
            yield key, word, f"sets {word}"


def _check_claims(shapes: Sequence[Shape], nodes: Sequence[str], append: Sequence[str]) -> None:
    """Raises UsageError where two say different things of one.

    The kernel takes the last of two parameters, so that a person's own replaces a shape's; but
    of movablecore= and kernelcore= it takes one wherever it stands.
    """
    said: dict[str, tuple[str, str, str]] = {}
    for shape in shapes:
        for what, how, words in _claims(shape):
            other = said.setdefault(what, (shape.name, how, words))
            if other[0] != shape.name and not (how and other[1] == how):
                raise UsageError(
                    f"shapes {other[0]!r} and {shape.name!r} contradict each other: "
                    f"{other[0]!r} {other[2]}, {shape.name!r} {words}",
                    fix=f"leave out either {other[0]!r} or {shape.name!r}",
                )
    if nodes and "nodes" in said:
        name = said["nodes"][0]
        raise UsageError(
            f"--node and shape {name!r} contradict each other: both lay out the nodes",
            fix=f"leave out either --node or {name!r}",
        )
    for what, word, _ in _word_claims(append):
        if what != "movable" or what not in said:
            continue
        name, how, _ = said[what]
        if word.partition("=")[0] != how.partition("=")[0]:
            raise UsageError(
                f"--append {word} and shape {name!r} contradict each other: it sets {how}, and "
                f"the kernel takes only one of the two",
                fix=f"leave out either --append {word} or {name!r}",
            )


def _laid_out(shape: Shape, cpus: int | None) -> tuple[NodeSpec, ...]:
    """The shape's nodes with their CPUs; ``cpus``, where given, replaces the shape's number."""
    if any(node.cpus is None for node in shape.nodes):
        return spread_cpus(
            [node.size_bytes for node in shape.nodes], shape.cpus if cpus is None else cpus
        )
    if cpus is not None:
        raise UsageError(
            f"--cpus {cpus} and shape {shape.name!r} contradict each other: it says which CPU is "
            f"on which node",
            fix=f"leave out either --cpus or {shape.name!r}",
        )
    parts: list[NodeSpec] = []
    first = 0
    for node in shape.nodes:
        count = node.cpus or 0
        parts.append(NodeSpec(size_bytes=node.size_bytes, cpus=tuple(range(first, first + count))))
        first += count
    return tuple(parts)


def _pmem_words(shape: Shape, nodes: Sequence[NodeSpec]) -> Iterator[str]:
    """``memmap=`` for persistent memory in the highest place below 4 GiB that is free for it and
    within one node.

    Kernel: arch/x86/kernel/e820.c, parse_memmap_one(): SIZE!START is RAM turned into memory of
    the kind that nd_e820 looks for, whether it was RAM or not; so it must lie within.
    """
    if not shape.pmem_bytes:
        return
    low_bytes = q35_low_bytes(sum(node.size_bytes for node in nodes))
    borders = list(itertools.accumulate(node.size_bytes for node in nodes))
    end = (low_bytes - PMEM_BELOW_BYTES) // PMEM_ALIGN_BYTES * PMEM_ALIGN_BYTES
    while any(end - shape.pmem_bytes < border < end for border in borders):
        end -= PMEM_ALIGN_BYTES
    start = end - shape.pmem_bytes
    if start < 2 * PMEM_ALIGN_BYTES:
        least = shape.pmem_bytes + PMEM_BELOW_BYTES + 2 * PMEM_ALIGN_BYTES
        raise UsageError(
            f"shape {shape.name!r} takes {format_size(shape.pmem_bytes)} from the middle of a "
            f"node, and none of this machine of {format_size(low_bytes)} has it to give",
            fix=f"give the machine one node of at least {format_size(least)}",
        )
    yield f"memmap={format_size(shape.pmem_bytes)}!{start:#x}"
