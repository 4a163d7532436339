"""Traced windows made by a small kernel of our own: model rules, events, samples, rings.

The kernel's free lists are ``analysis.model``'s, which share no code with the replay under test.
Its events are written as ring-buffer pages, its state as memory samples, so that a window made
here goes the whole way that a recorded one goes.
"""

from __future__ import annotations

import functools
import struct
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from analysis.model.buddy import free_one, rmqueue
from analysis.model.eras import era_of
from analysis.model.freelist import FreeBlock, Migratetype, ZoneFreeLists
from analysis.model.release import parse_release
from analysis.replay.window import Window
from analysis.trace import Formats, KernelLoss, decode, read_formats
from harness.record.manifest import (
    KernelRecord,
    Manifest,
    Outcome,
    OutcomeKind,
    WindowRecord,
)
from harness.record.memory import (
    AREA,
    BLOCK,
    CPU,
    PAGEBLOCK,
    PCP,
    PCP_PAGE,
    ZONE,
    ZONELIST,
    MemorySample,
    save_memory_sample,
)
from harness.record.rundir import RunDirectory
from harness.record.trace import (
    FORMATS,
    CpuRecord,
    ProbeRecord,
    TraceRecord,
    ring_path,
    write_trace_record,
)
from tests.recorded_run import NO_PROCESS
from tests.trace_pages import (
    HEADER_EVENT,
    HEADER_PAGE,
    PAGE_BYTES,
    RingWriter,
    Written,
    format_text,
)

FIRST_PFN = 0x400
PAGES = 512
MAX_ORDER = 6
PAGEBLOCK_ORDER = 5
BATCH = 4
VMEMMAP = 0xFFFFEA0000000000
STRUCT_PAGE_BYTES = 64
MIGRATETYPES = ("Unmovable", "Movable", "Reclaimable", "HighAtomic", "CMA", "Isolate")

