"""Where the memmap lies in virtual memory by the layout of it, on each architecture and release."""

from __future__ import annotations

import re

from analysis.compare.static.layout.inputs import placement
from analysis.errors import MissingInputError
from analysis.model.layout import struct_page_place
from analysis.model.release import Release, parse_release
from analysis.tour.evidence import BootEvidence
from analysis.tour.memory_model_claims import one_era
from analysis.tour.struct_pages import Outside

_FROM_TOP = (Release(5, 12), Release(6, 6))
_BELOW_A_GIB = Release(6, 12)
"""Of arm64's rules, the releases that they are known of."""
_PAGE_SHIFT = 12
_WIDE_CPU = re.compile(r"detected: 52-bit Virtual Addressing")
_WIDE_BITS, _NARROW_BITS = 52, 48


def vmemmap_base(boot: BootEvidence, outside: Outside) -> tuple[int | None, tuple[str, ...]]:
    """The address of frame 0's struct page, and the way to it; None where the release's rule is
    not modelled, and why.

    Raises:
        MissingInputError: the capture does not say how many bits an address has.
    """
    if boot.arch == "x86_64":
        return struct_page_place.x86_64_vmemmap(), ("where four levels of page tables put it",)
    if boot.arch != "arm64":
        return None, (f"where {boot.arch} puts the memmap is not modelled",)
    snapshot = boot.snapshot()
    page_shift = snapshot.page_size_bytes.bit_length() - 1
    if page_shift != _PAGE_SHIFT:
        return None, ("arm64's layout is modelled for pages of 4 KiB only",)
    bits = snapshot.config.number("ARM64_VA_BITS")
    if bits is None:
        raise MissingInputError("CONFIG_ARM64_VA_BITS")
    release = parse_release(boot.release)
    start = placement(snapshot, one_era(snapshot)).memory[0].start
    if _FROM_TOP[0] <= release <= _FROM_TOP[1] and bits <= _NARROW_BITS:
        base = struct_page_place.arm64_vmemmap(
            va_bits=bits,
            page_shift=page_shift,
            struct_shift=(outside.struct_bytes - 1).bit_length(),
            memory_start=start,
        )
        return base, (f"{bits} bits of address, memory from {start:#x}",)
    if release < _BELOW_A_GIB:
        return None, (f"where {boot.release} puts the memmap was not compared with its source",)
    cpu_bits = bits
    if bits == _WIDE_BITS and not list(snapshot.dmesg.matching(_WIDE_CPU)):
        cpu_bits = _NARROW_BITS
    base = struct_page_place.arm64_high_vmemmap(
        va_bits=bits,
        cpu_va_bits=cpu_bits,
        page_shift=page_shift,
        struct_bytes=outside.struct_bytes,
        memory_start=start,
    )
    return base, (
        f"{bits} bits of address, of which this CPU has {cpu_bits}; memory from {start:#x}",
        "the memmap ends 1 GiB below the end of all addresses",
    )
