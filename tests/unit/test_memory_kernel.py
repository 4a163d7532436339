"""Finding the kernel: vmcoreinfo, page tables, symbols, and what is refused."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.errors import (
    MemoryReadError,
    MissingSymbolError,
    NotLinuxError,
    WrongTypesError,
)
from harness.kernel.package import Kernel
from harness.machine.argv import kernel_command_line
from harness.machine.spec import MachineSpec
from harness.sampling.memory.arm64_code import atomic_target
from harness.sampling.memory.btf import Btf
from harness.sampling.memory.kallsyms import exported_symbols, read_kallsyms
from harness.sampling.memory.kernel import check_package, check_types, confirmed_space, image_btf
from harness.sampling.memory.paging import AddressSpace, Scheme, schemes
from harness.sampling.memory.sampler import MemorySampler
from harness.sampling.memory.vmcoreinfo import VmcoreInfo, find_vmcoreinfo, parse_vmcoreinfo
from tests.made_btf import MadeBtf
from tests.made_kernel import MadeRam, MadeTables, vmcoreinfo_text

MIB = 1 << 20


@pytest.fixture
def made() -> Iterator[MadeRam]:
    made = MadeRam.plain(16 * MIB)
    yield made
    made.close()


def info_of(**more: dict[str, int]) -> VmcoreInfo:
    info = parse_vmcoreinfo(vmcoreinfo_text(**more))  # type: ignore[arg-type]
    assert info is not None
    return info


# vmcoreinfo


def test_numbers_are_read_in_the_kernels_three_ways() -> None:
    text = vmcoreinfo_text(numbers={"phys_base": -4096, "PAGE_BUDDY_MAPCOUNT_VALUE": -129})
    info = parse_vmcoreinfo(text + b"NUMBER(kimage_voffset)=0xffff7fffc7e00000\nKERNELOFFSET=0\n")
    assert info is not None
    assert info.numbers["phys_base"] == -4096
    assert info.number("kimage_voffset") == 0xFFFF7FFFC7E00000
    assert info.symbol("_stext") == 0xFFFF_8000_0000_0000
    with pytest.raises(MissingSymbolError, match=r"does not give SYMBOL\(kallsyms_names\)"):
        info.symbol("kallsyms_names")


def test_format_strings_and_fragments_are_passed_over() -> None:
    whole = vmcoreinfo_text()
    chunks = [(0, b"OSRELEASE=%s\n\0" + whole[: len(whole) // 2] + b"\0")]
    with pytest.raises(NotLinuxError, match="no Linux kernel was found"):
        list(find_vmcoreinfo(chunks))


@given(st.integers(1, len(vmcoreinfo_text()) + 40))
def test_a_text_across_chunks_is_found(cut: int) -> None:
    data = b"\0" * 20 + vmcoreinfo_text() + b"\0" * 20
    found = list(find_vmcoreinfo([(0, data[:cut]), (cut, data[cut:])]))
    assert [info.release for info in found] == ["6.1.0-made"]


def test_ram_of_zeros_is_not_linux(made: MadeRam) -> None:
    made.write(0, b"\0" * MIB)
    with made.ram() as ram, pytest.raises(NotLinuxError, match="no Linux kernel was found"):
        confirmed_space(ram)


# page tables


@pytest.mark.parametrize(
    ("arch", "page_shift", "levels"),
    [("x86_64", 12, 4), ("x86_64", 12, 5), ("arm64", 12, 4), ("arm64", 14, 4), ("arm64", 16, 3)],
)
def test_pages_blocks_and_gaps(made: MadeRam, arch: str, page_shift: int, levels: int) -> None:
    step = page_shift - 3
    shifts = tuple(page_shift + step * level for level in reversed(range(levels)))
    tables = MadeTables(made, arch, shifts, page_shift, next_table=4 * MIB)
    page, large = 1 << page_shift, 1 << shifts[-2]
    base = 0xFFFF_FFFF_8000_0000 & -large
    tables.map(base, 2 * MIB)
    tables.map(base + page, 2 * MIB + page)
    tables.map(base + 3 * page, 0)
    physical = -(-8 * MIB // large) * large if large <= 4 * MIB else 0
    tables.map(base + large, physical, level=levels - 2)
    made.write(2 * MIB + page - 4, b"span")
    made.write(2 * MIB + page, b"ning\0")
    scheme = Scheme(
        arch=arch,
        root=tables.root,
        shifts=shifts,
        root_entries=1 << step,
        page_shift=page_shift,
    )
    with made.ram() as ram:
        space = AddressSpace(ram, scheme)
        assert space.translate(base + 5) == (2 * MIB + 5, page - 5)
        assert space.translate(base + large + 3 * page) == (physical + 3 * page, large - 3 * page)
        assert list(space.spans(base, 2 * page)) == [(2 * MIB, 2 * page)]
        assert space.text(base + page - 4) == "spanning"
        assert space.u64(base + page - 4) == int.from_bytes(b"spanning", "little")
        with pytest.raises(MemoryReadError, match="nothing mapped at"):
            space.translate(base + 2 * page)
        with pytest.raises(MemoryReadError, match="nothing mapped at"):
            list(space.spans(base, 3 * page))


def test_a_table_outside_ram(made: MadeRam) -> None:
    tables = MadeTables(made, "x86_64", (39, 30, 21, 12), 12, next_table=4 * MIB)
    tables.put(tables.root, 511, 1 << 40 | 0x67)
    scheme = Scheme(
        arch="x86_64", root=tables.root, shifts=tables.shifts, root_entries=512, page_shift=12
    )
    with made.ram() as ram, pytest.raises(MemoryReadError, match="is not RAM of this guest"):
        AddressSpace(ram, scheme).translate(0xFFFF_FFFF_8000_0000)


def test_schemes_follow_what_the_kernel_says() -> None:
    text = 0xFFFF_FFFF_8200_0000
    x86 = info_of(
        symbols={"swapper_pg_dir": text}, numbers={"phys_base": MIB, "pgtable_l5_enabled": 1}
    )
    (scheme,) = schemes(x86)
    assert scheme.shifts == (48, 39, 30, 21, 12)
    assert scheme.root == 0x200_0000 + MIB
    numbers = {"VA_BITS": 52, "TCR_EL1_T1SZ": 16, "kimage_voffset": 0xFFFF_8000_0000_0000}
    arm = info_of(symbols={"swapper_pg_dir": 0xFFFF_8000_4000_0000}, numbers=numbers)
    first, second = schemes(arm)
    assert (first.arch, first.root, first.shifts) == ("arm64", 0x4000_0000, (39, 30, 21, 12))
    assert (second.shifts, second.root_entries) == ((48, 39, 30, 21, 12), 16)
    big = info_of(page_size=65536, numbers=numbers)  # type: ignore[arg-type]
    assert [s.root_entries for s in schemes(big)] == [64, 1024]
    assert schemes(big)[0].shifts == (42, 29, 16)


def kernel_in(made: MadeRam, *, says: str = "6.1.0-made") -> None:
    """Tables that map the top 2 GiB's first 2 MiB at 8 MiB, vmcoreinfo, and init_uts_ns."""
    tables = MadeTables(made, "x86_64", (39, 30, 21, 12), 12, next_table=4 * MIB)
    kernel = 0xFFFF_FFFF_8000_0000
    tables.map(kernel, 8 * MIB, level=2)
    text = vmcoreinfo_text(
        symbols={"swapper_pg_dir": kernel + tables.root, "init_uts_ns": kernel + 0x1000},
        numbers={"phys_base": 0},
    )
    made.write(12 * MIB, text)
    made.write(8 * MIB + 0x1000 + 130, says.encode() + b"\0")


