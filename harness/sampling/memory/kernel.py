"""The kernel that runs in the guest: found in its RAM, with its page tables, symbols and types."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from harness.errors import MemoryReadError, MissingSymbolError, NotLinuxError, WrongTypesError
from harness.kernel.elf import MAGIC as ELF_MAGIC
from harness.kernel.elf import parse_elf
from harness.kernel.package import Kernel
from harness.sampling.memory.arm64_code import atomic_target
from harness.sampling.memory.btf import HEADER_BYTES, MAGIC, Btf, btf_bytes
from harness.sampling.memory.kallsyms import Kallsyms, read_exported, read_kallsyms
from harness.sampling.memory.paging import AddressSpace, schemes
from harness.sampling.memory.ram import Ram
from harness.sampling.memory.vmcoreinfo import VmcoreInfo, find_vmcoreinfo

_UTS_FIELD_BYTES = 65
"""struct new_utsname: sysname, nodename, release, version, machine, domainname."""
_EXPORTED = (
    *("node_data", "contig_page_data", "__per_cpu_offset", "__cpu_online_mask", "numa_node"),
    "init_task",
)
_TRACE_CLOCK_BYTES = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class GuestKernel:
    """What reading its memory needs of a running kernel."""

    arch: str
    info: VmcoreInfo
    space: AddressSpace
    symbols: Mapping[str, int]
    """Addresses of those of the wanted symbols that the kernel has."""
    btf: Btf

    def symbol(self, name: str) -> int:
        """Raises MissingSymbolError."""
        try:
            return self.symbols[name]
        except KeyError:
            raise MissingSymbolError(
                f"kernel {self.info.release}: the address of {name} is neither in kallsyms nor "
                f"among its exported symbols"
            ) from None


def find_kernel(ram: Ram, package: Kernel | None) -> GuestKernel:
    """Finds the running kernel; ``package`` is where its image lies on the host, if anywhere.

    Types come from the guest's own memory. Where the kernel has none there, the package's are
    taken, provided that the package is this very kernel.

    Raises:
        NotLinuxError: no kernel, or none whose page tables confirm what it says.
        WrongTypesError: the package, or the types, are another kernel's.
        MissingSymbolError, MemoryReadError: see the modules that read each.
    """
    space, info = confirmed_space(ram)
    arch = space.scheme.arch
    image = package.boot_image.read_bytes() if package is not None else b""
    if package is not None:
        check_package(package, image, info, arch)
    kallsyms = read_kallsyms(space, info)
    symbols = _wanted_symbols(space, info, kallsyms)
    return GuestKernel(
        arch=arch,
        info=info,
        space=space,
        symbols=symbols,
        btf=_types(space, info, kallsyms, image),
    )


def confirmed_space(ram: Ram) -> tuple[AddressSpace, VmcoreInfo]:
    """The first vmcoreinfo in RAM that leads, by the page tables it names, back to itself.

    Raises:
        NotLinuxError: there is none.
    """
    reasons: list[str] = []
    for info in find_vmcoreinfo(ram.used()):
        for scheme in schemes(info):
            space = AddressSpace(ram, scheme)
            name = info.symbol("init_uts_ns") + info.offsets.get("uts_namespace.name", 0)
            try:
                release = space.text(name + 2 * _UTS_FIELD_BYTES, _UTS_FIELD_BYTES)
            except MemoryReadError as error:
                reasons.append(f"{info.release}: {error.message}")
                continue
            if release == info.release:
                return space, info
            reasons.append(f"{info.release}: init_uts_ns says {release!r}")
    raise NotLinuxError(
        "a kernel left its description in the guest's memory, but does not run there",
        details={"why": "\n".join(reasons)},
    )


def check_types(btf: Btf, info: VmcoreInfo) -> None:
    """Raises WrongTypesError unless every size and length the kernel states agrees with the BTF."""
    differences = [
        f"struct {name}: {size} bytes in the kernel, {btf.size(name)} in the types"
        for name, size in info.sizes.items()
        if name in ("page", "pglist_data", "zone", "free_area", "mem_section")
        and btf.size(name) != size
    ]
    for name, offset in info.offsets.items():
        struct_name, _, member = name.partition(".")
        if struct_name in ("page", "pglist_data", "zone", "free_area", "mem_section"):
            found = btf.find(struct_name, member)
            if found is None or found.offset != offset:
                differences.append(f"{name}: at {offset} in the kernel, not so in the types")
    if differences:
        raise WrongTypesError(
            f"{btf.source}: these types are not those of kernel {info.release}",
            details={"differences": "\n".join(differences)},
            fix="give the directory of the kernel that the guest runs",
        )


def image_btf(image: bytes, source: str) -> Btf:
    """The types in a boot image: an ELF vmlinux's section, or anywhere in a raw Image.

    Raises:
        MissingSymbolError: there are none.
    """
    section = parse_elf(image, source).section(".BTF") if image[:4] == ELF_MAGIC else None
    found = section if section is not None else _find_btf(image)
    if found is None:
        raise MissingSymbolError(f"{source}: no BTF in it (CONFIG_DEBUG_INFO_BTF is not set)")
    return Btf(found, source)


def check_package(package: Kernel, image: bytes, info: VmcoreInfo, arch: str) -> None:
    """Kernel: the build ID is in the image's notes, and in vmcoreinfo since 5.14."""
    right = package.release == info.release and package.arch == arch
    if right and info.build_id:
        right = bytes.fromhex(info.build_id) in image
    if not right:
        raise WrongTypesError(
            f"the guest runs kernel {info.release} ({arch}), build {info.build_id or 'unknown'}; "
            f"{package.directory} holds {package.release} ({package.arch}) of another build",
            fix="give the directory of the kernel that the guest runs",
        )


