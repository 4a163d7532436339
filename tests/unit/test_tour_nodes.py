"""The judges of nodes, on evidence of real kernels and on evidence that was altered."""

from __future__ import annotations

from pathlib import Path

import pytest

from analysis.errors import MissingInputError, ParseError
from analysis.model.layout.pgdat import node_directories, pgdat_symbol
from analysis.tour.registry import JUDGES
from analysis.verdict import Verdict
from tests.tour_evidence import altered, failing, judged, kept, verdicts

STOPS = ("nodes/uma", "nodes/numa", "nodes/memoryless", "nodes/fake")


@pytest.mark.parametrize("stop", STOPS)
def test_everything_holds_on_a_real_kernel(stop: str) -> None:
    finding = judged(stop)
    assert verdicts(finding) == {claim.id: {Verdict.HOLDS} for claim in finding.claims}


@pytest.mark.parametrize(
    ("stop", "file", "old", "new", "told"),
    [
        (
            "nodes/numa", "main/capture/dmesg",
            "Fallback order for Node 0: 0 2 1", "Fallback order for Node 0: 0 1 2",
            {"fallback_order"},
        ),
        (
            "nodes/numa", "main/capture/sys/devices/system/node/node0/distance",
            "10 30 15", "10 15 30",
            {"fallback_order", "zonelist", "spill_zones"},
        ),
        (
            "nodes/numa", "main/spill-after-zoneinfo.txt",
            "nr_free_pages 2913", "nr_free_pages 2400",
            {"spill_floor"},
        ),
        (
            "nodes/numa", "main/spill-after-node0-numastat.txt",
            "numa_foreign 40915", "numa_foreign 40914",
            {"spill_counted"},
        ),
        (
            "nodes/numa", "main/spill-after-vmstat.txt",
            "pageoutrun 1", "pageoutrun 0",
            {"spill_floor"},
        ),
        (
            "nodes/uma", "uma/symbols.txt",
            " D contig_page_data", " D node_data",
            {"pgdat_symbol"},
        ),
        (
            "nodes/uma", "uma/sysfs.txt",
            "ls: /sys/devices/system/node: No such file or directory", "node\nnode0",
            {"node_directories"},
        ),
        (
            "nodes/memoryless", "main/capture/sys/devices/system/node/has_memory",
            "0\n", "1\n",
            {"nodes_with_memory"},
        ),
        (
            "nodes/fake", "main/capture/dmesg",
            "Faking node 1 at [mem 0x0000000008000000", "Faking node 1 at [mem 0x000000000a000000",
            {"fake_node"},
        ),
    ],
)  # fmt: skip
def test_altered_evidence_fails(
    stop: str, file: str, old: str, new: str, told: set[str], tmp_path: Path
) -> None:
    assert told <= failing(altered(stop, tmp_path, file, old, new))


def test_zonelists_of_an_unsound_reading_are_not_judged(tmp_path: Path) -> None:
    with pytest.raises(MissingInputError, match="sound reading"):
        altered("nodes/numa", tmp_path, "main/zonelists.json", '"sound": true', '"sound": false')


def test_zonelists_of_another_shape_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ParseError, match="zonelists"):
        altered("nodes/numa", tmp_path, "main/zonelists.json", '"lists"', '"list"')


def test_a_machine_without_an_empty_node_is_not_judged(tmp_path: Path) -> None:
    name = "main/capture/sys/devices/system/node/has_memory"
    with pytest.raises(MissingInputError, match="a node without memory"):
        altered("nodes/memoryless", tmp_path, name, "0\n", "0-1\n")


def test_a_boot_that_is_not_there_is_named() -> None:
    with pytest.raises(MissingInputError, match="the boot 'uma'"):
        JUDGES["nodes/uma"](kept("nodes/fake"))


def test_the_description_of_nodes_follows_the_configuration() -> None:
    assert (pgdat_symbol(numa=True), pgdat_symbol(numa=False)) == ("node_data", "contig_page_data")
    assert node_directories(numa=True, nodes=2) == ("node0", "node1")
    assert node_directories(numa=False, nodes=1) == ()


LOW = ("main/spill-after-zoneinfo.txt", "nr_free_pages 2913", "nr_free_pages 2300")
LATER = ("main/boot.json", r'"release": "6\.1', '"release": "6.12')
SCALE = ("main/capture/config", r"\A", "CONFIG_PCP_BATCH_SCALE_MAX=5\n")


def test_later_a_list_may_take_many_batches_at_a_time(tmp_path: Path) -> None:
    assert failing(judged("nodes/numa", tmp_path / "before", LOW)) == {"spill_floor"}
    assert failing(judged("nodes/numa", tmp_path / "later", LOW, LATER, SCALE)) == set()
    lower = (LOW[0], LOW[1], "nr_free_pages 500")
    assert failing(judged("nodes/numa", tmp_path / "lower", lower, LATER, SCALE)) == {"spill_floor"}


def test_how_many_has_to_be_known(tmp_path: Path) -> None:
    with pytest.raises(MissingInputError, match="PCP_BATCH_SCALE_MAX"):
        judged("nodes/numa", tmp_path, LATER)
