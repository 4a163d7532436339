"""From which managed pages per-cpu lists were sized, on made captures of one small machine."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from analysis.capture.snapshot import Snapshot
from analysis.capture.source import Source
from analysis.compare.claim import Claim
from analysis.compare.rule import BROKEN, Rule
from analysis.compare.static.moments.late_frees import late_frees, managed_before
from analysis.compare.static.pcp.rules import RULES
from analysis.errors import MissingInputError
from analysis.verdict import Verdict

DMESG = """\
[    0.000000] Linux version {release} (x)
[    0.000000] RAMDISK: [mem 0x30000000-0x30bfffff]
[    0.000000] Memory: 300000K/786432K available (1K kernel code)
[    0.100000] Freeing SMP alternatives memory: 32K
[    1.000000] Freeing initrd memory: 12288K
[    1.100000] Freeing unused kernel image (initmem) memory: 2048K
[    1.200000] Run /init as init process
{later}"""
IOMEM = """\
00001000-0009ffff : System RAM
00100000-3fffffff : System RAM
  01000000-01ffffff : Kernel code
  02000000-02ffffff : Kernel data
"""
CONFIG = "CONFIG_X86_64=y\nCONFIG_NUMA=y\nCONFIG_PCP_BATCH_SCALE_MAX=5\n"
THP = "CONFIG_TRANSPARENT_HUGEPAGE=y\nCONFIG_TRANSPARENT_HUGEPAGE_ALWAYS=y\n"
PAGETYPEINFO = """\
Page block order: 9
Pages per block:  512

Free pages count per migrate type at order       0
Node    0, zone    DMA32, type    Unmovable      1

