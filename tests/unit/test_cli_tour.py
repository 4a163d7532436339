"""``mmscope tour`` without booting: names, lists, kernels that are not built, offline verdicts."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from harness.cli.app import app
from harness.cli.tour import select
from harness.errors import UsageError
from harness.tour.registry import STOPS
from tests.tour_evidence import tour_of

WALKED = ["nodes/numa", "zones/dma"]


@dataclass(frozen=True)
class Done:
    status: int
    stdout: str
    stderr: str


Tour = Callable[..., Done]


@pytest.fixture
def tour(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Tour:
    """Runs the verb in this process."""
    monkeypatch.setenv("COLUMNS", "200")

    def call(*arguments: str) -> Done:
        status = app(["tour", *arguments], standalone_mode=False)
        said = capsys.readouterr()
        return Done(status=int(status or 0), stdout=said.out, stderr=said.err)

    return call


def test_stops_and_topics_are_chosen_in_the_order_of_the_tour() -> None:
    assert select([]) == list(STOPS)
    assert [stop.name for stop in select(["zones/dma", "nodes"])] == [
        *(stop.name for stop in STOPS if stop.topic == "nodes"),
        "zones/dma",
    ]
    with pytest.raises(UsageError, match="no stop or topic 'zones/dmaa'") as caught:
        select(["zones/dmaa"])
    assert "zones/dma32" in caught.value.details["near"]


def test_the_list_tells_what_a_stop_boots_and_whether_it_is_done(
    tour: Tour, tmp_path: Path
) -> None:
    tour_of(["zones/dma"], tmp_path / "20260101T000000Z")
    done = tour("zones", "--list", "--json", "--tours", str(tmp_path))
    assert done.status == 0, done.stderr
    rows = {row["name"]: row for row in json.loads(done.stdout)}
    assert rows["zones/dma"]["state"] == "changed since it was walked"  # kept evidence is old
    assert rows["zones/highmem"]["state"] == "not walked"
    assert rows["zones/highmem"]["boots"] == [
        {"label": "main", "arch": "i386", "kernel": "bookworm"}
    ]


def test_a_recorded_tour_is_judged_without_a_guest(tour: Tour, tmp_path: Path) -> None:
    where = tour_of(WALKED, tmp_path)
    done = tour(*WALKED, "--judge-only", str(where), "--json", "--html", "--lang", "zh")
    assert done.status == 0, done.stderr
    told = json.loads(done.stdout)
    assert {stop["name"]: stop["status"] for stop in told["stops"]} == dict.fromkeys(
        WALKED, "holds"
    )
    assert told["pages"] == [str(where / "tour.zh.html")]
    shown = tour("zones/dma", "--judge-only", str(where))
    assert "▸         present  3998" in shown.stdout
    assert "holds zone_present (node 0, zone DMA): model and kernel say 3998 pages" in shown.stdout


def test_a_failing_claim_exits_1_and_is_told(tour: Tour, tmp_path: Path) -> None:
    where = tour_of(["zones/dma"], tmp_path)
    zoneinfo = where / "stops/zones-dma/main/capture/proc/zoneinfo"
    zoneinfo.write_text(zoneinfo.read_text().replace("present  3998", "present  3997"))
    done = tour("zones/dma", "--judge-only", str(where))
    assert done.status == 1
    assert "fails zone_present (node 0, zone DMA): model 3998, kernel 3997 pages" in done.stdout


def test_a_kernel_that_is_not_built_is_told_with_the_way_to_build_it(
    tour: Tour, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MMSCOPE_CACHE", str(tmp_path / "cache"))
    done = tour("nodes/uma", "--tours", str(tmp_path / "tours"))
    assert done.status == 3
    assert "the kernel 'uma' is not built for x86_64" in done.stdout
    assert "mmscope kernels build uma" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["zones/none"], "zones/none"),
        (["--judge-only", "/nonexistent"], "not a tour"),
        (["--judge-only", "/nonexistent", "--again"], "boots nothing"),
        (["--judge-only", "/nonexistent", "--kernel", "sid"], "boots nothing"),
        (["--modules", "/m"], "a kernel given by its path, not with the default one"),
        (["zones/dma", "--kernel", "sid", "--config", "/c"], "by its path, not with sid"),
        (["zones/dma", "--arch", "vax"], "vax"),
        (["zones/dma", "--kernel", "./none"], "none"),
    ],
)
def test_what_cannot_be_is_refused(arguments: list[str], complaint: str) -> None:
    with pytest.raises(UsageError, match=complaint):
        app(["tour", *arguments], standalone_mode=False)
