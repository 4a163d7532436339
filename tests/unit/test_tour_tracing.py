"""Probes that read zones, and what a traced block asks of the guest."""

from __future__ import annotations

from typing import cast

import pytest

from harness.errors import WorkloadFailedError
from harness.sampling.memory.btf import Btf
from harness.tour.evidence import Evidence
from harness.tour.tracing import (
    INSTANCE,
    KernelProbe,
    ZoneFields,
    arguments,
    node_0,
    sysctl_number,
    traced,
)
from tests.made_btf import FUNC, FUNC_PROTO, MadeBtf

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

    def __init__(self, refused: str = "", said: str = "") -> None:
        self.scripts: dict[str, str] = {}
        self.refused = refused
        self.said = said

    def shell(self, name: str, script: str, *, check: bool = True) -> str:
        self.scripts[name] = script
        if check and name == self.refused:
            raise WorkloadFailedError(name)
        return self.said


def test_a_probe_is_a_line_for_the_kernel() -> None:
    probe = KernelProbe(name="wants", function="wakeup_kswapd", fetches=("order=$arg3:s32",))
    assert probe.definition() == "p:mmscope_tour/wants wakeup_kswapd order=$arg3:s32"


def test_members_of_a_zone_lie_where_the_layout_says() -> None:
    start = FIELDS.start("DMA32")
    assert (
        FIELDS.at("vm_stat", "@node_data", name="free", start=start) == "free=+2880(@node_data):s64"
    )
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
    assert "echo 'refused tick update_process_times'" in setup
    assert setup.index("tracing_on") < setup.index(probe.definition()) < setup.rindex("tracing_on")
    assert "filter" not in setup
    assert "events/mmscope_tour/tick/enable" in setup
    assert list(scripts.scripts) == ["trace-setup", "trace", "trace-stats", "trace-teardown"]


def test_a_probe_may_keep_some_hits_only() -> None:
    scripts = Scripts()
    probe = KernelProbe(name="asks", function="zone_watermark_ok", condition="order > 3")
    with traced(cast(Evidence, scripts), "trace", [], [probe]):
        pass
    setup = scripts.scripts["trace-setup"]
    at = [setup.index(f"mmscope_tour/asks/{name}") for name in ("filter", "enable")]
    assert setup.index("echo 'order > 3'") < at[0] < at[1]


def test_arguments_are_found_by_name() -> None:
    made = MadeBtf()
    number = made.integer("int", 4)
    names = [word for name in ("zone", "order", "watermark") for word in (made.name(name), number)]
    made.add(FUNC, "compaction_suitable", made.add(FUNC_PROTO, "", number, *names, count=3))
    types = Btf(made.bytes, "made")
    assert arguments(types, "compaction_suitable") == {
        "zone": "$arg1", "order": "$arg2", "watermark": "$arg3",
    }  # fmt: skip
    assert arguments(types, "proactive_compact_node") == {}


@pytest.mark.parametrize(
    ("said", "base"),
    [("0xffff0000fbfd4500\n", "@0xffff0000fbfd4560"), ("", "@node_data")],
)
def test_a_node_is_found_where_symbols_do_not_tell(said: str, base: str) -> None:
    made = MadeBtf()
    made.struct("zone", 1536, [("zone_pgdat", made.pointer(), 96 * 8)])
    scripts = Scripts(said=said)
    assert node_0(cast(Evidence, scripts), Btf(made.bytes, "made")) == base
    assert "at=$arg1:x64" in scripts.scripts["where-node_data"]


@pytest.mark.parametrize(
    ("said", "fetch"), [("0xffff800081234560\n", "@0xffff800081234560:u32"), ("", "@knob:u32")]
)
def test_a_sysctl_is_found_by_its_handler(said: str, fetch: str) -> None:
    made = MadeBtf()
    made.struct("ctl_table", 64, [("procname", made.pointer(), 0), ("data", made.pointer(), 64)])
    scripts = Scripts(said=said)
    found = sysctl_number(
        cast(Evidence, scripts), Btf(made.bytes, "made"), symbol="knob", handler="knob_handler",
        path="/proc/sys/vm/knob",
    )  # fmt: skip
    assert found == fetch
    assert "knob_handler at=+8($arg1):x64" in scripts.scripts["where-knob"]


def test_a_refused_event_ends_the_stop() -> None:
    scripts = Scripts(refused="trace-setup")
    with pytest.raises(WorkloadFailedError), traced(cast(Evidence, scripts), "trace", []):
        pytest.fail("the block must not run")
