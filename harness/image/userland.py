"""The guest's read-only root: Debian packages, extracted without root, in one erofs image.

apt resolves the closure for the guest's architecture against an empty system; no maintainer
script runs, so what these would set up and a guest needs is written here.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import stat
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath

from harness.errors import BuildError, InfrastructureError, MissingToolError
from harness.kernel.apt import AptRoot, Deb, sha256_file
from harness.kernel.cache import (
    Progress,
    disk_full,
    install_directory,
    read_json_object,
    write_atomically,
)
from harness.kernel.unpack import MERGED_USR, merge_usr, unpack_deb

PACKAGES = ("busybox-static", "coreutils", "dropbear-bin", "numactl", "procps", "stress-ng")

RECORD_NAME = "root.json"
ROOT_NAME = "root.erofs"
BUSYBOX_NAME = "busybox"

_LAYOUT = 1
"""Raised when code changes what the same lists below give: part of the cache key."""

_UUID = "6d6d7363-6f70-4e00-8000-726f6f740001"
_MKFS_LIMIT_S = 600.0

_MERGE_MARKER = "usr-is-merged"
"""Satisfies packages that want a merged /usr without bringing perl to do the merging."""

_LEFT_OUT = frozenset(
    {"adduser", "debconf", "dpkg", "init-system-helpers", "perl-base", "sysvinit-utils", "tar"}
)
"""Packages that only installation and maintainer scripts need."""

_PRUNED = tuple(
    PurePosixPath(path)
    for path in (
        "usr/share/doc",
        "usr/share/man",
        "usr/share/info",
        "usr/share/locale",
        "usr/share/i18n",
        "usr/share/lintian",
        "usr/share/linda",
        "usr/share/bug",
        "usr/share/bash-completion",
        "usr/share/initramfs-tools",
        "usr/share/X11",
        "usr/include",
        "var",
        "etc/init.d",
        "etc/systemd",
        "usr/lib/systemd",
    )
)
_GCONV = re.compile(r"usr/lib/[^/]+/gconv(/.*)?")

_MOUNT_POINTS = ("dev", "mnt", "proc", "root", "run", "sys", "tmp")
_DIRECTORIES = (*_MOUNT_POINTS, "etc", "home", "var/lib", "var/log", "var/tmp")
_WRITABLE_BY_ALL = ("tmp", "var/tmp")
_ETC: Mapping[str, str] = {
    "passwd": "root:*:0:0:root:/root:/bin/sh\nnobody:*:65534:65534:nobody:/:/usr/sbin/nologin\n",
    "group": "root:x:0:\ntty:x:5:\nnogroup:x:65534:\n",
    "shells": "/bin/sh\n",
    "hosts": "127.0.0.1 localhost\n::1 localhost\n",
    "hostname": "mmscope\n",
    "nsswitch.conf": "passwd: files\ngroup: files\nhosts: files\n",
}
# fmt: off
_APPLETS = (
    "ash", "awk", "dmesg", "egrep", "fgrep", "find", "grep", "gunzip", "gzip", "halt", "hostname",
    "ifconfig", "insmod", "ip", "less", "lsmod", "mkswap", "modprobe", "more", "mount",
    "ping", "poweroff", "reboot", "rmmod", "route", "sed", "setsid", "sh",
    "swapoff", "swapon", "tar", "udhcpc", "umount", "vi", "which", "xargs",
)
# fmt: on
"""busybox commands linked where no package brings the command itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Root:
    """A built root image and the static busybox that the initramfs starts with."""

    arch: str
    suite: str
    directory: Path
    sha256: str
    packages: Mapping[str, str]
    """Package → version."""

    @property
    def image(self) -> Path:
        return self.directory / ROOT_NAME

    @property
    def busybox(self) -> Path:
        return self.directory / BUSYBOX_NAME


def root_directory(cache: Path, *, arch: str, suite: str) -> Path:
    """Where the root for this architecture, suite, package set and layout lies."""
    pruned = [str(path) for path in _PRUNED]
    wanted = json.dumps(
        [_LAYOUT, arch, suite, PACKAGES, sorted(_LEFT_OUT), pruned, _DIRECTORIES, _ETC, _APPLETS]
    )
    key = hashlib.sha256(wanted.encode()).hexdigest()
    return cache / "roots" / f"{suite}-{arch}-{key[:16]}"


def load_root(directory: Path) -> Root:
    """Read the record of a built root.

    Raises:
        InfrastructureError: it, or a file that it names, is missing or damaged.
    """
    record = read_json_object(directory / RECORD_NAME)
    fix = f"remove {directory}; it is built again when next asked for"
    if record is None:
        raise InfrastructureError(f"{directory} holds no {RECORD_NAME}", fix=fix)
    try:
        size_bytes = record.pop("image_bytes")
        root = Root(directory=directory, **record)  # type: ignore[arg-type]
        if root.image.stat().st_size != size_bytes or not root.busybox.is_file():
            raise ValueError(f"{ROOT_NAME} or {BUSYBOX_NAME} is not as it was built")
        if not re.fullmatch(r"[0-9a-f]{64}", root.sha256) or not dict(root.packages):
            raise ValueError("no digest or no packages")
    except (KeyError, TypeError, ValueError, OSError) as error:
        raise InfrastructureError(f"the guest root is damaged: {error}", fix=fix) from None
    return root


