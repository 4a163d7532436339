"""Which zone got the initrd and the kernel's init memory, on made captures of two zones."""

from __future__ import annotations

from pathlib import Path

import pytest

from analysis.capture.snapshot import Snapshot
from analysis.capture.source import Source
from analysis.compare.late_frees import (
    LateFree,
    between_initcalls,
    efi_pages_between,
    late_frees,
    managed_before,
)

ZONE = """\
Node {node}, zone    DMA
  pages free     100
        min      1
        low      1
        high     1
        spanned  {spanned}
        present  {spanned}
        managed  {managed}
        protection: (0, 0)
      nr_free_pages 1
  pagesets
    cpu: 0
              high: 1
  start_pfn: {start}
"""
ZONES = ZONE.format(node=0, spanned=65536, managed=60000, start=0x40000) + ZONE.format(
    node=1, spanned=65536, managed=65000, start=0x50000
)
IOMEM = """\
40000000-4fffffff : System RAM
  40210000-4185ffff : Kernel code
  41860000-41eaffff : reserved
  41eb0000-4220ffff : Kernel data
50000000-5fffffff : System RAM
  58000000-58a80fff : reserved
  5f600000-5fdfffff : reserved
"""
DMESG = """\
[    0.000000] Booting Linux on physical CPU 0x0
[    0.000000] cma: Reserved 64 MiB at 0x000000005b000000
[    0.500000] Freeing initrd memory: 10752K
[    0.600000] Freeing unused kernel memory: 6464K
"""
HIDDEN = "00000000-00000000 : System RAM\n  00000000-00000000 : Kernel code\n"
HERE, THERE = (0, "DMA"), (1, "DMA")


def snapshot(*, iomem: str = IOMEM, dmesg: str = DMESG, config: str = "") -> Snapshot:
    files = {
        "proc/version": "Linux version 7.2.0-arm64 (x)\n",
        "proc/zoneinfo": ZONES,
        "proc/iomem": iomem,
        "dmesg": dmesg,
        "config": "CONFIG_ARM64=y\nCONFIG_ARM64_4K_PAGES=y\n" + config,
    }
    contents = {name: text.encode().__bytes__ for name, text in files.items() if text}
    return Snapshot(Source(path=Path("made"), kind="capture", files=contents))


def test_the_initrd_is_the_reserved_range_of_its_size() -> None:
    assert late_frees(snapshot()) == (
        LateFree(name="initrd", pages=2688, zones=(THERE,)),
        LateFree(name="unused kernel", pages=1616, zones=(HERE,)),
    )


def test_the_last_place_that_x86_names_counts() -> None:
    named = (
        "[    0.000000] RAMDISK: [mem 0x5f600000-0x5fffffff]\n"
        "[    0.000000] Allocated new RAMDISK: [mem 0x45000000-0x45a7ffff]\n"
    )
    initrd, _ = late_frees(snapshot(dmesg=DMESG + named))
    assert initrd.zones == (HERE,)


@pytest.mark.parametrize("iomem", ["", HIDDEN])
def test_without_addresses_every_zone_may_have_it(iomem: str) -> None:
    frees = late_frees(snapshot(iomem=iomem))
    assert [free.zones for free in frees] == [(HERE, THERE)] * 2
    zone = snapshot().zoneinfo.zones[0]
    found = [earlier.managed_pages for earlier in managed_before(zone, frees)]
    assert found == [60000 - 2688 - 1616, 60000 - 2688, 60000 - 1616, 60000]


def test_two_ranges_of_that_size_in_two_zones_leave_it_open() -> None:
    twice = IOMEM.replace(
        "41eb0000-4220ffff : Kernel data",
        "41eb0000-4220ffff : Kernel data\n  48000000-48a80fff : reserved",
    )
    initrd, _ = late_frees(snapshot(iomem=twice))
    assert initrd.zones == (HERE, THERE)


def test_parts_of_the_kernel_that_may_be_in_several_zones_are_together() -> None:
    dmesg = DMESG + "[    0.700000] Freeing unused decrypted memory: 2036K\n"
    _, image = late_frees(snapshot(iomem=HIDDEN, dmesg=dmesg))
    assert image.name == "unused parts of the kernel"
    assert image.pages == 1616 + 509


def test_cma_counts_as_managed_from_the_first_initcalls_on() -> None:
    cma = late_frees(snapshot(), before_initcalls=True)[-1]
    assert cma == LateFree(name="CMA", pages=16384, zones=(THERE,))


def test_what_is_freed_before_the_initcalls_is_no_late_free() -> None:
    early = "[    0.1] Freeing SMP alternatives memory: 32K\n"
    assert late_frees(snapshot(dmesg=early + DMESG)) == late_frees(snapshot())


UP = "[    0.2] smp: Brought up 1 node, 2 CPUs\n"
SMP = "[    0.3] Freeing SMP alternatives memory: 48K\n"
EFI = "[    0.3] efi: Freeing EFI boot services memory: 4096K\n"


def test_what_newer_kernels_free_between_the_initcalls() -> None:
    later = snapshot(dmesg=UP + SMP + EFI + DMESG)
    assert between_initcalls(later) == (LateFree(name="SMP alternatives", pages=12, zones=(HERE,)),)
    assert efi_pages_between(later) == 1024
    assert late_frees(later) == late_frees(snapshot())
    before = snapshot(dmesg=SMP + EFI + UP + DMESG)
    assert between_initcalls(before) == ()
    assert efi_pages_between(before) == 0


def test_lists_sized_before_the_cpus_were_up() -> None:
    of = snapshot(dmesg=SMP + UP + DMESG)
    assert late_frees(of, before_initcalls=True)[-1].name == "SMP alternatives"
    deferred = snapshot(dmesg=SMP + UP + DMESG, config="CONFIG_DEFERRED_STRUCT_PAGE_INIT=y\n")
    assert late_frees(deferred, before_initcalls=True)[-1].name == "CMA"
