"""Claims on two files that were read at two moments."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from analysis.capture.snapshot import Snapshot
from analysis.capture.source import Source
from analysis.compare.claim import Claim
from analysis.compare.static.identities import rules as identities
from analysis.compare.static.readings import counter_reading, moved, moved_in, reading, settled
from analysis.compare.static.vmalloc import rules as vmalloc
from analysis.errors import MissingInputError
from analysis.model.drift import Reading
from analysis.procfs import meminfo
from analysis.verdict import Verdict

VMSTAT = "nr_free_pages 100\nnr_mlock 5\npgalloc_normal 10\npgfree 20\n"
MEMINFO = "MemTotal:  4000 kB\nMlocked:   20 kB\n"
CONFIG = "CONFIG_X86_64=y\nCONFIG_PAGE_SHIFT=12\n"


def snapshot(files: Mapping[str, str]) -> Snapshot:
    return Snapshot(
        Source(
            path=Path("capture"),
            kind="capture",
            files={name: text.encode().__bytes__ for name, text in files.items()},
        )
    )


def judged(rule_id: str, files: Mapping[str, str]) -> list[Claim]:
    (rule,) = (rule for rule in (*identities.RULES, *vmalloc.RULES) if rule.id == rule_id)
    base = {"config": CONFIG, "proc/version": "Linux version 6.1.0\n"}
    return rule.claims(snapshot({**base, **files}))


def claim(predicted: Reading, observed: Reading, private: int = 0) -> Claim:
    return settled(
        "law",
        {},
        predicted=("proc/zoneinfo", predicted),
        observed=("proc/vmstat", observed),
        unit="pages",
        private=private,
    )


def test_equal_readings_hold() -> None:
    found = claim(Reading(terms=(2, 3)), Reading(terms=(5,)))
    assert found.verdict is Verdict.HOLDS
    assert (found.predicted, found.observed) == (5, 5)
    assert found.working[-1] == "both readings say the same"


def test_a_difference_that_cpus_keep_holds() -> None:
    found = claim(Reading(terms=(5,)), Reading(terms=(9,)), private=4)
    assert found.verdict is Verdict.HOLDS
    assert (found.predicted, found.observed) == (5, 9)
    assert found.working[0] == "all CPUs may keep 4 of it to themselves"


def test_a_difference_that_nothing_explains_fails() -> None:
    found = claim(Reading(terms=(5,), again=(5,)), Reading(terms=(9,)))
    assert found.verdict is Verdict.FAILS
    assert "nothing moved between them" in found.why


def test_a_difference_between_two_moments_is_unknown() -> None:
    found = claim(Reading(terms=(5,)), Reading(terms=(9,)))
    assert found.verdict is Verdict.UNKNOWN
    assert "read at different moments" in found.why
    assert not found.lacking


def test_the_order_of_reading_decides_which_file_brackets() -> None:
    # zoneinfo comes first: that vmstat stood still shows nothing of its first reading
    still = Reading(terms=(9,), again=(9,))
    assert claim(Reading(terms=(5,)), still).verdict is Verdict.UNKNOWN
    assert claim(Reading(terms=(5,), again=(9,)), still).verdict is Verdict.HOLDS


def test_readings_of_a_capture() -> None:
    twice = snapshot({"proc/vmstat": VMSTAT, "proc/vmstat.after": VMSTAT.replace("20", "23")})
    assert counter_reading(twice, "nr_mlock") == Reading(terms=(5,), again=(5,))
    assert moved(twice) == 3
    assert moved(snapshot({"proc/vmstat": VMSTAT})) is None
    with pytest.raises(MissingInputError, match="nr_vmalloc of proc/vmstat"):
        counter_reading(twice, "nr_vmalloc")
    with pytest.raises(MissingInputError, match="proc/meminfo"):
        reading(twice, "proc/meminfo", meminfo.parse, lambda info: info.values.values())
    in_kib = snapshot({"config": CONFIG, "proc/vmstat": VMSTAT, "proc/vmstat.after": VMSTAT})
    assert moved_in(in_kib, "KiB") == 0


def test_a_line_of_meminfo_is_its_counter() -> None:
    files = {"proc/vmstat": VMSTAT, "proc/meminfo": MEMINFO}
    (held,) = judged("meminfo_counters", files)
    assert (held.verdict, dict(held.scope)) == (Verdict.HOLDS, {"line": "Mlocked"})
    moved_line = MEMINFO.replace("20 kB", "24 kB")
    (open_claim,) = judged("meminfo_counters", files | {"proc/meminfo": moved_line})
    assert open_claim.verdict is Verdict.UNKNOWN
    still = files | {"proc/meminfo": moved_line, "proc/vmstat.after": VMSTAT}
    (failed,) = judged("meminfo_counters", still)
    assert failed.verdict is Verdict.FAILS


def test_a_missing_file_is_named() -> None:
    (open_claim,) = judged("meminfo_counters", {"proc/meminfo": MEMINFO})
    assert (open_claim.verdict, open_claim.lacking) == (Verdict.UNKNOWN, True)
    assert "proc/vmstat" in open_claim.why


AREAS = (
    "0xffffc90000000000-0xffffc90000005000   20480 f+0x1/0x2 pages=4 vmalloc N0=3 N1=1\n"
    "0xffffc90000005000-0xffffc90000007000    8192 g+0x1/0x2 phys=0x00000000fed00000 ioremap\n"
    "0xffffc90000008000-0xffffc9000000d000   20480 unpurged vm_area\n"
)


def test_areas_with_real_addresses() -> None:
    claims = judged("vmalloc_overlap", {"proc/vmallocinfo": AREAS, "proc/cpuinfo": "flags : fpu\n"})
    assert [c.verdict for c in claims] == [Verdict.HOLDS] * 4
    kinds = [next(iter(c.scope.values())) for c in claims]
    assert kinds == ["real", "sorted", "range", "aligned"]
    low = AREAS.replace("0xffffc9", "0x000009")
    claims = judged("vmalloc_overlap", {"proc/vmallocinfo": low, "proc/cpuinfo": "flags : fpu\n"})
    assert claims[-2].verdict is Verdict.FAILS


def test_hidden_addresses() -> None:
    hidden = "0x0000000000000000-0x0000000000000000    8192 f+0x1/0x2 pages=1 vmalloc N0=1\n"
    (open_claim,) = judged("vmalloc_overlap", {"proc/vmallocinfo": hidden * 2})
    assert open_claim.lacking
    assert "kptr_restrict" in open_claim.why


def test_sizes_and_pages_of_areas() -> None:
    owning, mappings = judged("vmalloc_guard", {"proc/vmallocinfo": AREAS})
    assert (owning.verdict, mappings.verdict) == (Verdict.HOLDS, Verdict.HOLDS)
    small = AREAS.replace("pages=4", "pages=3")
    assert judged("vmalloc_guard", {"proc/vmallocinfo": small})[0].verdict is Verdict.FAILS
    newer = {"proc/vmallocinfo": small, "proc/version": "Linux version 7.2.0\n"}
    assert judged("vmalloc_guard", newer)[0].verdict is Verdict.UNKNOWN  # vrealloc() may shrink it
    assert judged("vmalloc_pages", {"proc/vmallocinfo": small})[0].verdict is Verdict.FAILS


def test_space_of_a_cpu_with_five_levels() -> None:
    files = {
        "proc/meminfo": "VmallocTotal:  13743895347199 kB\n",
        "config": CONFIG + "CONFIG_X86_5LEVEL=y\n",
    }
    (held,) = judged("vmalloc_total", files | {"proc/cpuinfo": "flags\t\t: fpu la57\n"})
    assert held.verdict is Verdict.HOLDS
    (open_claim,) = judged("vmalloc_total", files)
    assert "four or five" in open_claim.why
    (failed,) = judged("vmalloc_total", files | {"proc/cpuinfo": "flags\t\t: fpu\n"})
    assert failed.verdict is Verdict.FAILS
