"""What is not a kernel's text is refused, with the place and what should stand there."""

from __future__ import annotations

import pytest

from analysis.errors import AnalysisError, ParseError
from analysis.procfs import (
    buddyinfo,
    meminfo,
    pagetypeinfo,
    pressure,
    slabinfo,
    sysctl,
    task,
    vmstat,
    zoneinfo,
)
from tests.recorded_run import FIXTURES

ROUND = FIXTURES / "6.1-x86_64-3nodes" / "round0"


def test_error_says_file_line_text_and_what_was_expected() -> None:
    with pytest.raises(ParseError) as caught:
        buddyinfo.parse(
            "Node 0, zone      DMA      1      2 \nNode 0, zone   Normal      1      x \n",
            source="proc/buddyinfo",
        )
    error = caught.value
    assert (error.source, error.line) == ("proc/buddyinfo", 2)
    assert error.text == "Node 0, zone   Normal      1      x "
    assert str(error).startswith("proc/buddyinfo:2: expected a number instead of 'x', found ")
    assert isinstance(error, ValueError)
    assert isinstance(error, AnalysisError)
    assert error.exit_code == 3
    named = error.at("buddyinfo (round 7)", "6.1.0-56-amd64")
    assert "buddyinfo (round 7):2" in str(named)
    assert "kernel 6.1.0-56-amd64" in named.render()
    assert "fix:" in named.render()


def test_long_line_is_shortened_in_the_message_only() -> None:
    with pytest.raises(ParseError) as caught:
        vmstat.parse("x" * 5000 + "\n")
    assert len(str(caught.value)) < 300
    assert len(caught.value.text) == 5000


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "the file is empty"),
        ("Node 0, zone      DMA      1      2", "a whole line"),
        ("Node 0, zone      DMA \n", "numbers at the end"),
        ("Node 0, zone      DMA     -1      2 \n", "instead of '-1'"),
        ("Node 0, zone      DMA    1_0      2 \n", "instead of '1_0'"),
        ("Node 0, zone      DMA     \u0661      2 \n", "a number instead of"),
        ("Node 0, zone      DMA " + "9" * 21 + " \n", "a number instead of"),
        ("Node x, zone      DMA      1      2 \n", "'Node N, zone NAME'"),
        ("\nNode 0, zone      DMA      1      2 \n", "'Node N, zone NAME'"),
        ("Node 0, zone      DMA      1 \n" * 2, "each zone once"),
        ("Node 0, zone      DMA 1 2 \nNode 0, zone   Normal 1 \n", "2 orders"),
    ],
)
def test_buddyinfo(text: str, expected: str) -> None:
    with pytest.raises(ParseError, match=expected):
        buddyinfo.parse(text)


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("Page block order: 9", "Page block order: x", "a header"),
        ("     0      1      2 ", "     0      2      2 ", "the orders from 0 on"),
        ("type    Unmovable ", "type    Unmovable  12", "11 orders"),
        ("type    Unmovable ", "type    Unmovable <", "a count at column"),
        ("Number of blocks type ", "Number of things     ", "a header"),
        (" Isolate \n", "\n", "migrate types as in the header"),
    ],
)
def test_pagetypeinfo(old: str, new: str, expected: str) -> None:
    text = (ROUND / "pagetypeinfo").read_text()
    assert old in text
    with pytest.raises(ParseError, match=expected):
        pagetypeinfo.parse(text.replace(old, new, 1))


def test_pagetypeinfo_without_its_head() -> None:
    text = (ROUND / "pagetypeinfo").read_text()
    with pytest.raises(ParseError, match="the pageblock order"):
        pagetypeinfo.parse(text.replace("Pages per block:  512\n", ""))


