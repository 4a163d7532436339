"""Facts of a run from its texts and tables."""

from __future__ import annotations

import pandas as pd
import pytest

from analysis.compare.facts import facts_from_texts, page_size_from_tables
from analysis.errors import ParseError
from analysis.model.release import Release

VERSION = "Linux version 6.1.0-37-amd64 (someone@somewhere) #1 SMP\n"


def test_facts_from_texts() -> None:
    facts = facts_from_texts(
        {
            "proc/version": VERSION,
            "proc/sys/vm/min_free_kbytes": "4096\n",
            "proc/sys/vm/lowmem_reserve_ratio": "256\t256\t32\n",
            "config": "CONFIG_X86=y\nCONFIG_TRANSPARENT_HUGEPAGE=y\n",
        },
        phase_nodes={"pktring": 1},
    )
    assert facts.release == Release(6, 1)
    assert facts.page_size_bytes == 4096
    assert facts.sysctl == {"min_free_kbytes": 4096}
    assert facts.thp is True
    assert facts.phase_nodes == {"pktring": 1}


@pytest.mark.parametrize(
    ("config", "size"),
    [
        ("CONFIG_ARM64_64K_PAGES=y", 65536),
        ("CONFIG_ARM64_16K_PAGES=y", 16384),
        ("CONFIG_PAGE_SHIFT=14", 16384),
        ("CONFIG_RISCV=y", None),
    ],
)
def test_page_size_from_the_config(config: str, size: int | None) -> None:
    facts = facts_from_texts({"proc/version": VERSION, "config": config})
    assert facts.page_size_bytes == size
    assert facts.thp is False


def test_a_run_without_its_kernel_is_an_error() -> None:
    with pytest.raises(ParseError, match="proc/version"):
        facts_from_texts({})


def test_page_size_from_tables() -> None:
    meminfo = pd.DataFrame({"round": [0], "field": ["MemTotal"], "value": [64 * 1000]})
    zoneinfo = pd.DataFrame({"round": [0], "field": ["managed"], "value": [1000]})
    assert page_size_from_tables({"meminfo": meminfo, "zoneinfo": zoneinfo}) == 65536
    assert page_size_from_tables({}) is None
