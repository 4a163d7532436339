from __future__ import annotations

import bz2
import contextlib
import lzma
import struct
from collections.abc import Callable

import pytest
import zstandard

from harness.errors import BuildError
from harness.kernel.bootimage import BootImage, boot_image
from harness.kernel.elf import parse_elf
from tests.made_packages import (
    gzipped,
    make_arm64_image,
    make_bzimage,
    make_elf,
    make_vmlinux,
    make_vmlinux32,
)


def _lz4_stored(data: bytes) -> bytes:
    """A legacy lz4 stream of one block of literals, without the length at its end."""
    count = len(data)
    assert count >= 15
    rest = count - 15
    block = b"\xf0" + b"\xff" * (rest // 255) + bytes([rest % 255]) + data
    return b"\x02\x21\x4c\x18" + struct.pack("<I", len(block)) + block


def _lzma(data: bytes) -> bytes:
    return lzma.compress(data, lzma.FORMAT_ALONE)


COMPRESSORS: list[Callable[[bytes], bytes]] = [
    gzipped,
    lzma.compress,
    _lzma,
    bz2.compress,
    zstandard.ZstdCompressor().compress,
    _lz4_stored,
]


@pytest.mark.parametrize("compress", COMPRESSORS)
def test_vmlinux_comes_out_of_a_bzimage(compress: Callable[[bytes], bytes]) -> None:
    vmlinux = make_vmlinux()
    payload = compress(vmlinux) + struct.pack("<I", len(vmlinux))
    image = boot_image(make_bzimage(payload), "x86_64", "vmlinuz")
    assert image == BootImage(name="vmlinux", content=vmlinux)


@pytest.mark.parametrize("compress", COMPRESSORS)
def test_a_truncated_payload_is_damage(compress: Callable[[bytes], bytes]) -> None:
    payload = compress(make_vmlinux())
    for size_bytes in (len(payload) // 2, len(payload) - 20, 12):
        with pytest.raises(BuildError, match="vmlinuz: "):
            boot_image(make_bzimage(payload[:size_bytes]), "x86_64", "vmlinuz")


def test_a_vmlinux_is_taken_as_it_is() -> None:
    assert boot_image(make_vmlinux(), "x86_64", "vmlinux").content == make_vmlinux()


@pytest.mark.parametrize(
    ("image", "text"),
    [
        (b"", "not a bzImage"),
        (bytes(4096), "not a bzImage"),
        (make_bzimage(gzipped(make_vmlinux()))[:1100], "truncated bzImage"),
        (make_bzimage(b"\x89LZO" + bytes(99)), "lzo, which is not supported"),
        (make_bzimage(b"what is this"), "unknown compression"),
        (make_bzimage(gzipped(b"no elf file")), "not an ELF"),
        (make_bzimage(gzipped(make_elf(183))), "machine 183"),
        (make_bzimage(gzipped(make_vmlinux32())), "machine 3, not x86_64"),
        (make_elf(62, notes=[(b"GNU", 18, b""), (b"Xen", 5, b"")]), "no PVH entry point"),
        (make_elf(62), "no PVH entry point"),
    ],
)
def test_what_cannot_boot_is_explained(image: bytes, text: str) -> None:
    with pytest.raises(BuildError, match=text):
        boot_image(image, "x86_64", "vmlinuz")


def _zboot(payload: bytes) -> bytes:
    return struct.pack("<4s4sII", b"MZ\0\0", b"zimg", 64, len(payload)) + bytes(48) + payload


@pytest.mark.parametrize(
    "image",
    [
        make_arm64_image(),
        gzipped(make_arm64_image()),
        _zboot(gzipped(make_arm64_image())),
        _zboot(zstandard.ZstdCompressor().compress(make_arm64_image()) + bytes(4)),
    ],
)
def test_the_arm64_image_is_unwrapped(image: bytes) -> None:
    made = boot_image(image, "arm64", "vmlinuz")
    assert made == BootImage(name="Image", content=make_arm64_image())


@pytest.mark.parametrize(
    "image", [b"", make_vmlinux(), _zboot(gzipped(make_arm64_image()))[:90], b"\x1f\x8bxx"]
)
def test_what_is_no_arm64_image_is_refused(image: bytes) -> None:
    with pytest.raises(BuildError, match="vmlinuz: "):
        boot_image(image, "arm64", "vmlinuz")


def test_an_i386_kernel_is_entered_through_pvh_where_it_can_be() -> None:
    vmlinux = make_vmlinux32()
    packed = make_bzimage(gzipped(vmlinux))
    assert boot_image(packed, "i386", "vmlinuz") == BootImage(name="vmlinux", content=vmlinux)
    assert boot_image(vmlinux, "i386", "vmlinux").content == vmlinux


def test_an_i386_kernel_without_that_entry_boots_as_it_came() -> None:
    packed = make_bzimage(gzipped(make_vmlinux32(pvh=False)))
    assert boot_image(packed, "i386", "vmlinuz") == BootImage(name="bzImage", content=packed)


@pytest.mark.parametrize(
    ("image", "text"),
    [
        (b"", "not a bzImage"),
        (make_bzimage(gzipped(make_vmlinux())), "machine 62, not i386"),
        (make_vmlinux32(pvh=False), "no PVH entry point"),
    ],
)
def test_what_is_no_i386_kernel_is_refused(image: bytes, text: str) -> None:
    with pytest.raises(BuildError, match=text):
        boot_image(image, "i386", "vmlinuz")


def test_an_m68k_kernel_boots_as_the_elf_file_that_it_is() -> None:
    vmlinux = make_elf(4, {".one": b"1"}, bits=32, order=">")
    assert boot_image(vmlinux, "m68k", "vmlinux").content == vmlinux
    with pytest.raises(BuildError, match="machine 62, not m68k"):
        boot_image(make_vmlinux(), "m68k", "vmlinux")
    with pytest.raises(BuildError, match="not an ELF file"):
        boot_image(make_bzimage(b""), "m68k", "vmlinux")


def test_an_unknown_architecture_has_no_image() -> None:
    with pytest.raises(BuildError, match="mips"):
        boot_image(make_vmlinux(), "mips", "vmlinux")


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("bits", [32, 64])
def test_sections_and_notes_of_an_elf_file(bits: int, order: str) -> None:
    sections, notes = {".one": b"1", ".two": b"22"}, [(b"A", 1, b"xyz"), (b"Xen", 18, b"")]
    data = make_elf(62, sections, notes, bits=bits, order=order)
    elf = parse_elf(data, "file")
    assert elf.section(".two") == b"22"
    assert elf.section(".three") is None
    assert [(note.owner, note.kind, note.description) for note in elf.notes()] == notes


@pytest.mark.parametrize("bits", [32, 64])
def test_a_truncated_elf_file_is_an_error_not_a_crash(bits: int) -> None:
    data = make_elf(62, {".one": b"1"}, notes=[(b"Xen", 18, bytes(8))], bits=bits)
    for size_bytes in range(len(data)):
        with contextlib.suppress(BuildError):
            elf = parse_elf(data[:size_bytes], "file")
            elf.section(".one")
            list(elf.notes())


@pytest.mark.parametrize("ident", [b"\x03\x01", b"\x02\x03", b"\x01\x00", b"\x01", b""])
def test_other_classes_and_byte_orders_are_refused(ident: bytes) -> None:
    with pytest.raises(BuildError, match="not an ELF file"):
        parse_elf(b"\x7fELF" + ident + bytes(64 if len(ident) == 2 else 0), "file")