def test_pagetypeinfo_without_its_second_half() -> None:
    text = (ROUND / "pagetypeinfo").read_text()
    with pytest.raises(ParseError, match="pageblocks of node 0, zone DMA"):
        pagetypeinfo.parse(text[: text.index("\nNumber of blocks")])


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("Node 0, zone      DMA\n", "", "'Node N, zone NAME'"),
        ("      nr_dirty     ", "      nr_written   ", "the field 'nr_written' once"),
        ("  pages free     ", "  pages free     x", "a field of zoneinfo"),
        ("        protection: (0,", "        protection: (0;", "commas in brackets"),
        ("    cpu: 1\n", "    cpu: 0\n", "each cpu once"),
        ("    cpu: 0\n", "", "'cpu: N' before"),
        ("              high:  ", "              high?  ", "a field of a pageset"),
        ("Node 0, zone    DMA32", "Node 0, zone      DMA", "each zone once"),
        ("  start_pfn:           1\n", "", "pagesets and start_pfn"),
        ("  per-node stats\n", "", "'per-node stats' or 'pages free' first"),
    ],
)
def test_zoneinfo(old: str, new: str, expected: str) -> None:
    text = (ROUND / "zoneinfo").read_text()
    assert old in text
    with pytest.raises(ParseError, match=expected):
        zoneinfo.parse(text.replace(old, new, 1))


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("slabinfo - version", "slab", "'slabinfo - version"),
        ("# name ", "# nom ", "'# name'"),
        ("<num_objs>", "<active_objs>", "each column once"),
        (" : slabdata", " : slab", "a number for every column"),
    ],
)
def test_slabinfo(old: str, new: str, expected: str) -> None:
    text = (ROUND / "slabinfo").read_text()
    with pytest.raises(ParseError, match=expected):
        slabinfo.parse(text.replace(old, new, 1))


def test_slabinfo_without_caches() -> None:
    lines = (ROUND / "slabinfo").read_text().splitlines(keepends=True)
    with pytest.raises(ParseError, match="at least one cache"):
        slabinfo.parse("".join(lines[:2]))
    with pytest.raises(ParseError, match="names of the columns"):
        slabinfo.parse(lines[0])


@pytest.mark.parametrize("text", ["a\n", "a 1\na 2\n", "a -1\n", "a 1 2\n", "a: 1\n"])
def test_vmstat(text: str) -> None:
    with pytest.raises(ParseError):
        vmstat.parse(text)


@pytest.mark.parametrize(
    "text",
    ["MemTotal 1 kB\n", "A: 1 kB\nA: 2 kB\n", "Node 0 A: 1 kB\nNode 1 B: 1 kB\n", "A: x kB\n"],
)
def test_meminfo(text: str) -> None:
    with pytest.raises(ParseError):
        meminfo.parse(text)


@pytest.mark.parametrize(
    "text",
    [
        "some avg10=0.0 avg60=0.00 avg300=0.00 total=1\n",
        "some avg10=0.00 avg60=0.00 avg300=0.00 total=\n",
        "some avg10=0.00 avg60=0.00 avg300=0.00 total=1\n" * 2,
    ],
)
def test_pressure(text: str) -> None:
    with pytest.raises(ParseError):
        pressure.parse(text)


def test_task_files() -> None:
    stat = (ROUND / "kswapd0" / "stat").read_text()
    with pytest.raises(ParseError, match="at least 41 fields"):
        task.parse_stat(" ".join(stat.split()[:30]) + "\n")
    with pytest.raises(ParseError, match=r"PID \(COMMAND\)"):
        task.parse_stat(stat.replace("(", ""))
    with pytest.raises(ParseError, match="three numbers"):
        task.parse_schedstat("1 2\n")
    status = (ROUND / "kswapd0" / "status").read_text()
    with pytest.raises(ParseError, match="nonvoluntary_ctxt_switches"):
        task.parse_status(status[: status.index("nonvoluntary")])


def test_sysctls() -> None:
    found = sysctl.parse({"min_free_kbytes": "4008\n", "lowmem": "256\t32\n", "name": "x y\n"})
    assert found.integer("min_free_kbytes") == 4008
    assert found.integers("lowmem") == (256, 32)
    assert found.values["name"] == "x y"
    for name, expected in (("lowmem", "one number"), ("name", "numbers"), ("none", "numbers")):
        with pytest.raises(ParseError, match=f"proc/sys/vm/{name}.*expected {expected}"):
            found.integer(name)
    with pytest.raises(ParseError, match="a whole line"):
        sysctl.parse({"cut": "40"})
