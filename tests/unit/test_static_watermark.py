"""Rules about watermarks on a small made capture: what each needs, and what makes it fail."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from analysis.capture.snapshot import Snapshot
from analysis.capture.source import Source
from analysis.compare.claim import Claim, Verdict
from analysis.compare.rule import BROKEN
from analysis.compare.static.watermark.boot import boot_managed
from analysis.compare.static.watermark.moments import Moment, judged
from analysis.compare.static.watermark.rules import RULES
from analysis.errors import MissingInputError
from analysis.procfs import zoneinfo
from analysis.procfs.zoneinfo import Zone, Zoneinfo
from tests.mutations.watermark import MUTATIONS

BY_ID = {rule.id: rule for rule in RULES}

DMESG = """\
[    0.000000] Linux version 6.12.95 (made) #1 SMP
[    0.000000] RAMDISK: [mem 0x3c000000-0x3cbb7fff]
[    0.100000] Memory: 900000K/1028000K available (14343K kernel code, 2338K rwdata)
[    0.200000] Freeing SMP alternatives memory: 40K
[    1.000000] Freeing initrd memory: 12000K
[    2.000000] Freeing unused kernel image (initmem) memory: 3360K
[    2.100000] Run /init as init process
"""
IOMEM = """\
00001000-0009fbff : System RAM
00100000-3fffffff : System RAM
  01000000-01ffffff : Kernel code
  02400000-029fffff : Kernel data
"""
PAGETYPEINFO = """\
Page block order: 9
Pages per block:  512

Free pages count per migrate type at order      0
Node    0, zone      DMA, type    Unmovable      1

Number of blocks type     Unmovable
Node 0, zone      DMA            1
"""
MARKS = {"DMA": (173, 216, 259, 302), "DMA32": (11090, 13862, 16634, 19406)}
"""Of 250,000 pages managed at boot, as test_model_watermark works them out."""
RAISED = (11602, 14374, 17146, 19918)
"""DMA32's marks, each 512 pages higher."""
AFTER = {"DMA": (170, 212, 254, 296), "DMA32": (11093, 13866, 16639, 19412)}
"""Of the 253,840 that are managed in the end: 11264 x 3840 / 253840 = 170.4, a quarter 42;
11264 x 250000 / 253840 = 11093.6, a quarter 2773."""
MANAGED = {"DMA": 3840, "DMA32": 250_000}


def zones(
    marks: dict[str, tuple[int, int, int, int]] = MARKS,
    *,
    reserve: int = 961,  # 246160 / 256: without the initrd and the kernel's init memory
    boost: int | None = 0,
    promo: bool = True,
) -> str:
    found = []
    for name, start in (("DMA", 1), ("DMA32", 4096)):
        low, high = marks[name][1:3]
        raised = boost or 0 if name == "DMA32" else 0
        pages = {"free": 3000 if name == "DMA" else 197_000}
        if boost is not None:
            pages["boost"] = raised
        pages |= {"min": marks[name][0] + raised, "low": low + raised, "high": high + raised}
        if promo:
            pages["promo"] = marks[name][3] + raised
        spanned = 4095 if name == "DMA" else 258_048
        present = 3998 if name == "DMA" else 253_002
        pages |= {"spanned": spanned, "present": present, "managed": MANAGED[name]}
        found.append(
            Zone(
                node=0,
                zone=name,
                pages=pages,
                protection=(0, reserve if name == "DMA" else 0, reserve if name == "DMA" else 0),
                counters={"nr_free_pages": pages["free"]},
                cpus=(),
                tail={"node_unreclaimable": 0, "start_pfn": start},
            )
        )
    empty = {"free": 0, **({"boost": 0} if boost is not None else {}), "min": 32, "low": 32}
    empty |= {"high": 32, **({"promo": 32} if promo else {})}
    empty |= {"spanned": 0, "present": 0, "managed": 0}
    movable = Zone(
        node=0, zone="Movable", pages=empty, protection=(0, 0, 0), counters={}, cpus=(), tail={}
    )
    return zoneinfo.render(Zoneinfo(zones=(*found, movable), node_stats={}))