def test_the_kernel_confirms_itself_through_its_page_tables(made: MadeRam) -> None:
    stale = vmcoreinfo_text(
        release="5.10.0-old",
        symbols={"swapper_pg_dir": 0xFFFF_FFFF_8010_0000},
        numbers={"phys_base": 0},
    )
    made.write(MIB, stale)
    kernel_in(made)
    with made.ram() as ram:
        space, info = confirmed_space(ram)
    assert info.release == "6.1.0-made"
    assert space.scheme.arch == "x86_64"


def test_a_description_without_its_kernel(made: MadeRam) -> None:
    kernel_in(made, says="something else")
    with made.ram() as ram, pytest.raises(NotLinuxError, match="does not run there") as caught:
        confirmed_space(ram)
    assert "init_uts_ns says 'something else'" in caught.value.details["why"]


# symbols


def kallsyms_in(
    made: MadeRam, names: list[tuple[str, int]], *, relative_base: int | None
) -> tuple[AddressSpace, VmcoreInfo]:
    """Symbol tables in the kernel's form; each byte stands for itself, but 1 for "_long"."""
    kernel = 0xFFFF_FFFF_8000_0000
    tables = MadeTables(made, "x86_64", (39, 30, 21, 12), 12, next_table=4 * MIB)
    tables.map(kernel, 8 * MIB, level=2)
    table, index = bytearray(), []
    for byte in range(256):
        index.append(len(table))
        table += (b"_long" if byte == 1 else bytes([byte or 63])) + b"\0"
    coded = bytearray()
    for name, _ in names:
        body = name.encode().replace(b"_long", b"\1")
        length = len(body)
        coded += bytes([length]) if length < 128 else bytes([length & 127 | 128, length >> 7])
        coded += body
    at = {
        name: kernel + 0x10000 * number
        for number, name in enumerate(
            (
                "kallsyms_num_syms",
                "kallsyms_token_index",
                "kallsyms_token_table",
                "kallsyms_names",
                "kallsyms_offsets",
                "kallsyms_relative_base",
            )
        )
    }
    if relative_base is None:
        del at["kallsyms_relative_base"]
        offsets = [
            address - (at["kallsyms_offsets"] + 4 * number)
            for number, (_, address) in enumerate(names)
        ]
    else:
        made.write(8 * MIB + 0x50000, struct.pack("<Q", relative_base))
        offsets = [
            address if address < MIB else relative_base - 1 - address for _, address in names
        ]
    for name, data in (
        ("kallsyms_num_syms", struct.pack("<I", len(names))),
        ("kallsyms_token_index", struct.pack("<256H", *index)),
        ("kallsyms_token_table", bytes(table)),
        ("kallsyms_names", bytes(coded)),
        ("kallsyms_offsets", struct.pack(f"<{len(names)}i", *offsets)),
    ):
        made.write(8 * MIB + at[name] - kernel, data)
    info = info_of(symbols=at)
    scheme = Scheme(
        arch="x86_64", root=tables.root, shifts=tables.shifts, root_entries=512, page_shift=12
    )
    return AddressSpace(made.ram(), scheme), info


