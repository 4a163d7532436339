"""One request and one free at a time: behind each, every list is the model's, in order."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from analysis.tour.evidence import BootEvidence
from analysis.tour.ring_calls import lists_claim, read_calls
from analysis.verdict import Verdict
from harness.cli.prepare import Prepared, bare_spec
from harness.machine.spec import NodeSpec
from harness.record.rundir import RunDirectory
from harness.session.guest import Guest
from harness.tour.evidence import Evidence
from harness.tour.ring_calls import ring_calls
from tests.vm.conftest import ARCHES, MIB

pytestmark = [pytest.mark.vm, pytest.mark.timeout(200)]

STEPS = ["take:1:5", "take:1:5", "take:1:7", "take:1:9", "drop:1", "drop:3", "drop:2", "drop:4"]


@pytest.mark.parametrize("arch", ARCHES)
def test_each_call_is_the_model_s(
    prepared: Callable[[str], Prepared], tmp_path: Path, arch: str
) -> None:
    made = prepared(arch)
    spec = bare_spec(made, (NodeSpec(size_bytes=512 * MIB, cpus=(0,)),))
    with Guest(spec, RunDirectory.create(tmp_path, "rings")) as guest:
        evidence = Evidence(guest, kernel=made.kernel, image=made.image, directory=tmp_path)
        ring_calls(evidence, STEPS, full=True)
    calls = read_calls(BootEvidence(tmp_path))
    assert [call.step for call in calls] == STEPS
    for call in calls:
        assert call.model_pfn == (call.pfn if call.taken else None)
        assert (call.model_gone, call.model_new) == (call.gone, call.new)
    # Since 6.12 a CPU may have kept a huge block to itself, so that no free list tells of it.
    assert sum(bool(call.gone or call.new) for call in calls) >= len(STEPS) - 2
    claim = lists_claim("lists", calls)
    assert claim.verdict is Verdict.HOLDS, claim.why
