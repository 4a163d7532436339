"""The judges of the stops about the buddy allocator: they hold on real evidence, and fail on what
is changed."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from analysis.errors import MissingInputError
from analysis.tour.buddy import JUDGES
from analysis.tour.evidence import BootEvidence, open_stop
from analysis.tour.finding import Finding
from analysis.tour.ring_events import between, ring_events
from analysis.verdict import Verdict
from harness.tour.stops.buddy import _room

FIXTURES = Path(__file__).parents[1] / "fixtures" / "tour"
KEPT = tuple(JUDGES)
Change = Callable[[Path], None]


@pytest.fixture
def judged(tmp_path: Path) -> Callable[..., Finding]:
    """The finding of a stop after its evidence was changed."""

    def judge(name: str, change: Change = lambda _: None) -> Finding:
        path = tmp_path / name.replace("/", "-")
        shutil.copytree(FIXTURES / path.name, path)
        change(path)
        return JUDGES[name](open_stop(name, path))

    return judge


def failing(finding: Finding) -> set[str]:
    return {claim.id for claim in finding.claims if claim.verdict is Verdict.FAILS}


def edited(name: str, pattern: str, text: str) -> Change:
    """Replaces the first match in a file of the stop."""

    def change(path: Path) -> None:
        old = (path / name).read_text()
        new = re.sub(pattern, text, old, count=1)
        assert new != old, f"{name} has no {pattern}"
        (path / name).write_text(new)

    return change


def nothing_happened(path: Path) -> None:
    """The lists behind every call are those before it."""
    rows = json.loads((path / "main/calls.json").read_text())
    for row in rows:
        row["after"] = row["before"]
    (path / "main/calls.json").write_text(json.dumps(rows))


def another_block(path: Path) -> None:
    rows = json.loads((path / "main/calls.json").read_text())
    rows[0]["pfn"] += 1 << rows[0]["arguments"][1]
    (path / "main/calls.json").write_text(json.dumps(rows))


@pytest.mark.parametrize("name", KEPT)
def test_everything_holds_and_can_be_drawn(judged: Callable[..., Finding], name: str) -> None:
    finding = judged(name)
    assert {claim.verdict for claim in finding.claims} == {Verdict.HOLDS}
    for exhibit in finding.exhibits:
        if hasattr(exhibit, "draw"):
            assert exhibit.draw().axes


@pytest.mark.parametrize(
    ("name", "change", "fails"),
    [
        ("buddy/splitting", nothing_happened, {"split_rest", "split_lists"}),
        ("buddy/splitting", another_block, {"block_taken"}),
        ("buddy/coalescing", nothing_happened, {"merged_block", "merge_lists", "stays_apart"}),
        ("buddy/migratetypes", nothing_happened, {"steal_lists"}),
        ("buddy/migratetypes", another_block, {"block_taken"}),
        (
            "buddy/migratetypes",
            edited("main/trace.txt", "change_ownership=0", "change_ownership=1"),
            {"extfrag", "both_ways"},
        ),
        (
            "buddy/migratetypes",
            edited("main/trace.txt", ".*extfrag.*\n", ""),
            {"extfrag", "both_ways"},
        ),
        (
            "buddy/coalescing",
            edited("cma/capture/dmesg", "cma: Reserved 30 MiB", "cma: Reserved 26 MiB"),
            {"reserved_pair"},
        ),
        (
            "buddy/handover",
            edited(
                "main/capture/dmesg",
                r"( reserved\[0x0\]\s+\[0x)0{16}(-0x0+fffff\])",
                r"\g<1>0000000000002000\2",
            ),
            {"handover_pages", "handover_blocks"},
        ),
    ],
)
def test_changed_evidence_fails(
    judged: Callable[..., Finding], name: str, change: Change, fails: set[str]
) -> None:
    assert failing(judged(name, change)) >= fails


def test_a_block_that_came_back_apart_from_its_buddy_breaks_the_law(
    judged: Callable[..., Finding],
) -> None:
    """CMA's pageblock taken for a movable one: its free buddy should have merged with it."""

    def change(path: Path) -> None:
        with np.load(path / "cma/lists.npz") as archive:
            arrays = {name: archive[name] for name in archive.files}
        names = json.loads(bytes(arrays["meta"]))["migratetypes"]
        cma, movable = names.index("CMA"), names.index("Movable")
        blocks = arrays["pageblocks"]
        blocks["migratetype"][blocks["migratetype"] == cma] = movable
        np.savez_compressed(path / "cma/lists.npz", **arrays)

    assert failing(judged("buddy/coalescing", change)) == {"no_unmerged_buddies"}


