"""Small ELF files, kernels and Debian packages made by the tests, and an archive serving them."""

from __future__ import annotations

import gzip
import hashlib
import re
import struct
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from harness.kernel.apt import AptResult

HOST_OS_RELEASE = 'ID=debian\nVERSION_CODENAME=bookworm\nPRETTY_NAME="Debian"\n'
HOST_SOURCES = """\
Types: deb
URIs: http://mirror.example/debian
Suites: bookworm bookworm-updates
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg

Types: deb
URIs: http://mirror.example/debian-security
Suites: bookworm-security
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg
"""


def make_elf(
    machine: int = 62,
    sections: Mapping[str, bytes] | None = None,
    notes: Sequence[tuple[bytes, int, bytes]] = (),
    *,
    bits: int = 64,
    order: str = "<",
) -> bytes:
    """An ELF file with these sections and one note segment; ``order`` as struct names it."""
    word = {32: "I", 64: "Q"}[bits]
    header_bytes, program_bytes, section_bytes = {32: (52, 32, 40), 64: (64, 56, 64)}[bits]
    body = bytearray(header_bytes)
    note_data = b"".join(
        struct.pack(f"{order}III", len(owner) + 1, len(text), kind)
        + _pad4(owner + b"\0")
        + _pad4(text)
        for owner, kind, text in notes
    )
    note_offset = len(body)
    body += note_data
    names = b"\0"
    headers = [bytes(section_bytes)]
    for name, content in {**(sections or {}), ".shstrtab": b""}.items():
        name_offset = len(names)
        names += name.encode() + b"\0"
        data = names if name == ".shstrtab" else content
        header = (name_offset, 1, 0, 0, len(body), len(data), 0, 0, 1, 0)
        headers.append(struct.pack(f"{order}II{word * 4}II{word * 2}", *header))
        body += data
    program_offset = len(body)
    if notes:
        place = (note_offset, 0, 0, len(note_data), 0)
        if bits == 64:
            body += struct.pack(f"{order}IIQQQQQQ", 4, 4, *place, 4)
        else:
            body += struct.pack(f"{order}IIIIIIII", 4, *place, 4, 4)
    section_offset = len(body)
    body += b"".join(headers)
    body[:header_bytes] = struct.pack(
        f"{order}16sHHI{word * 3}IHHHHHH",
        b"\x7fELF" + bytes([bits // 32, "<>".index(order) + 1, 1]),
        2,
        machine,
        1,
        0,
        program_offset if notes else 0,
        section_offset,
        0,
        header_bytes,
        program_bytes,
        1 if notes else 0,
        section_bytes,
        len(headers),
        len(headers) - 1,
    )
    return bytes(body)


def gzipped(content: bytes) -> bytes:
    """The same bytes whenever it is called."""
    return gzip.compress(content, mtime=0)


def make_vmlinux() -> bytes:
    """An ELF file that QEMU could enter through PVH, as far as its notes go."""
    return make_elf(62, {".text": b"\x90" * 999}, notes=[(b"Xen", 18, bytes(8))])


def make_vmlinux32(*, pvh: bool = True) -> bytes:
    """The same for i386, or one of a kernel without that entry."""
    notes = [(b"Xen", 18, bytes(4))] if pvh else []
    return make_elf(3, {".text": b"\x90" * 999}, notes=notes, bits=32)


def make_bzimage(payload: bytes, *, bits: int = 64) -> bytes:
    """A bzImage whose protected-mode part is 32 bytes of stub and then ``payload``."""
    setup = bytearray(1024)
    setup[0x1F1] = 1
    setup[0x202:0x206] = b"HdrS"
    setup[0x236] = bits == 64
    struct.pack_into("<II", setup, 0x248, 32, len(payload))
    return bytes(setup) + bytes(32) + payload


def make_arm64_image() -> bytes:
    image = bytearray(4096)
    image[56:60] = b"ARM\x64"
    return bytes(image)


def make_module(name: str, *, depends: str = "", extra: Sequence[str] = ()) -> bytes:
    """A module with nothing but its .modinfo."""
    strings = ["license=GPL", f"depends={depends}", *extra, f"name={name}"]
    return make_elf(62, {".modinfo": b"\0".join(s.encode() for s in strings) + b"\0"})


def make_deb(
    directory: Path, package: str, version: str, arch: str, files: Mapping[str, bytes | str]
) -> Path:
    """Build a .deb; text values are targets of symbolic links."""
    tree = directory / f"{package}.tree"
    control = f"Package: {package}\nVersion: {version}\nArchitecture: {arch}\n"
    (tree / "DEBIAN").mkdir(parents=True)
    (tree / "DEBIAN/control").write_text(
        f"{control}Maintainer: Test <test@example.org>\nDescription: test\n"
    )
    for name, content in files.items():
        path = tree / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, str):
            path.symlink_to(content)
        else:
            path.write_bytes(content)
    deb = directory / f"{package}_{version.replace(':', '%3a')}_{arch}.deb"
    argv = ["dpkg-deb", "--root-owner-group", "-Znone", "--build", str(tree), str(deb)]
    subprocess.run(argv, check=True, capture_output=True)
    return deb


def kernel_files(release: str, arch: str = "x86_64") -> dict[str, bytes]:
    """What the package of a kernel before 7.x holds."""
    vmlinuz = make_bzimage(gzipped(make_vmlinux()))
    if arch == "arm64":
        vmlinuz = make_arm64_image()
    if arch == "i386":
        vmlinuz = make_bzimage(gzipped(make_vmlinux32()), bits=32)
    return {
        f"boot/vmlinuz-{release}": vmlinuz,
        f"boot/config-{release}": b"CONFIG_NUMA=y\nCONFIG_NODES_SHIFT=6\n",
        f"lib/modules/{release}/modules.builtin": b"kernel/net/packet/af_packet.ko\n",
        f"lib/modules/{release}/kernel/fs/erofs.ko": make_module("erofs"),
    }


@dataclass
class FakeArchive:
    """Answers as apt-get and apt-cache would, from packages in memory; a Runner."""

    debs: dict[str, tuple[Path, str]] = field(default_factory=dict)
    calls: list[list[str]] = field(default_factory=list)
    fault: str | None = None
    """What apt prints when it fails; None when it does not."""
    faulty: tuple[str, ...] = ("update",)
    """The verbs that fail."""
    only_with: str | None = None
    """The fault shows only while the sources name this suite."""
    gone: frozenset[str] = frozenset()
    """Packages of which the index speaks, but whose files the mirror lacks."""
    spoil: bool = False
    """Deliver files that are cut short."""

    def add(self, deb: Path, depends: str = "") -> None:
        self.debs[deb.name.partition("_")[0]] = (deb, depends)

    def __call__(self, argv: Sequence[str], cwd: Path, limit_s: float) -> AptResult:
        self.calls.append(list(argv))
        root = Path(argv[2]).parent
        verb = next(word for word in argv if word in _VERBS)
        if self.fault is not None and verb in self.faulty:
            sources = (root / "mmscope.sources").read_text()
            if self.only_with is None or self.only_with in sources:
                return AptResult(status=100, stdout="", stderr=self.fault)
        names = (
            [word.partition("=")[0] for word in argv[argv.index("--") + 1 :]]
            if ("--" in argv)
            else []
        )
        if verb == "update":
            (root / "lists/x_Packages").touch()
        elif verb == "pkgnames":
            found = [name for name in self.debs if name.startswith(names[0])]
            return AptResult(status=0, stdout="\n".join(found), stderr="")
        elif verb == "show":
            return self._show(names)
        elif verb == "install":
            lines = [f"Inst {name} ({self._version(name)} Debian:12 [amd64])" for name in names]
            return AptResult(status=0, stdout="\n".join(lines), stderr="")
        elif verb == "download":
            for name in names:
                if name in self.gone:
                    said = f"E: Failed to fetch http://mirror.example/{name}.deb  404  Not Found\n"
                    return AptResult(status=100, stdout="", stderr=said)
                deb, _ = self.debs[name]
                content = deb.read_bytes()
                (cwd / deb.name).write_bytes(content[: len(content) // 2 if self.spoil else None])
        return AptResult(status=0, stdout="", stderr="")

    def count(self, verb: str) -> int:
        return sum(verb in call for call in self.calls)

    def _version(self, name: str) -> str:
        return self.debs[name][0].name.split("_")[1].replace("%3a", ":")

    def _show(self, names: Sequence[str]) -> AptResult:
        stanzas = []
        for name in names:
            if name not in self.debs:
                continue
            deb, depends = self.debs[name]
            content = deb.read_bytes()
            arch = re.sub(r".*_(\w+)\.deb", r"\1", deb.name)
            stanzas.append(
                f"Package: {name}\nVersion: {self._version(name)}\nArchitecture: {arch}\n"
                f"Depends: {depends}\nDescription: a package\n with more text\n"
                f"Size: {len(content)}\nSHA256: {hashlib.sha256(content).hexdigest()}\n"
            )
        if not stanzas:
            return AptResult(status=100, stdout="", stderr="E: No packages found\n")
        return AptResult(status=0, stdout="\n".join(stanzas), stderr="")


_VERBS = ("update", "show", "pkgnames", "install", "download")


def make_host(
    root: Path, *, sources: str = HOST_SOURCES, os_release: str = HOST_OS_RELEASE
) -> Path:
    """The files below /etc that describe a Debian host."""
    (root / "etc/apt/sources.list.d").mkdir(parents=True)
    (root / "etc/os-release").write_text(os_release)
    (root / "etc/apt/sources.list.d/debian.sources").write_text(sources)
    return root


def _pad4(data: bytes) -> bytes:
    return data + bytes(-len(data) % 4)
