"""The source of a kernel: Debian's ``linux-source`` package, verified, unpacked in the cache."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from harness.errors import BuildError, FetchError, MissingToolError, VerificationError
from harness.kernel.apt import AptRoot, Deb
from harness.kernel.cache import (
    Progress,
    disk_full,
    install_directory,
    read_json_object,
    write_atomically,
)
from harness.kernel.unpack import unpack_deb
from harness.mortal import mortal

RECORD_NAME = ".mmscope-source.json"
_UNPACK_LIMIT_S = 1800.0

_LEFT_OUT = ("*/Documentation/*/*", "*/tools/testing/*")
"""A third of the files, of which no kernel needs one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceTree:
    """An unpacked source."""

    directory: Path
    package: str
    version: str
    file_name: str
    """The package file that it came from."""
    sha256: str
    """That file's digest, checked against the signed index."""

    @property
    def timestamp_s(self) -> int:
        """When Debian made this source (seconds since the epoch)."""
        return int((self.directory / "Makefile").stat().st_mtime)


def obtain_source(series: str, root: AptRoot, *, cache: Path, progress: Progress) -> SourceTree:
    """The newest source of ``series`` (``6.1``) that the suite of ``root`` has.

    A source in the cache serves, with a note, where no mirror answers or where the mirror no
    longer has the file.

    Raises:
        FetchError (GoneError, NetworkError): it cannot be had, and the cache has none.
        VerificationError: a signature or digest is wrong.
        MissingToolError, DiskFullError, BuildError.
    """
    package = f"linux-source-{series}"
    try:
        root.refresh(progress)
        found = root.show([package]).get(package)
        if found is None:
            others = [name for name in root.names("linux-source-") if name[-1].isdigit()]
            raise FetchError(
                f"{root.suite} has no {package}",
                details={"it has": ", ".join(others) or "no source of a kernel"},
                fix="correct `suite` and `linux` of the kernel in its catalogue",
            )
        return _install(found, root, cache=cache, progress=progress)
    except VerificationError:
        raise
    except FetchError as error:
        cached = cached_source(series, cache)
        if cached is None:
            raise
        progress(f"note: {error.message}; using the cached source {cached.version}")
        return cached


def cached_source(series: str, cache: Path) -> SourceTree | None:
    """The source of a series that was unpacked last; None if the cache has none."""
    found = [
        tree
        for path in (cache / "sources").glob(f"linux-source-{series}_*")
        if (tree := load_source(path)) is not None
    ]
    return max(found, key=lambda tree: (tree.timestamp_s, tree.version), default=None)


def load_source(directory: Path) -> SourceTree | None:
    """What lies in ``directory``; None unless it is a whole source."""
    record = read_json_object(directory / RECORD_NAME)
    names = ("package", "version", "file_name", "sha256")
    if record is None or not (directory / "Makefile").is_file():
        return None
    texts = {name: record.get(name) for name in names}
    if not all(isinstance(text, str) for text in texts.values()):
        return None
    return SourceTree(directory=directory, **{name: str(text) for name, text in texts.items()})


def _install(deb: Deb, root: AptRoot, *, cache: Path, progress: Progress) -> SourceTree:
    directory = cache / "sources" / deb.file_name.removesuffix("_all.deb")

    def build(temporary: Path) -> None:
        (path,) = root.download([deb], progress)
        progress(f"unpacking {deb.package} {deb.version}")
        unpack_source(path, temporary)
        record = {
            "package": deb.package,
            "version": deb.version,
            "file_name": deb.file_name,
            "sha256": deb.sha256,
        }
        write_atomically(temporary / RECORD_NAME, json.dumps(record, indent=2) + "\n")
        root.discard([deb])

    install_directory(
        directory, build, is_valid=lambda path: load_source(path) is not None, progress=progress
    )
    tree = load_source(directory)
    if tree is None:
        raise BuildError(f"{deb.file_name} holds no kernel source that can be built")
    return tree


def unpack_source(deb: Path, directory: Path) -> None:
    """Unpack the tree that ``deb`` carries as a tar archive into ``directory``.

    Raises:
        BuildError: the package holds no such archive, or it is damaged.
        MissingToolError: tar or xz is not installed.
    """

    def place(path: PurePosixPath) -> PurePosixPath | None:
        if path.parts[:2] == ("usr", "src") and path.name.startswith("linux-source-"):
            return PurePosixPath(path.name) if ".tar." in path.name else None
        return None

    inner = directory / "package"
    inner.mkdir()
    unpack_deb(deb, inner, place)
    archives = sorted(inner.iterdir())
    if len(archives) != 1:
        raise BuildError(f"{deb.name}: expected one archive below usr/src, found {len(archives)}")
    options = [f"--exclude={pattern}" for pattern in _LEFT_OUT]
    _tar(
        ["tar", "-xf", str(archives[0]), "--strip-components=1", "--no-same-owner", *options],
        directory,
    )
    shutil.rmtree(inner)


def _tar(argv: Sequence[str], directory: Path) -> None:
    try:
        done = subprocess.run(
            mortal(argv),
            cwd=directory,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_UNPACK_LIMIT_S,
            check=False,
        )
    except FileNotFoundError:
        raise MissingToolError("tar is not installed", fix="apt-get install tar xz-utils") from None
    except subprocess.TimeoutExpired:
        raise BuildError(f"tar was not done after {_UNPACK_LIMIT_S:g} s") from None
    if done.returncode != 0:
        said = done.stderr.strip()
        if "xz" in said and "Cannot exec" in said:
            raise MissingToolError("xz is not installed", fix="apt-get install xz-utils")
        if "No space left" in said:
            raise disk_full(directory)
        raise BuildError("the kernel's source did not unpack", details={"tar": said[-2000:]})
