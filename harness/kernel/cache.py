"""The cache directory: locks, and directories that appear whole or not at all.

Everything is built in a temporary directory beside its final name, under a lock on that name,
and renamed into place. A process killed half-way leaves a temporary directory, which the next
holder of the lock removes: nobody else can own it then.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import re
import secrets
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from harness.deadline import Deadline
from harness.errors import DiskFullError, InfrastructureError, UsageError
from harness.record.rundir import write_atomic

Progress = Callable[[str], None]

LOCK_LIMIT_S = 3600.0
"""Longest wait for another process that builds the same thing (a slow mirror takes minutes)."""

_POLL_S = 0.1
_TEMPORARY_SUFFIX = ".tmp"


def cache_root(environment: Mapping[str, str] = os.environ) -> Path:
    """``$MMSCOPE_CACHE``, else ``~/.cache/mmscope``; absolute, not necessarily there yet.

    Raises:
        UsageError: the path holds a character that apt's configuration cannot express.
    """
    named = environment.get("MMSCOPE_CACHE")
    root = Path(named).expanduser() if named else Path.home() / ".cache" / "mmscope"
    root = root.absolute()
    if not str(root).isprintable() or set(str(root)) & set('"\\;'):
        raise UsageError(
            f"the cache directory {str(root)!r} has a character that apt cannot take in a path",
            fix="set MMSCOPE_CACHE to a plain path",
        )
    return root


@contextlib.contextmanager
def locked(
    target: Path,
    *,
    progress: Progress | None = None,
    limit_s: float = LOCK_LIMIT_S,
) -> Iterator[None]:
    """Hold the exclusive lock that belongs to ``target`` (a hidden file beside it).

    Raises:
        InfrastructureError: another process kept the lock for ``limit_s`` seconds.
        DiskFullError: no room for the lock file.
    """
    path = target.parent / f".{target.name}.lock"
    with reporting_full_disk(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        deadline = Deadline(limit_s)
        told = False
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if deadline.expired:
                    raise InfrastructureError(
                        f"another process still holds {path} after {limit_s:g} s",
                        fix="wait for the other mmscope to finish, or end it, then try again",
                    ) from None
                if progress is not None and not told:
                    progress(f"waiting for another mmscope that prepares {target.name}")
                    told = True
                time.sleep(_POLL_S)
            else:
                break
        yield
    finally:
        os.close(descriptor)


def install_directory(
    target: Path,
    build: Callable[[Path], None],
    *,
    is_valid: Callable[[Path], bool],
    progress: Progress | None = None,
) -> Path:
    """Make ``target`` by calling ``build(temporary directory)``, unless a valid one is there.

    ``build`` runs at most in one process at a time for the same target. What it leaves behind
    when it raises is removed, as is an invalid ``target`` before it is replaced.

    Raises:
        DiskFullError: no room left in the cache.
    """
    with reporting_full_disk(target), locked(target, progress=progress):
        remove_stale(target)
        if is_valid(target):
            return target
        temporary = target.parent / f".{target.name}.{secrets.token_hex(4)}{_TEMPORARY_SUFFIX}"
        temporary.mkdir()
        try:
            build(temporary)
            if target.exists():
                shutil.rmtree(target)
            temporary.rename(target)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise
    return target


def remove_stale(target: Path) -> None:
    """Remove temporary directories that killed builders of ``target`` left (lock held)."""
    for path in target.parent.glob(f".{target.name}.*{_TEMPORARY_SUFFIX}"):
        shutil.rmtree(path, ignore_errors=True)


def write_atomically(path: Path, text: str) -> None:
    """Replace ``path`` by ``text`` in one step; readers see the old or the new, never a half.

    Raises:
        DiskFullError, RecordError: it could not be written; the old content is still there.
    """
    write_atomic(path, text.encode())


def read_json_object(path: Path) -> dict[str, object] | None:
    """The object stored in ``path``; None when there is none or it is not a JSON object."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return None
    return value if isinstance(value, dict) else None


@contextlib.contextmanager
def reporting_full_disk(path: Path) -> Iterator[None]:
    """Turn ENOSPC and EDQUOT into a DiskFullError that names where we were writing."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise disk_full(path) from error
        raise


def disk_full(path: Path) -> DiskFullError:
    """The error for no room below ``path``, with what is free there now."""
    existing = path
    while not existing.exists():
        existing = existing.parent
    free_mib = shutil.disk_usage(existing).free >> 20
    return DiskFullError(
        f"no room left to write {path}",
        details={"free": f"{free_mib} MiB"},
        fix="free some space, or set MMSCOPE_CACHE to a larger disk",
    )


def safe_file_name(text: str) -> str:
    """``text`` as one safe file name."""
    return re.sub(r"[^A-Za-z0-9.+~_-]", "_", text)