@pytest.mark.parametrize("relative_base", [None, 0xFFFF_FFFF_8000_0000])
def test_symbols_of_both_kinds_of_table(made: MadeRam, relative_base: int | None) -> None:
    kernel = 0xFFFF_FFFF_8000_0000
    names = [
        ("Dnode_data", kernel + 0x1234),
        ("dstatic", kernel + 0x2000),
        ("Txnode_data", kernel + 0x3000),
        ("dstatic", kernel + 0x4000),
        ("T" + "a" * 150 + "_long", kernel + 0x5000),
    ]
    if relative_base is not None:
        names.append(("Anuma_node", 0x2E580))
    space, info = kallsyms_in(made, names, relative_base=relative_base)
    found = read_kallsyms(space, info)
    assert found.addresses_of("node_data") == [kernel + 0x1234]
    assert found.addresses_of("static") == [kernel + 0x2000, kernel + 0x4000]
    assert found.addresses_of("a" * 150 + "_long") == [kernel + 0x5000]
    assert found.addresses_of("_long") == []
    assert found.addresses_of("numa_node") == ([0x2E580] if relative_base else [])
    space.ram.close()


def test_damaged_symbol_tables(made: MadeRam) -> None:
    space, info = kallsyms_in(made, [("Tone", 1 << 40)] * 3, relative_base=1 << 40)
    made.write(8 * MIB + 0x30000, b"\0")
    with pytest.raises(MemoryReadError, match="symbol names are damaged"):
        read_kallsyms(space, info)
    made.write(8 * MIB, struct.pack("<I", 1 << 30))
    with pytest.raises(MemoryReadError, match="claims to have 1073741824 symbols"):
        read_kallsyms(space, info)
    space.ram.close()


def export_table(symbols: dict[str, int], address: int) -> bytes:
    """An image of strings, decoys, and a table of place-relative entries sorted by name."""
    strings = bytearray(b"junk\0")
    where = {}
    for name in symbols:
        where[name] = len(strings)
        strings += name.encode() + b"\0\0"
    strings += b"\0" * (-len(strings) % 4)
    image = bytearray(strings) + bytearray(struct.pack("<2I", 7, 9))
    for name in sorted(symbols):
        entry = len(image)
        image += struct.pack(
            "<iii",
            symbols[name] - address - entry,
            where[name] - entry - 4,
            where[name] + len(name) + 1 - entry - 8,
        )
    return bytes(image)


def test_exported_symbols_are_found_by_their_anchor() -> None:
    address = 0xFFFF_8000_0900_0000
    symbols = {
        "init_uts_ns": address + 0x10000,
        "node_data": address - 0x400,
        "__per_cpu_offset": address + 0x20000,
    }
    image = export_table(symbols, address)
    anchor = ("init_uts_ns", symbols["init_uts_ns"])
    wanted = ["node_data", "__per_cpu_offset", "absent"]
    found = exported_symbols(image, address, wanted, anchor)
    assert found == {name: symbols[name] for name in wanted[:2]}
    with pytest.raises(MissingSymbolError, match="no entry gives init_uts_ns"):
        exported_symbols(image, address, wanted, ("init_uts_ns", address))


# arm64 instructions

PACIASP, NOP, RET = 0xD503233F, 0xD503201F, 0xD65F03C0
ADRP_X1 = 0xF000EF01  # adrp x1, #0x1de3000 from address 0
ADD_980, MOV_1, ADD_10 = 0x91260021, 0xD2800020, 0x91004021
LDADDAL, LDXR, STLXR, PRFM = 0xF8E00020, 0xC85F7C20, 0xC802FC20, 0xF9800031
BRANCH_7 = 0x14000007