def files(**changed: str | None) -> dict[str, str]:
    """The capture's files; a name's slashes are written as double underscores."""
    texts: dict[str, str | None] = {
        "proc/version": "Linux version 6.12.95+deb13-amd64 (made)\n",
        "proc/cmdline": "console=ttyS0\n",
        "config": "CONFIG_X86_64=y\nCONFIG_TRANSPARENT_HUGEPAGE=y\n"
        "CONFIG_TRANSPARENT_HUGEPAGE_ALWAYS=y\n",
        "proc/zoneinfo": zones(),
        "proc/pagetypeinfo": PAGETYPEINFO,
        "proc/iomem": IOMEM,
        "dmesg": DMESG,
        # 182,646 pages: 200,000 free - 17,854 + (1000 - 500) of the page cache
        "proc/meminfo": "MemFree: 800000 kB\nMemAvailable: 730584 kB\nActive(file): 4000 kB\n"
        "Inactive(file): 0 kB\nKReclaimable: 0 kB\n",
        # 819 / 4096 and 409 / 4096 of 200,000 - 17,854 + 1000 + 1
        "proc/vmstat": "nr_free_pages 200000\nnr_inactive_file 0\nnr_active_file 1000\n"
        "nr_dirty_threshold 36620\nnr_dirty_background_threshold 18287\n",
        "proc/sys/vm/min_free_kbytes": "45056\n",
        "proc/sys/vm/watermark_scale_factor": "10\n",
        "proc/sys/vm/watermark_boost_factor": "15000\n",
        "proc/sys/vm/lowmem_reserve_ratio": "256\t256\t0\n",
        "proc/sys/vm/dirty_ratio": "20\n",
        "proc/sys/vm/dirty_background_ratio": "10\n",
        "proc/sys/vm/dirty_bytes": "0\n",
        "proc/sys/vm/dirty_background_bytes": "0\n",
    }
    texts |= {name.replace("__", "/"): text for name, text in changed.items()}
    return {name: text for name, text in texts.items() if text is not None}


def snapshot(**changed: str | None) -> Snapshot:
    found = {name: text.encode().__bytes__ for name, text in files(**changed).items()}
    return Snapshot(Source(path=Path("made"), kind="capture", files=found))


def verdicts(made: Snapshot, *ids: str) -> dict[str, set[str]]:
    return {
        rule.id: {claim.verdict.value for claim in rule.claims(made)}
        for rule in RULES
        if not ids or rule.id in ids
    }


def only(made: Snapshot, rule_id: str, zone: str | None = None) -> Claim:
    (claim,) = [
        claim
        for claim in BY_ID[rule_id].claims(made)
        if zone is None or claim.scope.get("zone") == zone
    ]
    return claim


def test_everything_holds() -> None:
    assert verdicts(snapshot()) == {rule.id: {"holds"} for rule in RULES}


@pytest.mark.parametrize("rule_id", sorted(MUTATIONS))
def test_one_changed_number_fails(rule_id: str) -> None:
    mutation = MUTATIONS[rule_id]
    changed = mutation.apply(files()[mutation.file])
    assert changed is not None
    made = snapshot(**{mutation.file.replace("/", "__"): changed})
    assert "fails" in verdicts(made, rule_id)[rule_id]


def test_there_is_a_mutation_for_every_rule() -> None:
    assert set(MUTATIONS) == set(BY_ID)


def test_the_working_goes_from_the_messages_to_the_mark() -> None:
    working = "\n".join(only(snapshot(), "watermark_high", "DMA").working)
    for part in (
        "initrd, 3000 pages of node 0 DMA32",
        "unused kernel image (initmem), 840 pages of node 0 DMA32",
        "sqrt(16 x 1000000 KiB) = 4000",
        "248503 pages are beyond",
        "11264 x 3840 / 250000 = 173",
        "high = 173 + 2 x 43 = 259",
    ):
        assert part in working


