"""The image of a guest without a root: an initramfs of our own programs and nothing else.

For architectures that Debian's archive has no packages for. The agent is process 1 and, started
again, what the host talks to; ``mmscope-tools`` knows the few commands that the host asks of
busybox. There is no shell.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from harness.errors import InfrastructureError
from harness.image.cpio import (
    CpioEntry,
    device_entry,
    directory_entry,
    file_entry,
    link_entry,
    with_parents,
    write_cpio,
)
from harness.image.programs import AGENT, TOOLS, Programs
from harness.kernel.cache import Progress, install_directory, read_json_object, write_atomically
from harness.kernel.package import Kernel

INITRAMFS_NAME = "initramfs.cpio"
RECORD_NAME = "image.json"

_LAYOUT = 1
"""Raised whenever the same inputs would give another initramfs: part of the cache key."""

_DIRECTORIES = ("dev", "mnt", "proc", "root", "run", "sys", "tmp")
_PROGRAMS = "run/mmscope/bin"
"""Where the host looks for programs in every guest."""


def build_rootless(
    kernel: Kernel, programs: Programs, *, cache: Path, progress: Progress
) -> tuple[Path, str]:
    """The initramfs for ``kernel``, and its digest; not built again if the cache has it."""
    inputs = json.dumps([_LAYOUT, kernel.arch, programs.key])
    key = hashlib.sha256(inputs.encode()).hexdigest()
    target = cache / "images" / f"{kernel.arch}-rootless-{key[:16]}"

    def build(temporary: Path) -> None:
        progress(f"building the initramfs for {kernel.release}")
        archive = write_cpio(rootless_entries(programs.directory))
        (temporary / INITRAMFS_NAME).write_bytes(archive)
        record = {"sha256": hashlib.sha256(archive).hexdigest(), "size_bytes": len(archive)}
        write_atomically(temporary / RECORD_NAME, json.dumps(record, indent=2) + "\n")

    install_directory(
        target, build, is_valid=lambda path: _digest(path) is not None, progress=progress
    )
    sha256 = _digest(target)
    if sha256 is None:
        raise InfrastructureError(f"{target} vanished while it was used", fix="try again")
    return target / INITRAMFS_NAME, sha256


def rootless_entries(programs: Path) -> list[CpioEntry]:
    """Everything in the initial root, as archive entries."""
    agent, tools = ((programs / name).read_bytes() for name in (AGENT, TOOLS))
    return with_parents(
        [
            *(directory_entry(name) for name in _DIRECTORIES),
            device_entry("dev/console", 5, 1),
            device_entry("dev/null", 1, 3, 0o666),
            file_entry("init", agent, executable=True),
            file_entry("modules/order", b""),
            link_entry(f"mmscope/{AGENT}", "/init"),
            file_entry(f"{_PROGRAMS}/{TOOLS}", tools, executable=True),
            link_entry(f"{_PROGRAMS}/busybox", TOOLS),
        ]
    )


def _digest(directory: Path) -> str | None:
    """The digest of a whole initramfs; None when it is not whole."""
    record = read_json_object(directory / RECORD_NAME) or {}
    try:
        size_bytes = (directory / INITRAMFS_NAME).stat().st_size
    except FileNotFoundError:
        return None
    sha256 = record.get("sha256")
    return sha256 if isinstance(sha256, str) and size_bytes == record.get("size_bytes") else None
