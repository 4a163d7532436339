"""A kernel image of a person's own: what it is, told from the file itself.

Kernel: init/version-timestamp.c (init/version.c before 6.1) has the banner with the release;
kernel/configs.c keeps the configuration, gzipped, between two marks (CONFIG_IKCONFIG).
"""

from __future__ import annotations

import re
import zlib
from dataclasses import dataclass
from pathlib import Path

from harness.errors import BuildError, UsageError
from harness.kernel.bootimage import BootImage, boot_image, image_arch, unpack_image

_BANNER = re.compile(
    rb"Linux version (?P<release>\d+\.\d+[^ \0\n]*) \([^\0\n]*(?P<build>#\d[^\0\n]*)"
)
_HEADER_BYTES = 4096
_CONFIG_START = b"IKCFG_ST"
_CONFIG_END = b"IKCFG_ED"


@dataclass(frozen=True, slots=True, kw_only=True)
class KernelFile:
    """What a kernel image says of itself."""

    path: Path
    arch: str
    release: str
    """``uname -r``."""
    build: str
    """``uname -v``: number and time of the build."""
    config: str | None
    """The text of its configuration, where it carries it."""
    content: bytes
    image: BootImage
    """What QEMU boots of it."""


def read_kernel_file(path: Path) -> KernelFile:
    """Read and understand a kernel image.

    Raises:
        UsageError: it cannot be read, or is no kernel that a guest can boot.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UsageError(
            f"--kernel {path}: {error.strerror or error}", fix="give the file of a kernel image"
        ) from None
    try:
        arch, kernel = unpack_image(content, str(path))
        banner = _BANNER.search(kernel)
        if banner is None:
            raise BuildError(
                f"{path}: no Linux kernel: it has no version of Linux in it",
                fix="give a bzImage, an ELF vmlinux, or an arm64 Image",
            )
        # An image that is booted as it is, is booted as it is: nothing is unpacked twice.
        image = boot_image(content if arch == "i386" else kernel, arch, str(path))
        config = _embedded_config(kernel, str(path))
    except BuildError as error:
        raise UsageError(f"--kernel {error.message}", fix=error.fix) from None
    return KernelFile(
        path=path,
        arch=arch,
        release=banner["release"].decode(errors="replace"),
        build=banner["build"].decode(errors="replace").strip(),
        config=config,
        content=content,
        image=image,
    )


def file_arch(path: Path) -> str:
    """The architecture of a kernel image, from its first bytes.

    Raises:
        UsageError: it cannot be read, or is no kernel image.
    """
    try:
        with path.open("rb") as stream:
            return image_arch(stream.read(_HEADER_BYTES), str(path))
    except OSError as error:
        raise UsageError(
            f"--kernel {path}: {error.strerror or error}", fix="give the file of a kernel image"
        ) from None
    except BuildError as error:
        raise UsageError(f"--kernel {error.message}", fix=error.fix) from None


def _embedded_config(kernel: bytes, source: str) -> str | None:
    start = kernel.find(_CONFIG_START)
    end = kernel.find(_CONFIG_END, start)
    if start == -1 or end == -1:
        return None
    try:
        text = zlib.decompress(kernel[start + len(_CONFIG_START) : end], wbits=31)
        return text.decode("utf-8")
    except (zlib.error, UnicodeDecodeError) as error:
        raise BuildError(f"{source}: the configuration inside is damaged: {error}") from None
