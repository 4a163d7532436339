"""Where the files of a capture are: directories, archives and runs behind one face.

A file has a canonical name, its path in the running system without the first slash
(``proc/zoneinfo``, ``sys/devices/system/node/node0/distance``), or one of the names of what is no
file there: ``dmesg``, ``config`` (the kernel's), ``uname`` (of ``uname -a``), ``sysctl`` (of
``sysctl -a``), ``slab_sysfs`` (/sys/kernel/slab, a line per attribute).
"""

from __future__ import annotations

import bz2
import fnmatch
import gzip
import io
import lzma
import tarfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import zstandard

from analysis.bundle import MANIFEST_NAME, Bundle, open_bundle
from analysis.errors import CaptureError
from analysis.procfs import slab_sysfs

SLAB_ROOT = "sys/kernel/slab/"

_ELSEWHERE: Mapping[str, tuple[str, ...]] = {
    "dmesg": (
        "dmesg.txt",
        "var/log/dmesg",
        "sos_commands/kernel/dmesg",
        "sos_commands/kernel/dmesg_-T",
        "sos_commands/logs/dmesg",
        "sos_commands/logs/journalctl_--no-pager_--boot",
        "sos_commands/logs/journalctl_--no-pager_--catalog_--boot",
    ),
    "config": (
        "boot/config-{release}",
        "lib/modules/{release}/config",
        "usr/lib/modules/{release}/config",
        "proc/config.gz",
        "config.gz",
        "boot/config-*",
        "config-*",
    ),
    "uname": ("uname_-a", "sos_commands/kernel/uname_-a", "uname.txt"),
    "sysctl": ("sysctl_-a", "sos_commands/kernel/sysctl_-a", "sysctl.txt"),
}
"""Other places of the names that are no paths; ``{release}`` is the kernel's, where known."""

_TAR_ENDINGS = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst")
_ARCHIVE_BYTES_MAX = 1 << 30
_FILE_BYTES_MAX = 64 << 20
_READ_AGAIN = "take a capture with `mmscope capture DIRECTORY`"

