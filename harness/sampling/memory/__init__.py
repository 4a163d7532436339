"""The page allocator's state, read by the host in the guest's RAM while the guest stands still.

::

    ram         guest-physical memory as one array   ← memory files, or a process's memory
    physmap     which guest-physical range is which node's memory
    vmcoreinfo  what the kernel says of itself for crash dumps: the way in
    paging      kernel-virtual → guest-physical, by the kernel's own page tables
    kallsyms    symbols by name; ksymtab where a symbol is only exported
    btf         types: sizes, member offsets, enumerators
    kernel      all of the above for one running kernel
    layout      the numbers the walk needs, differences between releases settled
    topology    nodes, zones, CPUs, memmap: which words to read at each stop
    scan        the loops that run while the guest stands still
    walk        lists and checks from what was read, after it goes on
    sampler     stop, read, go on
"""

from harness.sampling.memory.sampler import MemorySampler

__all__ = ["MemorySampler"]
