"""Layout claims of small captures made by hand: what holds, what fails, what is unknown and why."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from analysis.capture.snapshot import Snapshot
from analysis.capture.source import open_source
from analysis.compare.claim import Claim, Verdict
from analysis.compare.static.layout.rules import RULES
from tests.mutations.layout import MUTATIONS

E820 = """\
[    0.0] Linux version 6.1.0-1-amd64
[    0.0] BIOS-provided physical RAM map:
[    0.0] BIOS-e820: [mem 0x0000000000000000-0x000000000009fbff] usable
[    0.0] BIOS-e820: [mem 0x0000000000100000-0x000000003ffd9fff] usable
[    0.0] BIOS-e820: [mem 0x000000003ffda000-0x000000003fffffff] reserved
"""
BOOTED = """\
[    0.0] last_pfn = 0x3ffda max_arch_pfn = 0x400000000
[    0.0] No NUMA configuration found
[    0.0] Faking a node at [mem 0x0000000000000000-0x000000003ffd9fff]
[    0.0] Zone ranges:
[    0.0]   DMA      [mem 0x0000000000001000-0x0000000000ffffff]
[    0.0]   DMA32    [mem 0x0000000001000000-0x000000003ffd9fff]
[    0.0]   Normal   empty
[    0.0] Movable zone start for each node
[    0.0] Early memory node ranges
[    0.0]   node   0: [mem 0x0000000000001000-0x000000000009efff]
[    0.0]   node   0: [mem 0x0000000000100000-0x000000003ffd9fff]
[    0.0] Initmem setup node 0 [mem 0x0000000000001000-0x000000003ffd9fff]
[    0.0] On node 0, zone DMA: 98 pages in unavailable ranges
[    0.0] On node 0, zone DMA32: 38 pages in unavailable ranges
[    0.0] SLUB: HWalign=64, Order=0-3, MinObjects=0, CPUs=1, Nodes=1
"""
ZONE = """\
Node 0, zone {name:>8}
  pages free     10
        min      1
        low      2
        high     3
        spanned  {spanned}
        present  {present}
        managed  {present}
        protection: (0, 0, 0, 0)
      nr_free_pages 10
  pagesets
    cpu: 0
              count: 0
  vm stats threshold: 4
  node_unreclaimable:  0
  start_pfn:           {start}
"""
EMPTY = """\
Node 0, zone {name:>8}
  pages free     0
        min      0
        low      0
        high     0
        spanned  0
        present  0
        managed  0
        protection: (0, 0, 0, 0)
