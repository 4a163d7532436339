"""Module files, compressed or not."""

from __future__ import annotations

import lzma
from pathlib import Path

import zstandard

from harness.errors import BuildError
from harness.kernel.elf import parse_elf

_VERSION_MAGIC = b"vermagic="


def read_module(path: Path) -> bytes:
    """The ELF file of a module.

    Raises:
        BuildError: it is compressed, and damaged.
    """
    content = path.read_bytes()
    try:
        if path.suffix == ".xz":
            return lzma.decompress(content)
        if path.suffix == ".zst":
            return zstandard.ZstdDecompressor().decompressobj().decompress(content)
    except (lzma.LZMAError, zstandard.ZstdError) as error:
        raise BuildError(f"{path}: damaged module: {error}") from None
    return content


def module_release(path: Path) -> str | None:
    """The release that a module was built for; None where it does not say.

    Kernel: include/linux/vermagic.h; the release is the first word.

    Raises:
        BuildError: not a module.
    """
    section = parse_elf(read_module(path), str(path)).section(".modinfo") or b""
    for entry in section.split(b"\0"):
        if entry.startswith(_VERSION_MAGIC):
            words = entry.removeprefix(_VERSION_MAGIC).decode(errors="replace").split()
            return words[0] if words else None
    return None
