"""The slab rules on captures made by hand: what they say where inputs are few, odd or wrong."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import pytest

from analysis.capture.snapshot import Snapshot
from analysis.capture.source import Source
from analysis.compare.claim import Claim, Verdict
from analysis.compare.static.slab.rules import RULES
from analysis.compare.static.slab.ways import Row, claims

CPUS = "sys/devices/system/cpu"
HEAD = """\
slabinfo - version: 2.1
# name            <active_objs> <num_objs> <objsize> <objperslab> <pagesperslab> : tunables \
<limit> <batchcount> <sharedfactor> : slabdata <active_slabs> <num_slabs> <sharedavail>
"""


def capture(files: Mapping[str, str]) -> Snapshot:
    given = {"proc/cmdline": "ro\n", "proc/meminfo": "MemTotal: 1000000 kB\n", **files}
    read = {name: text.encode().__bytes__ for name, text in given.items()}
    return Snapshot(Source(path=Path("made"), kind="capture", files=read))


def x86(kernel: str, files: Mapping[str, str], *, cpus: str = "0-1", config: str = "") -> Snapshot:
    options = f"CONFIG_X86_64=y\nCONFIG_SLUB=y\nCONFIG_NUMA=y\n{config}"
    machine = {"config": options} if config is not None else {}
    return capture(
        {
            "proc/version": f"Linux version {kernel} (x)\n",
            f"{CPUS}/possible": f"{cpus}\n",
            f"{CPUS}/present": f"{cpus}\n",
            f"{CPUS}/online": f"{cpus}\n",
            "proc/cpuinfo": "processor\t: 0\nvendor_id\t: x\ncache_alignment\t: 64\n",
            **machine,
            **files,
        }
    )


def row(
    name: str,
    size: int,
    objects: int,
    pages: int,
    *,
    total: int = 0,
    slabs: int = 0,
    tunables: str = "0    0    0",
) -> str:
    return (
        f"{name:<17} {total:>6} {total:>6} {size:>6} {objects:>4} {pages:>4} : tunables "
        f"{tunables} : slabdata {slabs:>6} {slabs:>6}      0\n"
    )


def cache(name: str, **attributes: int | str) -> str:
    attributes = {"destroy_by_rcu": 0, **attributes}
    return "".join(f"/sys/kernel/slab/{name}/{key}:{value}\n" for key, value in attributes.items())


LINK = "/sys/kernel/slab/pid -> :0000064\n"


def judged(snapshot: Snapshot, rule_id: str) -> list[Claim]:
    rule = next(rule for rule in RULES if rule.id == rule_id)
    return rule.claims(snapshot)


def verdicts(snapshot: Snapshot, rule_id: str) -> dict[str, int]:
    return dict(Counter(claim.verdict.value for claim in judged(snapshot, rule_id)))


def test_geometry_from_slabinfo_alone() -> None:
    # two CPUs want 12 objects: 192 bytes fill 21 of a page; 1024 need 4 pages for 16
    text = HEAD + row("dentry", 192, 21, 1) + row("kmalloc-1k", 1024, 16, 4)
    assert verdicts(x86("6.1.0", {"proc/slabinfo": text}), "slabinfo_geometry") == {"holds": 2}
    wrong = HEAD + row("dentry", 192, 42, 2)
    assert verdicts(x86("6.1.0", {"proc/slabinfo": wrong}), "slabinfo_geometry") == {"fails": 1}


def test_without_the_number_of_cpus_nothing_is_said_of_orders() -> None:
    files = {
        "proc/version": "Linux version 6.1.0 (x)\n",
        "config": "CONFIG_X86_64=y\nCONFIG_SLUB=y\n",
        "proc/slabinfo": HEAD + row("dentry", 192, 21, 1),
    }
    (claim,) = judged(capture(files), "slabinfo_geometry")
    assert claim.verdict is Verdict.UNKNOWN
    assert f"{CPUS}/possible" in claim.why


def test_present_cpus_count_where_more_are_possible() -> None:
    # 64 possible CPUs want 32 objects of 256 bytes (two pages), two present ones 12 (one page)
    files = {
        f"{CPUS}/possible": "0-63\n",
        "proc/slabinfo": HEAD + row("x", 256, 16, 1),
    }
    assert verdicts(x86("6.1.0", files), "slabinfo_geometry") == {"holds": 1}
    files["proc/slabinfo"] = HEAD + row("x", 256, 32, 2)
    assert verdicts(x86("5.10.0", files), "slabinfo_geometry") == {"holds": 1}


def test_arm64_finds_its_cpus_late_so_early_caches_count_possible_ones() -> None:
    files = {
        "proc/version": "Linux version 6.1.0 (x)\n",
        "config": "CONFIG_ARM64=y\nCONFIG_SLUB=y\nCONFIG_ARM64_4K_PAGES=y\n",
        f"{CPUS}/possible": "0-63\n",
        f"{CPUS}/present": "0-1\n",
        f"{CPUS}/online": "0-1\n",
        "proc/slabinfo": HEAD + row("early", 256, 32, 2) + row("late", 256, 16, 1),
    }
    found = judged(capture(files), "slabinfo_geometry")
    assert [claim.verdict for claim in found] == [Verdict.UNKNOWN, Verdict.UNKNOWN]
    files["proc/slabinfo"] = HEAD + row("never", 256, 64, 4)
    assert verdicts(capture(files), "slabinfo_geometry") == {"fails": 1}


def test_fallback_to_the_smallest_order_is_unknown_and_an_odd_number_fails() -> None:
    def of(total: int) -> dict[str, int]:
        text = HEAD + row("kmalloc-1k", 1024, 16, 4, total=total, slabs=10)
        return verdicts(x86("6.1.0", {"proc/slabinfo": text}), "slab_num_objs")

    assert of(160) == {"holds": 1}
    assert of(160 - 2 * 12) == {"unknown": 1}, "two slabs of one page hold 4 instead of 16"
    assert of(160 - 16) == {"unknown": 1}, "a slab went between the two sums"
    assert of(161) == {"fails": 1}
    assert of(160 - 5) == {"fails": 1}
    assert of(160 - 11 * 12) == {"fails": 1}, "more than all slabs"


def test_debugging_by_configuration_that_was_not_captured() -> None:
    files = {
        "proc/version": "Linux version 6.6.60-test+ (x)\n",
        "uname": "Linux x 6.6.60 x86_64",
        "proc/slabinfo": HEAD + row("kmalloc-1k", 3072, 10, 8) + row("kmalloc-512", 1536, 21, 8),
    }
    (claim,) = judged(capture(files), "kmalloc_objsize")
    assert claim.verdict is Verdict.UNKNOWN
    files["proc/slabinfo"] = HEAD + row("kmalloc-1k", 1024, 16, 4) + row("kmalloc-512", 520, 7, 1)
    assert verdicts(capture(files), "kmalloc_objsize") == {"holds": 1, "fails": 1}


def test_a_missing_class_and_one_too_many() -> None:
    sizes = (8, 16, 32, 64, 96, 128, 192, 256, 512)
    names = [str(size) for size in sizes] + ["1k", "2k", "4k", "8k"]

    def of(names: list[str]) -> dict[str, int]:
        text = HEAD + "".join(row(f"kmalloc-{name}", 8, 1, 1) for name in names)
        snapshot = x86("6.1.0", {"proc/slabinfo": text}, config="CONFIG_SLUB_TINY=y\n")
        return verdicts(snapshot, "kmalloc_classes")

    assert of(names) == {"holds": 1}
    assert of(names[1:]) == {"fails": 1}
    assert of([*names, "16k"]) == {"fails": 1}
    assert of([*names, "cg-64"]) == {"holds": 1, "fails": 1}


def test_kasan_adds_bytes_that_the_rule_leaves_out() -> None:
    sysfs = cache("x", slab_size=64, object_size=64, align=8)
    snapshot = x86("6.1.0", {"slab_sysfs": sysfs}, config="CONFIG_KASAN_GENERIC=y\n")
    (claim,) = judged(snapshot, "slab_size")
    assert (claim.verdict, "KASAN" in claim.why) == (Verdict.UNKNOWN, True)
    assert verdicts(x86("6.1.0", {"slab_sysfs": sysfs}), "slab_size") == {"holds": 1}


def test_a_vendor_kernel_is_told_by_one_cache_and_tested_by_the_others() -> None:
    sysfs = "".join(
        cache(f"x{size}", slab_size=size, cpu_partial=objects)
        for size, objects in ((64, 120), (256, 52), (1024, 24), (4096, 6))
    )
    snapshot = x86(
        "5.14.0-427.el9.x86_64", {"slab_sysfs": sysfs}, config="CONFIG_SLUB_CPU_PARTIAL=y\n"
    )
    found = judged(snapshot, "slab_cpu_partial")
    assert [claim.verdict.value for claim in found] == ["unknown", "holds", "holds", "holds"]
    mixed = sysfs.replace("cpu_partial:24", "cpu_partial:6")
    snapshot = x86(
        "5.14.0-427.el9.x86_64", {"slab_sysfs": mixed}, config="CONFIG_SLUB_CPU_PARTIAL=y\n"
    )
    assert verdicts(snapshot, "slab_cpu_partial") == {"unknown": 1, "holds": 2, "fails": 1}


def test_rows_tell_of_each_other_only_where_the_ways_are_the_same() -> None:
    rows = [
        Row(scope={"cache": name}, options=(1, 2), observed=seen, unit="", working=())
        for name, seen in (("a", 1), ("b", 2), ("c", 3))
    ]
    same = [claim.verdict.value for claim in claims("x", rows, undecided="u")]
    assert same == ["unknown", "fails", "fails"]
    apart = [claim.verdict.value for claim in claims("x", rows, undecided="u", same_for_all=False)]
    assert apart == ["unknown", "unknown", "fails"]


def test_ids_leave_out_the_flags_that_nothing_shows() -> None:
    sysfs = cache(":aA-0000104", slab_size=104, reclaim_account=1) + cache(
        ":0000064", slab_size=72, reclaim_account=0
    )
    found = judged(x86("6.1.0", {"slab_sysfs": sysfs}), "slab_id")
    assert [claim.verdict.value for claim in found] == ["holds", "fails"]


@pytest.mark.parametrize(
    ("config", "rule_id"),
    [("CONFIG_SLAB=y\n", "slab_order"), ("CONFIG_SLUB=y\n", "slab_tunables")],
)
def test_rules_of_another_allocator_are_unknown(config: str, rule_id: str) -> None:
    files = {
        "proc/version": "Linux version 6.1.0 (x)\n",
        "config": f"CONFIG_X86_64=y\n{config}",
        "proc/slabinfo": HEAD + row("x", 64, 64, 1),
    }
    (claim,) = judged(capture(files), rule_id)
    assert claim.verdict is Verdict.UNKNOWN
    assert "this kernel has" in claim.why


def test_slab_by_its_flags_where_they_are_known_and_by_all_possible_ones_elsewhere() -> None:
    kmalloc = row("kmalloc-64", 64, 64, 1, tunables="120 60 8")
    files = {
        "proc/version": "Linux version 6.1.0 (x)\n",
        "config": "CONFIG_X86_64=y\nCONFIG_SLAB=y\n",
        f"{CPUS}/possible": "0-1\n",
        "proc/slabinfo": HEAD + kmalloc + row("x", 3000, 2, 2, tunables="24 12 8"),
    }
    assert verdicts(capture(files), "slab_tunables") == {"holds": 2}
    found = judged(capture(files), "slab_geometry")
    assert [claim.verdict.value for claim in found] == ["holds", "unknown"]
    files["proc/slabinfo"] = HEAD + row("x", 3000, 5, 4, tunables="24 12 8")
    assert verdicts(capture(files), "slab_geometry") == {"fails": 1}


def test_without_a_configuration_the_sizes_of_each_kind_are_still_known() -> None:
    sizes = [str(size) for size in (8, 16, 32, 64, 96, 128, 192, 256, 512)]
    names = [*sizes, "1k", "2k", "4k", "8k"]
    rows = "".join(row(f"kmalloc-{kind}{name}", 8, 1, 1) for kind in ("", "rcl-") for name in names)
    files = {
        "proc/version": "Linux version 6.1.0 (x)\n",
        "uname": "Linux x 6.1.0 x86_64",
        "proc/slabinfo": HEAD + rows,
    }
    assert verdicts(capture(files), "kmalloc_classes") == {"holds": 2}
    (first, _) = judged(capture(files), "kmalloc_classes")
    assert "largest: 2 pages of 4096 bytes = 8192" in first.working
    assert "powers of two from 8 to 8192" in first.working
    files["proc/slabinfo"] = HEAD + rows.replace("kmalloc-rcl-96 ", "kmalloc-rcl-95 ")
    assert verdicts(capture(files), "kmalloc_classes") == {"holds": 1, "fails": 1}


def test_one_cache_tells_whether_merging_is_on_where_the_configuration_is_missing() -> None:
    files = {
        "proc/version": "Linux version 6.1.0 (x)\n",
        "uname": "Linux x 6.1.0 x86_64",
        "slab_sysfs": cache(":0000064", usersize=0)
        + cache("filp", destroy_by_rcu=1, usersize=0)
        + cache(":0000128", usersize=0)
        + LINK,
    }
    found = judged(capture(files), "slab_merge")
    assert [claim.verdict.value for claim in found] == ["unknown", "holds", "holds"]
    files["slab_sysfs"] += cache("alone", usersize=0)
    assert verdicts(capture(files), "slab_merge") == {"unknown": 1, "holds": 2, "fails": 1}


def test_a_cache_of_a_release_that_was_not_compared_is_unknown_alone() -> None:
    sysfs = cache("key_jar", usersize=0) + cache(":0000064", usersize=0) + LINK
    snapshot = x86("6.16.0", {"slab_sysfs": sysfs}, config="CONFIG_SLAB_MERGE_DEFAULT=y\n")
    assert verdicts(snapshot, "slab_merge") == {"holds": 1, "unknown": 1}


def test_parameters_of_the_kernel_move_orders() -> None:
    text = HEAD + row("x", 256, 32, 2)
    files = {"proc/cmdline": "slub_min_order=1\n", "proc/slabinfo": text}
    assert verdicts(x86("6.1.0", files), "slabinfo_geometry") == {"holds": 1}
    files["proc/cmdline"] = "slab_min_order=1\n"
    assert verdicts(x86("6.12.0", files), "slabinfo_geometry") == {"holds": 1}
    assert verdicts(x86("6.1.0", files), "slabinfo_geometry") == {"fails": 1}, "not known yet"
    files["proc/cmdline"] = "slab_min_order=x\n"
    assert verdicts(x86("6.12.0", files), "slabinfo_geometry") == {"unknown": 1}


def test_aliases_that_pass_for_caches_are_not_judged() -> None:
    sysfs = cache(":0000064", usersize=0) + cache("pid", usersize=0)
    (claim,) = judged(x86("6.1.0", {"slab_sysfs": sysfs}), "slab_merge")
    assert claim.verdict is Verdict.UNKNOWN
    assert "links" in claim.why


def test_a_cache_whose_flags_were_cut_off_is_left_out() -> None:
    whole = cache("whole", object_size=8, align=8, slab_size=16, store_user=0, destroy_by_rcu=1)
    cut = cache("cut", object_size=8, align=8, slab_size=16)
    (claim,) = judged(x86("6.1.0", {"slab_sysfs": cut + whole}), "slab_size")
    assert (dict(claim.scope), claim.verdict) == ({"cache": "whole"}, Verdict.HOLDS)


def test_a_capture_without_flags_says_nothing_of_sizes() -> None:
    sysfs = "/sys/kernel/slab/x/object_size:8\n/sys/kernel/slab/x/align:8\n"
    sysfs += "/sys/kernel/slab/x/slab_size:8\n"
    (claim,) = judged(x86("6.1.0", {"slab_sysfs": sysfs}), "slab_size")
    assert "destroy_by_rcu" in claim.why
