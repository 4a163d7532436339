"""memblock's lines in the kernel's messages, of every form that kernels print."""

from __future__ import annotations

import pytest

from analysis.errors import ParseError
from analysis.procfs.memblock_log import MemblockCall, parse

DUMP = """\
MEMBLOCK configuration:
 memory size = 0x000000020000 reserved size = 0x000000000400
 memory.cnt  = 0x2
 memory[0x0]\t[0x000000001000-0x00000000ffff], 0x00000000f000 bytes on node 0 flags: 0x0
 memory[0x1]\t[0x000000010000-0x00000001ffff], 0x000000010000 bytes flags: 0x40
 reserved.cnt  = 0x1
 reserved[0x0]\t[0x000000002000-0x0000000023ff], 0x000000000400 bytes flags: 0x0
"""


def call(line: str) -> MemblockCall:
    (event,) = parse(f"[    0.000000] {line}\n").events
    assert isinstance(event, MemblockCall)
    return event


def test_a_dump() -> None:
    (dump,) = parse("[    0.000000] Linux version 6.1\n" + DUMP).dumps
    assert (dump.at, dump.memory_bytes, dump.reserved_bytes) == (1, 0x20000, 0x400)
    assert [(r.base, r.end, r.node, r.flags) for r in dump.memory] == [
        (0x1000, 0x10000, 0, 0),
        (0x10000, 0x20000, None, 0x40),
    ]
    assert [(r.base, r.end) for r in dump.reserved] == [(0x2000, 0x2400)]


def test_calls_of_old_and_new_kernels() -> None:
    old = call("memblock_reserve: [0x000000007ffc6000-0x000000007ffc6fff] f+0xe8/0x17c")
    assert (old.function, old.base, old.end) == ("memblock_reserve", 0x7FFC6000, 0x7FFC7000)
    assert (old.node, old.flags, old.caller) == (None, 0, "f+0xe8/0x17c")
    new = call("__memblock_reserve: [0x00001000-0x00001fff] nid=-1 flags=20 f+0x108/0x1b0")
    assert (new.function, new.node, new.flags) == ("__memblock_reserve", None, 0x20)
    node = call("memblock_add_node: [0x00001000-0x00001fff] nid=1 flags=0 f+0x1/0x2")
    assert node.node == 1
    centos = call("memblock_reserve: [0x00001000-0x00001fff] flags 0x0 f+0x1/0x2")
    assert centos.flags == 0


def test_an_empty_call() -> None:
    empty = call("memblock_phys_free: [0x000000005fffa000-0x000000005fff9fff] f+0x1/0x2")
    assert empty.base == empty.end


def test_a_range_that_has_no_end_is_cut_at_the_top() -> None:
    endless = call("memblock_remove: [0x0001000000000000-0x0000fffffffffffe] f+0x1/0x2")
    assert endless.end == (1 << 64) - 1
    narrow = call("memblock_remove: [0x40000000-0x3ffffffe] f+0x1/0x2")
    assert narrow.end == (1 << 32) - 1


def test_other_lines_are_left_alone() -> None:
    text = (
        "[    0.000000] memblock_alloc_try_nid: 128 bytes align=0x40 nid=-1 from=0x0 f+0x1/0x2\n"
        "[    0.000000] memblock: reserved is doubled to 256 at [0x1000-0x2fff]\n"
    )
    assert parse(text).events == ()


@pytest.mark.parametrize("cut", range(1, 7))
def test_a_dump_that_is_cut_short(cut: int) -> None:
    with pytest.raises(ParseError):
        parse("".join(DUMP.splitlines(keepends=True)[:cut]))


@pytest.mark.parametrize(
    "line",
    [
        "memblock_reserve: [0x1000-0x1fff",
        "memblock_reserve: [1000-1fff] f",
        "memblock_reserve: [0x1000-0xzz] f",
    ],
)
def test_malformed_calls(line: str) -> None:
    with pytest.raises(ParseError):
        parse(line + "\n")


def test_regions_must_be_in_order() -> None:
    with pytest.raises(ParseError, match="behind"):
        parse(DUMP.replace("-0x00000000ffff]", "-0x000000010fff]"))


def test_regions_must_be_counted_right() -> None:
    with pytest.raises(ParseError, match=r"memory\[0x1\]"):
        parse(DUMP.replace("memory[0x1]", "memory[0x2]"))
