"""debugfs' memblock files, with and without node and flags."""

from __future__ import annotations

import pytest

from analysis.errors import ParseError
from analysis.procfs.memblock_regions import parse


def test_to_6_5() -> None:
    (first, second) = parse("   0: 0x40210000..0x4220afff\n   1: 0x48c00000..0x48cfffff\n")
    assert (first.base, first.end, first.node, first.flags) == (0x40210000, 0x4220B000, None, None)
    assert second.base == 0x48C00000


def test_later() -> None:
    text = "   0: 0x1000..0x1fff    0 NONE\n   1: 0x4000..0x4fff    x RSV_KERN|NOMAP\n"
    first, second = parse(text)
    assert (first.node, first.flags) == (0, ())
    assert (second.node, second.flags) == (None, ("RSV_KERN", "NOMAP"))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "   0: 0x1000..0x1fff",
        "   1: 0x1000..0x1fff\n",
        "   0: 0x1000-0x1fff\n",
        "   0: 0x2000..0x1fff\n   1: 0x1000..0x1fff\n",
        "   0: 0x1000..0x1fff\n   1: 0x1800..0x2fff\n",
        "   0: 0x1000..0x1fff  0\n",
    ],
)
def test_malformed(text: str) -> None:
    with pytest.raises(ParseError):
        parse(text)