def test_the_working_says_why_a_small_machine_has_no_khugepaged() -> None:
    small = zones().replace(" 250000\n", " 83336\n").replace("253002", "86338")
    dmesg = DMESG.replace("900000K/1028000K", "300000K/361344K")
    made = snapshot(proc__zoneinfo=small, dmesg=dmesg)
    working = "\n".join(only(made, "min_free_kbytes").working)
    assert "325 MiB are below 512: no khugepaged" in working  # 83336 pages at boot
    assert "nothing is computed again" in working


def test_marks_computed_after_boot_hold_where_two_zones_show_it() -> None:
    made = snapshot(proc__zoneinfo=zones(AFTER))
    assert verdicts(made, *(f"watermark_{kind}" for kind in ("min", "low", "high", "promo"))) == {
        f"watermark_{kind}": {"holds"} for kind in ("min", "low", "high", "promo")
    }
    assert "after boot" in "".join(only(made, "watermark_low", "DMA").working)
    mixed = {"DMA": MARKS["DMA"], "DMA32": AFTER["DMA32"]}
    assert (
        "fails" in verdicts(snapshot(proc__zoneinfo=zones(mixed)), "watermark_low")["watermark_low"]
    )


def test_a_value_written_by_hand_is_not_computed() -> None:
    # 8000 pages: DMA 121.02, a quarter 30; DMA32 7878.97, a quarter 1969.
    by_hand = {"DMA": (121, 151, 181, 211), "DMA32": (7878, 9847, 11816, 13785)}
    made = snapshot(proc__zoneinfo=zones(by_hand), proc__sys__vm__min_free_kbytes="32000\n")
    claim = only(made, "min_free_kbytes")
    assert claim.verdict is Verdict.UNKNOWN
    assert "written by hand" in claim.why
    assert verdicts(
        made, "watermark_min", "watermark_low", "watermark_high", "watermark_promo"
    ) == {f"watermark_{kind}": {"holds"} for kind in ("min", "low", "high", "promo")}


def test_huge_pages_switched_off_after_boot() -> None:
    # 253840 - 259 - 16634 pages: the root of 16 x 947788 KiB is 3894.17. Of 973 pages DMA has
    # 14.7 (a gap of 3), DMA32 958.3 (250, a thousandth, is more than a quarter).
    off = {"DMA": (14, 17, 20, 23), "DMA32": (958, 1208, 1458, 1708)}
    made = snapshot(
        proc__zoneinfo=zones(off),
        proc__sys__vm__min_free_kbytes="3894\n",
        sys__kernel__mm__transparent_hugepage__enabled="always madvise [never]\n",
    )
    claim = only(made, "min_free_kbytes")
    assert (claim.verdict, claim.predicted) == (Verdict.HOLDS, 3894)
    assert "switched" in "".join(claim.working)
    assert verdicts(made, "watermark_high") == {"watermark_high": {"holds"}}


def test_the_zones_say_that_huge_pages_were_switched_and_not_the_value_itself() -> None:
    off = {"DMA": (14, 17, 20, 23), "DMA32": (958, 1208, 1458, 1708)}
    never = "always madvise [never]\n"
    name = "sys__kernel__mm__transparent_hugepage__enabled"
    made = snapshot(
        proc__zoneinfo=zones(off), proc__sys__vm__min_free_kbytes="3958\n", **{name: never}
    )
    claim = only(made, "min_free_kbytes")
    assert (claim.verdict, claim.predicted) == (Verdict.FAILS, 3894)
    # Not switched as far as one sees: whoever wrote the value is not known.
    made = snapshot(proc__zoneinfo=zones(off), proc__sys__vm__min_free_kbytes="3894\n")
    assert only(made, "min_free_kbytes").verdict is Verdict.UNKNOWN


@pytest.mark.parametrize(
    ("line", "verdict"),
    [("MemAvailable: 730585 kB", "fails"), ("MemFree: 800001 kB", "unknown")],
)
def test_lines_of_pages_are_of_whole_pages(line: str, verdict: str) -> None:
    name = line.split()[0]
    text = "".join(
        f"{line}\n" if row.startswith(name) else f"{row}\n"
        for row in files()["proc/meminfo"].splitlines()
    )
    claim = only(snapshot(proc__meminfo=text), "mem_available")
    assert claim.verdict.value == verdict
    assert only(snapshot(proc__meminfo=text), "totalreserve").verdict is Verdict.UNKNOWN


