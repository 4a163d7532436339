"""Two stops about reclaim on real guests: probes at work, and everything they claim holds."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.conftest import qemu_pids
from tests.vm.conftest import Mmscope

pytestmark = [pytest.mark.vm, pytest.mark.timeout(600)]


def test_kswapd_wakes_and_rests_where_the_model_says(mmscope: Mmscope, tmp_path: Path) -> None:
    done = mmscope("tour", "reclaim/kswapd", "--json", "--tours", str(tmp_path / "tours"))
    assert done.returncode == 0, done.stderr
    assert qemu_pids() == set()
    (stop,) = json.loads(done.stdout)["stops"]
    assert stop["status"] == "holds"
    claims = {claim["id"] for claim in stop["claims"]}
    assert {"wake", "sleep", "rounds"} <= claims
    boots = {claim["scope"].get("boot") for claim in stop["claims"]}
    assert boots == {"main", "arm64"}
