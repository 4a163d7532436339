"""Which kernel a capture is of: its release, whose rules it may follow, its architecture."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import date
from types import MappingProxyType

from analysis.model.release import Release
from analysis.model.release_dates import newest_known
from analysis.procfs.kconfig import Kconfig

_BOOTED = re.compile(r"Linux version (\d+\.\d+\S*)")
RELEASE_PATTERNS: Mapping[str, re.Pattern[str]] = MappingProxyType(
    {
        "proc/version": _BOOTED,
        "proc/sys/kernel/osrelease": re.compile(r"(\d+\.\d+\S*)"),
        "uname": re.compile(r"(?:Linux version|Linux \S+) (\d+\.\d+\S*)"),
        "dmesg": _BOOTED,
    }
)
"""Files that name the release, and where in them it stands; the first that does counts."""

_MACHINES = {
    "x86_64": "x86_64",
    "amd64": "x86_64",
    "aarch64": "arm64",
    "arm64": "arm64",
    "i386": "i386",
    "i586": "i386",
    "i686": "i386",
    "686": "i386",
    "armv7l": "arm",
    "armmp": "arm",
    "riscv64": "riscv64",
    "ppc64le": "ppc64le",
    "s390x": "s390x",
    "m68k": "m68k",
}
_ARCH_OPTIONS = {
    "X86_64": "x86_64",
    "X86_32": "i386",
    "ARM64": "arm64",
    "ARM": "arm",
    "RISCV": "riscv64",
    "PPC64": "ppc64le",
    "S390": "s390x",
    "M68K": "m68k",
}
_BACKPORTING = re.compile(r"\.(el\d+)|-(default)")
"""Kernels whose release says little: fixes and features of newer ones are taken back for years."""
_NEWEST = Release(7, 3)
_LAST_OF_MAJOR = {4: 20, 5: 19, 6: 19, 7: 3}


def vendor_of(kernel: str) -> str | None:
    """A distribution whose kernels carry many later changes (``el9``), or None."""
    match = _BACKPORTING.search(kernel)
    return (match[1] or match[2]) if match else None


def releases_in_force(own: Release, vendor: str | None, built: date | None) -> tuple[Release, ...]:
    """The releases whose rules may be in force: the kernel's own, and every later one where its
    vendor takes changes back, but for those that came long after it was built."""
    if vendor is None:
        return (own,)
    later = [
        Release(version, patchlevel)
        for version, last in _LAST_OF_MAJOR.items()
        for patchlevel in range(last + 1)
    ]
    newest = min(_NEWEST, (built and newest_known(built)) or _NEWEST)
    return (own, *(release for release in later if own < release <= newest))


def configured_architecture(config: Kconfig) -> str | None:
    """The architecture that a configuration is for."""
    return next((arch for option, arch in _ARCH_OPTIONS.items() if config.on(option)), None)


def named_architecture(uname: str, kernel: str) -> str | None:
    """The architecture that uname or the kernel's release names."""
    if "x86_64" in uname or "x86_64" in kernel:
        return "x86_64"
    words = re.split(r"[\s.+_-]+", f"{uname} {kernel}")
    return next((_MACHINES[word] for word in words if word in _MACHINES), None)


def shown_architecture(cpuinfo: str, zoneinfo: str) -> str | None:
    """The architecture that the form of cpuinfo tells, where it does."""
    if "vendor_id" in cpuinfo and "HighMem" not in zoneinfo:
        return "x86_64"
    if "CPU implementer" in cpuinfo:
        return "arm64" if "CPU architecture: 8" in cpuinfo else "arm"
    return None
