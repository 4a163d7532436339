"""From the vmlinuz of a package to what QEMU boots fastest.

x86_64 and i386: the ELF vmlinux inside the bzImage, entered through PVH, so that the guest does
not spend seconds decompressing itself; an i386 kernel without that entry (Debian's flavour 686) is
booted as the bzImage that it comes as. arm64: the raw Image, taken out of gzip or an EFI zboot
wrapper where a release uses one. m68k: the ELF vmlinux that its build makes.
"""

from __future__ import annotations

import bz2
import lzma
import struct
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import zstandard

from harness.errors import BuildError
from harness.kernel import lz4
from harness.kernel.elf import MACHINE, MAGIC, Elf, parse_elf

_MAX_IMAGE_BYTES = 1 << 30
_SETUP_MAGIC = b"HdrS"
_ARM64_MAGIC = b"ARM\x64"
_GZIP_MAGIC = b"\x1f\x8b"
_XEN_PHYS32_ENTRY = 18


@dataclass(frozen=True, slots=True, kw_only=True)
class BootImage:
    """What QEMU's ``-kernel`` takes; ``name`` says which kind of image it is."""

    name: str
    content: bytes


def boot_image(vmlinuz: bytes, arch: str, source: str) -> BootImage:
    """The image for QEMU's ``-kernel``; ``source`` names the file in errors.

    Raises:
        BuildError: the file is not a kernel of ``arch``, is damaged, is compressed in a way
            that is not supported, or (x86_64) cannot be entered through PVH.
    """
    try:
        unwrap = _UNWRAP[arch]
    except KeyError:
        raise BuildError(f"{source}: no boot image is known for architecture {arch}") from None
    return unwrap(vmlinuz, source)


def image_arch(image: bytes, source: str) -> str:
    """The architecture of a kernel image of any of these kinds, from the start of its file.

    Raises:
        BuildError: it is none of them, or of an architecture without guests here.
    """
    if image[:4] == MAGIC:
        machine = parse_elf(image, source).machine
        for arch, number in MACHINE.items():
            if machine == number:
                return arch
        raise BuildError(
            f"{source}: an ELF file for machine {machine}, of which there are no guests",
            fix=f"give a kernel for {', '.join(MACHINE)}",
        )
    if len(image) >= 0x250 and image[0x202:0x206] == _SETUP_MAGIC:
        # The x86 boot protocol: xloadflags, of which the first says that it is a 64-bit kernel.
        return "x86_64" if image[0x236] & 1 else "i386"
    if (
        image[56:60] == _ARM64_MAGIC
        or image[:2] == _GZIP_MAGIC
        or (image[:4] == b"MZ\0\0" and image[4:8] == b"zimg")
    ):
        return "arm64"
    raise BuildError(
        f"{source}: not a kernel image (it starts with {image[:8].hex(' ') or 'nothing'})",
        fix="give a bzImage, an ELF vmlinux, or an arm64 Image (also gzipped, or EFI zboot)",
    )


def unpack_image(image: bytes, source: str) -> tuple[str, bytes]:
    """The architecture of a kernel image, and the kernel out of its wrapping.

    Raises:
        BuildError: see ``image_arch``; or it is damaged.
    """
    arch = image_arch(image, source)
    if arch == "arm64" and image[:4] != MAGIC:
        return arch, _raw_arm64(image, source)
    if image[:4] == MAGIC:
        return arch, image
    return arch, _vmlinux(image, arch, source).data


def _x86_64(vmlinuz: bytes, source: str) -> BootImage:
    vmlinux = _vmlinux(vmlinuz, "x86_64", source)
    if not _has_pvh_entry(vmlinux):
        raise BuildError(
            f"{source}: the kernel has no PVH entry point, so QEMU cannot boot its vmlinux",
            fix="use a kernel with CONFIG_PVH=y (Debian's amd64 flavours have it)",
        )
    return BootImage(name="vmlinux", content=vmlinux.data)


def _i386(vmlinuz: bytes, source: str) -> BootImage:
    vmlinux = _vmlinux(vmlinuz, "i386", source)
    if _has_pvh_entry(vmlinux):
        return BootImage(name="vmlinux", content=vmlinux.data)
    if vmlinuz[:4] == MAGIC:
        raise BuildError(
            f"{source}: the kernel has no PVH entry point, so QEMU cannot boot its vmlinux",
            fix="give the bzImage that this vmlinux was packed into",
        )
    return BootImage(name="bzImage", content=vmlinuz)


def _arm64(vmlinuz: bytes, source: str) -> BootImage:
    return BootImage(name="Image", content=_raw_arm64(vmlinuz, source))


def _m68k(vmlinux: bytes, source: str) -> BootImage:
    if vmlinux[:4] != MAGIC:
        raise BuildError(f"{source}: not an ELF file", fix="give the vmlinux of the build")
    elf = parse_elf(vmlinux, source)
    if elf.machine != MACHINE["m68k"]:
        raise BuildError(f"{source}: an ELF file for machine {elf.machine}, not m68k")
    return BootImage(name="vmlinux", content=vmlinux)


