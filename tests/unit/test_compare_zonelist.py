"""Rules about zonelists and fragmentation on made captures: what is judged, and what is open."""

from __future__ import annotations

from pathlib import Path

import pytest

from analysis.capture.snapshot import Snapshot
from analysis.capture.source import Source
from analysis.compare.claim import Claim
from analysis.compare.static import fragmentation, zonelist
from analysis.verdict import Verdict

RULES = {rule.id: rule for rule in (*zonelist.RULES, *fragmentation.RULES)}
DMESG = """\
[    0.000000] Linux version {release} (x)
[    0.000000] Initmem setup node 0 [mem 0x0000000000001000-0x000000001fffffff]
[    0.000000] Initmem setup node 1 as memoryless
[    0.000000] Initmem setup node 2 [mem 0x0000000020000000-0x000000003fffffff]
{orders}[    0.000000] Built 3 zonelists, mobility grouping on.  Total pages: 250000
[    0.000000] Policy zone: DMA32
{later}"""
ORDERS = """\
[    0.000000] Fallback order for Node 0: 0 2 
[    0.000000] Fallback order for Node 1: 2 0 
[    0.000000] Fallback order for Node 2: 2 0 
"""  # noqa: W291 - as the kernel prints them
ZONE = """\
Node {node}, zone    {zone}
  pages free     100
        min      1
        low      1
        high     1
        spanned  {present}
        present  {present}
        managed  {present}
        protection: (0, 0)
"""
ZONES = "".join(
    ZONE.format(node=node, zone=zone, present=present)
    + ("      nr_free_pages 1\n  pagesets\n  start_pfn: 1\n" if present else "")
    for node, zone, present in (
        (0, "DMA", 3998),
        (0, "DMA32", 126937),
        (0, "Movable", 0),
        (1, "DMA32", 0),
        (2, "DMA32", 131072),
        (2, "Movable", 4096),
    )
)
PAGETYPEINFO = """\
Page block order: 9
Pages per block:  512

Free pages count per migrate type at order       0
Node    0, zone    DMA32, type    Unmovable      1

Number of blocks type     Unmovable
Node 0, zone    DMA32            1
"""


def snapshot(
    release: str = "7.2.0", orders: str = ORDERS, later: str = "", **more: str
) -> Snapshot:
    node = "sys/devices/system/node"
    files = {
        "proc/version": f"Linux version {release} (x)\n",
        "proc/zoneinfo": ZONES,
        "proc/pagetypeinfo": PAGETYPEINFO,
        "dmesg": DMESG.format(release=release, orders=orders, later=later),
        "config": "CONFIG_X86_64=y\nCONFIG_NUMA=y\nCONFIG_MEMORY_ISOLATION=y\n",
        f"{node}/online": "0-2\n",
        f"{node}/node0/distance": "10 15 20\n",
        f"{node}/node1/distance": "15 10 15\n",
        f"{node}/node2/distance": "20 15 10\n",
        **{name.replace("__", "/"): text for name, text in more.items()},
    }
    contents = {name: text.encode().__bytes__ for name, text in files.items() if text}
    return Snapshot(Source(path=Path("made"), kind="capture", files=contents))


def verdicts(claims: list[Claim]) -> list[str]:
    return [claim.verdict.value for claim in claims]


def test_the_order_follows_from_distances() -> None:
    claims = RULES["fallback_order"].claims(snapshot())
    assert verdicts(claims) == ["holds"] * 3
    assert claims[1].working == (
        "node 2: distance 15, load 1",
        "node 0: distance 15 + 1 (id below 1), load 0",
        "node 1 has no memory: it is not in its own list",
    )


def test_a_vendor_may_have_either_rule_for_nodes_without_memory() -> None:
    claims = RULES["fallback_order"].claims(snapshot("5.14.0-503.el9.x86_64"))
    assert verdicts(claims) == ["holds", "unknown", "holds"]
    assert claims[1].why == "which release's rule the vendor took: 1 2 0 or 2 0"


def test_only_the_lists_of_the_boot_are_judged() -> None:
    later = ORDERS.replace("Node 0: 0 2", "Node 0: 2 0")
    assert verdicts(RULES["fallback_order"].claims(snapshot(later=later))) == ["holds"] * 3


def test_a_list_behind_one_with_hidden_distances_is_open() -> None:
    hidden = ORDERS.replace("Node 1: 2 0", "Node 1: 0 2")
    of = snapshot(orders=hidden, sys__devices__system__node__online="0,2\n")
    short = "10 20\n"
    files = dict(of.source.files)
    files["sys/devices/system/node/node0/distance"] = short.encode().__bytes__
    files["sys/devices/system/node/node2/distance"] = b"20 10\n".__bytes__
    claims = RULES["fallback_order"].claims(
        Snapshot(Source(path=Path("made"), kind="capture", files=files))
    )
    assert verdicts(claims) == ["holds", "unknown", "unknown"]
    assert "not online" in claims[2].why


def test_kernels_that_print_no_order() -> None:
    old = RULES["fallback_order"].claims(snapshot("5.10.0", orders=""))
    assert old[0].lacking
    assert "does not print" in old[0].why
    flat = RULES["fallback_order"].claims(snapshot(orders="", config="CONFIG_X86_64=y\n"))
    assert flat[0].lacking
    assert "CONFIG_NUMA" in flat[0].why


def test_as_many_distances_as_nodes() -> None:
    of = snapshot(sys__devices__system__node__node1__distance="15 10\n")
    (claim,) = RULES["fallback_order"].claims(of)
    assert claim.lacking


@pytest.mark.parametrize(
    ("rule_id", "predicted"),
    [("built_zonelists", 3), ("policy_zone", "DMA32"), ("mobility_grouping", "on")],
)
def test_what_the_kernel_says_of_its_zonelists(rule_id: str, predicted: int | str) -> None:
    (claim,) = RULES[rule_id].claims(snapshot())
    assert claim.verdict is Verdict.HOLDS
    assert claim.predicted == predicted


def test_zonelists_built_again_are_not_counted() -> None:
    again = "[   99.0] Built 3 zonelists, mobility grouping on.  Total pages: 260000\n"
    (claim,) = RULES["built_zonelists"].claims(snapshot(later=again))
    assert claim.verdict is Verdict.UNKNOWN


BUDDY = "Node 0, zone    DMA32      3      0      1 \n"  # 7 pages
UNUSABLE = "Node 0, zone    DMA32 0.000 0.428 0.428 \n"
EXTFRAG = "Node 0, zone    DMA32 -1.000 -1.000 -1.000 \n"


def indexes(before: str, after: str) -> Snapshot:
    return snapshot(
        **{
            "proc/buddyinfo": before,
            "proc/buddyinfo.after": after,
            "sys/kernel/debug/extfrag/unusable_index": UNUSABLE,
            "sys/kernel/debug/extfrag/extfrag_index": EXTFRAG,
        }
    )


@pytest.mark.parametrize("rule_id", ["unusable_index", "extfrag_index"])
def test_indexes_of_a_zone_that_held_still(rule_id: str) -> None:
    claims = RULES[rule_id].claims(indexes(BUDDY, BUDDY))
    assert verdicts(claims) == ["holds"] * 3
    assert all(claim.working for claim in claims)
    moved = RULES[rule_id].claims(indexes(BUDDY, BUDDY.replace("3 ", "2 ")))
    assert verdicts(moved) == ["unknown"] * 3
    (alone,) = RULES[rule_id].claims(indexes(BUDDY, ""))
    assert alone.lacking
