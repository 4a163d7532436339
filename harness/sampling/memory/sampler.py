"""Stop the guest, read its page allocator's state, let it go on."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
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
from harness.sampling import WINDOW_ARCHES
from harness.sampling.memory import decode
from harness.sampling.memory.checks import counter_problems
from harness.sampling.memory.gather import Gather
from harness.sampling.memory.kernel import GuestKernel, find_kernel
from harness.sampling.memory.layout import Layout, resolve_layout
from harness.sampling.memory.physmap import parse_host_address, parse_mtree
from harness.sampling.memory.ram import FileRam, ProcessRam, Ram
from harness.sampling.memory.scanner import Frames, Scanner
from harness.sampling.memory.topology import Topology, survey
from harness.sampling.memory.walk import free_lists

MAX_RETRIES = 20
"""Stops that may be given up before a sample is taken all the same."""
MAX_UNSOUND = 2
"""Of those, how many for a sample that did not pass its checks: the third one stands."""
_RETRY_S = 0.005
_MAX_PCP_PAGES = 1 << 20


def machine_ram(machine: Machine) -> Ram:
    """The machine's RAM by its files, or by QEMU's memory where that keeps writes to itself.

    Raises:
        MemoryReadError: it cannot be read.
        QmpError: QEMU does not answer.
    """
    ranges = parse_mtree(machine.qmp.human("info mtree -f"))
    if not machine.private_memory:
        return FileRam(machine.memory_fds, ranges)
    addresses = {
        part.node: parse_host_address(machine.qmp.human(f"gpa2hva {part.start:#x}")) - part.offset
        for part in ranges
    }
    return ProcessRam(machine.pid, addresses, machine.memory_fds, ranges)


class Brake(Protocol):
    """Stops and releases a guest."""

    def stop(self) -> None: ...

    def go(self) -> float:
        """Lets it go on, and says how long it stood, in milliseconds."""


class QmpBrake:
    """QMP stop and cont; the time is QEMU's own, from its STOP and RESUME events.

    A guest that stands still already is left so.
    """

    def __init__(self, qmp: Qmp) -> None:
        self._qmp = qmp
        self._running = False
        self._start_s = 0.0
        self._seen = 0

    def stop(self) -> None:
        self._running = bool(self._qmp.execute("query-status")["running"])
        self._seen = len(self._qmp.events)
        if self._running:
            self._qmp.execute("stop")
        self._start_s = time.monotonic()

    def go(self) -> float:
        host_ms = (time.monotonic() - self._start_s) * 1e3
        if self._running:
            self._qmp.execute("cont")
        stamps: dict[str, float] = {}
        for event in self._qmp.events[self._seen :]:
            stamp = event.get("timestamp", {})
            if event.get("event") in ("STOP", "RESUME") and "seconds" in stamp:
                stamps[event["event"]] = stamp["seconds"] + stamp["microseconds"] / 1e6
        if len(stamps) == 2:
            return (stamps["RESUME"] - stamps["STOP"]) * 1e3
        return host_ms


@dataclass(slots=True, kw_only=True)
class _Stop:
    """What one stop brought back; ``heads`` is None where it was given up at once."""

    t_ns: int
    copy: bytes
    stopped_ms: float = 0.0
    heads: list[NDArray[np.uint64]] | None = None
    all_heads: bool = True
    pcp_pages: NDArray[np.int64] = field(default_factory=lambda: np.zeros((0, 4), np.int64))
    pcp_ends: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))


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
        package = kernel if kernel is not None else machine.spec.kernel.parent
        self._open(machine_ram(machine), QmpBrake(machine.qmp), package)

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
            if package.arch not in WINDOW_ARCHES:
                raise MemoryReadError(
                    f"{package.release}: the memory of {package.arch} guests is not read",
                    fix=f"boot a kernel of {' or '.join(WINDOW_ARCHES)}",
                )
            self.kernel: GuestKernel = find_kernel(ram, package)
            self.layout: Layout = resolve_layout(self.kernel, read_kconfig(package.config_path))
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
        self._scanner.close()
        self._ram.close()

    def sample(self, label: str, *, full: bool = False) -> MemorySample:
        """Stops the guest, reads, lets it go on; ``full`` adds the ``frame_*`` arrays.

        A stop may fall where the allocator is at work: a zone's or a per-cpu list's lock is
        held, or counters are under way from a CPU to their zone. The guest is let go on then
        and stopped again, at most MAX_RETRIES times.

        Raises:
            MemoryReadError: the RAM is no longer readable.
            QmpError: QEMU does not answer.
        """
        for retries in range(MAX_RETRIES + 1):
            frames = Frames.blank(self._scanner.pages) if full else None
            stop = self._stop(frames, final=retries == MAX_RETRIES)
            if stop.heads is not None:
                sample = self._build(label, stop, frames, retries)
                if sample.sound or retries >= MAX_UNSOUND:
                    break
            elif self._topology.stale(stop.copy):
                self._scanner.close()
                self._survey()
            time.sleep(_RETRY_S)
        self._sequence += 1
        return sample

    def _survey(self) -> None:
        self._topology: Topology
        self._gather: Gather
        self._topology, self._gather = survey(self.kernel, self.layout)
        self._scanner = Scanner(self._ram, self.layout, self._topology)
        self._copy = np.zeros(self._gather.size_bytes, np.uint8)
        # once while the guest runs, so that neither compiling nor page faults fall into a stop
        self._read(_Stop(t_ns=0, copy=self._copy_now()), Frames.blank(self._scanner.pages))

    def _copy_now(self) -> bytes:
        self._ram.refresh(self._gather.spans)
        self._gather.copy(self._copy)
        return self._copy.tobytes()

    def _stop(self, frames: Frames | None, *, final: bool) -> _Stop:
        """One stop: all that a sample needs, unless it is seen at once that it is no use."""
        self._ram.check()
        self._brake.stop()
        t_ns = time.monotonic_ns()
        try:
            stop = _Stop(t_ns=t_ns, copy=self._copy_now())
            if final or not (self._locked(stop.copy) or self._topology.stale(stop.copy)):
                self._read(stop, frames)
        finally:
            stopped_ms = self._brake.go()
        stop.stopped_ms = stopped_ms
        return stop

    def _locked(self, copy: bytes) -> bool:
        zone_lock, pcp_lock = self.layout.zone_lock, self.layout.pcp_lock
        for zone in self._topology.zones:
            if zone_lock is not None and zone_lock.read(copy, zone.copy):
                return True
            if pcp_lock is not None and any(pcp_lock.read(copy, c.pcp) for c in zone.cpus):
                return True
        return False

    def _read(self, stop: _Stop, frames: Frames | None) -> None:
        self._ram.refresh(self._scanner.spans)
        stop.heads, stop.all_heads = self._scanner.heads()
        lists = decode.pcp_lists(self._topology, self.layout, stop.copy)
        stop.pcp_pages, stop.pcp_ends = self._scanner.pcp_pages(lists)
        if frames is not None:
            self._scanner.frames(frames)

    def _build(self, label: str, stop: _Stop, frames: Frames | None, retries: int) -> MemorySample:
        topology, layout, copy = self._topology, self.layout, stop.copy
        assert stop.heads is not None
        lists = free_lists(topology, layout, copy, np.concatenate(stop.heads))
        zones = decode.zone_rows(topology, layout, copy)
        pcps = decode.pcp_rows(topology, layout, copy)
        pcp_pages, pcp_problems = decode.pcp_page_rows(
            topology, layout, pcps, stop.pcp_pages, stop.pcp_ends
        )
        zonelists, zonelist_problems = decode.zonelist_rows(topology, copy)
        problems = [*lists.problems, *pcp_problems, *zonelist_problems]
        problems += counter_problems(topology, layout, zones, pcps, lists.blocks)
        if not stop.all_heads:
            problems.append("the memmap shows more free blocks than there can be")
        if self._locked(copy):
            problems.append(f"a lock of the allocator was held at each of {retries + 1} stops")
        if topology.stale(copy):
            problems.append("the machine's zones, CPUs or memory map changed meanwhile")
        meta = self._meta(label, stop, retries, problems) | {"full": frames is not None}
        sample = MemorySample(
            meta=meta,
            zones=zones,
            areas=lists.areas,
            blocks=lists.blocks,
            pcps=pcps,
            pcp_pages=pcp_pages,
            pageblocks=decode.pageblock_rows(topology, layout, copy),
            zonelists=zonelists,
            cpus=decode.cpu_rows(topology),
        )
        if frames is None:
            return sample
        ranges = np.zeros(len(topology.frames), FRAME_RANGE)
        ranges["start_pfn"], ranges["pages"] = topology.frames.T
        return replace(
            sample,
            frame_ranges=ranges,
            frame_flags=frames.flags,
            frame_type=frames.types,
            frame_mapping=frames.mappings,
        )

    def _kswapds_awake(self, copy: bytes) -> list[int] | None:
        waits = {node.node: node.kswapd_waits(copy) for node in self._topology.nodes}
        if None in waits.values():
            return None
        return [node for node, waiting in waits.items() if not waiting]

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
            "node_addresses": {str(node.node): node.address for node in self._topology.nodes},
            "kswapds_awake": self._kswapds_awake(stop.copy),
            "kernel_build_id": info.build_id,
        }
