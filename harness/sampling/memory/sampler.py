"""Stop the guest, read its page allocator's state, let it go on."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from harness.errors import MemoryReadError
from harness.kernel.kconfig import read_kconfig
from harness.kernel.package import Kernel, load_kernel
from harness.machine.process import Machine
from harness.machine.qmp import Qmp
from harness.record.memory import FRAME_RANGE, SCHEMA, MemorySample
from harness.sampling.memory import decode
from harness.sampling.memory.checks import counter_problems
from harness.sampling.memory.gather import Gather
from harness.sampling.memory.kernel import GuestKernel, find_kernel
from harness.sampling.memory.layout import Layout, resolve_layout
from harness.sampling.memory.physmap import parse_mtree
from harness.sampling.memory.ram import FileRam, Ram
from harness.sampling.memory.scan import (
    RUN_OFFSET,
    RUN_PAGES,
    copy_frames,
    scan_heads,
    walk_pcp_lists,
)
from harness.sampling.memory.topology import Topology, survey
from harness.sampling.memory.walk import free_lists

MAX_RETRIES = 20
"""Stops at which a lock was found held before a sample is taken all the same."""
_RETRY_S = 0.005
_MAX_PCP_PAGES = 1 << 20


class Brake(Protocol):
    """Stops and releases a guest."""

    def stop(self) -> None: ...

    def go(self) -> float:
        """Lets it go on, and says how long it stood, in milliseconds."""


class QmpBrake:
    """QMP stop and cont; the time is QEMU's own, from its STOP and RESUME events."""

    def __init__(self, qmp: Qmp) -> None:
        self._qmp = qmp
        self._start_s = 0.0
        self._seen = 0

    def stop(self) -> None:
        self._seen = len(self._qmp.events)
        self._qmp.execute("stop")
        self._start_s = time.monotonic()

    def go(self) -> float:
        host_ms = (time.monotonic() - self._start_s) * 1e3
        self._qmp.execute("cont")
        stamps: dict[str, float] = {}
        for event in self._qmp.events[self._seen :]:
            stamp = event.get("timestamp", {})
            if event.get("event") in ("STOP", "RESUME") and "seconds" in stamp:
                stamps[event["event"]] = stamp["seconds"] + stamp["microseconds"] / 1e6
        if len(stamps) == 2:
            return (stamps["RESUME"] - stamps["STOP"]) * 1e3
        return host_ms


@dataclass(slots=True)
class _Stop:
    """What one stop brought back."""

    t_ns: int
    copy: bytes
    heads: NDArray[np.uint64]
    pcp_pages: NDArray[np.int64]
    pcp_ends: NDArray[np.int64]
    stopped_ms: float = 0.0


