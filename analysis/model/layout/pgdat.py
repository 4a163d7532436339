"""Where the kernel keeps the description of a node."""

from __future__ import annotations

ONE = "contig_page_data"
SEVERAL = "node_data"


def pgdat_symbol(*, numa: bool) -> str:
    """The variable behind ``NODE_DATA()``: one ``struct pglist_data``, or an array of pointers.

    Kernel: mm/memblock.c, ``contig_page_data`` where CONFIG_NUMA is off (to 5.13: where
        CONFIG_NEED_MULTIPLE_NODES is off); arch/x86/mm/numa.c, drivers/base/arch_numa.c, later
        mm/numa.c, ``node_data`` where it is on; 5.10 to 7.3.
    Ignores: DISCONTIGMEM without NUMA (to 5.13), which has several nodes.
    """
    return SEVERAL if numa else ONE


def node_directories(*, numa: bool, nodes: int) -> tuple[str, ...]:
    """The directories of nodes in /sys/devices/system/node, which only a NUMA kernel has.

    Kernel: drivers/base/Makefile, node.o by CONFIG_NUMA; drivers/base/node.c; 5.10 to 7.3.
    Ignores: nodes that came or went after boot.
    """
    return tuple(f"node{number}" for number in range(nodes)) if numa else ()