def is_root(directory: Path) -> bool:
    """Whether a whole root lies in ``directory``."""
    try:
        load_root(directory)
    except InfrastructureError:
        return False
    return True


def build_root(apt: AptRoot, *, cache: Path, progress: Progress) -> Root:
    """The root for the suite and architecture of ``apt``, built unless the cache has it.

    Raises:
        MissingToolError: mkfs.erofs or dpkg-deb is not installed.
        FetchError (NetworkError, VerificationError), BuildError, DiskFullError.
    """
    target = root_directory(cache, arch=apt.arch, suite=apt.suite)

    def build(temporary: Path) -> None:
        require_mkfs()
        apt.refresh(progress)
        debs = resolve_userland(apt)
        paths = apt.download(debs, progress)
        progress(f"building the guest's root for {apt.arch} ({len(debs)} packages)")
        tree = temporary / "tree"
        tree.mkdir()
        assemble_tree(paths, tree)
        shutil.copyfile(tree / "usr/bin/busybox", temporary / BUSYBOX_NAME)
        image = temporary / ROOT_NAME
        make_erofs(tree, image)
        shutil.rmtree(tree)
        root = Root(
            arch=apt.arch,
            suite=apt.suite,
            directory=temporary,
            sha256=sha256_file(image),
            packages={deb.package: deb.version for deb in debs},
        )
        record = asdict(root) | {"image_bytes": image.stat().st_size}
        del record["directory"]
        write_atomically(temporary / RECORD_NAME, json.dumps(record, indent=2) + "\n")

    install_directory(target, build, is_valid=is_root, progress=progress)
    return load_root(target)


def resolve_userland(apt: AptRoot) -> list[Deb]:
    """The packages that go into the root, by name."""
    wanted = list(PACKAGES)
    if apt.show([_MERGE_MARKER]):
        wanted.append(_MERGE_MARKER)
    left_out = {*_LEFT_OUT, _MERGE_MARKER}
    debs = [deb for deb in apt.resolve(wanted) if deb.package not in left_out]
    return sorted(debs, key=lambda deb: deb.package)


def assemble_tree(debs: Sequence[Path], tree: Path) -> None:
    """Extract ``debs`` into ``tree`` and add what installation would have set up.

    Raises:
        BuildError: a package is damaged, or busybox is not among them.
    """
    for name in sorted(MERGED_USR):
        (tree / "usr" / name).mkdir(parents=True, exist_ok=True)
        (tree / name).symlink_to(f"usr/{name}")
    for deb in debs:
        unpack_deb(deb, tree, keep_path)
    for name in _DIRECTORIES:
        (tree / name).mkdir(parents=True, exist_ok=True)
    for name in _WRITABLE_BY_ALL:
        (tree / name).chmod(stat.S_ISVTX | 0o777)
    (tree / "root").chmod(0o700)
    for name, text in _ETC.items():
        (tree / "etc" / name).write_text(text, encoding="utf-8")
    busybox = tree / "usr/bin/busybox"
    if not busybox.is_file():
        raise BuildError("busybox-static brought no /bin/busybox for the guest")
    for applet in _APPLETS:
        places = [tree / "usr" / name / applet for name in ("bin", "sbin")]
        if not any(place.is_symlink() or place.exists() for place in places):
            places[0].symlink_to("busybox")


def keep_path(path: PurePosixPath) -> PurePosixPath | None:
    """Where a packaged file goes in the root; None for what no guest reads."""
    target = merge_usr(path)
    if any(pruned == target or pruned in target.parents for pruned in _PRUNED):
        return None
    return None if _GCONV.fullmatch(str(target)) else target


def require_mkfs(path: str | None = None) -> str:
    """The path of mkfs.erofs; ``path`` replaces ``$PATH``.

    Raises:
        MissingToolError: it is not installed.
    """
    found = shutil.which("mkfs.erofs", path=path)
    if found is None:
        raise MissingToolError(
            "mkfs.erofs, which packs the guest's root, is not installed",
            fix="apt-get install erofs-utils",
        )
    return found


def make_erofs(tree: Path, image: Path) -> None:
    """Pack ``tree`` into an uncompressed erofs image; the same tree gives the same bytes.

    Raises:
        MissingToolError: mkfs.erofs is not installed.
        DiskFullError: no room for the image.
        BuildError: mkfs.erofs refused.
    """
    # -x-1: no extended attributes; -T0: every time is the epoch.
    options = ["--quiet", "--all-root", "-x-1", "-T0", f"-U{_UUID}"]
    try:
        done = subprocess.run(
            [require_mkfs(), *options, str(image), str(tree)],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_MKFS_LIMIT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise BuildError(f"mkfs.erofs was not done after {_MKFS_LIMIT_S:g} s") from None
    if done.returncode != 0:
        output = (done.stdout + done.stderr).strip()
        if "No space left" in output:
            raise disk_full(image)
        raise BuildError("mkfs.erofs failed", details={"output": output})
