"""A capture of the machine that mmscope runs on. Nothing on it is changed."""

from __future__ import annotations

import gzip
import os
import platform
import subprocess
from collections.abc import Iterable
from pathlib import Path

from harness.capture.record import (
    CaptureRecord,
    capture_directory,
    new_record,
    write_file,
    write_files,
    write_record,
)
from harness.errors import UsageError
from harness.record.captured import (
    AGAIN,
    FOLDING,
    MOVING,
    SLAB,
    SLAB_ATTRIBUTES,
    STILL,
    SYSCTLS,
    held_still,
    slab_listing,
)

_DMESG_LIMIT_S = 30.0
_WRITE_ONLY = ("compact_memory", "drop_caches")


def capture_host(path: Path) -> CaptureRecord:
    """Keeps the files of this machine that this user may read at ``path``.

    Raises:
        UsageError: the path exists, or this is no Linux.
        DiskFullError: no room.
    """
    if platform.system() != "Linux":
        raise UsageError(
            f"this machine runs {platform.system()}, not Linux", fix="leave out --host"
        )
    record = new_record("host")
    with capture_directory(path) as directory:
        first = _read(MOVING, record)
        second = _read(MOVING, record)
        write_files(directory, first)
        write_files(directory, second, suffix=AGAIN)
        write_files(directory, _read((*STILL, SYSCTLS), record))
        attributes = _read([f"{SLAB}/*/{name}" for name in SLAB_ATTRIBUTES], record)
        if attributes:
            write_file(directory, "slab_sysfs", slab_listing(attributes, _slab_links()))
        write_file(directory, "uname", (" ".join(os.uname()) + "\n").encode())
        for name, content in (("dmesg", _dmesg(record)), ("config", _config(record))):
            if content is not None:
                write_file(directory, name, content)
        record.still = held_still(first, second)
        write_record(directory, record)
    return record


def _read(patterns: Iterable[str], record: CaptureRecord) -> dict[str, bytes]:
    files: dict[str, bytes] = {}
    for pattern in patterns:
        for name in sorted(map(str, Path("/").glob(pattern.lstrip("/")))):
            if name == FOLDING or name.rpartition("/")[2] in _WRITE_ONLY:
                continue
            try:
                files[name] = Path(name).read_bytes()
            except OSError as error:
                record.unreadable[name] = error.strerror or str(error)
    return files


def _slab_links() -> dict[str, str]:
    try:
        return {
            path.name: str(path.readlink()) for path in Path(SLAB).iterdir() if path.is_symlink()
        }
    except OSError:
        return {}


def _dmesg(record: CaptureRecord) -> bytes | None:
    try:
        result = subprocess.run(["dmesg"], capture_output=True, timeout=_DMESG_LIMIT_S, check=True)
    except (OSError, subprocess.SubprocessError) as error:
        complaint = getattr(error, "stderr", None)
        record.unreadable["dmesg"] = (
            complaint.decode(errors="replace").strip() if complaint else str(error)
        )
        return None
    return result.stdout


def _config(record: CaptureRecord) -> bytes | None:
    release = platform.release()
    places = (f"/boot/config-{release}", f"/lib/modules/{release}/config", "/proc/config.gz")
    for place in places:
        try:
            content = Path(place).read_bytes()
            return gzip.decompress(content) if place.endswith(".gz") else content
        except FileNotFoundError:
            continue
        except OSError as error:
            record.unreadable[place] = error.strerror or str(error)
    record.unreadable.setdefault("config", f"none of {', '.join(places)} is there")
    return None