_UNWRAP: Mapping[str, Callable[[bytes, str], BootImage]] = {
    "x86_64": _x86_64,
    "arm64": _arm64,
    "i386": _i386,
    "m68k": _m68k,
}


def _vmlinux(vmlinuz: bytes, arch: str, source: str) -> Elf:
    """The ELF file in (or instead of) a bzImage; BuildError unless it is one of ``arch``."""
    image = vmlinuz if vmlinuz[:4] == MAGIC else _vmlinux_of_bzimage(vmlinuz, source)
    elf = parse_elf(image, source)
    if elf.machine != MACHINE[arch]:
        raise BuildError(f"{source}: an ELF file for machine {elf.machine}, not {arch}")
    return elf


def _has_pvh_entry(elf: Elf) -> bool:
    return any(note.owner == b"Xen" and note.kind == _XEN_PHYS32_ENTRY for note in elf.notes())


def _vmlinux_of_bzimage(image: bytes, source: str) -> bytes:
    # The x86 boot protocol: setup_sects, then the header whose payload fields count from the
    # start of the protected-mode code.
    if len(image) < 0x250 or image[0x202:0x206] != _SETUP_MAGIC:
        raise BuildError(f"{source}: not a bzImage (no boot protocol header)")
    setup_sectors = image[0x1F1] or 4
    offset, length = struct.unpack_from("<II", image, 0x248)
    start = (setup_sectors + 1) * 512 + offset
    if not length or start + length > len(image):
        raise BuildError(f"{source}: truncated bzImage: the payload reaches beyond the end")
    return _decompress(image[start : start + length], source)


def _raw_arm64(image: bytes, source: str) -> bytes:
    if image[:4] == b"MZ\0\0" and image[4:8] == b"zimg":
        offset, length = struct.unpack_from("<II", image, 8)
        if offset + length > len(image):
            raise BuildError(f"{source}: truncated EFI zboot image")
        image = _decompress(image[offset : offset + length], source)
    elif image[:2] == _GZIP_MAGIC:
        image = _decompress(image, source)
    if len(image) < 64 or image[56:60] != _ARM64_MAGIC:
        raise BuildError(f"{source}: not an arm64 Image (no ARM64 magic at offset 56)")
    return image


def _gzip(data: bytes) -> bytes:
    # The payload may be followed by its length and padding, which a plain gunzip refuses.
    decompressor = zlib.decompressobj(wbits=31)
    out = decompressor.decompress(data, _MAX_IMAGE_BYTES)
    if not decompressor.eof:
        raise ValueError("the stream ends early")
    return out


def _xz(data: bytes) -> bytes:
    decompressor = lzma.LZMADecompressor()
    out = decompressor.decompress(data, _MAX_IMAGE_BYTES)
    if not decompressor.eof:
        raise ValueError("the stream ends early")
    return out


def _lzma(data: bytes) -> bytes:
    # The build appends the length to streams whose own header does not hold it.
    decompressor = lzma.LZMADecompressor(format=lzma.FORMAT_ALONE)
    out = decompressor.decompress(data, _MAX_IMAGE_BYTES)
    if not decompressor.eof:
        raise ValueError("the stream ends early")
    return out


def _bzip2(data: bytes) -> bytes:
    decompressor = bz2.BZ2Decompressor()
    out = decompressor.decompress(data, _MAX_IMAGE_BYTES)
    if not decompressor.eof:
        raise ValueError("the stream ends early")
    return out


def _zstd(data: bytes) -> bytes:
    decompressor = zstandard.ZstdDecompressor(max_window_size=1 << 31).decompressobj()
    out = decompressor.decompress(data)
    if not decompressor.eof:
        raise ValueError("the stream ends early")
    return out


_FORMATS: tuple[tuple[bytes, Callable[[bytes], bytes]], ...] = (
    (_GZIP_MAGIC, _gzip),
    (b"\xfd7zXZ\0", _xz),
    (b"\x28\xb5\x2f\xfd", _zstd),
    (b"BZh", _bzip2),
    (b"\x5d\0\0", _lzma),
    (lz4.MAGIC, lz4.decompress_legacy),
)
_LZO_MAGIC = b"\x89LZO"


def _decompress(data: bytes, source: str) -> bytes:
    if data[:4] == MAGIC:
        return data
    if data.startswith(_LZO_MAGIC):
        raise BuildError(
            f"{source}: the kernel is compressed with lzo, which is not supported",
            fix="use a kernel compressed with gzip, xz, zstd, lz4, bzip2 or lzma",
        )
    for magic, decompress in _FORMATS:
        if data.startswith(magic):
            try:
                return decompress(data)
            except (ValueError, EOFError, OSError, zlib.error, lzma.LZMAError) as error:
                raise BuildError(f"{source}: the compressed kernel is damaged: {error}") from None
            except zstandard.ZstdError as error:
                raise BuildError(f"{source}: the compressed kernel is damaged: {error}") from None
    raise BuildError(f"{source}: unknown compression (starts with {data[:6].hex(' ')})")
