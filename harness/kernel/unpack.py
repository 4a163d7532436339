"""Taking files out of a .deb, without root and without leaving the destination."""

from __future__ import annotations

import shutil
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import IO

from harness.errors import BuildError, MissingToolError

Place = Callable[[PurePosixPath], PurePosixPath | None]
"""Path in the package → path below the destination, or None to leave the file out."""

MERGED_USR = frozenset({"bin", "sbin", "lib", "lib32", "lib64", "libx32"})
"""Top-level directories that a merged-/usr system has as links into usr."""

_EXIT_LIMIT_S = 60.0


def merge_usr(path: PurePosixPath) -> PurePosixPath:
    """Where a merged-/usr system has ``path``: ``bin/sh`` → ``usr/bin/sh``."""
    if path.parts and path.parts[0] in MERGED_USR:
        return PurePosixPath("usr", *path.parts)
    return path


def unpack_deb(deb: Path, destination: Path, place: Place = merge_usr) -> int:
    """Extract the files of ``deb`` for which ``place`` names a path; returns how many.

    Owners are not kept, directories are always writable by us, device nodes are left out. A
    member is refused if its path, or the directory it goes into, could lead elsewhere: parents
    must be real directories below ``destination``.

    Raises:
        BuildError: the package is damaged or a member's path is not safe.
        MissingToolError: dpkg-deb is not installed.
    """
    try:
        process = subprocess.Popen(
            ["dpkg-deb", "--fsys-tarfile", str(deb)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
    except FileNotFoundError:
        raise MissingToolError(
            "dpkg-deb, which opens Debian packages, is not installed", fix="apt-get install dpkg"
        ) from None
    with process:
        assert process.stdout is not None
        assert process.stderr is not None
        try:
            count = extract_tar(process.stdout, destination, place, source=deb.name)
            while process.stdout.read(1 << 20):
                pass
            complaint = process.stderr.read().decode(errors="replace").strip()
            status = process.wait(timeout=_EXIT_LIMIT_S)
        except tarfile.TarError as error:
            process.kill()
            complaint = process.stderr.read().decode(errors="replace").strip()
            raise BuildError(
                f"{deb.name}: the package is damaged: {error}", details={"dpkg-deb": complaint}
            ) from None
        except BaseException:
            process.kill()
            raise
    if status != 0:
        raise BuildError(f"{deb.name}: dpkg-deb failed", details={"dpkg-deb": complaint})
    return count


def extract_tar(stream: IO[bytes], destination: Path, place: Place, *, source: str) -> int:
    """Extract an uncompressed tar stream under the rules of ``unpack_deb``."""
    directories: set[PurePosixPath] = {PurePosixPath()}
    count = 0
    with tarfile.open(fileobj=stream, mode="r|") as archive:
        for member in archive:
            target = place(_safe_path(member.name, source))
            if target is None or target == PurePosixPath():
                continue
            _make_directories(destination, target.parent, directories, source)
            path = destination / target
            if member.isdir():
                _make_directories(destination, target, directories, source)
                continue
            if path.is_symlink() or path.exists():
                if path.is_dir() and not path.is_symlink():
                    raise BuildError(f"{source}: {target} is a directory here already")
                path.unlink()
            if member.isfile():
                content = archive.extractfile(member)
                assert content is not None
                with path.open("xb") as out:
                    shutil.copyfileobj(content, out, 1 << 20)
                path.chmod(0o755 if member.mode & 0o111 else 0o644)
            elif member.issym():
                path.symlink_to(member.linkname)
            elif member.islnk():
                linked = place(_safe_path(member.linkname, source))
                if linked is None or not (destination / linked).is_file():
                    raise BuildError(f"{source}: {target} is a hard link to what is not there")
                shutil.copy2(destination / linked, path, follow_symlinks=False)
            else:
                continue
            count += 1
    return count


def _safe_path(name: str, source: str) -> PurePosixPath:
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts:
        raise BuildError(f"{source}: unsafe path in the package: {name!r}")
    return path


def _make_directories(
    destination: Path, target: PurePosixPath, known: set[PurePosixPath], source: str
) -> None:
    """Make ``target`` and its parents as real directories; a link in the way is refused."""
    for directory in reversed([target, *target.parents]):
        if directory in known:
            continue
        path = destination / directory
        if path.is_symlink() or (path.exists() and not path.is_dir()):
            raise BuildError(f"{source}: {directory} is not a directory here: refusing to follow")
        path.mkdir(exist_ok=True)
        known.add(directory)