"""
ZONEINFO = (
    ZONE.format(name="DMA", spanned=4095, present=3998, start=1)
    + ZONE.format(name="DMA32", spanned=258010, present=258010, start=4096)
    + EMPTY.format(name="Normal")
    + EMPTY.format(name="Movable")
)
CONFIG = """\
CONFIG_X86_64=y
CONFIG_ZONE_DMA=y
CONFIG_ZONE_DMA32=y
CONFIG_SPARSEMEM=y
CONFIG_SPARSEMEM_VMEMMAP=y
CONFIG_MEMORY_HOTPLUG=y
CONFIG_HUGETLB_PAGE=y
CONFIG_MEMCG=y
CONFIG_MMU=y
CONFIG_HAVE_ALIGNED_STRUCT_PAGE=y
"""
FILES = {
    "dmesg": E820 + BOOTED,
    "proc/version": "Linux version 6.1.0-1-amd64 (x) #1\n",
    "proc/cmdline": "root=/dev/sda1\n",
    "proc/zoneinfo": ZONEINFO,
    "config": CONFIG,
    "proc/iomem": (
        "00000000-00000fff : Reserved\n00001000-0009fbff : System RAM\n"
        "00100000-3ffd9fff : System RAM\n3ffda000-3fffffff : Reserved\n"
    ),
    "sys/devices/system/node/online": "0\n",
}


def claims(tmp_path: Path, changes: Mapping[str, str | None] | None = None) -> list[Claim]:
    files: dict[str, str | None] = {**FILES, **(changes or {})}
    for name, text in files.items():
        if text is not None:
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
    snapshot = Snapshot(open_source(tmp_path))
    return [claim for rule in RULES for claim in rule.claims(snapshot)]


def of(found: list[Claim], rule_id: str) -> list[Claim]:
    return [claim for claim in found if claim.id == rule_id]


def verdicts(found: list[Claim], rule_id: str) -> set[Verdict]:
    return {claim.verdict for claim in of(found, rule_id)}


ZONES = ("node_range", "zone_range", "zone_start_pfn", "zone_spanned", "zone_present")


def test_a_plain_machine_holds(tmp_path: Path) -> None:
    found = claims(tmp_path)
    for rule_id in (*ZONES, "memory_map", "node_zones", "movable_start", "unavailable_pages"):
        assert verdicts(found, rule_id) == {Verdict.HOLDS}, of(found, rule_id)
    assert of(found, "zone_present")[0].working[-1] == (
        "node 0 DMA: from pfn 1, 4095 spanned - 97 without memory = 3998 present"
    )
    assert of(found, "memory_model")[0].observed == "SPARSEMEM_VMEMMAP"
    assert of(found, "memmap_pages")[0].predicted == 8 * 32768


def test_one_page_off_fails(tmp_path: Path) -> None:
    found = claims(tmp_path, {"proc/zoneinfo": ZONEINFO.replace("3998", "3999", 1)})
    assert Verdict.FAILS in verdicts(found, "zone_present")


def test_memory_that_the_kernel_trims_at_boot(tmp_path: Path) -> None:
    update = "[    0.0] e820: update [mem 0x3ff00000-0xffffffff] usable ==> reserved\n"
    found = claims(tmp_path, {"dmesg": E820 + update + BOOTED})
    assert of(found, "zone_present")[1].predicted == 258010 - 0xDA
    late = claims(tmp_path, {"dmesg": E820 + BOOTED + update})
    assert verdicts(late, "zone_present") == {Verdict.HOLDS}


def test_efi_splits_ram_before_and_reserves_tables_after_memory_is_settled(tmp_path: Path) -> None:
    split = (
        "[    0.0] e820: update [mem 0x28808018-0x28818057] usable ==> usable\n"
        "[    0.0] extended physical RAM map:\n"
        "[    0.0] reserve setup_data: [mem 0x0000000000100000-0x0000000028808017] usable\n"
        "[    0.0] efi: EFI v2.7 by American Megatrends\n"
        "[    0.0] e820: remove [mem 0xff000000-0xffffffff] reserved\n"
    )
    esrt = "[    0.0] e820: update [mem 0x3adf4000-0x3adf4fff] usable ==> reserved\n"
    iomem = (
        "00001000-0009fbff : System RAM\n00100000-28808017 : System RAM\n"
        "28808018-28818057 : System RAM\n28818058-3adf3fff : System RAM\n"
        "3adf4000-3adf4fff : Reserved\n3adf5000-3ffd9fff : System RAM\n"
    )
    first, rest = BOOTED.split("\n", 1)
    dmesg = f"{E820}{split}{first}\n{esrt}{rest}"
    found = claims(tmp_path, {"dmesg": dmesg, "proc/iomem": iomem})
    for rule_id in (*ZONES, "memory_map"):
        assert verdicts(found, rule_id) == {Verdict.HOLDS}, of(found, rule_id)


def test_without_the_begin_of_dmesg_sysfs_has_the_map(tmp_path: Path) -> None:
    memmap = {
        "sys/firmware/memmap/0/start": "0x0\n",
        "sys/firmware/memmap/0/end": "0x9fbff\n",
        "sys/firmware/memmap/0/type": "System RAM\n",
        "sys/firmware/memmap/1/start": "0x100000\n",
        "sys/firmware/memmap/1/end": "0x3ffd9fff\n",
        "sys/firmware/memmap/1/type": "System RAM\n",
    }
    found = claims(tmp_path, {"dmesg": "[   99.0] eth0: up\n", **memmap})
    assert verdicts(found, "zone_present") == {Verdict.HOLDS}
    assert verdicts(found, "node_range") == {Verdict.UNKNOWN}


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"dmesg": "[   99.0] eth0: up\n"}, "no firmware memory map"),
        ({"proc/cmdline": "mem=lots\n"}, "a parameter of the memory map"),
        ({"dmesg": E820.replace("reserved", "odd") + BOOTED}, "a type that is not known: 'odd'"),
        (
            {"proc/iomem": FILES["proc/iomem"] + "100000000-17fffffff : System RAM\n"},
            "memory was added after boot: 0x100000000-0x17fffffff",
        ),
        ({"sys/devices/system/memory/memory9/state": "offline\n"}, "memory is offline"),
        (
            {
                "proc/cmdline": "movable_node\n",
                "dmesg": E820
                + "[    0.0] SRAT: Node 0 PXM 0 [mem 0x00000000-0x3fffffff] hotplug\n"
                + BOOTED.replace("Faking a node", "Fake"),
            },
            "movable_node",
        ),
        ({"proc/cmdline": "kernelcore=mirror\n"}, "kernelcore=mirror"),
        ({"proc/cmdline": "kernelcore=much\n"}, "does not begin with a number"),
    ],
)
def test_why_zones_are_unknown(tmp_path: Path, changes: dict[str, str | None], reason: str) -> None:
    found = of(claims(tmp_path, changes), "zone_present")
    assert [claim.verdict for claim in found] == [Verdict.UNKNOWN]
    assert reason in found[0].why


def added(zone: str, **more: str) -> dict[str, str | None]:
    """Two memory blocks that were added above 4 GiB and onlined."""
    blocks = {
        f"sys/devices/system/memory/memory{block}/{name}": text
        for block in (32, 33)
        for name, text in (("state", "online\n"), ("valid_zones", f"{zone}\n"))
    }
    iomem = FILES["proc/iomem"] + "100000000-10fffffff : System RAM\n"
    return {"proc/iomem": iomem, **blocks, **more}


@pytest.mark.parametrize(("present", "verdict"), [(65536, Verdict.HOLDS), (32768, Verdict.FAILS)])
def test_memory_added_as_movable_is_a_zone(tmp_path: Path, present: int, verdict: Verdict) -> None:
    block_size = {"sys/devices/system/memory/block_size_bytes": "8000000\n"}
    zone = ZONE.format(name="Movable", spanned=65536, present=present, start=0x100000)
    zoneinfo = ZONEINFO.replace(EMPTY.format(name="Movable"), zone)
    found = claims(tmp_path, {**added("Movable"), **block_size, "proc/zoneinfo": zoneinfo})
    zones = {claim.scope["zone"]: claim for claim in of(found, "zone_present")}
    assert zones["Movable"].predicted == 65536
    assert zones["Movable"].verdict is verdict
    assert zones["DMA32"].verdict is Verdict.HOLDS
    assert verdicts(found, "zone_start_pfn") == verdicts(found, "zone_spanned") == {Verdict.HOLDS}
    assert verdicts(found, "node_range") == {Verdict.HOLDS}, "what dmesg says of boot stays true"
    (shown,) = of(found, "memory_map")
    assert shown.verdict is Verdict.UNKNOWN
    assert "memory was added after boot" in shown.why


def test_memory_added_elsewhere_is_not_guessed_at(tmp_path: Path) -> None:
    block_size = {"sys/devices/system/memory/block_size_bytes": "8000000\n"}
    for zone in ("Normal", "Normal Movable"):
        found = of(claims(tmp_path / zone[-4:], {**added(zone), **block_size}), "zone_present")
        assert [claim.verdict for claim in found] == [Verdict.UNKNOWN]
        assert "memory was added after boot: 0x100000000-0x10fffffff" in found[0].why


def test_an_input_that_is_missing_is_told_from_a_rule_that_is(tmp_path: Path) -> None:
    (lost,) = of(claims(tmp_path, {"dmesg": "[   99.0] eth0: up\n"}), "zone_present")
    assert lost.lacking
    offline = {"sys/devices/system/memory/memory9/state": "offline\n"}
    (without_rule,) = of(claims(tmp_path, offline), "zone_present")
    assert not without_rule.lacking


def test_a_mirror_that_is_not_there_is_ignored(tmp_path: Path) -> None:
    lost = "[    0.0] The system has no mirror memory, ignore kernelcore=mirror.\n"
    changes = {"proc/cmdline": "kernelcore=mirror\n", "dmesg": E820 + BOOTED + lost}
    assert verdicts(claims(tmp_path, changes), "zone_present") == {Verdict.HOLDS}


def test_an_srat_that_overlaps_is_refused(tmp_path: Path) -> None:
    srat = (
        "[    0.0] ACPI: SRAT: Node 0 PXM 0 [mem 0x00000000-0x2fffffff]\n"
        "[    0.0] ACPI: SRAT: Node 1 PXM 1 [mem 0x20000000-0x3fffffff]\n"
    )
    dmesg = E820 + srat + BOOTED.replace("Faking a node", "Fake")
    (claim,) = of(claims(tmp_path, {"dmesg": dmesg}), "zone_present")
    assert "the kernel refuses the SRAT" in claim.why


def test_without_a_configuration_zones_still_hold(tmp_path: Path) -> None:
    buddy = "Node 0, zone      DMA " + " ".join(["1"] * 11) + "\n"
    changes = {"config": None, "proc/buddyinfo": buddy, "uname": "Linux h 6.1.0 x86_64\n"}
    found = claims(tmp_path, changes)
    for rule_id in ZONES:
        assert verdicts(found, rule_id) == {Verdict.HOLDS}, of(found, rule_id)
    assert "config" in of(found, "node_zones")[0].why


def test_hidden_addresses_are_said(tmp_path: Path) -> None:
    hidden = "00000000-00000000 : System RAM\n"
    found = claims(tmp_path, {"proc/iomem": hidden})
    assert "without privilege" in of(found, "memory_map")[0].why
    assert verdicts(found, "zone_present") == {Verdict.HOLDS}


def test_a_kernel_with_backports_keeps_exact_what_all_releases_share(tmp_path: Path) -> None:
    name = "6.1.0-1.el9.x86_64"
    changes = {
        "proc/version": f"Linux version {name} (x) #1\n",
        "dmesg": (E820 + BOOTED).replace("6.1.0-1-amd64", name),
    }
    found = claims(tmp_path, changes)
    for rule_id in ZONES:
        assert verdicts(found, rule_id) == {Verdict.HOLDS}


def test_namespaces_of_legacy_persistent_memory_fill_zone_device(tmp_path: Path) -> None:
    row = "[    0.0] BIOS-e820: [mem 0x{:016x}-0x{:016x}] {}\n".format
    memory = row(0x100000, 0x3FFD9FFF, "usable")
    parts = (
        row(0x100000, 0x1FFFFFFF, "usable")
        + row(0x20000000, 0x2FFFFFFF, "persistent (type 12)")
        + row(0x30000000, 0x3FFD9FFF, "usable")
    )
    zones = (
        ZONE.format(name="DMA", spanned=4095, present=3998, start=1)
        + ZONE.format(name="DMA32", spanned=258010, present=258010 - 65536, start=4096)
        + EMPTY.format(name="Normal")
        + EMPTY.format(name="Movable")
        + EMPTY.format(name="Device").replace("spanned  0", "spanned  65536")
    )

    def capture(kind: str) -> list[Claim]:
        iomem = (
            "00001000-0009fbff : System RAM\n00100000-1fffffff : System RAM\n"
            f"20000000-2fffffff : {kind}\n  20000000-2fffffff : namespace0.0\n"
            "30000000-3ffd9fff : System RAM\n"
        )
        assert memory in E820
        changes = {
            "dmesg": E820.replace(memory, parts) + BOOTED,
            "proc/iomem": iomem,
            "proc/zoneinfo": zones,
            "config": CONFIG + "CONFIG_ZONE_DEVICE=y\n",
        }
        return claims(tmp_path, changes)

    found = capture("Persistent Memory (legacy)")
    for rule_id in ("zone_spanned", "zone_present", "zone_start_pfn"):
        assert verdicts(found, rule_id) == {Verdict.HOLDS}, of(found, rule_id)
    (claim,) = of(capture("Persistent Memory"), "zone_spanned")
    assert "how the driver maps namespace0.0" in claim.why


def test_what_the_kernel_says_of_holes_outweighs_its_release(tmp_path: Path) -> None:
    kinds = " ".join(["Unmovable", "Movable", "Reclaimable", "HighAtomic"])
    heads = f"Free pages count per migrate type at order {' '.join(map(str, range(11)))}\n"
    rows = "".join(
        f"Node 0, zone {zone:>8}, type {kind:>12} {' '.join(['0'] * 11)}\n"
        for zone in ("DMA", "DMA32")
        for kind in kinds.split()
    )
    blocks = "Node 0, zone DMA 1 7 0 0\nNode 0, zone DMA32 4 500 0 0\n"
    pagetypeinfo = (
        f"Page block order: 9\nPages per block:  512\n\n{heads}{rows}\n"
        f"Number of blocks type  {kinds}\n{blocks}"
    )
    name = "4.18.0-1.el8.x86_64"
    dmesg = (E820 + BOOTED).replace("6.1.0-1-amd64", name)
    changes = {
        "proc/version": f"Linux version {name} (x) #1\n",
        "dmesg": dmesg,
        "proc/pagetypeinfo": pagetypeinfo,
    }
    found = claims(tmp_path, changes)
    assert verdicts(found, "pageblocks") == {Verdict.HOLDS}, of(found, "pageblocks")
    assert verdicts(found, "unavailable_pages") == {Verdict.HOLDS}
    zeroed = "[    0.0] Zeroed struct page in unavailable ranges: 136 pages\n"
    lines = [line for line in dmesg.splitlines() if "unavailable" not in line]
    changes["dmesg"] = "\n".join(lines) + "\n" + zeroed
    (claim,) = of(claims(tmp_path, changes), "unavailable_pages")
    assert claim.verdict is Verdict.UNKNOWN


def test_arm64_asks_the_device_tree(tmp_path: Path) -> None:
    def capture(model: str) -> list[Claim]:
        early = "[    0.0]   node   0: [mem 0x0000000040000000-0x000000007fffffff]\n"
        dmesg = (
            f"[    0.0] Linux version 6.1.0-1-arm64\n[    0.0] Machine model: {model}\n"
            "[    0.0] NUMA: Faking a node at [mem 0x0000000040000000-0x000000007fffffff]\n"
            f"[    0.0] Early memory node ranges\n{early}"
            "[    0.0] SLUB: HWalign=64, Order=0-3, MinObjects=0, CPUs=1, Nodes=1\n"
        )
        zone = ZONE.format(name="DMA", spanned=262144, present=262144, start=262144)
        return claims(
            tmp_path,
            {
                "dmesg": dmesg,
                "proc/version": "Linux version 6.1.0-1-arm64 (x) #1\n",
                "config": CONFIG.replace("X86_64", "ARM64") + "CONFIG_ARM64_4K_PAGES=y\n",
                "proc/iomem": "40000000-7fffffff : System RAM\n  40210000-4185ffff : Kernel code\n",
                "proc/zoneinfo": zone,
            },
        )

    assert verdicts(capture("linux,dummy-virt"), "zone_present") == {Verdict.HOLDS}
    unknown = of(capture("Some Board"), "zone_present")
    assert "dma-ranges" in unknown[0].why
    assert verdicts(capture("Some Board"), "node_range") == {Verdict.HOLDS}
    narrow = of(capture("Raspberry Pi 4 Model B"), "zone_present")
    assert "every bus master reaches 0x40000000" in narrow[0].working


def test_every_rule_has_a_mutation() -> None:
    assert set(MUTATIONS) == {rule.id for rule in RULES}