Number of blocks type     Unmovable
Node 0, zone    DMA32            1
"""
MANAGED = 178364
LATE = (12288 + 2048) // 4
THEN = MANAGED - LATE  # 174780: a batch of 31; now it would be 63


def zoneinfo(
    fields: Mapping[str, int],
    *,
    managed: int = MANAGED,
    low: int = 13970,
    minimum: int = 11176,
    boost: int | None = 0,
) -> str:
    boosted = f"        boost    {boost}\n" if boost is not None else ""
    more = boost or 0
    pageset = "".join(f"              {name}: {value}\n" for name, value in fields.items())
    return (
        "Node 0, zone    DMA32\n"
        f"  pages free     100\n{boosted}"
        f"        min      {minimum + more}\n"
        f"        low      {low + more}\n"
        f"        high     {2 * low - minimum + more}\n"
        f"        spanned  262144\n        present  196608\n        managed  {managed}\n"
        "        protection: (0, 0)\n"
        "      nr_free_pages 100\n"
        f"  pagesets\n    cpu: 0\n              count: 0\n{pageset}"
        f"    cpu: 1\n              count: 0\n{pageset}"
        "  node_unreclaimable:  0\n  start_pfn:           0\n"
    )


def snapshot(release: str, zones: str, later: str = "", **more: str) -> Snapshot:
    files = {
        "proc/version": f"Linux version {release} (x)\n",
        "proc/zoneinfo": zones,
        "proc/iomem": IOMEM,
        "proc/pagetypeinfo": PAGETYPEINFO,
        "proc/sys/vm/min_free_kbytes": "44704\n",
        "proc/sys/vm/watermark_scale_factor": "10\n",
        "sys/devices/system/cpu/online": "0-1\n",
        "sys/devices/system/node/online": "0\n",
        "sys/devices/system/node/node0/cpulist": "0-1\n",
        "dmesg": DMESG.format(release=release, later=later),
        "config": CONFIG,
        **{name.replace("__", "/"): text for name, text in more.items()},
    }
    contents = {name: text.encode().__bytes__ for name, text in files.items() if text}
    return Snapshot(Source(path=Path("made"), kind="capture", files=contents))


def rule(rule_id: str) -> Rule:
    return next(found for found in RULES if found.id == rule_id)


def only(rule_id: str, of: Snapshot) -> Claim:
    claims = rule(rule_id).claims(of)
    assert len(claims) == 1
    return claims[0]


def test_what_came_late_and_where() -> None:
    of = snapshot("6.1.0", zoneinfo({"high": 6985, "batch": 31}))
    frees = late_frees(of)
    assert [(free.name, free.pages, free.zones) for free in frees] == [
        ("initrd", 3072, ((0, "DMA32"),)),
        ("unused kernel image (initmem)", 512, ((0, "DMA32"),)),
    ]
    (before,) = managed_before(of.zoneinfo.zones[0], frees)
    assert before.managed_pages == THEN
    assert f"{MANAGED} managed now - 3072 (initrd) - 512" in before.working


def test_a_log_that_lost_its_beginning_is_a_missing_input() -> None:
    of = snapshot("6.1.0", zoneinfo({"high": 6985, "batch": 31}), dmesg="[ 9.0] late\n")
    with pytest.raises(MissingInputError, match="its begin is lost"):
        late_frees(of)
    claim = only("pcp_batch", of)
    assert claim.verdict is Verdict.UNKNOWN
    assert claim.lacking


def test_sized_once_before_5_14() -> None:
    of = snapshot("5.10.0", zoneinfo({"high": 186, "batch": 31}, boost=None))
    assert only("pcp_batch", of).verdict is Verdict.HOLDS
    assert only("pcp_high", of).verdict is Verdict.HOLDS
    now = snapshot("5.10.0", zoneinfo({"high": 378, "batch": 63}, boost=None))
    assert only("pcp_batch", now).verdict is Verdict.FAILS


def test_memory_plugged_sizes_again() -> None:
    zones = zoneinfo({"high": 378, "batch": 63}, boost=None)
    of = snapshot("5.10.0", zones.replace("present  196608", "present  262144"))
    claim = only("pcp_batch", of)
    assert claim.verdict is Verdict.UNKNOWN
    assert "31 or 63" in claim.why


def test_a_fraction_is_of_the_pages_now() -> None:
    of = snapshot(
        "5.10.0",
        zoneinfo({"high": MANAGED // 16, "batch": 96}, boost=None),
        proc__sys__vm__percpu_pagelist_fraction="16\n",
    )
    assert only("pcp_batch", of).verdict is Verdict.HOLDS
    assert only("pcp_high", of).verdict is Verdict.HOLDS
    new = snapshot(
        "7.2.0",
        zoneinfo({"high": 0, "batch": 63, "high_min": 5573, "high_max": 5573}),
        proc__sys__vm__percpu_pagelist_high_fraction="16\n",
    )
    for rule_id in ("pcp_batch", "pcp_high", "pcp_high_min", "pcp_high_max"):
        assert only(rule_id, new).verdict is Verdict.HOLDS, rule_id


LIMITS = {"high": 0, "batch": 31, "high_min": 6985, "high_max": THEN // 16}


def test_the_lists_of_a_boot_are_sized_from_what_was_managed_then() -> None:
    # One zone: the watermarks are the same from either number of pages, and min_free_kbytes is not
    # what this boot would compute. Neither moment can be told from the other.
    of = snapshot("7.2.0", zoneinfo(LIMITS))
    assert only("pcp_high_min", of).verdict is Verdict.HOLDS
    claim = only("pcp_high_max", of)
    assert claim.verdict is Verdict.UNKNOWN
    assert f"{THEN // 16} or {MANAGED // 16}" in claim.why


def test_an_automatic_min_free_kbytes_tells_that_nobody_wrote() -> None:
    # isqrt(16 * 174780 * 4) = 3344; khugepaged then wants 11 pageblocks of 512 pages: 22528 KiB
    marks = zoneinfo({**LIMITS, "high_min": 3520}, minimum=5632, low=7040)
    of = snapshot("7.2.0", marks, proc__sys__vm__min_free_kbytes="22528\n", config=CONFIG + THP)
    assert only("pcp_high_max", of).verdict is Verdict.HOLDS
    assert only("pcp_batch", of).verdict is Verdict.HOLDS


def test_watermarks_that_follow_from_now_tell_that_all_was_sized_again() -> None:
    # a scale factor of 1000: a tenth of the managed pages between the marks
    marks = zoneinfo(
        {"high": 0, "batch": 63, "high_min": 14506, "high_max": MANAGED // 16},
        minimum=11176,
        low=11176 + MANAGED // 10,
    )
    of = snapshot("7.2.0", marks, proc__sys__vm__watermark_scale_factor="1000\n")
    for rule_id in ("pcp_batch", "pcp_high_min", "pcp_high_max"):
        assert only(rule_id, of).verdict is Verdict.HOLDS, rule_id


def test_a_cpu_turned_off_sizes_again() -> None:
    now = {"high": 0, "batch": 63, "high_min": 6985, "high_max": MANAGED // 16}
    later = "[   60.000000] smpboot: CPU 2 is now offline\n"
    of = snapshot("7.2.0", zoneinfo(now), later)
    assert only("pcp_high_max", of).verdict is Verdict.HOLDS
    assert only("pcp_batch", of).verdict is Verdict.HOLDS


def test_a_small_machine_sets_its_watermarks_before_all_is_freed() -> None:
    # below 512 MiB no huge pages set them again at subsys_initcall; then the 8 pages were there
    small, then = 100000, 100000 - LATE - 8
    # isqrt(16 * 96408 * 4) = 2483 KiB, 620 pages
    fields = {"high": 0, "batch": 31, "high_min": 387, "high_max": then // 16}
    zones = zoneinfo(fields, managed=small, minimum=620, low=775)
    texts = DMESG.replace(
        "[    0.100000] Freeing SMP",
        "[    0.050000] smp: Brought up 1 node, 2 CPUs\n[    0.100000] Freeing SMP",
    ).format(release="7.2.0", later="")
    of = snapshot("7.2.0", zones, dmesg=texts, proc__sys__vm__min_free_kbytes="2483\n")
    claim = only("pcp_high_max", of)
    assert claim.verdict is Verdict.HOLDS
    assert f"{then} pages" in " ".join(claim.working)


def test_a_boost_is_no_part_of_the_mark() -> None:
    of = snapshot("7.2.0", zoneinfo(LIMITS, boost=512))
    assert only("pcp_high_min", of).verdict is Verdict.HOLDS


def test_a_boost_that_is_not_printed_leaves_high_open() -> None:
    marks = zoneinfo({"high": 6985, "batch": 31}, boost=None, minimum=11176, low=14482)
    config = CONFIG.replace("CONFIG_PCP_BATCH_SCALE_MAX=5\n", "")
    claim = only("pcp_high", snapshot("5.15.0", marks, config=config))
    assert claim.verdict is Verdict.UNKNOWN
    assert "boosted" in claim.why


def test_high_never_exceeds_an_eighth_of_the_zone() -> None:
    most = MANAGED // 8
    holds = snapshot("6.12.0", zoneinfo({"high": most, "batch": 31}))
    assert only("pcp_high", holds).verdict is Verdict.HOLDS
    fails = snapshot("6.12.0", zoneinfo({"high": most + 1, "batch": 31}))
    assert only("pcp_high", fails).verdict is Verdict.FAILS


def test_what_a_balloon_holds_leaves_sizes_open() -> None:
    vmstat = "balloon_inflate 100000\nballoon_deflate 0\n"
    claim = only("pcp_batch", snapshot("7.2.0", zoneinfo(LIMITS), proc__vmstat=vmstat))
    assert claim.verdict is Verdict.UNKNOWN
    assert "balloon" in claim.why


def test_the_config_tells_whether_a_vendor_took_the_tuning() -> None:
    with_it = snapshot("5.14.0-503.el9.x86_64", zoneinfo({"high": 0, "batch": 31}))
    assert only("pcp_high", with_it).unit == "pages at most"
    config = CONFIG.replace("CONFIG_PCP_BATCH_SCALE_MAX=5\n", "")
    zones = zoneinfo({"high": 6985, "batch": 31})
    without = snapshot("5.14.0-70.el9.x86_64", zones, config=config)
    assert only("pcp_high", without).verdict is Verdict.HOLDS
    nothing = only("pcp_high", snapshot("5.14.0-70.el9.x86_64", zones, config=""))
    assert nothing.verdict is Verdict.UNKNOWN
    assert "config" in nothing.why


def test_one_cpu_that_differs_fails() -> None:
    zones = zoneinfo(LIMITS)
    other = zones[: zones.index("cpu: 1")] + zones[zones.index("cpu: 1") :].replace(
        "batch: 31", "batch: 30"
    )
    claim = only("pcp_batch", snapshot("7.2.0", other))
    assert claim.verdict is Verdict.FAILS
    assert claim.observed == 30


def test_the_threshold_of_a_wakeful_kswapd_is_not_held_against_the_normal_one() -> None:
    # 5 times 128 MiB, two CPUs: 2 * 2 * (1 + 3) = 16; awake: (13970 - 11176) / 2, at most 125
    def shown(threshold: int, ran: int) -> Claim:
        zones = zoneinfo(LIMITS).replace(
            f"high_max: {LIMITS['high_max']}\n",
            f"high_max: {LIMITS['high_max']}\n  vm stats threshold: {threshold}\n",
        )
        vmstat = f"pageoutrun {ran}\n"
        return only("stat_threshold", snapshot("7.2.0", zones, proc__vmstat=vmstat))

    assert shown(16, 0).verdict is Verdict.HOLDS
    assert shown(16, 9).verdict is Verdict.HOLDS
    assert shown(125, 0).verdict is Verdict.FAILS
    assert shown(125, 9).verdict is Verdict.UNKNOWN
    assert shown(20, 9).verdict is Verdict.FAILS


def deferring(version: str, *, batch: int, deferred: int, counted: bool = True) -> Claim:
    """pcp_batch of a kernel that defers struct pages and sizes its lists before they are there."""
    said = (
        f"initialised, {deferred} pages in 1ms" if counted else "deferred pages initialised in 1ms"
    )
    return only(
        "pcp_batch",
        snapshot(
            "4.18.0-80.el8.x86_64",
            zoneinfo({"high": 6 * batch, "batch": batch}, boost=None),
            f"[    0.200000] node 0 {said}\n",
            proc__version=f"Linux version 4.18.0-80.el8.x86_64 (x) {version}\n",
            config=CONFIG.replace("CONFIG_PCP_BATCH_SCALE_MAX=5\n", "")
            + "CONFIG_DEFERRED_STRUCT_PAGE_INIT=y\n",
        ),
    )


OLD = "#1 SMP Sun Sep 15 11:24:21 UTC 2019"


def test_lists_sized_while_struct_pages_were_deferred() -> None:
    # 174780 pages less the 8 of SMP alternatives; 32768 of them were there: 32 / 4 = 8, then 7
    claim = deferring(OLD, batch=7, deferred=THEN - 8 - 32768)
    assert (claim.verdict, claim.predicted) == (Verdict.HOLDS, 7)
    assert "deferred struct pages of node 0" in " ".join(claim.working)
    assert deferring(OLD, batch=15, deferred=THEN - 8 - 32768).verdict is Verdict.FAILS


def test_a_kernel_built_later_may_size_its_lists_again() -> None:
    newer = "#1 SMP Mon Jun  6 11:24:21 UTC 2022"
    claim = deferring(newer, batch=7, deferred=THEN - 8 - 32768)
    assert claim.verdict is Verdict.UNKNOWN
    assert "sized again after deferred struct pages" in claim.why
    assert "31 or 63 or 7" in claim.why  # 63: with 5.14, had all been sized after boot


def test_more_than_a_section_may_have_come_by_and_by() -> None:
    claim = deferring(OLD, batch=15, deferred=THEN - 8 - 70000)
    assert claim.verdict is Verdict.UNKNOWN
    assert "1 or 15 or 7" in claim.why  # a list takes at least one page at once


def test_deferred_struct_pages_that_nobody_counted() -> None:
    claim = deferring(OLD, batch=7, deferred=0, counted=False)
    assert claim.verdict is Verdict.UNKNOWN
    assert "struct pages" in claim.why


def test_the_batch_does_not_ask_for_the_cpus_of_a_node() -> None:
    zones = zoneinfo(LIMITS) + zoneinfo(LIMITS).replace("Node 0", "Node 1")
    of = snapshot(
        "7.2.0",
        zones,
        sys__devices__system__node__node0__cpulist="",
        sys__devices__system__node__online="0-1\n",
    )
    claims = rule("pcp_batch").claims(of)
    assert not any("cpulist" in claim.why for claim in claims)
    assert all("cpulist" in claim.why for claim in rule("pcp_high_max").claims(of))


@pytest.mark.parametrize(("said", "batch"), [(31, 31), (63, 63)])
def test_the_boot_messages_tell_the_limit_of_a_batch(said: int, batch: int) -> None:
    # 300000 pages: a quarter of 292 is 73, then 63; of the 128 pages of 512 KiB it is 32, then 31
    for shown in (31, 63):
        claim = only(
            "pcp_batch",
            snapshot(
                "4.18.0-80.el8.x86_64",
                zoneinfo({"high": 6 * shown, "batch": shown}, boost=None, managed=300_000 + LATE),
                f"[    0.000000]   DMA32 zone: 305000 pages, LIFO batch:{said}\n",
                proc__version=f"Linux version 4.18.0-80.el8.x86_64 (x) {OLD}\n",
                config=CONFIG.replace("CONFIG_PCP_BATCH_SCALE_MAX=5\n", ""),
            ),
        )
        assert (claim.verdict is Verdict.HOLDS) == (shown == batch), claim.why


@pytest.mark.parametrize("field", ["high", "batch", "high_min", "high_max", "vm stats threshold"])
@pytest.mark.parametrize("release", ["5.10.0", "6.1.0", "7.2.0"])
def test_no_rule_breaks_on_a_zone_that_lacks_a_field(field: str, release: str) -> None:
    zones = zoneinfo({**LIMITS, "vm stats threshold": 10})
    lines = [line for line in zones.splitlines(keepends=True) if f" {field}:" not in line]
    made = snapshot(release, "".join(lines))
    assert not [claim for one in RULES for claim in one.claims(made) if BROKEN in claim.why]


def test_no_rule_breaks_where_no_cpu_is_online() -> None:
    made = snapshot(
        "7.2.0",
        zoneinfo(LIMITS),
        sys__devices__system__cpu__online="\n",
        sys__devices__system__node__node0__cpulist="\n",
    )
    claims = [claim for one in RULES for claim in one.claims(made)]
    assert not [claim for claim in claims if BROKEN in claim.why]
    assert any("CPUs" in claim.why for claim in claims)
