"""Stops about how the kernel finds a page's descriptor."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from harness.errors import SessionError
from harness.machine.chunks import place_chunks
from harness.sampling.memory.sampler import QmpBrake, machine_ram
from harness.sampling.memory.struct_pages import StructPages
from harness.tour.evidence import Evidence
from harness.tour.stop import Stop, StopBoot
from harness.workload.mechanism import BUSYBOX

SYMBOLS = (
    *("mem_map", "max_mapnr", "contig_page_data", "pg_data_map", "pg_data_table", "node_data"),
    *("mem_section", "vmemmap_base", "vmemmap_populate"),
)
"""Variables and functions that a kernel has under some memory models only."""

_BUDDY = 10
"""Kernel: include/uapi/linux/kernel-page-flags.h, KPF_BUDDY."""
_WORD_BYTES = 8
_DEBUG = "memblock=debug log_buf_len=1M"
"""The kernel then says of each early allocation how much it was and what for, which is more than
the smaller kernels' buffers of messages hold."""


_TRIES, _PAUSE_S = 8, 2.0


def _gather(evidence: Evidence) -> None:
    """The kernel's own words on its struct pages, and the free lists read from outside between two
    readings of what /proc/kpageflags says of every page frame.

    Pages that CPUs had set aside may go back to the free lists after the first reading, and be
    taken by the process that does the second: free in between, and at neither of them. From 6.7 on
    a CPU's lists shrink by and by, so all is read again until nothing was given back meanwhile.
    """
    evidence.capture()
    symbols = _symbols(evidence)
    for turn in range(_TRIES):
        if turn:
            time.sleep(_PAUSE_S)
        first = _buddy_frames(evidence)
        outside = _from_outside(evidence, symbols)
        second = _buddy_frames(evidence)
        if _frames(second) <= _frames(first):
            break
    else:
        evidence.note(f"pages were given back during each of {_TRIES} readings")
    evidence.keep_json("outside", outside)
    evidence.keep_json("buddy", {"first": first, "second": second})


def _gather_pieces(evidence: Evidence) -> None:
    """The same without /proc/kpageflags, whose reader of 5.10 walks into the holes between the
    pieces, where m68k has no node to ask; a struct page here names its frame itself."""
    evidence.capture()
    symbols = _symbols(evidence)
    chunks = place_chunks([part.size_bytes for part in evidence.spec.nodes])
    evidence.keep_json("pieces", [[chunk.start, chunk.size_bytes] for chunk in chunks])
    evidence.keep_json("outside", _from_outside(evidence, symbols))


def _symbols(evidence: Evidence) -> dict[str, int]:
    """Addresses of those of ``SYMBOLS`` that the kernel has, by kallsyms."""
    if evidence.spec.root is None:
        words = (BUSYBOX, "grep", *SYMBOLS, "/proc/kallsyms")
        text = evidence.run("symbols", *words, check=False).stdout.decode(errors="replace")
    else:
        # without CONFIG_KALLSYMS_ALL there are functions only, and perhaps none of ours
        script = f"grep -wE '{'|'.join(SYMBOLS)}' /proc/kallsyms"
        text = evidence.shell("symbols", script, check=False)
    found: dict[str, int] = {}
    for line in text.splitlines():
        parts = line.split()
        if len(parts) == 3 and parts[2] in SYMBOLS:
            found[parts[2]] = int(parts[0], 16)
    return found


def _buddy_frames(evidence: Evidence) -> list[list[int]]:
    """(first, number) of the stretches of page frames that the kernel says lie in free blocks."""
    path = "/proc/kpageflags"  # which is read in whole words only, as cat does
    result = evidence.guest.agent.run([BUSYBOX, "cat", path])
    if result.status:
        said = result.stderr.decode(errors="replace").strip()
        raise SessionError(f"the guest gives no {path}: {said}")
    content = result.stdout
    runs: list[list[int]] = []
    for pfn in range(len(content) // _WORD_BYTES):
        word = int.from_bytes(content[pfn * _WORD_BYTES : (pfn + 1) * _WORD_BYTES], "little")
        if not word >> _BUDDY & 1:
            continue
        if runs and sum(runs[-1]) == pfn:
            runs[-1][1] += 1
        else:
            runs.append([pfn, 1])
    return runs


def _frames(runs: Sequence[Sequence[int]]) -> set[int]:
    return {pfn for first, count in runs for pfn in range(first, first + count)}


@contextmanager
def _standing_still(evidence: Evidence) -> Iterator[StructPages]:
    machine = evidence.guest.machine
    brake = QmpBrake(machine.qmp)
    ram = machine_ram(machine)
    try:
        pages = StructPages(ram, evidence.kernel.arch)
        brake.stop()
        try:
            yield pages
        finally:
            brake.go()
    finally:
        ram.close()


def _from_outside(evidence: Evidence, symbols: Mapping[str, int]) -> dict[str, Any]:
    """What the kernel keeps of its struct pages, and all free blocks by their addresses."""
    with _standing_still(evidence) as pages:
        nodes = pages.nodes(symbols)
        maps = [pages.node_map(node, pgdat) for node, pgdat in nodes.items()]
        heads = [head for node, pgdat in nodes.items() for head in pages.free_heads(node, pgdat)]
        told = {name: at for name, at in pages.info.symbols.items() if name in SYMBOLS}
        known = {**told, **symbols}
        pointers = {
            name: pages.number(known[name]) for name in ("mem_map", "vmemmap_base") if name in known
        }
        sections = list(pages.sections())
    return {
        "symbols": dict(symbols),
        "vmcoreinfo": told,
        "pointers": pointers,
        "struct_page_bytes": pages.info.sizes["page"],
        "section_bits": pages.info.numbers.get("SECTION_SIZE_BITS"),
        "max_physmem_bits": pages.info.numbers.get("MAX_PHYSMEM_BITS"),
        "byte_order": pages.byte_order,
        "nodes": [
            {
                "node": each.node,
                "start_pfn": each.start_pfn,
                "spanned_pages": each.spanned_pages,
                "mem_map": each.mem_map,
            }
            for each in maps
        ],
        "sections": [list(each) for each in sections],
        "heads": [
            [head.node, head.zone, head.order, head.address, head.content.hex()] for head in heads
        ],
    }


def _stop(name: str, needs: tuple[str, ...], *boots: StopBoot) -> Stop:
    return Stop(name=f"memory_models/{name}", needs=needs, boots=boots)


def _boot(
    label: str,
    *,
    gather: Callable[[Evidence], None] = _gather,
    arch: str = "x86_64",
    kernel: str = "bookworm",
    nodes: tuple[str, ...],
) -> StopBoot:
    return StopBoot(
        label=label, gather=gather, arch=arch, kernel=kernel, nodes=nodes, append=_DEBUG
    )


STOPS: tuple[Stop, ...] = (
    _stop("flatmem", ("FLATMEM",), _boot("main", arch="i386", nodes=("1G",))),
    _stop(
        "discontigmem",
        ("DISCONTIGMEM",),
        _boot(
            "main", gather=_gather_pieces, arch="m68k", kernel="discontigmem", nodes=("96M", "40M")
        ),
    ),
    _stop(
        "sparsemem",
        ("SPARSEMEM", "!SPARSEMEM_VMEMMAP"),
        _boot("main", kernel="sparsemem-classic", nodes=("256M", "384M")),
    ),
    _stop(
        "vmemmap",
        ("SPARSEMEM_VMEMMAP",),
        _boot("x86_64", nodes=("256M", "384M")),
        _boot("arm64", arch="arm64", nodes=("512M",)),
    ),
)
