"""newc archives: what the kernel unpacks as its initial root.

The same entries give the same bytes: sorted paths, no times, owner 0, inode numbers counted from
1. Format: Documentation/driver-api/early-userspace/buffer-format.rst of the kernel.
"""

from __future__ import annotations

import stat
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import PurePosixPath

from harness.errors import BuildError

_MAGIC = b"070701"
_HEADER_BYTES = 110
_TRAILER = "TRAILER!!!"
_MAX_FIELD = 0xFFFFFFFF
_PATH_MAX_BYTES = 4096
"""The kernel skips longer names, with their terminating NUL, without a word."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CpioEntry:
    """One file, directory, link or node; ``path`` is relative to the root."""

    path: str
    mode: int
    """Type and permission bits, as in ``stat.st_mode``."""
    data: bytes = b""
    """Content of a regular file, target of a symbolic link."""
    device: tuple[int, int] = (0, 0)
    """Major and minor number of a device node."""


def file_entry(path: str, data: bytes, *, executable: bool = False) -> CpioEntry:
    """A regular file, readable by all."""
    return CpioEntry(path=path, mode=stat.S_IFREG | (0o755 if executable else 0o644), data=data)


def directory_entry(path: str, permissions: int = 0o755) -> CpioEntry:
    """A directory."""
    return CpioEntry(path=path, mode=stat.S_IFDIR | permissions)


def link_entry(path: str, target: str) -> CpioEntry:
    """A symbolic link."""
    return CpioEntry(path=path, mode=stat.S_IFLNK | 0o777, data=target.encode())


def device_entry(path: str, major: int, minor: int, permissions: int = 0o600) -> CpioEntry:
    """A character device."""
    return CpioEntry(path=path, mode=stat.S_IFCHR | permissions, device=(major, minor))


def with_parents(entries: Iterable[CpioEntry]) -> list[CpioEntry]:
    """``entries`` and a plain directory for every parent that has no entry of its own."""
    given = {entry.path: entry for entry in entries}
    missing = {
        str(parent)
        for path in given
        for parent in PurePosixPath(path).parents
        if str(parent) != "." and str(parent) not in given
    }
    return [*given.values(), *(directory_entry(path) for path in sorted(missing))]


def write_cpio(entries: Iterable[CpioEntry]) -> bytes:
    """The archive of ``entries``, in the order of their path components.

    Raises:
        BuildError: a path is absolute, empty, climbs, is too long or occurs twice, or a file
            exceeds 4 GiB.
    """
    ordered = sorted(entries, key=lambda entry: entry.path.split("/"))
    seen: set[str] = set()
    parts: list[bytes] = []
    for inode, entry in enumerate(ordered, start=1):
        _check_path(entry.path)
        if entry.path in seen:
            raise BuildError(f"initramfs: {entry.path} occurs twice")
        seen.add(entry.path)
        links = 2 if stat.S_ISDIR(entry.mode) else 1
        parts.append(_record(entry, inode, links))
    parts.append(_record(CpioEntry(path=_TRAILER, mode=0), 0, 1))
    return b"".join(parts)


def read_cpio(archive: bytes) -> list[CpioEntry]:
    """The entries of an archive, in its order.

    Raises:
        BuildError: the archive is truncated or not newc; says at which byte.
    """
    entries: list[CpioEntry] = []
    offset = 0
    while True:
        header = archive[offset : offset + _HEADER_BYTES]
        if len(header) < _HEADER_BYTES or header[:6] != _MAGIC:
            raise BuildError(f"cpio: no newc header at byte {offset}")
        try:
            fields = [int(header[start : start + 8], 16) for start in range(6, _HEADER_BYTES, 8)]
        except ValueError:
            raise BuildError(f"cpio: damaged header at byte {offset}") from None
        name_start, name_bytes = offset + _HEADER_BYTES, fields[11]
        data_start = _align4(name_start + name_bytes)
        offset = _align4(data_start + fields[6])
        if not name_bytes or offset > len(archive):
            raise BuildError(f"cpio: truncated at byte {len(archive)}")
        try:
            name = archive[name_start : name_start + name_bytes - 1].decode()
        except UnicodeDecodeError:
            raise BuildError(f"cpio: damaged name at byte {name_start}") from None
        if name == _TRAILER:
            return entries
        entries.append(
            CpioEntry(
                path=name,
                mode=fields[1],
                data=archive[data_start : data_start + fields[6]],
                device=(fields[9], fields[10]),
            )
        )


def _check_path(path: str) -> None:
    parts = path.split("/")
    if "" in parts or "." in parts or ".." in parts or "\0" in path or path == _TRAILER:
        raise BuildError(f"initramfs: {path!r} is not a plain relative path")
    if len(path.encode()) >= _PATH_MAX_BYTES:
        raise BuildError(f"initramfs: the path {path[:60]!r}… is longer than the kernel takes")


def _record(entry: CpioEntry, inode: int, links: int) -> bytes:
    name = entry.path.encode() + b"\0"
    if len(entry.data) > _MAX_FIELD:
        raise BuildError(f"initramfs: {entry.path} is larger than 4 GiB")
    major, minor = entry.device
    # ino, mode, uid, gid, nlink, mtime, size, dev (major, minor), rdev (major, minor),
    # name length, checksum (unused in newc)
    fields = [inode, entry.mode, 0, 0, links, 0, len(entry.data), 0, 0, major, minor, len(name), 0]
    header = _MAGIC + b"".join(b"%08X" % field for field in fields)
    return _pad4(header + name) + _pad4(entry.data)


def _align4(size_bytes: int) -> int:
    return (size_bytes + 3) & ~3


def _pad4(data: bytes) -> bytes:
    return data + bytes(-len(data) % 4)