def test_a_parameter_sets_min_free() -> None:
    made = snapshot(proc__cmdline="quiet sysctl.vm.min_free_kbytes=45056\n")
    assert only(made, "min_free_kbytes").verdict is Verdict.HOLDS
    made = snapshot(proc__cmdline="quiet sysctl.vm.min_free_kbytes=50000\n")
    assert only(made, "min_free_kbytes").verdict is Verdict.FAILS


def test_reading_the_ratio_computes_the_reserve_anew() -> None:
    nothing = files()["proc/meminfo"].replace("730584", "0")
    shown = snapshot(proc__zoneinfo=zones(reserve=976), proc__meminfo=nothing)  # 250000 / 256
    claim = only(shown, "lowmem_reserve", "DMA")
    assert claim.verdict is Verdict.UNKNOWN
    assert "after boot" in claim.why
    # 15 pages more are reserved then: MemAvailable, 60 KiB lower, says so.
    both = files()["proc/meminfo"].replace("730584", "730524")
    told = snapshot(proc__zoneinfo=zones(reserve=976), proc__meminfo=both)
    assert only(told, "lowmem_reserve", "DMA").verdict is Verdict.HOLDS
    newer = "Linux version 7.3.0-amd64 (made)\n"
    assert only(snapshot(proc__zoneinfo=zones(reserve=976), proc__version=newer), "lowmem_reserve",
                "DMA").verdict is Verdict.HOLDS  # fmt: skip
    assert only(snapshot(proc__version=newer), "lowmem_reserve", "DMA").verdict is Verdict.FAILS


def test_another_ratio_was_written_after_boot() -> None:
    made = snapshot(
        proc__zoneinfo=zones(reserve=2500), proc__sys__vm__lowmem_reserve_ratio="100 256 0\n"
    )
    assert only(made, "lowmem_reserve", "DMA").verdict is Verdict.HOLDS


def test_no_boost_is_printed_by_5_10() -> None:
    text = zones({**MARKS, "DMA32": RAISED}, boost=None, promo=False)
    text = text.replace(" 32\n", " 0\n")  # ZONE_MOVABLE shares like lowmem there
    made = snapshot(proc__zoneinfo=text, proc__version="Linux version 5.10.0-30-amd64 (made)\n")
    assert only(made, "watermark_low", "DMA").verdict is Verdict.HOLDS
    boosted = only(made, "watermark_low", "DMA32")
    assert boosted.verdict is Verdict.UNKNOWN
    assert "raised by 512" in boosted.why
    for rule_id in ("watermark_promo", "watermark_boost"):
        assert "does not print" in only(made, rule_id).why


def test_a_boost_is_taken_off_and_judged() -> None:
    assert verdicts(snapshot(proc__zoneinfo=zones(boost=1024)))["watermark_low"] == {"holds"}
    assert only(snapshot(proc__zoneinfo=zones(boost=1024)), "watermark_boost", "DMA32").verdict is (
        Verdict.HOLDS
    )
    assert only(snapshot(proc__zoneinfo=zones(boost=700)), "watermark_boost", "DMA32").verdict is (
        Verdict.FAILS
    )


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"dmesg": None}, "dmesg"),
        ({"dmesg": "[ 9.0] usb 1-1: new device\n"}, "'Memory:'"),
        ({"dmesg": DMESG.replace("/1028000K", "/1000000K")}, "plugged"),
        ({"dmesg": DMESG.replace("900000K/", "1005000K/")}, "balloon"),
        (
            {"dmesg": DMESG + "[ 3.0] software IO TLB: tearing down default memory pool\n"},
            "swiotlb",
        ),
        ({"dmesg": DMESG + "[ 3.0] software IO TLB: mapped [mem 0x0-0x1] (64MB)\n"}, "swiotlb"),
        ({"dmesg": DMESG + "[ 3.0] Freeing secret memory: 4K\n"}, "'secret'"),
        ({"proc__vmstat": files()["proc/vmstat"] + "balloon_inflate 3\n"}, "balloon"),
        ({"proc__cmdline": "quiet bootconfig\n"}, "boot configuration"),
        (
            {
                "proc__meminfo": files()["proc/meminfo"] + "Hugetlb: 2048 kB\n",
                "proc__sys__vm__hugetlb_optimize_vmemmap": "1\n",
            },
            "struct pages",
        ),
        ({"proc__pagetypeinfo": None}, "proc/pagetypeinfo"),
        ({"proc__version": "Linux version 3.10.0-1160.el7.x86_64 (made)\n"}, "4.18"),
        ({"config": "CONFIG_X86_64=y\n", "proc__zoneinfo": None}, "proc/zoneinfo"),
        ({"proc__zoneinfo": zones().replace("managed", "handled")}, "managed"),
        ({"proc__zoneinfo": zones().replace("managed", "handled", 1)}, "managed"),
    ],
)
def test_what_is_missing_is_named(changed: dict[str, str | None], why: str) -> None:
    claim = only(snapshot(**changed), "watermark_min")
    assert claim.verdict is Verdict.UNKNOWN
    assert why in claim.why


