"""A change for every rule about vmalloc."""

from __future__ import annotations

from tests.mutations.mutation import Mutation, plus

_AREAS = "proc/vmallocinfo"

MUTATIONS = {
    "vmalloc_guard": Mutation(file=_AREAS, pattern=r" pages=(\d+) ", change=plus(1)),
    "vmalloc_pages": Mutation(file=_AREAS, pattern=r" N\d+=(\d+)$", change=plus(1)),
    "vmalloc_percpu": Mutation(
        file=_AREAS, pattern=r" (\d+) pcpu_get_vm_areas\+", change=plus(4096)
    ),
    "percpu_pages": Mutation(
        file="proc/meminfo", pattern=r"^Percpu: +(\d+) kB$", change=lambda _: "0"
    ),
    "vmalloc_overlap": Mutation(
        file=_AREAS,
        pattern=r"^(0x[0-9a-f]+-0x[0-9a-f]+ .*\n0x[0-9a-f]+)-",
        change=lambda old: old.rpartition("\n")[0] + "\n" + old.partition("-")[0],
    ),
    "vmalloc_used": Mutation(file=_AREAS, pattern=r" pages=(\d+) vmalloc", change=plus(50_000_000)),
    "vmalloc_total": Mutation(
        file="proc/meminfo", pattern=r"^VmallocTotal: +(\d+) kB$", change=plus(4)
    ),
    "vmalloc_chunk": Mutation(
        file="proc/meminfo", pattern=r"^VmallocChunk: +(\d+) kB$", change=plus(4)
    ),
}
