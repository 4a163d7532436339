"""A sweep of real guests, interrupted and gone on with, then compared."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from harness.record.manifest import OutcomeKind
from harness.record.sweep import read_sweep
from tests.conftest import qemu_pids
from tests.vm.conftest import Mmscope

pytestmark = [pytest.mark.vm, pytest.mark.timeout(300)]

COMPARISON = """
name = "mine"
description = "Two settings of swappiness, which an idle guest does not show"
question = "Nothing?"
[machine]
nodes = ["256M"]
[[variants]]
name = "lazy"
sysctls = { "vm.swappiness" = 10 }
[[variants]]
name = "eager"
sysctls = { "vm.swappiness" = 90 }
[[phases]]
name = "null"
load = { workload = "pktring", steps = ["idle"], quiet_ms = 0 }
"""
DEADLINE_S = 90.0


def test_a_sweep_goes_on_where_it_was_interrupted(mmscope: Mmscope, tmp_path: Path) -> None:
    plan = tmp_path / "mine.toml"
    plan.write_text(COMPARISON)
    command = [sys.executable, "-m", "harness", "sweep", str(plan), "--repeat", "1"]
    before = qemu_pids()
    first = subprocess.Popen([*command, "--runs", str(tmp_path / "runs")])
    sweep = tmp_path / "runs" / "mine"
    end_s = time.monotonic() + DEADLINE_S
    while qemu_pids() == before or not any(sweep.glob("*/run-*/console.log")):
        assert time.monotonic() < end_s, "no guest was started"
        assert first.poll() is None
        time.sleep(0.1)
    first.send_signal(signal.SIGTERM)
    assert first.wait(timeout=60) == 130
    assert qemu_pids() == before, "no guest outlives the sweep"
    record = read_sweep(sweep)
    assert [run.outcome for run in record.runs] == [OutcomeKind.INTERRUPTED]

    done = mmscope(*command[3:], "--runs", str(tmp_path / "runs"), "--json")
    assert done.returncode == 0, done.stderr
    runs = json.loads(done.stdout)["runs"]
    assert [(run["variant"], run["outcome"]) for run in runs] == [
        (name, "completed") for _, name in record.order
    ]

    command = [sys.executable, "-m", "harness", "compare", str(sweep), "--json"]
    told = subprocess.run(command, capture_output=True, text=True, check=False, timeout=100)
    assert told.returncode == 0, told.stderr
    (pair,) = json.loads(told.stdout)["pairs"]
    assert [(each["kind"], each["name"]) for each in pair["configuration"]] == [
        ("setting", "vm.swappiness")
    ]
    assert "one run in a group" in pair["conclusion"][0]
