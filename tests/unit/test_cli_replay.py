"""``mmscope replay`` and ``mmscope check`` on made windows, as a user types them."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from harness.cli.app import app
from tests.made_window import MadeEvent, MadeKernel, write_run, write_window

RELEASE = "6.1.0-1-amd64"
run = CliRunner()


def made_run(path: Path, *, corrupt: bool = False, lost: int = 0) -> Path:
    """A run of one window, without any sample of /proc."""
    kernel = MadeKernel()
    samples = [kernel.sample("w/begin")]
    pages = [kernel.allocate(number % 3) for number in range(40)]
    for pfn in pages[::2]:
        assert pfn is not None
        kernel.free(pfn)
    samples.append(kernel.sample("w/end"))
    events: list[MadeEvent] = kernel.events
    if corrupt:
        at = next(at for at, event in enumerate(events) if "zone_locked" in event.name)
        events[at] = dataclasses.replace(events[at], values=(events[at].values[0] + 64, 0, 1))
    record = write_window(path, "w", events, samples, lost=lost)
    write_run(path, [record], release=RELEASE)
    return path


def test_replay_shows_a_table(tmp_path: Path) -> None:
    done = run.invoke(app, ["replay", str(made_run(tmp_path))])

    assert done.exit_code == 0, done.output
    assert f"replay of {RELEASE} on x86_64, 1 cpus, 1 nodes" in done.output
    (row,) = [line.split() for line in done.output.splitlines() if line.strip().startswith("w ")]
    assert row[2:5] == ["0", "0", "0"]
    assert row[-1] == "holds"


def test_replay_as_json_has_the_agreed_keys(tmp_path: Path) -> None:
    done = run.invoke(app, ["replay", str(made_run(tmp_path)), "--json", "--window", "w"])

    assert done.exit_code == 0
    shown = json.loads(done.stdout)
    assert list(shown) == ["windows", "events_per_s"]
    assert shown["windows"][0]["name"] == "w"
    assert shown["windows"][0]["verdict"] == "holds"


def test_replay_of_a_corrupt_event_exits_1(tmp_path: Path) -> None:
    done = run.invoke(app, ["replay", str(made_run(tmp_path, corrupt=True))])

    assert done.exit_code == 1
    assert "fails w: " in done.output


def test_replay_with_loss_is_unknown_and_exits_0(tmp_path: Path) -> None:
    done = run.invoke(app, ["replay", str(made_run(tmp_path, lost=3))])

    assert done.exit_code == 0
    assert "unknown w: 3 events were lost" in done.output


@pytest.mark.parametrize("corrupt", [False, True])
def test_check_knows_windows_where_proc_was_not_sampled(tmp_path: Path, corrupt: bool) -> None:
    done = run.invoke(app, ["check", str(made_run(tmp_path, corrupt=corrupt)), "--json"])

    assert done.exit_code == int(corrupt), done.output
    claims = json.loads(done.stdout)["claims"]
    assert {claim["id"] for claim in claims} == {
        "replay_pages",
        "replay_nr_free",
        "replay_events",
    }
    by_id = {claim["id"]: claim for claim in claims}
    assert by_id["replay_pages"]["scope"] == {"window": "w", "node": 0, "zone": "Normal"}
    assert by_id["replay_events"]["scope"] == {"window": "w"}
    assert by_id["replay_events"]["verdict"] == ("fails" if corrupt else "holds")
