"""Stops about how the kernel finds a page's descriptor."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from harness.machine.chunks import place_chunks
from harness.sampling.memory.sampler import QmpBrake, machine_ram
from harness.sampling.memory.struct_pages import StructPages
from harness.tour.buddy_reader import BuddyReader, frames_of
from harness.tour.evidence import Evidence
from harness.tour.stop import Stop, StopBoot
from harness.workload.mechanism import BUSYBOX

SYMBOLS = (
    *("mem_map", "max_mapnr", "contig_page_data", "pg_data_map", "pg_data_table", "node_data"),
    *("mem_section", "vmemmap_base", "vmemmap_populate"),
)
"""Variables and functions that a kernel has under some memory models only."""

_DEBUG = "memblock=debug log_buf_len=1M"
"""The kernel then says of each early allocation how much it was and what for, which is more than
the smaller kernels' buffers of messages hold."""


_TRIES = 5


def _gather(evidence: Evidence) -> None:
    """The kernel's own words on its struct pages, and the free lists read from outside between two
    readings of what /proc/kpageflags says of every page frame.

    All is read again until nothing was given back between the two: what is free in between alone
    would look as if the kernel did not know of it. From 6.7 on the pages that CPUs have set aside
    go back to the free lists by and by.
    """
    evidence.capture()
    symbols = _symbols(evidence)
    reader = BuddyReader(evidence)
    for _ in range(_TRIES):
        reader.start()
        outside = _from_outside(evidence, symbols)
        first, second = reader.end()
        if frames_of(second) <= frames_of(first):
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