def test_an_initrd_of_unknown_place_may_lie_in_any_zone() -> None:
    without = DMESG.replace("RAMDISK", "ramdisk")
    found = boot_managed(snapshot(dmesg=without))
    assert [dict(one.pages) for one in found] == [
        {(0, "DMA"): 840, (0, "DMA32"): 249_160, (0, "Movable"): 0},
        {(0, "DMA"): 3840, (0, "DMA32"): 246_160, (0, "Movable"): 0},
    ]
    # The other zone's low watermark tells which it was.
    assert verdicts(snapshot(dmesg=without), "watermark_low") == {"watermark_low": {"holds"}}


def test_an_initrd_is_found_in_the_memory_map_by_its_size() -> None:
    reserved = IOMEM + "  3c000000-3cbb8fff : reserved\n  3d000000-3fffffff : reserved\n"
    made = snapshot(dmesg=DMESG.replace("RAMDISK", "ramdisk"), proc__iomem=reserved)
    (boot,) = boot_managed(made)
    assert boot.pages[0, "DMA32"] == 246_160


def test_addresses_hidden_from_users_leave_x86_one_zone_above_16_mib() -> None:
    hidden = IOMEM.replace("01000000-01ffffff", "00000000-00000000")
    hidden = hidden.replace("02400000-029fffff", "00000000-00000000")
    (boot,) = boot_managed(snapshot(proc__iomem=hidden))
    assert boot.pages[0, "DMA32"] == 246_160


def test_efi_boot_services_come_between_the_two_computations() -> None:
    made = snapshot(dmesg=DMESG + "[ 0.5] efi: Freeing EFI boot services memory: 40000K\n")
    (boot,) = boot_managed(made)
    assert sum(boot.first_pages.values()) == 240_000
    assert not boot.first_zones_known
    claim = only(made, "lowmem_reserve")
    assert claim.verdict is Verdict.UNKNOWN
    assert "each zone managed" in claim.why


def test_zoneinfo_says_of_which_moments_the_total_reserve_is() -> None:
    # The DMA zone keeps 976 + 259 instead of 961 + 259 pages, so 15 less are available.
    text = files()["proc/meminfo"].replace("730584", "730524")
    made = snapshot(proc__zoneinfo=zones(reserve=976), proc__meminfo=text)
    claim = only(made, "totalreserve")
    assert (claim.verdict, claim.predicted) == (Verdict.HOLDS, 17869)
    assert "reserves after boot" in claim.working[0]
    assert only(snapshot(proc__meminfo=text), "totalreserve").verdict is Verdict.FAILS


@pytest.mark.parametrize("rule_id", sorted(set(MUTATIONS) - {"watermark_boost"}))
def test_a_release_that_was_not_compared_is_unknown(rule_id: str) -> None:
    made = snapshot(proc__version="Linux version 3.10.0-1160.el7.x86_64 (made)\n")
    assert verdicts(made, rule_id) == {rule_id: {"unknown"}}


