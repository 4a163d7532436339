"""Page frames, struct pages and a process's page tables, read from outside."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from harness.errors import MemoryReadError
from harness.sampling.memory.btf import Btf, Member
from harness.sampling.memory.kernel import GuestKernel
from harness.sampling.memory.layout import Field
from harness.sampling.memory.paging import Scheme
from harness.sampling.memory.ram import read

PAGE_FIELDS: Mapping[str, str] = {
    "flags": "flags",
    "refcount": "_refcount.counter",
    "mapcount": "_mapcount.counter",
    "mapping": "mapping",
    "compound_head": "compound_head",
    "compound_info": "compound_info",
    "compound_order": "compound_order",
    "compound_mapcount": "compound_mapcount.counter",
}
"""Our names of a struct page's members, and where the kernel has them. It may lack some."""
_TAIL_FIELDS: Mapping[str, str] = {
    "large_mapcount": "_large_mapcount.counter",
    "entire_mapcount": "_entire_mapcount.counter",
}
"""The same of members that a struct folio has in the struct page of its first tail."""
_ENTRY_BYTES = 8
_TASKS_MAX = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class TableEntry:
    """One step of a walk through page tables."""

    shift: int
    """Bit of the address at which this level's index begins: the entry maps 2**shift bytes."""
    address: int
    """Guest-physical address of the entry."""
    entry: int
    leaf: bool


class FrameReader:
    """Reads a kernel's memory; the guest should stand still meanwhile."""

    def __init__(self, kernel: GuestKernel, vmemmap: int) -> None:
        """``vmemmap`` is the address of the struct page of page frame 0."""
        self.kernel = kernel
        self.vmemmap = vmemmap
        self.page_bytes = kernel.info.page_size_bytes
        self.struct_page_bytes = kernel.btf.size("page")
        self.fields: Mapping[str, Field] = dict(_page_fields(kernel.btf))

    def struct_page(self, pfn: int) -> bytes:
        """The struct page of a frame.

        Raises:
            MemoryReadError: it has none.
        """
        return self.kernel.space.read(
            self.vmemmap + pfn * self.struct_page_bytes, self.struct_page_bytes
        )

    def content(self, pfn: int) -> bytes:
        """What is in a frame.

        Raises:
            MemoryReadError: it is not RAM.
        """
        return read(self.kernel.space.ram, pfn * self.page_bytes, self.page_bytes)

    def top_table(self, pid: int) -> int:
        """Guest-physical address of a process's top page table, found along the list of tasks.

        Raises:
            MissingSymbolError: the kernel does not say where the list begins.
            MemoryReadError: no such process has memory of its own.
        """
        btf, space = self.kernel.btf, self.kernel.space
        first = self.kernel.symbol("init_task")
        tasks, at_pid, at_mm = (btf.offset("task_struct", name) for name in ("tasks", "pid", "mm"))
        task = first
        for _ in range(_TASKS_MAX):
            task = space.u64(task + tasks) - tasks
            if space.u32(task + at_pid) == pid:
                mm = space.u64(task + at_mm)
                if not mm:
                    break
                return space.translate(space.u64(mm + btf.offset("mm_struct", "pgd")))[0]
            if task == first:
                break
        raise MemoryReadError(f"no process {pid} with memory of its own in the list of tasks")

    def walk(self, top_table: int, address: int) -> list[TableEntry]:
        """The entries by which a process's address is translated, top level first.

        Raises:
            MemoryReadError: nothing is mapped there.
        """
        scheme: Scheme = replace(self.kernel.space.scheme, root=top_table)
        table, steps = scheme.root, []
        for level, shift in enumerate(scheme.shifts):
            entries = scheme.entries if level else scheme.root_entries
            slot = table + ((address >> shift) & (entries - 1)) * _ENTRY_BYTES
            (entry,) = struct.unpack("<Q", read(self.kernel.space.ram, slot, _ENTRY_BYTES))
            decoded = scheme.decode(entry, level)
            if decoded is None:
                raise MemoryReadError(f"the process has nothing mapped at {address:#x}")
            table, leaf = decoded
            steps.append(TableEntry(shift=shift, address=slot, entry=entry, leaf=leaf))
            if leaf:
                return steps
        raise AssertionError("the last level always maps")

    def frame(self, steps: list[TableEntry], address: int) -> int:
        """The page frame to which a walk led."""
        scheme, last = self.kernel.space.scheme, steps[-1]
        decoded = scheme.decode(last.entry, scheme.shifts.index(last.shift))
        assert decoded is not None, "a walk ends at what is mapped"
        inside = address & ((1 << last.shift) - 1)
        return (decoded[0] + inside) // self.page_bytes


def _page_fields(btf: Btf) -> Iterator[tuple[str, Field]]:
    for name, path in PAGE_FIELDS.items():
        member = btf.find("page", path)
        if member is not None:
            yield name, _field(btf, member, 0)
    size = btf.size("page")
    for name, path in _TAIL_FIELDS.items():
        # none before 5.16, and no such counts before they moved there
        member = btf.find("folio", path) if btf.has("folio") else None
        if member is not None and size <= member.offset < 2 * size:
            yield name, _field(btf, member, size)


def _field(btf: Btf, member: Member, base: int) -> Field:
    return Field(
        offset=member.offset - base,
        size_bytes=btf.size_of(member.type_id),
        signed=btf.is_signed(member.type_id),
    )