_PFN = ("unsigned long pfn", 8)
_ORDER = ("unsigned int order", 4)
_TYPE = ("int migratetype", 4)
EVENTS: Mapping[str, tuple[int, tuple[tuple[str, int], ...]]] = {
    "kmem/mm_page_alloc": (500, (_PFN, _ORDER, _TYPE)),
    "kmem/mm_page_free": (501, (_PFN, _ORDER)),
    "kmem/mm_page_alloc_zone_locked": (502, (_PFN, _ORDER, _TYPE)),
    "kmem/mm_page_pcpu_drain": (503, (_PFN, _ORDER, _TYPE)),
    "kmem/mm_page_alloc_extfrag": (504, (_PFN, ("int alloc_order", 4), ("int fallback_order", 4))),
    "compaction/mm_compaction_begin": (510, ()),
    "compaction/mm_compaction_end": (511, ()),
    "mmscope/free_one_page": (600, (_PFN, _ORDER, _TYPE)),
    "mmscope/isolate_free_page": (601, (("u64 page", 8), ("u32 order", 4))),
    "mmscope/isolate_free_page_return": (602, (("u64 taken", 8),)),
    "mmscope/putback_isolated_page": (603, (("u64 page", 8), ("u32 order", 4), _TYPE)),
}
"""Event → number and fields; all that the rules of 6.1 need."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MadeEvent:
    """An event as the kernel writes it."""

    counter: int
    name: str
    values: tuple[int, ...]
    cpu: int = 0
    pid: int = 100

    def record(self) -> bytes:
        """Its bytes in the ring."""
        number, fields = EVENTS[self.name]
        packed = struct.pack("<HBBi", number, 0, 0, self.pid)
        for (_, size), value in zip(fields, self.values, strict=True):
            packed += (value & (1 << 8 * size) - 1).to_bytes(size, "little")
        return packed


@dataclass(slots=True)
class MadeKernel:
    """One zone, one per-cpu list for single pages, and every path by which pages move."""

    release: str = "6.1.0-1-amd64"
    free_pages: int = PAGES
    events: list[MadeEvent] = field(default_factory=list)
    counter: int = 1000
    held: dict[int, int] = field(default_factory=dict)
    """First page of every allocation → order."""
    pcp: list[int] = field(default_factory=list)
    isolated: list[tuple[int, int]] = field(default_factory=list)
    zone: ZoneFreeLists = field(init=False)

    def __post_init__(self) -> None:
        self.zone = ZoneFreeLists(
            start_pfn=FIRST_PFN,
            spanned_pages=PAGES,
            max_order=MAX_ORDER,
            pageblock_order=PAGEBLOCK_ORDER,
        )
        for pfn in range(FIRST_PFN, FIRST_PFN + self.free_pages, 1 << MAX_ORDER):
            block = FreeBlock(pfn=pfn, order=MAX_ORDER, migratetype=Migratetype.MOVABLE)
            self.zone.add(block, to_tail=True)

    def emit(self, name: str, *values: int, pid: int = 100) -> None:
        """One event; every event raises the counter."""
        self.counter += 1
        self.events.append(MadeEvent(counter=self.counter, name=name, values=values, pid=pid))

    def allocate(self, order: int, *, pid: int = 100) -> int | None:
        """Pages from the per-cpu list (order 0) or the free lists; None when there are none."""
        if order == 0:
            if not self.pcp:
                self.pcp += [pfn for _ in range(BATCH) if (pfn := self._take(0)) is not None]
            pfn = self.pcp.pop(0) if self.pcp else None
        else:
            pfn = self._take(order)
        if pfn is None:
            self.emit("kmem/mm_page_alloc", -1, order, Migratetype.MOVABLE, pid=pid)
            return None
        self.held[pfn] = order
        self.emit("kmem/mm_page_alloc", pfn, order, Migratetype.MOVABLE, pid=pid)
        return pfn

    def free(
        self,
        pfn: int,
        *,
        bypass: bool = False,
        pid: int = 100,
        meanwhile: Callable[[], object] = lambda: None,
    ) -> None:
        """Gives an allocation back; ``bypass``: its per-cpu list is locked by somebody else.

        ``meanwhile`` is called when a free past the per-cpu lists waits for the zone's lock.
        """
        order = self.held.pop(pfn)
        self.emit("kmem/mm_page_free", pfn, order, pid=pid)
        if order == 0 and not bypass:
            self.pcp.insert(0, pfn)
            if len(self.pcp) > 3 * BATCH:
                self.drain(BATCH)
            return
        if order <= 3:
            self.emit("mmscope/free_one_page", pfn, order, Migratetype.MOVABLE, pid=pid)
        meanwhile()
        self._give(pfn, order)

    def drain(self, count: int) -> None:
        """Pages of the per-cpu list go back, the coldest first."""
        for _ in range(min(count, len(self.pcp))):
            pfn = self.pcp.pop()
            self._give(pfn, 0)
            self.emit("kmem/mm_page_pcpu_drain", pfn, 0, Migratetype.MOVABLE)

    def isolate(self, *, refused: bool = False) -> None:
        """Compaction takes a free block, unless a watermark forbids it."""
        block = min(self.zone.blocks(), key=lambda block: block.pfn, default=None)
        if block is None:
            return
        self.emit("mmscope/isolate_free_page", _page(block.pfn), block.order)
        self.emit("mmscope/isolate_free_page_return", 0 if refused else 1 << block.order)
        if not refused:
            self.zone.remove(block)
            self.isolated.append((block.pfn, block.order))

    def put_back(self) -> None:
        """An isolated block goes back unused."""
        if self.isolated:
            pfn, order = self.isolated.pop()
            self.emit("mmscope/putback_isolated_page", _page(pfn), order, Migratetype.MOVABLE)
            self._give(pfn, order)

    def use_isolated(self) -> None:
        """Compaction moves pages into an isolated block; no event tells of it."""
        if self.isolated:
            pfn, order = self.isolated.pop()
            self.held.update({pfn + at: 0 for at in range(1 << order)})

    def capture(self, order: int, *, pid: int = 7) -> int | None:
        """A task frees pages while it compacts for itself and gets the block they complete."""
        for pfn, held in list(self.held.items()):
            pair = pfn & ~((1 << order) - 1)
            if held == order - 1 and self._is_block(pfn ^ (1 << held), held):
                del self.held[pfn]
                self.emit("compaction/mm_compaction_begin", pid=pid)
                self.emit("kmem/mm_page_free", pfn, held, pid=pid)
                self.emit("mmscope/free_one_page", pfn, held, Migratetype.MOVABLE, pid=pid)
                self._give(pfn, held, captured_order=order)
                self.emit("compaction/mm_compaction_end", pid=pid)
                self.held[pair] = order
                self.emit("kmem/mm_page_alloc", pair, order, Migratetype.MOVABLE, pid=pid)
                return pair
        return None

    def _is_block(self, pfn: int, order: int) -> bool:
        block = self.zone.block_at(pfn)
        return block is not None and block.order == order

    def _take(self, order: int) -> int | None:
        pfn = rmqueue(self.zone, order, Migratetype.MOVABLE)
        if not isinstance(pfn, int):
            return None
        self.emit("kmem/mm_page_alloc_zone_locked", pfn, order, Migratetype.MOVABLE)
        return pfn

    def _give(self, pfn: int, order: int, captured_order: int | None = None) -> None:
        era = era_of(parse_release(self.release))
        free_one(self.zone, pfn, order, era=era, captured_order=captured_order)

    def sample(self, label: str, **meta: object) -> MemorySample:
        """The state as the host would read it."""
        self.counter += 1
        return made_sample(self, label, self.counter, **meta)


def _page(pfn: int) -> int:
    return VMEMMAP + STRUCT_PAGE_BYTES * pfn


def made_sample(kernel: MadeKernel, label: str, counter: int, **meta: object) -> MemorySample:
    """A memory sample of a made kernel; ``meta`` goes before what is filled in here."""
    zone = np.zeros(1, ZONE)
    zone[["start_pfn", "spanned_pages", "present_pages"]] = (FIRST_PFN, PAGES, PAGES)
    zone["managed_pages"] = PAGES
    zone["name"] = b"Normal"
    blocks = [
        (0, order, kind, position, pfn)
        for order in range(MAX_ORDER + 1)
        for kind in Migratetype
        for position, pfn in enumerate(kernel.zone.pfns(order, kind))
    ]
    starts = range(FIRST_PFN, FIRST_PFN + PAGES, 1 << PAGEBLOCK_ORDER)
    return MemorySample(
        meta={
            "schema": 1,
            "label": label,
            "sequence": 0,
            "release": kernel.release,
            "arch": "x86_64",
            "page_size_bytes": 4096,
            "max_order": MAX_ORDER,
            "pageblock_order": PAGEBLOCK_ORDER,
            "migratetypes": list(MIGRATETYPES),
            "pcp_types": 3,
            "pcp_lists": 12,
            "page_flag_bits": {},
            "zone_flag_bits": {},
            "trace_counter": counter,
            "stopped_ms": 1.0,
            "t_ns": counter,
            "full": False,
            "retries": 0,
            "vmemmap": VMEMMAP,
            "struct_page_bytes": STRUCT_PAGE_BYTES,
            "zone_addresses": [0],
            "sound": True,
            "problems": [],
            **meta,
        },
        zones=zone,
        areas=np.array(
            [(0, order, count) for order, count in enumerate(kernel.zone.free_blocks())], AREA
        ),
        blocks=np.array(blocks, BLOCK),
        pcps=np.zeros(1, PCP),
        pcp_pages=np.array([(0, 0, 1, at, pfn, 1) for at, pfn in enumerate(kernel.pcp)], PCP_PAGE),
        pageblocks=np.array(
            [(0, kernel.zone.pageblock_migratetype(pfn), 0, 0, pfn) for pfn in starts], PAGEBLOCK
        ),
        zonelists=np.zeros(0, ZONELIST),
        cpus=np.zeros(1, CPU),
    )


def rings_of(events: Iterable[MadeEvent]) -> dict[int, bytes]:
    """The events as sub-buffers, by CPU."""
    writers: dict[int, RingWriter] = {}
    for event in events:
        writer = writers.setdefault(event.cpu, RingWriter())
        writer.write(Written(counter=event.counter, record=event.record()))
    return {cpu: writer.pages() for cpu, writer in writers.items()} or {0: b""}


def write_formats(directory: Path) -> None:
    """Format files of ``EVENTS`` and the two headers."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "header_page").write_text(HEADER_PAGE)
    (directory / "header_event").write_text(HEADER_EVENT)
    for name, (number, fields) in EVENTS.items():
        lines, offset = [], 8
        for text, size in fields:
            signed = int(text.startswith("int"))
            lines.append(f"{text};offset:{offset};size:{size};signed:{signed}")
            offset += size
        path = directory / name / "format"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(format_text(name.partition("/")[2], number, lines))


