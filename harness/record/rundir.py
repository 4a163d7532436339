"""The directory of one run: its paths, atomic writes, and a sound end.

::

    runs/boot-numa-x86_64-20260101T120000Z/
      manifest.json          what, on what, how it ended
      qemu/                  argv, stderr.log, qmp.log
      console.log            everything the guest printed
      samples.mms            the sample stream as the guest sent it (record.frames)
      memory/                the allocator's state read by the host (record.memory)
      trace/                 raw ring-buffer pages of traced windows (record.trace)
      clones/01-anon/        console.log and qemu/ of the clone that a window ran on
      guest/                 dmesg, config and other files read once, laid out as in the guest
      workloads/             01-null.stdout, 01-null.stderr, …
      tables/ figures/ claims.json report.html      made by analysis from the above
"""

from __future__ import annotations

import contextlib
import datetime
import errno
import hashlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from harness.errors import DiskFullError, RecordError
from harness.record.manifest import (
    MANIFEST_NAME,
    FileRecord,
    Manifest,
    parse_manifest,
)


class RunDirectory:
    """Paths inside one run directory, and how things are written there."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    def create(cls, root: Path, name: str) -> RunDirectory:
        """Makes ``root/name-<UTC time>``; a counter is added when that exists already.

        Raises:
            RecordError: the directory cannot be made.
            DiskFullError: there is no room for it.
        """
        stamp = datetime.datetime.now(datetime.UTC).strftime("%Y%m%dT%H%M%SZ")
        with disk_errors(root):
            root.mkdir(parents=True, exist_ok=True)
            for attempt in range(1000):
                suffix = f".{attempt}" if attempt else ""
                path = root / f"{name}-{stamp}{suffix}"
                try:
                    path.mkdir()
                except FileExistsError:
                    continue
                return cls(path)
        raise RecordError(f"{root}: a thousand runs named {name}-{stamp} exist already")

    @property
    def manifest_path(self) -> Path:
        return self.path / MANIFEST_NAME

    @property
    def console_path(self) -> Path:
        return self.path / "console.log"

    @property
    def samples_path(self) -> Path:
        return self.path / "samples.mms"

    @property
    def memory_path(self) -> Path:
        return self.path / "memory"

    @property
    def trace_path(self) -> Path:
        return self.path / "trace"

    @property
    def clones_path(self) -> Path:
        return self.path / "clones"

    @property
    def guest_path(self) -> Path:
        return self.path / "guest"

    @property
    def qemu_path(self) -> Path:
        return self.path / "qemu"

    @property
    def workloads_path(self) -> Path:
        return self.path / "workloads"

    @property
    def tables_path(self) -> Path:
        return self.path / "tables"

    @property
    def figures_path(self) -> Path:
        return self.path / "figures"

    @property
    def claims_path(self) -> Path:
        return self.path / "claims.json"

    @property
    def report_path(self) -> Path:
        return self.path / "report.html"

    def read_manifest(self) -> Manifest:
        """Raises RecordError when the manifest is missing, unreadable or of another schema."""
        try:
            text = self.manifest_path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise RecordError(
                f"{self.manifest_path}: {error}", fix="point at a directory made by `mmscope run`"
            ) from None
        return parse_manifest(text, str(self.manifest_path))

    def write_manifest(self, manifest: Manifest) -> None:
        """Replaces the manifest whole."""
        write_atomic(self.manifest_path, (manifest.model_dump_json(indent=1) + "\n").encode())

    def digest_files(self) -> dict[str, FileRecord]:
        """Size and sha256 of every raw file (not the manifest, nor what analysis made)."""
        derived = {"tables", "figures", MANIFEST_NAME}
        derived |= {"claims.json", "report.html", "replay.json", "replay.html"}
        records: dict[str, FileRecord] = {}
        for path in sorted(self.path.rglob("*")):
            relative = path.relative_to(self.path)
            if path.is_file() and relative.parts[0] not in derived:
                with path.open("rb") as stream:
                    digest = hashlib.file_digest(stream, "sha256").hexdigest()
                records[str(relative)] = FileRecord(size_bytes=path.stat().st_size, sha256=digest)
        return records


@contextlib.contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Turns OSError into our errors: a full disk or quota is named with the place it is full."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DiskFullError(
                f"no space left where {error.filename or path} is written",
                fix="free space there, or set MMSCOPE_CACHE / --runs to another disk",
            ) from error
        raise RecordError(f"{error.filename or path}: {error.strerror}") from error


def write_atomic(path: Path, content: bytes) -> None:
    """Writes a file so that readers see the old or the new content, never a part.

    Raises:
        DiskFullError, RecordError: it could not be written; the old content is still there.
    """
    with disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(handle, "wb") as stream:
                stream.write(content)
                stream.flush()
                os.fsync(stream.fileno())
            os.chmod(name, 0o644)
            os.replace(name, path)
        except BaseException:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(name)
            raise
