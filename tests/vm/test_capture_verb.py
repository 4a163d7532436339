"""``mmscope capture`` of real guests, and what ``mmscope check`` says of them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.conftest import qemu_pids
from tests.vm.conftest import ARCHES, Mmscope

pytestmark = [pytest.mark.vm, pytest.mark.timeout(300)]


@pytest.mark.parametrize("arch", ARCHES)
def test_a_guest_holds_against_every_rule(arch: str, mmscope: Mmscope, tmp_path: Path) -> None:
    place = tmp_path / "here"
    done = mmscope(
        *("capture", str(place), "--arch", arch, "--node", "384M", "--node", "640M"),
        *("--sysctl", "vm.watermark_scale_factor=70", "--append", "movablecore=128M"),
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [str(place)]
    assert qemu_pids() == set()
    record = json.loads((place / "capture.json").read_text())
    assert record["settings"] == {"vm.watermark_scale_factor": "70"}
    assert record["machine"]["nodes"][1]["size_bytes"] == 640 << 20
    assert (place / "proc/sys/vm/watermark_scale_factor").read_text() == "70\n"
    assert not (tmp_path / "runs").exists(), "what went well keeps no run directory"
    checked = mmscope("check", str(place), "--json")
    result = json.loads(checked.stdout)
    failing = [claim for claim in result["claims"] if claim["verdict"] == "fails"]
    assert failing == []
    assert checked.returncode == 0
    assert result["summary"]["holds"] > 500
    assert result["summary"]["unknown"] < result["summary"]["holds"] / 10
    explained = mmscope("check", str(place), "--explain", "watermark_low").stdout
    assert "mm/page_alloc.c" in explained
    assert "70" in explained, "the arithmetic has the machine's own numbers"


def test_a_refused_sysctl_is_named_and_nothing_is_left(mmscope: Mmscope, tmp_path: Path) -> None:
    place = tmp_path / "here"
    done = mmscope("capture", str(place), "--sysctl", "vm.no_such_thing=1")
    assert done.returncode == 2
    assert "vm.no_such_thing=1: the guest refuses it" in done.stderr
    assert not place.exists()
    assert qemu_pids() == set()