def test_counters_that_moved_leave_a_small_difference_open() -> None:
    moved = files()["proc/meminfo"].replace("800000", "800400")  # 100 pages more than vmstat
    made = snapshot(proc__meminfo=moved)
    claim = only(made, "mem_available")
    assert claim.verdict is Verdict.UNKNOWN
    assert "moved by 100" in claim.why
    far = moved.replace("730584", "740584")
    assert only(snapshot(proc__meminfo=far), "mem_available").verdict is Verdict.FAILS


def test_a_boost_at_the_last_computation_leaves_the_reserve_open() -> None:
    # A pageblock more is reserved in each zone: 1024 pages, 4096 KiB less are available.
    boosted = files()["proc/meminfo"].replace("730584", "726488")
    claim = only(snapshot(proc__meminfo=boosted), "mem_available")
    assert claim.verdict is Verdict.UNKNOWN
    assert "boosted by 1024 pages" in claim.why
    other = boosted.replace("726488", "726484")
    assert only(snapshot(proc__meminfo=other), "mem_available").verdict is Verdict.FAILS


def moments() -> list[Moment]:
    first = {(0, "A"): 10, (0, "B"): 20, (0, "C"): 30}
    return [
        Moment(name="at boot", likely=True, values=first),
        Moment(name="after", likely=False, values={**first, (0, "A"): 11, (0, "B"): 22}),
    ]


@pytest.mark.parametrize(
    ("shown", "expected"),
    [
        ((10, 20, 30), "holds holds holds"),
        ((11, 22, 30), "holds holds holds"),
        ((10, 22, 30), "fails fails holds"),
        ((10, 20, 31), "holds holds fails"),
        ((12, 20, 30), "fails holds holds"),
    ],
)
def test_the_other_zones_say_which_moment_it_was(shown: tuple[int, ...], expected: str) -> None:
    observed = dict(zip([(0, "A"), (0, "B"), (0, "C")], shown, strict=True))
    claims = list(judged("made", moments(), observed, unit="pages"))
    assert [claim.verdict.value for claim in claims] == expected.split()


def test_one_telling_zone_cannot_vouch_for_itself() -> None:
    alone = [replace(moment, values={(0, "A"): moment.values[0, "A"]}) for moment in moments()]
    (claim,) = judged("made", alone, {(0, "A"): 11}, unit="pages")
    assert claim.verdict is Verdict.UNKNOWN
    assert "as computed after" in claim.why
    (claim,) = judged("made", alone, {(0, "A"): 12}, unit="pages")
    assert claim.verdict is Verdict.FAILS


@pytest.mark.parametrize(("told", "verdict"), [(2, "holds"), (1, "fails"), (9, "unknown")])
def test_evidence_tells_the_moment_where_no_other_zone_does(told: int, verdict: str) -> None:
    total = (0, "all zones")
    alone = [
        replace(moment, values={(0, "A"): moment.values[0, "A"], total: number})
        for number, moment in enumerate(moments(), start=1)
    ]
    (claim,) = judged("made", alone, {(0, "A"): 11}, unit="pages", evidence={total: told})
    assert claim.verdict.value == verdict


def test_boot_managed_needs_the_messages() -> None:
    with pytest.raises(MissingInputError, match="dmesg"):
        boot_managed(snapshot(dmesg=None))


I386 = "CONFIG_X86_32=y\nCONFIG_HUGETLBFS=y\nCONFIG_TRANSPARENT_HUGEPAGE=y\n"


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ("Hugepagesize: 4096 kB\n", "started"),
        ("DirectMap4k: 4096 kB\nDirectMap2M: 1000000 kB\n", "started"),
        ("DirectMap4k: 4096 kB\nDirectMap4M: 0 kB\n", "not set up"),
    ],
)
def test_meminfo_says_whether_a_32_bit_pc_has_large_pages(more: str, said: str) -> None:
    config = I386 + "CONFIG_TRANSPARENT_HUGEPAGE_ALWAYS=y\n"
    meminfo = files()["proc/meminfo"] + more
    made = snapshot(
        config=config,
        proc__meminfo=meminfo,
        sys__kernel__mm__transparent_hugepage__enabled=None,
        proc__cpuinfo=None,
    )
    assert f"khugepaged is {said}" in "\n".join(only(made, "min_free_kbytes").working)
    without = snapshot(
        config=config.replace("CONFIG_HUGETLBFS=y\n", ""),
        proc__meminfo=files()["proc/meminfo"],
        sys__kernel__mm__transparent_hugepage__enabled=None,
        proc__cpuinfo=None,
    )
    assert "proc/cpuinfo" in only(without, "min_free_kbytes").why