@functools.cache
def formats() -> Formats:
    """``EVENTS`` as the kernel describes them."""
    with tempfile.TemporaryDirectory() as directory:
        write_formats(Path(directory))
        return read_formats(Path(directory))


def made_window(
    events: Sequence[MadeEvent],
    samples: Sequence[MemorySample],
    *,
    kernel_loss: KernelLoss | None = None,
) -> Window:
    """A window as it is when it was opened and nothing speaks against it but lost events."""
    stream = decode(rings_of(events), formats(), kernel_loss=kernel_loss)
    return Window(
        name="w",
        again_of=None,
        arch="x86_64",
        kernel=str(samples[0].meta["release"]),
        samples=tuple(samples),
        trace=None,
        stream=stream,
        doubts=(f"{stream.lost} events were lost",) if stream.lost else (),
    )


def write_window(
    path: Path,
    name: str,
    events: Sequence[MadeEvent],
    samples: Sequence[MemorySample],
    *,
    without_probes: Sequence[str] = (),
    lost: int = 0,
    missed: int = 0,
    again_of: str | None = None,
) -> WindowRecord:
    """Writes a window into the run directory ``path``; what its manifest says of it."""
    run = RunDirectory(path)
    write_formats(run.trace_path / FORMATS)
    record = WindowRecord(
        name=name,
        trace=f"trace/{name}",
        samples=[f"memory/{name}-{at}.npz" for at in range(len(samples))],
        again_of=again_of,
    )
    for file, sample in zip(record.samples, samples, strict=True):
        save_memory_sample(sample, path / file)
    directory = path / record.trace
    directory.mkdir(parents=True)
    cpus = []
    for cpu, ring in rings_of(events).items():
        ring_path(directory, cpu).write_bytes(ring)
        cpus.append(
            CpuRecord(
                cpu=cpu,
                subbuffers=len(ring) // PAGE_BYTES,
                overrun=lost,
                commit_overrun=0,
                dropped_events=0,
                read_events=sum(event.cpu == cpu for event in events),
            )
        )
    probes = [
        ProbeRecord(
            name=name.partition("/")[2],
            function=name.partition("/")[2],
            symbol=None if name.partition("/")[2] in without_probes else name.partition("/")[2],
            definition="",
            missed=missed,
        )
        for name in EVENTS
        if name.startswith("mmscope/")
    ]
    write_trace_record(
        directory,
        TraceRecord(
            window=name,
            clock="counter",
            subbuffer_bytes=PAGE_BYTES,
            buffer_kb=64,
            events=[name for name in EVENTS if not name.startswith("mmscope/")],
            events_missing=[],
            probes=probes,
            cpus=cpus,
            complete=True,
        ),
    )
    return record


def write_run(path: Path, windows: Sequence[WindowRecord], *, release: str, **more: Any) -> None:
    """The manifest of a run that holds these windows and no sample of /proc."""
    run = RunDirectory(path)
    for name, text in {"version": f"Linux version {release} (x) #1\n", "cmdline": "\n"}.items():
        target = run.guest_path / "proc" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)
    run.write_manifest(
        Manifest(
            name="made",
            created="2026-01-01T00:00:00Z",
            mmscope="0",
            argv=["mmscope", "run"],
            process=NO_PROCESS,
            outcome=Outcome(kind=OutcomeKind.COMPLETED),
            kernel=KernelRecord(
                name="made",
                release=release,
                arch="x86_64",
                package="made",
                version="1",
                sha256={},
            ),
            windows=list(windows),
            files=run.digest_files(),
            **more,
        )
    )