def code(*words: int) -> bytes:
    return struct.pack(f"<{len(words)}I", *words)


def test_the_atomic_variable_of_either_alternative() -> None:
    lse = code(PACIASP, NOP, ADRP_X1, ADD_980, MOV_1, ADD_10, LDADDAL, RET)
    here = 0xFFFF_8000_081C_5980
    page = (here & ~0xFFF) + 0x1DE3000
    assert atomic_target(lse, here) == page + 0x980 + 0x10
    exclusive = code(
        PACIASP, BRANCH_7, ADRP_X1, ADD_980, MOV_1, ADD_10, LDADDAL, RET,
        ADRP_X1, ADD_980, PRFM, LDXR, STLXR,
    )  # fmt: skip
    assert atomic_target(exclusive, here) == page + 0x980


@pytest.mark.parametrize(
    "words",
    [
        (PACIASP, RET),
        (ADD_10, LDADDAL),  # from a register that nothing set
        (ADRP_X1, 0xF9400021, LDADDAL),  # ldr x1, [x1]: not an address formed in place
        (0x14000000,),  # a loop
        (0x17FFFFFF,),  # out of the function
    ],
)
def test_other_code_is_not_guessed_at(words: tuple[int, ...]) -> None:
    assert atomic_target(code(*words), 0x1000) is None


def test_kaslr_is_off_unless_asked_for(tmp_path: Path) -> None:
    spec = MachineSpec(arch="arm64", nodes=(), kernel=tmp_path, initramfs=tmp_path)
    assert "nokaslr" in kernel_command_line(spec).split()
    assert "nokaslr" not in kernel_command_line(replace(spec, kaslr=True)).split()


# types and packages that do not belong


def zone_types(size: int) -> Btf:
    made = MadeBtf()
    u64 = made.integer("unsigned long", 8)
    made.struct("zone", size, [("flags", u64, 0), ("free_area", u64, 64)])
    return Btf(made.bytes, "kernel 6.1")


def test_types_must_have_the_sizes_and_offsets_that_the_kernel_states() -> None:
    right = info_of(sizes={"zone": 128, "list_head": 16}, offsets={"zone.free_area": 8})
    check_types(zone_types(128), right)
    with pytest.raises(WrongTypesError, match=r"not those of kernel 6\.1\.0-made") as caught:
        check_types(zone_types(136), right)
    assert "struct zone: 128 bytes in the kernel, 136" in caught.value.details["differences"]
    moved = info_of(sizes={"zone": 128}, offsets={"zone.free_area": 16})
    with pytest.raises(WrongTypesError):
        check_types(zone_types(128), moved)
    renamed = info_of(sizes={"zone": 128}, offsets={"zone.no_such": 8})
    with pytest.raises(WrongTypesError):
        check_types(zone_types(128), renamed)


def package(tmp_path: Path) -> Kernel:
    return Kernel(
        name="made", release="6.1.0-made", arch="x86_64", package="linux-image-made",
        version="1", directory=tmp_path, boot_image=tmp_path / "vmlinux",
        modules_directory=tmp_path, config_path=tmp_path / "config", sha256={},
    )  # fmt: skip


def test_a_package_must_be_the_build_that_runs(tmp_path: Path) -> None:
    info, kernel = info_of(), package(tmp_path)
    image = b"notes" + bytes.fromhex("ab" * 20) + b"more"
    check_package(kernel, image, info, "x86_64")
    for wrong, data, arch in (
        (kernel, b"another build", "x86_64"),
        (replace(kernel, release="6.1.1-made"), image, "x86_64"),
        (kernel, image, "arm64"),
    ):
        with pytest.raises(WrongTypesError, match=r"the guest runs kernel 6\.1\.0-made"):
            check_package(wrong, data, info, arch)


def test_the_memory_of_i386_guests_is_not_read(tmp_path: Path) -> None:
    ram, kernel = MadeRam.plain(MIB).ram(), replace(package(tmp_path), arch="i386")
    brake = object()  # not looked at
    with pytest.raises(MemoryReadError, match="memory of i386 guests is not read") as caught:
        MemorySampler.of(ram, brake, kernel)  # type: ignore[arg-type]
    assert "x86_64 or arm64" in str(caught.value.fix)


def test_types_of_a_raw_image_lie_anywhere_in_it() -> None:
    types = MadeBtf()
    types.struct("zone", 8, [])
    image = b"\x9f\xeb\x01\0 not it " + b"\0" * 3 + types.bytes + b"tail"
    aligned = b"\0" * (-image.index(types.bytes) % 4) + image
    assert image_btf(aligned, "Image").size("zone") == 8
    with pytest.raises(MissingSymbolError, match="Image: no BTF"):
        image_btf(b"\0" * 4096, "Image")