def test_a_kernel_without_boosts_raises_no_watermark() -> None:
    text = zones({**MARKS, "DMA32": RAISED}, boost=None, promo=False)
    text = text.replace(" 32\n", " 0\n")
    old = snapshot(proc__zoneinfo=text, proc__version="Linux version 4.19.0-27-amd64 (made)\n")
    # The sysctl shows that the change was taken back; without it there is none to be boosted by.
    assert only(old, "watermark_low", "DMA32").verdict is Verdict.UNKNOWN
    never = snapshot(
        proc__zoneinfo=text,
        proc__version="Linux version 4.19.0-27-amd64 (made)\n",
        proc__sys__vm__watermark_boost_factor=None,
    )
    assert only(never, "watermark_low", "DMA32").verdict is Verdict.FAILS


def test_bounce_buffers_of_unknown_place_leave_the_marks_open() -> None:
    # The zone reaches beyond 4 GiB, nothing keeps bounce buffers, and 5.10 does not say so.
    text = zones(boost=None, promo=False).replace("258048", "1258048")
    made = snapshot(proc__zoneinfo=text, proc__version="Linux version 5.10.0-30-amd64 (made)\n")
    assert "bounce buffers" in only(made, "watermark_low").why


def broken(made: Snapshot) -> list[str]:
    """What the rules say of a capture on which they broke."""
    return [claim.why for rule in RULES for claim in rule.claims(made) if BROKEN in claim.why]


@pytest.mark.parametrize("name", sorted(files()))
@pytest.mark.parametrize("keep", [None, 0, 2, 3])
def test_no_rule_breaks_on_a_file_that_is_missing_or_cut_off(name: str, keep: int | None) -> None:
    text = None if keep is None else files()[name]
    if keep and text:
        text = text[: len(text) // keep]
    elif keep == 0:
        text = "\n"
    assert broken(snapshot(**{name.replace("/", "__"): text})) == []


@pytest.mark.parametrize("version", ["4.19.0", "5.10.0", "6.12.0", "7.3.0"])
@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize(
    "field", ["min", "low", "high", "spanned", "present", "managed", "start_pfn", "boost", "promo"]
)
def test_no_rule_breaks_on_a_zone_that_lacks_a_field(field: str, first: bool, version: str) -> None:
    pattern = rf"^\s+{field}:? +\d+\n"
    text = re.sub(pattern, "", zones(), count=1 if first else 0, flags=re.MULTILINE)
    version = f"Linux version {version}-amd64 (made)\n"
    assert broken(snapshot(proc__zoneinfo=text, proc__version=version)) == []


@pytest.mark.parametrize(
    "said", ["deferred pages initialised in 812ms", "initialised, 200000 pages in 812ms"]
)
def test_deferred_struct_pages_are_there_before_watermarks_are_computed(said: str) -> None:
    made = snapshot(dmesg=DMESG + f"[    0.300000] node 0 {said}\n")
    assert verdicts(made) == {rule.id: {"holds"} for rule in RULES}


@pytest.mark.parametrize(
    ("rule_id", "line"),
    [
        ("nr_dirty_threshold", "819 x 183147 / 4096 = 36620 pages"),
        ("nr_dirty_background_threshold", "409 x 183147 / 4096 = 18287 pages"),
    ],
)
def test_the_working_multiplies_up_to_the_limit(rule_id: str, line: str) -> None:
    working = only(snapshot(), rule_id).working
    assert line in working
    assert working[-1] == f"limit = {line.split()[-2]}"
