"""The CPUs of each node as a PC announces them while it boots.

Kernel: arch/x86/kernel/smpboot.c, announce_cpu; drivers/acpi/numa/srat.c prints the processors.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping

from analysis.procfs.dmesg import Dmesg

_NODE_CPUS = re.compile(r"\.{4} node +#(\d+), CPUs:(.*)")
_SRAT_CPU = re.compile(r"(?:ACPI: )?SRAT: PXM \d+ -> APIC \S+ -> Node (\d+)")


def booted_cpus(dmesg: Dmesg) -> Mapping[int, tuple[int, ...]]:
    """Node → CPUs; the first CPU is not announced, but the firmware's table (SRAT) has one
    processor more on its node. It is left out where that table was not printed."""
    found: dict[int, tuple[int, ...]] = {}
    for match in dmesg.matching(_NODE_CPUS):
        cpus = tuple(int(cpu) for cpu in re.findall(r"#(\d+)", match[2]))
        found[int(match[1])] = (*found.get(int(match[1]), ()), *cpus)
    listed = Counter(int(match[1]) for match in dmesg.matching(_SRAT_CPU))
    for node, processors in listed.items():
        if processors == len(found.get(node, ())) + 1:
            found[node] = (0, *found.get(node, ()))
    return found