class MemorySampler:
    """Reads one guest's allocator state, as often as wanted.

    Finding the kernel and its types takes a fraction of a second, once, while the guest runs.
    """

    def __init__(self, machine: Machine, kernel: Kernel | Path | None = None) -> None:
        """``kernel`` is the package that the guest was booted from, or its directory.

        Without one it is the package that the machine's boot image lies in.

        Raises:
            NotLinuxError: no Linux kernel runs in the guest (yet).
            WrongTypesError: it is not the given one.
            MissingSymbolError: it lacks what reading it needs; says what.
            MemoryReadError: its RAM cannot be read.
            QmpError: QEMU does not answer.
        """
        ranges = parse_mtree(machine.qmp.human("info mtree -f"))
        package = kernel if kernel is not None else machine.spec.kernel.parent
        self._open(FileRam(machine.memory_fds, ranges), QmpBrake(machine.qmp), package)

    @classmethod
    def of(cls, ram: Ram, brake: Brake, kernel: Kernel | Path) -> MemorySampler:
        """The same over any RAM, for machines whose memory is not in files of ours.

        The sampler closes the RAM.
        """
        sampler = cls.__new__(cls)
        sampler._open(ram, brake, kernel)  # noqa: SLF001
        return sampler

    def _open(self, ram: Ram, brake: Brake, kernel: Kernel | Path) -> None:
        self._ram = ram
        self._brake = brake
        self._sequence = 0
        try:
            package = load_kernel(kernel) if isinstance(kernel, Path) else kernel
            self.kernel: GuestKernel = find_kernel(ram, package)
            self.layout: Layout = resolve_layout(self.kernel, read_kconfig(package.config_path))
            self._words = ram.array.view(np.uint64)
            self._halves = ram.array.view(np.uint32)
            self._page = _page_vector(self.layout)
            self._survey()
        except BaseException:
            ram.close()
            raise

    def __enter__(self) -> MemorySampler:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Lets go of the guest's RAM."""
        del self._words, self._halves
        self._ram.close()

    def sample(self, label: str, *, full: bool = False) -> MemorySample:
        """Stops the guest, reads, lets it go on; ``full`` adds the ``frame_*`` arrays.

        A stop that finds a zone's or a per-cpu list's lock held changes nothing for the guest:
        it is let go on and stopped again, at most MAX_RETRIES times.

        Raises:
            MemoryReadError: the RAM is no longer readable.
            QmpError: QEMU does not answer.
        """
        retries = 0
        while True:
            frames = self._frame_arrays() if full else None
            stop, again = self._stop(frames, final=retries >= MAX_RETRIES)
            if not again:
                break
            retries += 1
            if self._topology.stale(stop.copy):
                self._survey()
            time.sleep(_RETRY_S)
        sample = self._build(label, stop, frames, retries)
        self._sequence += 1
        return sample

    def _survey(self) -> None:
        self._topology: Topology
        self._gather: Gather
        self._topology, self._gather = survey(self.kernel, self.layout)
        pages = int(self._topology.runs[:, RUN_PAGES].sum())
        self._copy = np.zeros(self._gather.size_bytes, np.uint8)
        self._heads = np.zeros((pages // 2 + 2, 5), np.uint64)
        self._pcp_pages = np.zeros((min(pages, _MAX_PCP_PAGES), 4), np.int64)
        lists = sum(len(zone.cpus) for zone in self._topology.zones) * self.layout.pcp_lists
        self._pcp_ends = np.zeros(lists, np.int64)
        size = self.layout.page_bytes
        self._memmap_spans = [
            (int(run[RUN_OFFSET]) + self._ram.base, int(run[RUN_PAGES]) * size)
            for run in self._topology.runs
        ]
        # once while the guest runs, so that neither compiling nor page faults fall into a stop
        self._ram.refresh(self._gather.spans)
        self._gather.copy(self._copy)
        self._ram.refresh(self._memmap_spans)
        self._read(self._frame_arrays())

    def _frame_arrays(self) -> tuple[NDArray[np.uint32], NDArray[np.uint32], NDArray[np.uint8]]:
        pages = int(self._topology.runs[:, RUN_PAGES].sum())
        return np.ones(pages, np.uint32), np.ones(pages, np.uint32), np.ones(pages, np.uint8)

    def _stop(self, frames: Any, *, final: bool) -> tuple[_Stop, bool]:
        """One stop; whether it must be tried again. What is read must be read in here."""
        self._ram.check()
        self._brake.stop()
        t_ns = time.monotonic_ns()
        try:
            self._ram.refresh(self._gather.spans)
            self._gather.copy(self._copy)
            copy = self._copy.tobytes()
            again = not final and (self._locked(copy) or self._topology.stale(copy))
            if again:
                stop = _Stop(t_ns, copy, self._heads[:0], self._pcp_pages[:0], self._pcp_ends[:0])
            else:
                self._ram.refresh(self._memmap_spans)
                stop = self._read(frames, t_ns)
        finally:
            stopped_ms = self._brake.go()
        stop.stopped_ms = stopped_ms
        return stop, again

    def _locked(self, copy: bytes) -> bool:
        zone_lock, pcp_lock = self.layout.zone_lock, self.layout.pcp_lock
        for zone in self._topology.zones:
            if zone_lock is not None and zone_lock.read(copy, zone.copy):
                return True
            if pcp_lock is not None and any(pcp_lock.read(copy, c.pcp) for c in zone.cpus):
                return True
        return False

    def _read(self, frames: Any, t_ns: int = 0) -> _Stop:
        copy = self._copy.tobytes()
        topology, page = self._topology, self._page
        heads = scan_heads(self._words, self._halves, topology.runs, page, self._heads)
        lists = decode.pcp_lists(topology, self.layout, copy)
        pages = walk_pcp_lists(
            self._words,
            topology.runs,
            page,
            np.uint64(topology.vmemmap),
            lists,
            self._pcp_pages,
            self._pcp_ends,
        )
        if frames is not None:
            copy_frames(self._halves, topology.runs, page, *frames)
        return _Stop(t_ns, copy, self._heads[:heads], self._pcp_pages[:pages], self._pcp_ends)

    def _build(self, label: str, stop: _Stop, frames: Any, retries: int) -> MemorySample:
        topology, layout, copy = self._topology, self.layout, stop.copy
        lists = free_lists(topology, layout, copy, stop.heads)
        zones = decode.zone_rows(topology, layout, copy)
        pcps = decode.pcp_rows(topology, layout, copy)
        pcp_pages, pcp_problems = decode.pcp_page_rows(
            topology, layout, pcps, stop.pcp_pages, stop.pcp_ends
        )
        zonelists, zonelist_problems = decode.zonelist_rows(topology, copy)
        problems = [*lists.problems, *pcp_problems, *zonelist_problems]
        problems += counter_problems(topology, layout, zones, pcps, lists.blocks)
        if self._locked(copy):
            problems.append(f"a lock of the allocator was held at each of {retries + 1} stops")
        if topology.stale(copy):
            problems.append("the machine's zones, CPUs or memory map changed meanwhile")
        flags, types, mappings = frames or (
            (np.zeros(0, np.uint32),) * 2 + (np.zeros(0, np.uint8),)
        )
        ranges = np.zeros(len(topology.frames) if frames else 0, FRAME_RANGE)
        if frames:
            ranges["start_pfn"], ranges["pages"] = topology.frames.T
        meta = self._meta(label, stop, retries, problems) | {"full": frames is not None}
        return MemorySample(
            meta=meta,
            zones=zones,
            areas=lists.areas,
            blocks=lists.blocks,
            pcps=pcps,
            pcp_pages=pcp_pages,
            pageblocks=decode.pageblock_rows(topology, layout, copy),
            zonelists=zonelists,
            cpus=decode.cpu_rows(topology),
            frame_ranges=ranges,
            frame_flags=flags,
            frame_type=types,
            frame_mapping=mappings,
        )

    def _meta(self, label: str, stop: _Stop, retries: int, problems: list[str]) -> dict[str, Any]:
        layout, info, place = self.layout, self.kernel.info, self._topology.trace_counter
        counter = None
        if place is not None:
            counter = int.from_bytes(stop.copy[place : place + 8], "little", signed=True)
        return {
            "schema": SCHEMA,
            "label": label,
            "sequence": self._sequence,
            "release": info.release,
            "arch": self.kernel.arch,
            "page_size_bytes": info.page_size_bytes,
            "max_order": layout.max_order,
            "pageblock_order": layout.pageblock_order,
            "migratetypes": list(layout.migratetypes),
            "pcp_types": layout.pcp_types,
            "pcp_lists": layout.pcp_lists,
            "page_flag_bits": dict(layout.page_flag_bits),
            "zone_flag_bits": dict(layout.zone_flag_bits),
            "trace_counter": counter,
            "stopped_ms": round(stop.stopped_ms, 3),
            "t_ns": stop.t_ns,
            "retries": retries,
            "sound": not problems,
            "problems": problems,
            "vmemmap": self._topology.vmemmap,
            "struct_page_bytes": layout.page_bytes,
            "zone_addresses": [zone.address for zone in self._topology.zones],
            "kernel_build_id": info.build_id,
        }


def _page_vector(layout: Layout) -> NDArray[np.int64]:
    """The layout of struct page in the order of ``scan``'s constants."""
    if layout.page_bytes % 8:
        raise MemoryReadError(f"struct page has {layout.page_bytes} bytes, not whole words")
    return np.array(
        [
            layout.page_bytes,
            layout.page_flags,
            layout.page_lru,
            layout.page_mapping,
            layout.page_private,
            layout.page_type,
            layout.page_index,
            layout.buddy_mask,
            layout.buddy_value,
            layout.max_order,
        ],
        np.int64,
    )
