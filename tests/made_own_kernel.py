"""Kernel images of a few bytes that say of themselves what real ones say."""

from __future__ import annotations

import struct
from pathlib import Path

from harness.kernel.needs import NEEDS, OPTIONAL
from tests.made_packages import gzipped, make_arm64_image, make_bzimage, make_elf, make_module

PVH_NOTE = (b"Xen", 18, bytes(8))


def banner(release: str) -> bytes:
    """The line that a kernel prints first."""
    return f"Linux version {release} (me@here) (gcc 12) #7 SMP Mon Nov 16 2026\n\0".encode()


def config_text(arch: str = "x86_64", *, series: str = "6.1", **changed: str) -> str:
    """A configuration with all that a guest needs, everything built in, and these changes."""
    symbols = {need.symbol: "y" for need in NEEDS if arch in need.arches}
    symbols |= dict.fromkeys(OPTIONAL.values(), "y")
    symbols |= changed
    head = "#\n# Automatically generated file; DO NOT EDIT.\n"
    header = {"x86_64": "x86", "i386": "x86"}.get(arch, arch)
    head += f"# Linux/{header} {series}.9 Kernel Configuration\n#\n"
    lines = [
        f"# CONFIG_{symbol} is not set" if value == "n" else f"CONFIG_{symbol}={value}"
        for symbol, value in symbols.items()
    ]
    return head + "\n".join(lines) + "\n"


def embedded(config: str) -> bytes:
    """A configuration as kernel/configs.c keeps it."""
    return b"IKCFG_ST" + gzipped(config.encode()) + b"IKCFG_ED"


def make_own_vmlinux(release: str, config: str | None = None, *, machine: int = 62) -> bytes:
    """An ELF vmlinux that a guest could be entered by."""
    body = banner(release) + (embedded(config) if config is not None else b"")
    bits = 64 if machine == 62 else 32
    return make_elf(machine, {".rodata": body}, notes=[PVH_NOTE], bits=bits)


def make_own_bzimage(release: str, config: str | None = None) -> bytes:
    """The same, packed as a distribution packs it."""
    return make_bzimage(gzipped(make_own_vmlinux(release, config)))


def make_own_arm64(release: str, config: str | None = None) -> bytes:
    """A raw Image."""
    body = banner(release) + (embedded(config) if config is not None else b"")
    return make_arm64_image() + body


def zboot(image: bytes) -> bytes:
    """An Image in the wrapping of EFI zboot."""
    packed = gzipped(image)
    return b"MZ\0\0zimg" + struct.pack("<II", 64, len(packed)) + bytes(48) + packed


def make_module_tree(directory: Path, release: str, names: tuple[str, ...]) -> Path:
    """A tree as ``make modules_install`` leaves it."""
    kernel = directory / "kernel"
    kernel.mkdir(parents=True)
    for name in names:
        extra = [f"vermagic={release} SMP preempt mod_unload "]
        (kernel / f"{name}.ko").write_bytes(make_module(name, extra=extra))
    (directory / "modules.builtin").write_text("")
    return directory
