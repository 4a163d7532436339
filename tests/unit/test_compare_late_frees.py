"""Which zone got the initrd and the kernel's init memory, on made captures of two zones."""

from __future__ import annotations

from pathlib import Path

import pytest

from analysis.capture.snapshot import Snapshot
from analysis.capture.source import Source
from analysis.compare.static.moments.late_frees import (
    LateFree,
    Step,
    deferred_uncounted,
    defers_struct_pages,
    late_frees,
    managed_before,
    placements,
    spread_frees,
)
from analysis.errors import MissingInputError

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
[    0.000000] cma: Reserved 64 MiB at 0x000000005b000000
[    0.500000] Freeing initrd memory: 10752K
[    0.600000] Freeing unused kernel memory: 6464K
"""
HIDDEN = "00000000-00000000 : System RAM\n  00000000-00000000 : Kernel code\n"
BEGIN = "[    0.000000] Booting Linux on physical CPU 0x0\n"
END = "[    9.000000] Run /init as init process\n"
HERE, THERE = (0, "DMA"), (1, "DMA")


def snapshot(
    *,
    iomem: str = IOMEM,
    dmesg: str = DMESG,
    config: str = "",
    release: str = "7.2.0-arm64",
    arch: str = "ARM64",
    no_config: bool = False,
    zones: str = ZONES,
    cmdline: str = "",
) -> Snapshot:
    files = {
        "proc/version": f"Linux version {release} (x)\n",
        "proc/zoneinfo": zones,
        "proc/cmdline": cmdline,
        "proc/iomem": iomem,
        "dmesg": BEGIN + dmesg + END,
        "uname": "Linux made 7.2.0 aarch64\n",
        "proc/meminfo": "MemTotal: 500000 kB\n",
        "config": "" if no_config else f"CONFIG_{arch}=y\nCONFIG_ARM64_4K_PAGES=y\n" + config,
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


def between(of: Snapshot, step: Step = Step.WATERMARKS) -> list[tuple[str, int]]:
    """What came after a step, but before huge pages were set up."""
    late = set(late_frees(of))
    return [(free.name, free.pages) for free in late_frees(of, step) if free not in late]


def test_cma_counts_as_managed_from_the_first_initcalls_on() -> None:
    cma = late_frees(snapshot(), Step.DEFERRED)[-1]
    assert cma == LateFree(name="CMA", pages=16384, zones=(THERE,), missed=Step.DEFERRED)
    assert between(snapshot()) == []


def test_before_5_8_cma_came_after_the_watermarks() -> None:
    assert between(snapshot(release="4.19.0")) == [("CMA", 16384)]


def test_what_is_freed_before_the_initcalls_is_no_late_free() -> None:
    early = "[    0.1] Freeing SMP alternatives memory: 32K\n"
    assert late_frees(snapshot(dmesg=early + UP + DMESG)) == late_frees(snapshot())
    assert late_frees(snapshot(dmesg=early + DMESG), Step.WATERMARKS) == late_frees(snapshot())


UP = "[    0.2] smp: Brought up 1 node, 2 CPUs\n"
SMP = "[    0.3] Freeing SMP alternatives memory: 48K\n"
EFI = "[    0.3] efi: Freeing EFI boot services memory: 4096K\n"


def test_what_newer_kernels_free_between_the_initcalls() -> None:
    later = snapshot(dmesg=UP + SMP + EFI + DMESG)
    assert between(later) == [("SMP alternatives", 12)]
    (efi,) = spread_frees(later, Step.WATERMARKS)
    assert (efi.name, efi.pages) == ("what EFI boot services held", 1024)
    assert late_frees(later) == late_frees(snapshot())
    assert spread_frees(later) == ()
    before = snapshot(dmesg=SMP + UP + DMESG)
    assert between(before) == []
    assert spread_frees(before, Step.LISTS) == ()


def test_lists_sized_before_the_cpus_were_up() -> None:
    of = snapshot(dmesg=SMP + UP + DMESG)
    assert between(of, Step.LISTS) == [("SMP alternatives", 12), ("CMA", 16384)]
    assert between(of, Step.DEFERRED) == [("CMA", 16384)]


def test_gigantic_pages_are_managed_when_huge_pages_are_set_up() -> None:
    said = "[ 0.3] HugeTLB: registered 1.00 GiB page size, pre-allocated 2 pages\n"
    (gigantic,) = spread_frees(snapshot(dmesg=DMESG + said), Step.WATERMARKS)
    assert gigantic.pages == 2 << 18
    assert spread_frees(snapshot(dmesg=DMESG + said), Step.HUGE_PAGES) == ()


def test_deferred_struct_pages_belong_to_the_highest_zone_of_their_node() -> None:
    said = "[ 0.3] node 1 initialised, 40000 pages in 1ms\n"
    deferred = late_frees(snapshot(dmesg=DMESG + said), Step.LISTS)[-1]
    assert (deferred.pages, deferred.zones) == (40000, (THERE,))
    assert "node 1" in deferred.name
    assert late_frees(snapshot(dmesg=DMESG + said), Step.DEFERRED)[-1].name == "CMA"
    assert not deferred_uncounted(snapshot(dmesg=DMESG + said))
    assert deferred_uncounted(snapshot(dmesg="[ 0.3] node 1 deferred pages initialised in 8ms\n"))


def test_what_tells_that_struct_pages_are_deferred() -> None:
    said = "[ 0.3] node 1 initialised, 40000 pages in 1ms\n"
    assert defers_struct_pages(snapshot()) is False
    assert defers_struct_pages(snapshot(config="CONFIG_DEFERRED_STRUCT_PAGE_INIT=y\n")) is True
    without = snapshot(no_config=True)
    assert defers_struct_pages(without) is None
    assert defers_struct_pages(snapshot(no_config=True, dmesg=DMESG + said)) is True


def test_memory_of_which_nothing_says_when_it_came_is_a_missing_input() -> None:
    with pytest.raises(MissingInputError, match="'secret'"):
        late_frees(snapshot(dmesg=DMESG + "[ 3.0] Freeing secret memory: 4K\n"))


def test_silent_efi_memory_is_what_the_first_line_of_memory_lacks() -> None:
    # 125000 pages managed, less 4304 late ones and 16384 of CMA: 104312; the line has 1024 fewer.
    efi = "[ 0.0] efi: EFI v2.70 by made\n[ 0.0] Memory: 413152K/524288K available (1K)\n"
    of = snapshot(dmesg=efi + DMESG, release="5.10.0-amd64", arch="X86_64")
    (silent,) = spread_frees(of, Step.LISTS)
    assert silent.pages == 1024
    assert spread_frees(of, Step.DEFERRED) == ()


def test_placements_put_every_piece_into_one_of_its_zones() -> None:
    found = list(placements(late_frees(snapshot(iomem=""))))
    assert len(found) == 4
    assert {sum(len(pieces) for pieces in one.values()) for one in found} == {2}


def test_the_memory_behind_an_x86_image_says_where_it_lies() -> None:
    of = snapshot(iomem="", dmesg="[ 0.0] BRK [0x5c5cf0000, 0x5c5cf0fff] PGTABLE\n" + DMESG)
    assert late_frees(of)[1].zones == (HERE, THERE)
    brk = "[ 0.0] BRK [0x5f5cf000, 0x5f5cffff] PGTABLE\n"
    of = snapshot(iomem="", dmesg=brk + DMESG, arch="X86_64")
    assert late_frees(of)[1].zones == (THERE,)


def test_bounce_buffers_that_an_iommu_made_superfluous_went_back_silently() -> None:
    high = ZONES.replace("start_pfn: 327680", "start_pfn: 1048576")

    def spread(
        zones: str = high, release: str = "5.10.0", more: str = "", cmdline: str = ""
    ) -> int:
        of = snapshot(
            release=release, arch="X86_64", zones=zones, dmesg=DMESG + more, cmdline=cmdline
        )
        return sum(free.pages for free in spread_frees(of))

    assert spread() == 16384 + 64 + 32
    assert spread(zones=ZONES) == 0  # no memory above 4 GiB
    assert spread(release="6.1.0") == 0
    used = "[ 0.3] PCI-DMA: Using software bounce buffering for IO (SWIOTLB)\n"
    assert spread(more=used) == 0
    assert spread(cmdline="swiotlb=65537,force\n") == (65536 + 128) // 2 + 129 + 65
