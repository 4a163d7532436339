"""How large the vmalloc space of a machine is: which of an architecture's layouts it has."""

from __future__ import annotations

import re
from collections.abc import Iterator

from analysis.capture.snapshot import Snapshot
from analysis.compare.claim import Claim
from analysis.compare.rule import Rule, one_of, unknown
from analysis.errors import MissingInputError
from analysis.model import vmalloc_space as model
from analysis.model.eras_vmalloc import vmalloc_era
from analysis.model.release import Release
from analysis.model.vmalloc_space import Space

_FEATURE = re.compile(r"CPU features: detected: ")
_LARGE = re.compile(r"CPU features: detected: 52-bit Virtual Addressing")
_MMU = re.compile(r"^mmu\s*:\s*sv(\d+)", re.MULTILINE)


def possible_spaces(snapshot: Snapshot) -> tuple[list[Space], str]:
    """The spaces that the machine may have, one where all is known; none with the reason why."""
    arch = snapshot.arch
    if arch == "x86_64":
        return _x86_64(snapshot)
    if arch == "arm64":
        return _arm64(snapshot)
    if arch == "riscv64":
        match = _MMU.search(snapshot.text("proc/cpuinfo"))
        if match is None:
            return [], "cpuinfo does not name the page tables (sv39 …)"
        levels = (int(match[1]) - 12) // 9
        return _by_release(snapshot, lambda r: [model.riscv64(table_levels=levels, release=r)])
    if arch in ("i386", "arm"):
        return _highmem(snapshot)
    return [], f"the vmalloc space of {arch} is not described"


def _by_release(snapshot: Snapshot, spaces: object) -> tuple[list[Space], str]:
    assert callable(spaces)
    found: list[Space] = []
    try:
        for release in snapshot.releases:
            found += [space for space in spaces(release) if space not in found]
    except ValueError as error:
        return [], str(error)
    return found, "the layout changed between releases"


def _x86_64(snapshot: Snapshot) -> tuple[list[Space], str]:
    kmsan = snapshot.has("config") and snapshot.config.on("KMSAN")
    if snapshot.has("proc/cpuinfo"):
        flags = re.search(r"^flags\s*:(.*)", snapshot.text("proc/cpuinfo"), re.MULTILINE)
        if flags is not None:
            levels = 5 if "la57" in flags[1].split() else 4
            return [model.x86_64(levels=levels, kmsan=kmsan)], ""
    optional = snapshot.release <= Release(6, 12)  # later kernels always have five
    if optional and snapshot.has("config") and not snapshot.config.on("X86_5LEVEL"):
        return [model.x86_64(levels=4, kmsan=kmsan)], ""
    if snapshot.has("proc/cmdline") and snapshot.cmdline.has("no5lvl"):
        return [model.x86_64(levels=4, kmsan=kmsan)], ""
    both = [model.x86_64(levels=levels, kmsan=kmsan) for levels in (4, 5)]
    return both, "without cpuinfo it is not known whether page tables have four or five levels"


def _arm64(snapshot: Snapshot) -> tuple[list[Space], str]:
    if snapshot.config.on("KASAN"):
        return [], "CONFIG_KASAN moves the space behind its shadow"
    va_bits = snapshot.config.number("ARM64_VA_BITS")
    levels = snapshot.config.number("PGTABLE_LEVELS")
    if va_bits is None or levels is None:
        raise MissingInputError("CONFIG_ARM64_VA_BITS and CONFIG_PGTABLE_LEVELS")
    large: tuple[bool, ...] = (False,)
    if va_bits > 48:
        large = (False, True)
        if snapshot.has("dmesg"):
            if any(True for _ in snapshot.dmesg.matching(_LARGE)):
                large = (True,)
            elif snapshot.dmesg.whole and any(True for _ in snapshot.dmesg.matching(_FEATURE)):
                large = (False,)

    layouts: list[str] = []
    for release in snapshot.releases:
        found = vmalloc_era(release).arm64_layouts
        if not found:
            return [], f"the layout of arm64 in {release} was not compared"
        layouts += [layout for layout in found if layout not in layouts]
    spaces = [
        model.arm64(
            layout=layout,
            va_bits=va_bits,
            page_shift=snapshot.page_size_bytes.bit_length() - 1,
            table_levels=levels,
            large_addresses=has_large,
        )
        for layout in layouts
        for has_large in large
    ]
    if len(large) > 1:
        return spaces, "it is not known whether the CPUs have 52 bits"
    return spaces, "the region for BPF programs went with some release before 6.1"


def _highmem(snapshot: Snapshot) -> tuple[list[Space], str]:
    high = sum(z.pages["present"] for z in snapshot.zoneinfo.zones if z.zone == "HighMem")
    if not high:
        return [], (
            "without highmem the space begins where memory ends, and its end depends on the sizes "
            "of structures that no file shows"
        )
    given = snapshot.cmdline
    if given.has("highmem") or given.has("reservetop"):
        return [], "highmem= or reservetop= moves the end of the linear map"
    value = given.last("vmalloc")
    size = None if value is None else _bytes(value)
    if value is not None and size is None:
        return [], f"vmalloc={value} is no size"
    gap = 8 * model.MIB
    if snapshot.arch == "arm":
        return [model.highmem(reserve_bytes=size or 240 * model.MIB)], ""
    reserve = 128 * model.MIB if size is None else size + gap
    return [model.highmem(reserve_bytes=reserve, gap_bytes=gap)], ""


def _bytes(text: str) -> int | None:
    match = re.fullmatch(r"(0x[0-9a-fA-F]+|\d+)([kKmMgG]?)", text)
    if match is None:
        return None
    return int(match[1], 0) << {"": 0, "k": 10, "m": 20, "g": 30}[match[2].lower()]


def _total(snapshot: Snapshot) -> Iterator[Claim]:
    shown = snapshot.meminfo.values.get("VmallocTotal")
    if shown is None:
        raise MissingInputError("VmallocTotal of proc/meminfo")
    spaces, why = possible_spaces(snapshot)
    if not spaces:
        yield unknown("vmalloc_total", why=why, observed=shown, unit="KiB")
        return
    yield one_of(
        "vmalloc_total",
        {},
        options=[space.total_bytes >> 10 for space in spaces],
        observed=shown,
        unit="KiB",
        undecided=why,
        working=[
            f"{snapshot.arch}, pages of {snapshot.page_kib} KiB: VMALLOC_END - VMALLOC_START = "
            f"{space.total_bytes:#x} B, shifted right by 10: {space.total_bytes >> 10} KiB"
            for space in spaces
        ],
    )


VMALLOC_TOTAL = Rule(
    id="vmalloc_total",
    says=(
        "VmallocTotal is the distance between two constants of the architecture. On x86_64 the "
        "number of levels of page tables decides, on arm64 the bits of addresses and the page "
        "size: the space is what the linear map, the modules and the memmap leave. On 32 bits with "
        "highmem it is what the linear map had to leave free."
    ),
    inputs=("config", "proc/cpuinfo", "dmesg", "proc/cmdline", "proc/zoneinfo"),
    observed="meminfo, VmallocTotal",
    model=(model.x86_64, model.arm64, model.riscv64, model.highmem),
    judge=_total,
)
