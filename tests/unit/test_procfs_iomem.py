"""/proc/iomem: levels, hidden addresses, malformed lines."""

from __future__ import annotations

import pytest

from analysis.errors import ParseError
from analysis.procfs.iomem import parse

TEXT = """\
00000000-00000fff : Reserved
00001000-0009fbff : System RAM
40000000-7fffffff : System RAM
  40210000-4185ffff : Kernel code
  41860000-41eaffff : reserved
    41860000-41860fff : odd one
  48000000-48a80fff : reserved
fec00000-fec003ff : IOAPIC 0
"""


def test_resources_inside_others() -> None:
    info = parse(TEXT)
    ram = info.resources[2]
    assert (ram.name, ram.start, ram.end, ram.depth) == ("System RAM", 0x40000000, 0x80000000, 0)
    assert [resource.depth for resource in info.resources] == [0, 0, 0, 1, 1, 2, 1, 0]
    assert info.resources[-1].name == "IOAPIC 0"
    assert not info.hidden


def test_addresses_hidden_from_an_ordinary_user() -> None:
    assert parse("00000000-00000000 : System RAM\n  00000000-00000000 : Kernel code\n").hidden


@pytest.mark.parametrize(
    "text",
    [
        "",
        "00000000-00000fff : Reserved",
        "00000000-00000fff Reserved\n",
        " 00000000-00000fff : Reserved\n",
        "  00000000-00000fff : Reserved\n",
        "00001000-00000fff : Reserved\n",
        "00001000-00001fff : a\n    00001000-00001fff : b\n",
    ],
)
def test_malformed(text: str) -> None:
    with pytest.raises(ParseError):
        parse(text)
