"""Files that lost a part: what a parser can see of that, and what a rule then says."""

from __future__ import annotations

from pathlib import Path

import pytest

from analysis.capture.snapshot import Snapshot
from analysis.capture.source import Source
from analysis.compare.claim import Verdict
from analysis.compare.static.registry import RULES
from analysis.errors import MissingFieldError, MissingInputError, ParseError
from analysis.procfs import dmesg, kconfig, meminfo, slab_sysfs, vmstat, zoneinfo

CONFIG = """\
CONFIG_CC_IS_GCC=y
# end of General setup
CONFIG_NUMA=y
# end of Kernel hacking
CONFIG_LAST=y
"""
ZONE = """\
Node 0, zone      DMA
  pages free     1
        min      2
        protection: (0)
"""


def snapshot(files: dict[str, str]) -> Snapshot:
    read = {name: text.encode().__bytes__ for name, text in files.items()}
    return Snapshot(Source(path=Path("made"), kind="capture", files=read))


def test_a_configuration_shows_that_it_is_whole_by_its_menus() -> None:
    assert kconfig.parse(CONFIG).on("NUMA")
    for lost in ("# end of General setup\n", "# end of Kernel hacking\n"):
        with pytest.raises(ParseError, match="cut short"):
            kconfig.parse(CONFIG.replace(lost, ""))


def test_options_without_comments_are_taken_as_they_are() -> None:
    assert kconfig.parse("CONFIG_NUMA=y\n").on("NUMA")
    with pytest.raises(ParseError):
        kconfig.parse("\x7fELF\n")


def test_a_number_of_the_configuration_that_is_none_is_told() -> None:
    with pytest.raises(ParseError, match="NODES_SHIFT"):
        kconfig.parse("CONFIG_NODES_SHIFT=x\n").number("NODES_SHIFT")


@pytest.mark.parametrize(
    ("text", "reached"),
    [
        ("Freeing initrd memory: 4K\n", False),
        ("Freeing unused kernel memory: 4K\n", False),
        ("Freeing unused kernel memory: 4K\nWrite protecting the kernel data: 4k\n", False),
        ("Freeing unused kernel memory: 4K\nx86/mm: Checked W+X mappings: passed\n", True),
        ("Run /sbin/init as init process\n", True),
    ],
)
def test_messages_that_go_on_to_init(text: str, reached: bool) -> None:
    assert dmesg.parse(text).reaches_init is reached


def test_a_field_that_a_file_lacks_is_named_with_the_file() -> None:
    for parsed, name in (
        (meminfo.parse("MemFree: 1 kB\n", source="proc/meminfo").values, "proc/meminfo"),
        (vmstat.parse("pgfree 1\n", source="proc/vmstat").values, "proc/vmstat"),
        (zoneinfo.parse(ZONE, source="proc/zoneinfo").zones[0].pages, "proc/zoneinfo"),
    ):
        with pytest.raises(MissingFieldError, match=f"managed of {name}") as caught:
            parsed["managed"]
        assert isinstance(caught.value, MissingInputError)
        assert parsed.get("managed") is None
        assert "managed" not in parsed


def test_a_rule_names_the_field_that_an_old_kernel_does_not_print() -> None:
    old = snapshot({"proc/zoneinfo": ZONE, "proc/version": "Linux version 2.6.32 (x)\n"})
    rule = next(rule for rule in RULES if rule.id == "zone_pages_nest")
    (claim,) = rule.claims(old)
    assert claim.verdict is Verdict.UNKNOWN
    assert "managed of proc/zoneinfo" in claim.why


@pytest.mark.parametrize(
    "first", ["/align:8", "slab/kmalloc-8/align:8", "b/kmalloc-8/align:8", "c-8/align:8"]
)
def test_attributes_that_begin_inside_a_line_are_refused(first: str) -> None:
    with pytest.raises(ParseError):
        slab_sysfs.parse(f"{first}\n/sys/kernel/slab/kmalloc-8/order:0\n")


def test_a_file_that_is_one_number() -> None:
    made = snapshot({"sys/a": "8000000\n", "sys/b": "x\n"})
    assert made.number("sys/a", 16) == 0x8000000
    with pytest.raises(ParseError, match="sys/b"):
        made.number("sys/b")


def test_lines_that_another_system_ended_are_read() -> None:
    made = snapshot({"proc/meminfo": "MemTotal: 4 kB\r\nMemFree: 4 kB\r\n"})
    assert made.meminfo.values["MemFree"] == 4


def test_counters_that_lost_an_end_say_nothing_of_names() -> None:
    rule = next(rule for rule in RULES if rule.id == "vmstat_names")
    made = snapshot({"config": "CONFIG_X86_64=y\n", "proc/vmstat": "nr_free_pages 1\npgfree 1\n"})
    (claim,) = rule.claims(made)
    assert "cut short" in claim.why


def test_an_empty_list_of_cpus_is_no_node_without_cpus() -> None:
    files = {"proc/zoneinfo": ZONE, "sys/devices/system/node/online": "0-1\n"}
    node = "sys/devices/system/node/node1/cpulist"
    online = {"sys/devices/system/cpu/online": "0-1\n"}
    assert snapshot({**files, **online, node: "\n"}).node_cpus(1) == ()
    with pytest.raises(MissingInputError):
        snapshot({**files, **online, node: ""}).node_cpus(1)


def test_a_number_that_ends_inside_its_line_may_be_a_part_of_one() -> None:
    made = snapshot({"proc/sys/vm/min_free_kbytes": "480", "sys/a": "480"})
    with pytest.raises(ParseError, match="cut short"):
        made.sysctl_number("vm/min_free_kbytes")
    with pytest.raises(ParseError, match="cut short"):
        made.number("sys/a")