def test_a_load_that_steals_nothing_shows_nothing(judged: Callable[..., Finding]) -> None:
    """Calls that found blocks of their own type, and a trace without an event."""

    def change(path: Path) -> None:
        shutil.rmtree(path / "main/calls")
        shutil.copytree(FIXTURES / "buddy-splitting/main/calls", path / "main/calls")
        rows = json.loads((FIXTURES / "buddy-splitting/main/calls.json").read_text())
        own = [row for row in rows if row["step"] != "take:1:10"]
        (path / "main/calls.json").write_text(json.dumps(own))
        (path / "main/trace.txt").write_text("")

    finding = judged("buddy/migratetypes", change)
    assert failing(finding) == {"extfrag", "both_ways"}
    assert finding.exhibits == ()


def test_neighbours_that_nobody_freed_were_not_seen_to_stay_apart(
    judged: Callable[..., Finding],
) -> None:
    def change(path: Path) -> None:
        rows = json.loads((path / "main/calls.json").read_text())
        rows = [row for row in rows if row["step"] not in ("drop:7", "drop:3")]
        (path / "main/calls.json").write_text(json.dumps(rows))

    finding = judged("buddy/coalescing", change)
    assert failing(finding) == {"stays_apart"}
    assert "apart" not in [exhibit.id for exhibit in finding.exhibits]


@pytest.mark.parametrize(
    ("old", "new", "why"),
    [
        (".*cma: Reserved.*\n", "", "no CMA area"),
        ("cma: Reserved 30 MiB", "cma: Reserved 32 MiB", "without half a pair"),
    ],
)
def test_without_half_a_pair_that_is_cma_no_pair_was_seen(
    judged: Callable[..., Finding], old: str, new: str, why: str
) -> None:
    """The free lists are those of a kernel without CMA, on which no two buddies are apart."""

    def change(path: Path) -> None:
        shutil.copy(path / "main/calls/046-after.npz", path / "cma/lists.npz")
        edited("cma/capture/dmesg", old, new)(path)

    finding = judged("buddy/coalescing", change)
    (claim,) = (claim for claim in finding.claims if claim.id == "reserved_pair")
    assert claim.verdict is Verdict.FAILS
    assert why in claim.why


@pytest.mark.parametrize(
    ("name", "old", "new", "why"),
    [
        ("config", "CONFIG_CMA=y", "# CONFIG_CMA is not set", "CONFIG_CMA"),
        ("dmesg", "cma: Reserved 30 MiB.*", "cma: Failed to reserve 30 MiB", "refuses"),
    ],
)
def test_a_kernel_without_cma_has_no_pair_to_show(
    judged: Callable[..., Finding], name: str, old: str, new: str, why: str
) -> None:
    finding = judged("buddy/coalescing", edited(f"cma/capture/{name}", old, new))
    (claim,) = (claim for claim in finding.claims if claim.id == "reserved_pair")
    assert claim.verdict is Verdict.UNKNOWN
    assert why in claim.why


def test_a_half_pair_that_is_in_use_was_not_seen_to_stay_apart(
    judged: Callable[..., Finding],
) -> None:
    """The movable pageblock beside CMA has lost a page."""

    def change(path: Path) -> None:
        with np.load(path / "cma/lists.npz") as archive:
            arrays = {name: archive[name] for name in archive.files}
        blocks = arrays["blocks"]
        beside = (blocks["pfn"] == 0x51E00) & (blocks["order"] == 9)
        assert beside.sum() == 1
        blocks["pfn"][beside] += 1 << 8
        blocks["order"][beside] = 8
        np.savez_compressed(path / "cma/lists.npz", **arrays)

    finding = judged("buddy/coalescing", change)
    (claim,) = (claim for claim in finding.claims if claim.id == "reserved_pair")
    assert claim.verdict is Verdict.FAILS
    assert "in use" in claim.why


HEAD = "# entries-in-buffer/entries-written: {written}/{written}   #P:1\n"
SWITCH = "pktring-185 [000] d..2. {at}: sched_switch: prev_comm=pktring prev_pid=185 prev_prio=100 \
prev_state=R+ ==> next_comm=kswapd0 next_pid=42 next_prio=139\n"


def counted(*switched: int, lost: int = 0) -> Change:
    """The trace by a clock that counts events, one fallback a call; kswapd ran in these calls."""

    def change(path: Path) -> None:
        trace = path / "main/trace.txt"
        lines, at = [], 0
        for number, line in enumerate(trace.read_text().splitlines(), 1):
            if number in switched:
                at += 1
                lines.append(SWITCH.format(at=at))
            at += 1
            lines.append(re.sub(r"\d+\.\d+: mm_", f"{at}: mm_", line) + "\n")
        head = HEAD.format(written=at).replace(f"/{at}", f"/{at + lost}")
        trace.write_text(head + "".join(lines))
        reached = 0
        for number, row in enumerate(json.loads((path / "main/calls.json").read_text()), 1):
            for name, events in ((row["before"], 0), (row["after"], 1 + (number in switched))):
                reached += events
                with np.load(path / "main" / name) as archive:
                    arrays = {key: archive[key] for key in archive.files}
                meta = json.loads(bytes(arrays["meta"])) | {"trace_counter": reached}
                arrays["meta"] = np.frombuffer(json.dumps(meta).encode(), np.uint8)
                np.savez_compressed(path / "main" / name, **arrays)

    return change