Read = Callable[[], bytes]


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """The files of a capture, by their path in it."""

    path: Path
    kind: str
    """``capture``: a directory or archive; ``run``: a run directory."""
    files: Mapping[str, Read]
    bundle: Bundle | None = None

    def find(self, name: str, *, release: str | None = None) -> str | None:
        """The path in the capture of the file with a canonical name."""
        for candidate in _candidates(name, release):
            if "*" not in candidate:
                if candidate in self.files:
                    return candidate
            elif matches := sorted(fnmatch.filter(self.files, candidate)):
                return matches[0]
        return None

    def text(self, name: str, *, release: str | None = None) -> str | None:
        """The text of the file with a canonical name, or None where the capture lacks it.

        Raises:
            CaptureError: the file is there and cannot be read.
        """
        found = self.find(name, release=release)
        if found is None:
            return self._slab_sysfs() if name == "slab_sysfs" else None
        text = self.read(found).decode("utf-8", "surrogateescape")
        return text.replace("\r\n", "\n")  # copied through another system

    def read(self, found: str) -> bytes:
        """The bytes of a file by its path in the capture; a gzipped one is unpacked.

        Raises:
            CaptureError: it cannot be read.
        """
        try:
            data = self.files[found]()
            return gzip.decompress(data) if found.endswith(".gz") else data
        except (OSError, EOFError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            raise CaptureError(f"{self.path}/{found}: {reason}", fix=_READ_AGAIN) from None

    def nodes(self) -> tuple[int, ...]:
        """The NUMA nodes of which the capture has a directory, in order."""
        found = set()
        for name in self.files:
            parts = name.split("/")
            for part in parts[:-1] if parts[0] == "sys" else parts:
                digits = part.removeprefix("node").partition(".")[0].partition("_")[0]
                digits = digits.partition("-")[0]
                if part.startswith("node") and digits.isdecimal():
                    found.add(int(digits))
        return tuple(sorted(found))

    def _slab_sysfs(self) -> str | None:
        """The one-file form, from a tree of /sys/kernel/slab."""
        tree = {
            name.removeprefix(SLAB_ROOT): self.read(name)
            for name in self.files
            if name.startswith(SLAB_ROOT)
        }
        return slab_sysfs.from_tree(tree) if tree else None


def is_run(path: Path) -> bool:
    """Whether the path is a run directory."""
    return (path / MANIFEST_NAME).is_file()


def open_source(path: Path) -> Source:
    """A run directory, a capture in any layout, or an archive of one.

    One of several captures in an archive is named as if the archive were a directory:
    ``6.1.0-37-amd64.tar.xz/numa2``.

    Raises:
        CaptureError: there is nothing at the path, nothing of /proc in it, or several captures.
        BundleError, RecordError: a run directory that cannot be used.
    """
    if is_run(path):
        return run_source(open_bundle(path, verify=False))
    archive = next((place for place in (path, *path.parents) if place.is_file()), None)
    if archive is not None:
        inside = path.relative_to(archive).as_posix()
        files = _archive(archive)
        if inside != ".":
            files = _below(files, inside + "/")
    elif path.is_dir():
        files = dict(_directory(path))
    else:
        raise CaptureError(f"{path}: no such directory or archive", fix=_READ_AGAIN)
    source = Source(path=path, kind="capture", files=_rooted(files))
    if not _is_capture(source):
        several = _several(files)
        if several:
            raise CaptureError(
                f"{path}: holds several captures: {', '.join(several)}",
                fix=f"name one: {path}/{several[0]}",
            )
        raise CaptureError(
            f"{path}: neither a run directory nor a capture: no manifest.json, and no zoneinfo, "
            f"buddyinfo or meminfo, flat or below proc/",
            fix="point at a run of `mmscope run`, a capture of `mmscope capture`, or a sosreport",
        )
    return source


def captures_in(archive: Path) -> dict[str, Source]:
    """The captures of an archive by name, unpacked once.

    Raises:
        CaptureError: it cannot be read, or holds no capture.
    """
    files = _archive(archive)
    names = _several(files)
    if not names:
        raise CaptureError(f"{archive}: holds no capture", fix=_READ_AGAIN)
    return {
        name: Source(path=archive / name, kind="capture", files=_below(files, name + "/"))
        for name in names
    }


def _is_capture(source: Source) -> bool:
    return any(source.find(f"proc/{name}") for name in ("zoneinfo", "buddyinfo", "meminfo"))


def _several(files: Mapping[str, Read]) -> list[str]:
    """The directories at the top that are captures."""
    return sorted({name.partition("/")[0] for name in files if "/proc/zoneinfo" in name})


def _below(files: Mapping[str, Read], top: str) -> dict[str, Read]:
    return {name.removeprefix(top): read for name, read in files.items() if name.startswith(top)}


def _candidates(name: str, release: str | None) -> Iterator[str]:
    yield name
    for place in _ELSEWHERE.get(name, ()):
        if "{release}" not in place:
            yield place
        elif release is not None:
            yield place.format(release=release)
    parts = PurePosixPath(name).parts
    if len(parts) > 1:
        base = parts[-1]
        owner = parts[-2]
        yield name.replace("/", "_")
        yield name.replace("/", "-")
        if owner.startswith("node") and owner[4:].isdecimal():
            for joint in "/_-.":
                yield f"{owner}{joint}{base}"
        elif parts[:3] != ("sys", "devices", "system") and base not in ("enabled", "state"):
            yield base
            yield f"{base}.txt"


def _directory(root: Path) -> Iterator[tuple[str, Read]]:
    for path in sorted(root.rglob("*")):
        if path.is_file() and path.stat().st_size <= _FILE_BYTES_MAX:
            yield path.relative_to(root).as_posix(), path.read_bytes


def _rooted(files: dict[str, Read]) -> dict[str, Read]:
    """Without the one directory in which archives keep everything (``sosreport-host-date/``)."""
    tops = {name.partition("/")[0] for name in files}
    if len(tops) == 1 and not tops & {"proc", "sys", "sos_commands"} and tops.isdisjoint(files):
        return _below(files, tops.pop() + "/")
    return files


def _archive(path: Path) -> dict[str, Read]:
    if not path.name.endswith(_TAR_ENDINGS):
        raise CaptureError(
            f"{path}: not a directory, nor an archive with one of the endings "
            f"{' '.join(_TAR_ENDINGS)}",
            fix="unpack it and point at the directory",
        )
    files: dict[str, Read] = {}
    try:
        with tarfile.open(fileobj=io.BytesIO(_unpacked(path)), mode="r:") as archive:
            for member in archive:
                name = member.name.removeprefix("./")
                if member.isfile() and member.size <= _FILE_BYTES_MAX:
                    stream = archive.extractfile(member)
                    assert stream is not None, "a regular file"
                    files[name] = io.BytesIO(stream.read()).getvalue
    except (tarfile.TarError, OSError, EOFError, lzma.LZMAError, zstandard.ZstdError) as error:
        raise CaptureError(f"{path}: {error}", fix="copy the archive again") from None
    return files


def _unpacked(path: Path) -> bytes:
    data = path.read_bytes()
    opened: Iterable[tuple[str, Callable[[], bytes]]] = (
        ("gz", lambda: gzip.decompress(data)),
        ("bz2", lambda: bz2.decompress(data)),
        ("xz", lambda: lzma.decompress(data)),
        (
            "zst",
            lambda: (
                zstandard.ZstdDecompressor()
                .stream_reader(io.BytesIO(data))
                .read(_ARCHIVE_BYTES_MAX)
            ),
        ),
    )
    for ending, unpack in opened:
        if path.name.endswith((f".{ending}", f".t{ending}")):
            return unpack()
    return data


def run_source(bundle: Bundle) -> Source:
    """A run as a capture: the files read once, and the last complete round of all samples.

    Some sources are read in a few rounds only. A round without them is not the one: their last
    reading would stand beside later ones of the other files, as if they were of one moment.
    """
    complete = set(bundle.complete_rounds)
    rounds: dict[int, dict[str, bytes]] = {}
    for sample in bundle.samples():
        if sample.round in complete:
            rounds.setdefault(sample.round, {})[sample.name] = sample.payload
    files: dict[str, Read] = {
        name: text.encode("utf-8", "surrogateescape").__bytes__
        for name, text in bundle.texts().items()
    }
    if rounds:
        last = max(rounds, key=lambda number: (len(rounds[number]), number))
        for name, payload in rounds[last].items():
            files[_guest_path(name)] = payload.__bytes__
    return Source(path=bundle.path, kind="run", files=files, bundle=bundle)


def _guest_path(name: str) -> str:
    """The canonical name of what the sampler calls its source."""
    if name.startswith("node") and "/" in name:
        return f"sys/devices/system/node/{name}"
    if name in ("extfrag_index", "unusable_index"):
        return f"sys/kernel/debug/extfrag/{name}"
    return f"proc/{name}"
