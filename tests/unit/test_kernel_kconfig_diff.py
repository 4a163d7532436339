from __future__ import annotations

import pytest

from harness.kernel.kconfig_diff import diff_configs, render_diff

FIRST = {
    "CONFIG_ACPI": "y",
    "CONFIG_EXT4_FS": "m",
    "CONFIG_LOCALVERSION": "",
    "CONFIG_SLAB": "n",
    "CONFIG_SLUB": "y",
    "CONFIG_NODES_SHIFT": "10",
    "CONFIG_ONLY_HERE": "n",
}
SECOND = {
    "CONFIG_ACPI": "y",
    "CONFIG_EXT4_FS": "y",
    "CONFIG_LOCALVERSION": "-slab",
    "CONFIG_SLAB": "y",
    "CONFIG_NODES_SHIFT": "6",
}


def test_memory_management_comes_first() -> None:
    differences = diff_configs(FIRST, SECOND)
    assert [(each.symbol, each.group, each.values) for each in differences] == [
        ("CONFIG_NODES_SHIFT", "memory", ("10", "6")),
        ("CONFIG_SLAB", "memory", ("n", "y")),
        ("CONFIG_SLUB", "memory", ("y", None)),
        ("CONFIG_EXT4_FS", "other", ("m", "y")),
        ("CONFIG_LOCALVERSION", "other", ("", "-slab")),
    ]


def test_a_configuration_does_not_differ_from_itself() -> None:
    assert diff_configs(FIRST, FIRST) == []
    assert render_diff([], ("a", "b")) == "a and b are configured alike\n"


def test_a_table() -> None:
    assert render_diff(diff_configs(FIRST, SECOND), ("stock", "slab")) == (
        "memory management (3)  stock  slab\n"
        "CONFIG_NODES_SHIFT   10     6\n"
        "CONFIG_SLAB          n      y\n"
        "CONFIG_SLUB          y      -\n"
        "\n"
        "everything else (2)  stock  slab\n"
        "CONFIG_EXT4_FS       m      y\n"
        'CONFIG_LOCALVERSION  ""     -slab\n'
    )


def test_long_values_are_cut_in_the_table_only() -> None:
    differences = diff_configs({"CONFIG_CMDLINE": "x" * 31}, {"CONFIG_CMDLINE": "x" * 30})
    assert differences[0].values == ("x" * 31, "x" * 30)
    row = render_diff(differences, ("a", "b")).splitlines()[1]
    assert row.split() == ["CONFIG_CMDLINE", "x" * 29 + "…", "x" * 30]


@pytest.mark.parametrize(
    "symbol",
    [
        *("NUMA", "NUMA_EMU", "X86_64_ACPI_NUMA", "ZONE_DMA", "SPARSEMEM_VMEMMAP", "HIGHMEM64G"),
        *("TRANSPARENT_HUGEPAGE_ALWAYS", "ARM64_64K_PAGES", "COMPACTION", "CMA", "PAGE_OWNER"),
        *("SLUB_CPU_PARTIAL", "LRU_GEN", "MEMORY_HOTPLUG", "SWAP", "ZSWAP", "MEMCG", "THP_SWAP"),
        *("ARCH_FORCE_MAX_ORDER", "DEBUG_PAGEALLOC", "DEFERRED_STRUCT_PAGE_INIT", "HUGETLBFS"),
    ],
)
def test_symbols_of_memory_management(symbol: str) -> None:
    (difference,) = diff_configs({f"CONFIG_{symbol}": "y"}, {})
    assert difference.group == "memory"


@pytest.mark.parametrize("symbol", ["EXT4_FS", "SWAPHOOK_FS_X", "USB", "MMC", "CMDLINE", "PVH"])
def test_symbols_of_others(symbol: str) -> None:
    (difference,) = diff_configs({f"CONFIG_{symbol}": "y"}, {})
    assert difference.group == "other"
