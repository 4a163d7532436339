"""``mmscope tour`` on a real guest: one quick stop, from boot to verdict, and an interrupt."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.cli.prepare import Prepared
from tests.conftest import qemu_pids
from tests.vm.conftest import Mmscope

pytestmark = [pytest.mark.vm, pytest.mark.timeout(300)]

STOP = "zones/dma"
PATIENCE_S = 120.0


def test_a_stop_is_walked_judged_and_not_walked_twice(mmscope: Mmscope, tmp_path: Path) -> None:
    where = ["--tours", str(tmp_path / "tours")]
    first = mmscope("tour", STOP, *where, "--json", "--html")
    assert first.returncode == 0, first.stderr
    told = json.loads(first.stdout)
    (stop,) = told["stops"]
    assert (stop["name"], stop["status"], stop["complaint"]) == (STOP, "holds", "")
    assert stop["summary"]["fails"] == stop["summary"]["unknown"] == 0
    assert stop["kernels"][0]["arch"] == "x86_64"
    for page in told["pages"]:
        assert "ZONE_DMA" in Path(page).read_text(encoding="utf-8")
    again = mmscope("tour", STOP, *where)
    assert again.returncode == 0, again.stderr
    assert "1 walked already" in again.stderr
    assert "4095 spanned - 97 without memory = 3998 present" in again.stdout
    offline = mmscope("tour", STOP, "--judge-only", told["tour"], "--json")
    assert json.loads(offline.stdout)["stops"] == told["stops"]


def test_a_stop_on_a_kernel_of_ones_own(
    mmscope: Mmscope, prepared: Callable[[str], Prepared], tmp_path: Path
) -> None:
    stock = prepared("x86_64").kernel
    image = tmp_path / "vmlinuz"
    shutil.copyfile(stock.boot_image, image)
    shutil.copyfile(stock.config_path, tmp_path / f"config-{stock.release}")
    where = ["--tours", str(tmp_path / "tours")]
    own = ["--kernel", str(image), "--modules", str(stock.modules_directory)]
    done = mmscope("tour", "zones/dma32", *own, *where, "--json")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    (stop,) = told["stops"]
    assert stop["status"] == "holds"
    assert stop["kernels"][0]["release"] == stock.release
    (boot,) = Path(told["tour"]).glob("stops/zones-dma32/main/boot.json")
    assert json.loads(boot.read_text())["kernel"]["package"] == "own"
    listed = mmscope("tour", "zones/dma32", *own, *where, "--list", "--json")
    assert json.loads(listed.stdout)[0]["state"] == "walked"
    listed = mmscope("tour", "zones/dma32", *where, "--list", "--json")
    assert json.loads(listed.stdout)[0]["state"] == "not walked", "on the stop's own kernel"


@pytest.mark.usefixtures("no_qemu_left")
def test_an_interrupt_leaves_a_record_and_no_qemu(tmp_path: Path) -> None:
    argv = [sys.executable, "-m", "harness", "tour", STOP, "--tours", str(tmp_path / "tours")]
    process = subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    end_s = time.monotonic() + PATIENCE_S
    while not qemu_pids():
        assert time.monotonic() < end_s
        assert process.poll() is None
        time.sleep(0.1)
    os.kill(process.pid, signal.SIGINT)
    _, said = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 130, said
    (record,) = (tmp_path / "tours").glob("*/stops/zones-dma/stop.json")
    assert json.loads(record.read_text())["complaint"] == "interrupted"
