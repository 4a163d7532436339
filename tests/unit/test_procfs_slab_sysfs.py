"""/sys/kernel/slab as one text."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from analysis.errors import ParseError
from analysis.procfs import slab_sysfs

TEXT = """\
/sys/kernel/slab/filp -> :A-0000256
/sys/kernel/slab/eventpoll_epi -> ../slab/:A-0000128
/sys/kernel/slab/:A-0000256/order:0
/sys/kernel/slab/:A-0000256/slabs:3 N0=2 N1=1
/sys/kernel/slab/dentry/ctor:__d_ctor+0x0/0x10
/sys/kernel/slab/dentry/alloc_calls:      5 a+0x1 age=1
/sys/kernel/slab/dentry/alloc_calls:      7 b+0x2 age=9
"""


def test_attributes_and_links() -> None:
    parsed = slab_sysfs.parse(TEXT)
    assert parsed.aliases == {"filp": ":A-0000256", "eventpoll_epi": ":A-0000128"}
    assert parsed.caches[":A-0000256"] == {"order": "0", "slabs": "3 N0=2 N1=1"}
    assert parsed.caches["dentry"]["ctor"] == "__d_ctor+0x0/0x10"
    assert parsed.caches["dentry"]["alloc_calls"].startswith("5 a"), "the first line is kept"
    assert parsed.cache_of("filp") == parsed.caches[":A-0000256"]
    assert parsed.cache_of("nothing") is None


def test_what_grep_prints_of_links_is_left_out() -> None:
    text = "/sys/kernel/slab/filp -> :0000256\nsys/kernel/slab/filp/order:0\n"
    assert slab_sysfs.parse(text).caches == {}


@pytest.mark.parametrize("line", ["order:0", "/sys/kernel/slab/dentry", "dentry/order"])
def test_other_lines_are_refused_with_their_place(line: str) -> None:
    with pytest.raises(ParseError) as caught:
        slab_sysfs.parse(f"{TEXT}{line}\n", source="slab_sysfs")
    assert caught.value.line == 8


caches = st.from_regex(r":?[A-Za-z0-9_][A-Za-z0-9_-]{0,20}", fullmatch=True)
attributes = st.from_regex(r"[a-z_]{1,20}", fullmatch=True)


@given(files=st.dictionaries(st.tuples(caches, attributes), st.integers(0, 1 << 40), max_size=8))
def test_a_tree_says_the_same_as_its_text(files: dict[tuple[str, str], int]) -> None:
    tree = {f"{cache}/{name}": f"{value}\n".encode() for (cache, name), value in files.items()}
    parsed = slab_sysfs.parse(slab_sysfs.from_tree(tree))
    found = {
        (cache, name): int(value)
        for cache, of_cache in parsed.caches.items()
        for name, value in of_cache.items()
    }
    assert found == files