def known_symbols(space: AddressSpace, info: VmcoreInfo) -> Mapping[str, int]:
    """Addresses of those of the reader's variables that the kernel has.

    Raises:
        MissingSymbolError, MemoryReadError: neither kallsyms nor its exported symbols tell.
    """
    return _wanted_symbols(space, info, read_kallsyms(space, info))


def _wanted_symbols(space: AddressSpace, info: VmcoreInfo, kallsyms: Kallsyms) -> Mapping[str, int]:
    found = {name: info.symbols[name] for name in _EXPORTED if name in info.symbols}
    missing = [name for name in _EXPORTED if name not in found]
    for name in missing:
        addresses = kallsyms.addresses_of(name)
        if len(addresses) == 1:
            found[name] = addresses[0]
    if "__per_cpu_offset" not in found:
        # without CONFIG_KALLSYMS_ALL there are only functions in kallsyms
        start, end = _rodata(kallsyms, info)
        found |= read_exported(space, info, start, end, _EXPORTED)
    counter = kallsyms.addresses_of("trace_counter")
    if len(counter) == 1:
        found["trace_counter"] = counter[0]
    elif space.scheme.arch == "arm64":
        clock = kallsyms.addresses_of("trace_clock_counter")
        if len(clock) == 1:
            code = space.read(clock[0], _TRACE_CLOCK_BYTES)
            target = atomic_target(code, clock[0])
            if target is not None:
                found["trace_counter"] = target
    return found


def _rodata(kallsyms: Kallsyms, info: VmcoreInfo) -> tuple[int, int]:
    """Read-only data of a kernel whose kallsyms has functions only: between its text's two ends."""
    ends = [kallsyms.addresses_of(name) for name in ("_etext", "_sinittext")]
    if not (ends[0] and ends[1] and ends[0][0] < ends[1][0]):
        raise MissingSymbolError(
            f"kernel {info.release}: _etext and _sinittext are not in kallsyms"
        )
    return ends[0][0], ends[1][0]


def _types(space: AddressSpace, info: VmcoreInfo, kallsyms: Kallsyms, image: bytes) -> Btf:
    source = f"kernel {info.release}"
    found = _guest_btf(space, info, kallsyms)
    if found is not None:
        btf = Btf(found, source)
    elif image:
        btf = image_btf(image, source)
    else:
        raise MissingSymbolError(
            f"{source} carries no type information in its memory",
            fix="give the directory of its package, or a kernel with CONFIG_DEBUG_INFO_BTF",
        )
    check_types(btf, info)
    return btf


def _guest_btf(space: AddressSpace, info: VmcoreInfo, kallsyms: Kallsyms) -> bytes | None:
    starts = kallsyms.addresses_of("__start_BTF")
    if len(starts) == 1:
        size_bytes = btf_bytes(space.read(starts[0], HEADER_BYTES))
        return space.read(starts[0], size_bytes) if size_bytes else None
    try:
        start, end = _rodata(kallsyms, info)
    except MissingSymbolError:
        return None
    return _find_btf(space.read(start, end - start))


def _find_btf(image: bytes) -> bytes | None:
    """The first BTF in an image: it stands at a multiple of four, its header plausible."""
    at = image.find(MAGIC)
    while at >= 0:
        size_bytes = btf_bytes(image[at : at + HEADER_BYTES]) if at % 4 == 0 else None
        if size_bytes is not None and at + size_bytes <= len(image):
            return image[at : at + size_bytes]
        at = image.find(MAGIC, at + 1)
    return None
