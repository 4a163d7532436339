"""vmallocinfo: every form that the kernels print, and what is refused."""

from __future__ import annotations

import pytest

from analysis.errors import ParseError
from analysis.procfs import vmallocinfo
from analysis.procfs.vmallocinfo import VmallocArea

TEXT = """\
0x00000000dc8b9873-0x000000004c36e939   20480 irq_init_percpu_irqstack+0xcf/0x100 vmap
0x0000000031161917-0x00000000eb2efe18   16384 acpi_os_map_iomem+0x1c7/0x1e0 \
phys=0x000000003ffe0000 ioremap
0x000000007e406abc-0x00000000791d1dca    8192 map_capability+0x104/0x170 [virtio_pci] \
phys=0x00000000febf0000 ioremap
0x0000000027e61b9b-0x00000000843412db 8392704 alloc_large_system_hash+0x19b/0x25f pages=2048 \
vmalloc vpages N0=1024 N1=1024
0x00000000939f6e96-0x00000000f64e8ca3 2097152 pcpu_get_vm_areas+0x0/0x1080 vmalloc
0x000000007ae40ca5-0x0000000028889a39  147456 dma_common_contiguous_remap+0x98/0xe8 dma-coherent
0x00000000a5669c48-0x00000000b0c52c2c    8192 0xffffffffc0123456 pages=1 vmalloc user N0=1
0x00000000a5669c49-0x00000000b0c52c2d 4194304 vm_map_ram
0x00000000a5669c4a-0x00000000b0c52c2e   20480 unpurged vm_area
"""


def test_all_forms() -> None:
    areas = vmallocinfo.parse(TEXT)
    assert [area.kind for area in areas] == ["area"] * 7 + ["vm_map_ram", "unpurged"]
    assert areas[0] == VmallocArea(
        start=0xDC8B9873,
        end=0x4C36E939,
        size_bytes=20480,
        caller="irq_init_percpu_irqstack+0xcf/0x100",
        flags=("vmap",),
    )
    assert areas[1].phys == 0x3FFE0000
    assert areas[2].caller == "map_capability+0x104/0x170 [virtio_pci]"
    assert areas[2].function == "map_capability"
    assert areas[3].pages == 2048
    assert areas[3].flags == ("vmalloc", "vpages")
    assert areas[3].node_pages == {0: 1024, 1: 1024}
    assert areas[4].pages is None
    assert areas[5].flags == ("dma-coherent",)
    assert areas[6].caller == "0xffffffffc0123456"
    assert vmallocinfo.render(areas) == TEXT


@pytest.mark.parametrize(
    ("pointer", "address"),
    [
        ("0x0000000000000000", 0),  # kptr_restrict is 2
        ("0xffffc90000000000", 0xFFFFC90000000000),
        ("0xf0800000", 0xF0800000),  # 32 bits
        ("0x(____ptrval____)", None),  # before the hash has its key
        ("0x(ptrval)", None),
    ],
)
def test_addresses(pointer: str, address: int | None) -> None:
    (area,) = vmallocinfo.parse(f"{pointer}-{pointer}    8192 f+0x1/0x2 pages=1 vmalloc\n")
    assert area.start == area.end == address


def test_area_without_caller() -> None:
    (area,) = vmallocinfo.parse("0x1-0x2    8192 pages=1 vmalloc\n")
    assert (area.caller, area.function, area.pages) == (None, "", 1)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "the file is empty"),
        ("0x1-0x2    8192 pages=1 vmalloc", "a whole line"),
        ("0x1-0x2 f+0x1/0x2\n", "'0xSTART-0xEND SIZE'"),
        ("0x1 0x2 8192\n", "'0xSTART-0xEND SIZE'"),
        ("0x1-0x2 8192x\n", "'0xSTART-0xEND SIZE'"),
        ("0x1-0x2 8192 f+0x1/0x2 pages=x vmalloc\n", "instead of 'pages=x'"),
        ("0x1-0x2 8192 f+0x1/0x2 pages=1 pages=1\n", "instead of 'pages=1'"),
        ("0x1-0x2 8192 f+0x1/0x2 N0=1 N0=2\n", "pages of node 0 once"),
        ("0x1-0x2 8192 f+0x1/0x2 vmalloc vmalloc\n", "instead of 'vmalloc'"),
        ("0x1-0x2 8192 f+0x1/0x2 phys=12g\n", "instead of 'phys=12g'"),
    ],
)
def test_malformed(text: str, expected: str) -> None:
    with pytest.raises(ParseError, match=expected):
        vmallocinfo.parse(text)
