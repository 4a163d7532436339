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

from analysis.tour.buddy import JUDGES
from analysis.tour.evidence import open_stop
from analysis.tour.finding import Finding
from analysis.verdict import Verdict

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