def test_events_belong_to_the_call_in_which_they_fell(judged: Callable[..., Finding]) -> None:
    finding = judged("buddy/migratetypes", counted())
    assert {claim.verdict for claim in finding.claims} == {Verdict.HOLDS}
    assert sum(claim.id == "extfrag" for claim in finding.claims) == 2


def test_a_fallback_too_many_is_its_calls_alone(judged: Callable[..., Finding]) -> None:
    """As where a per-cpu list is filled with several blocks: the others keep their partners."""

    def change(path: Path) -> None:
        counted()(path)
        trace = path / "main/trace.txt"
        lines = trace.read_text().splitlines(keepends=True)
        first = next(at for at, line in enumerate(lines) if "extfrag" in line)
        trace.write_text("".join([*lines[:first], lines[first], *lines[first:]]))

    finding = judged("buddy/migratetypes", change)
    told = [claim for claim in finding.claims if claim.id == "extfrag"]
    assert [claim.verdict for claim in told] == [Verdict.HOLDS, Verdict.FAILS, Verdict.HOLDS]
    assert told[1].predicted == "none"


def test_a_call_that_lost_the_cpu_is_left_out(judged: Callable[..., Finding]) -> None:
    """Whatever came of it: what lies between its two readings was not its doing alone."""

    def change(path: Path) -> None:
        counted(1)(path)
        another_block(path)

    finding = judged("buddy/migratetypes", change)
    assert not failing(finding)
    claims = {claim.id: claim for claim in finding.claims}
    assert claims["block_taken"].scope["call"] == 2
    assert sum(claim.id == "extfrag" for claim in finding.claims) == 1
    assert claims["steal_lists"].scope["calls"] == 1
    assert "call 1: kswapd0" in claims["steal_lists"].working[-1]


@pytest.mark.parametrize(
    ("line", "who"),
    [
        ("kworker/0:1-9 [000] ..... 7: mm_page_alloc: page=00 pfn=0x1f order=0", "kworker/0:1"),
        ("pktring-185 [000] ..s1. 7: mm_page_free: page=00 pfn=0x1f order=0", "pktring"),
        ("a-9 [000] d..2. 7: sched_switch: ==> next_comm=kcompactd0 next_pid=3", "kcompactd0"),
        ("a-9 [000] d..2. 7: sched_switch: prev_comm=kswapd0 ==> next_comm=a next_pid=9", ""),
        ("a-9 [000] d..2. 7: sched_switch: prev_comm=a ==> next_comm=rcu_preempt next_pid=3", ""),
        ("k-9 [000] ..... 7: workqueue_execute_start: function vmstat_update", "vmstat_update"),
        ("k-9 [000] ..... 7: workqueue_execute_start: function flush_to_ldisc", ""),
        ("pktring-185 [000] d..1. 7: mm_page_alloc_extfrag: pfn=0x1fc0 alloc_order=5", ""),
    ],
)
def test_others_are_at_the_allocator_when_they_change_what_is_read(
    tmp_path: Path, line: str, who: str
) -> None:
    shutil.copy(FIXTURES / "buddy-splitting/main/boot.json", tmp_path)
    (tmp_path / "trace.txt").write_text(f"# tracer: nop\n{line}\n")
    events = ring_events(BootEvidence(tmp_path))
    assert events is not None
    assert [event.disturbs for event in between(events, 6, 7)] == [who]
    assert not between(events, 7, 8)
    assert not between(events, None, 8)


@pytest.mark.parametrize("change", [counted(1, 2), counted(lost=3)])
def test_calls_of_which_nothing_is_known_for_sure_are_not_judged(
    judged: Callable[..., Finding], change: Change
) -> None:
    with pytest.raises(MissingInputError):
        judged("buddy/migratetypes", change)


def test_room_is_counted_in_the_zone_that_has_most() -> None:
    zone = "Node    0, zone {}, type {}  1  1  1  1  1  1  1  {}\n"
    told = (
        zone.format("DMA", "Movable", "8 0 0 1")
        + zone.format("DMA32", "Unmovable", "3 1 0 0")
        + zone.format("DMA32", "Movable", ">100 2 1 0")
        + zone.format("DMA32", "CMA", "0 0 0 1")
        + "Node 0, zone DMA32   28  172  4  0\n"
    )
    assert _room(told) == (3 + 2 + 4 + 4 + 8, 9)
    assert _room(zone.format("DMA", "Movable", "8 0 0 0")) == (0, 7)
