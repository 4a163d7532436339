"""Probes that read zones, and what a traced block asks of the guest."""

from __future__ import annotations

from typing import cast

import pytest

from harness.errors import WorkloadFailedError
from harness.tour.evidence import Evidence
from harness.tour.tracing import INSTANCE, NODE_0, KernelProbe, ZoneFields, traced

FIELDS = ZoneFields(
    offsets={
        "vm_stat": 1344, "free_area": 256, "_watermark": 0, "watermark_boost": 32,
        "nr_reserved_highatomic": 40, "lowmem_reserve": 48, "name": 168,
    },
    zone_bytes=1536, node_zones=0, zone_indexes={"DMA": 0, "DMA32": 1}, free_cma=10, zones=2,
    orders=3,
    area_bytes=88, area_nr_free=80,
)  # fmt: skip


class Scripts:
    """An evidence that keeps the scripts, and may refuse one."""

    def __init__(self, refused: str = "") -> None:
        self.scripts: dict[str, str] = {}
        self.refused = refused

    def shell(self, name: str, script: str) -> str:
        self.scripts[name] = script
        if name == self.refused:
            raise WorkloadFailedError(name)
        return ""


def test_a_probe_is_a_line_for_the_kernel() -> None:
    probe = KernelProbe(name="wants", function="wakeup_kswapd", fetches=("order=$arg3:s32",))
    assert probe.definition() == "p:mmscope_tour/wants wakeup_kswapd order=$arg3:s32"


def test_members_of_a_zone_lie_where_the_layout_says() -> None:
    start = FIELDS.start("DMA32")
    assert FIELDS.at("vm_stat", NODE_0, name="free", start=start) == "free=+2880(@node_data):s64"
    assert FIELDS.state("$arg1", suffix="_DMA") == [
        "free_DMA=+1344($arg1):s64",
        "cma_DMA=+1424($arg1):s64",
        "min_DMA=+0($arg1):s64",
        "low_DMA=+8($arg1):s64",
        "high_DMA=+16($arg1):s64",
        "boost_DMA=+32($arg1):s64",
        "highatomic_DMA=+40($arg1):s64",
        "reserve0_DMA=+48($arg1):s64",
        "reserve1_DMA=+56($arg1):s64",
    ]
    assert FIELDS.blocks("$arg1") == [
        "b0=+336($arg1):s64", "b1=+424($arg1):s64", "b2=+512($arg1):s64",
    ]  # fmt: skip


def test_a_traced_block_is_set_up_read_and_taken_down() -> None:
    scripts = Scripts()
    probe = KernelProbe(name="tick", function="update_process_times")
    with traced(cast(Evidence, scripts), "trace", ["vmscan/mm_vmscan_kswapd_wake"], [probe]) as at:
        assert at == f"{INSTANCE}/trace"
        assert list(scripts.scripts) == ["trace-setup"]
    setup = scripts.scripts["trace-setup"]
    assert probe.definition() in setup
    assert "update_process_times: no such function" in setup
    assert setup.index("tracing_on") < setup.index(probe.definition()) < setup.rindex("tracing_on")
    assert "events/mmscope_tour/tick/enable" in setup
    assert list(scripts.scripts) == ["trace-setup", "trace", "trace-stats", "trace-teardown"]


def test_a_refused_probe_ends_the_stop() -> None:
    scripts = Scripts(refused="trace-setup")
    with pytest.raises(WorkloadFailedError), traced(cast(Evidence, scripts), "trace", []):
        pytest.fail("the block must not run")
