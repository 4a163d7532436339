"""Our kernel module, built against the stock headers and loaded into a real guest."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from analysis.model.vmalloc import area_size_bytes
from analysis.procfs import vmallocinfo
from analysis.tour.slab_requests import parse_requests, state_numbers
from harness.cli.prepare import Prepared, bare_spec
from harness.errors import WorkloadFailedError
from harness.machine.spec import NodeSpec
from harness.record.rundir import RunDirectory
from harness.session.guest import Guest
from harness.tour.evidence import Evidence
from harness.tour.slab_module import DIRECTORY, load_slab_module, say

pytestmark = pytest.mark.vm

MIB = 1 << 20


def test_the_module_asks_frees_and_leaves_nothing(
    prepared: Callable[[str], Prepared], tmp_path: Path
) -> None:
    made = prepared("x86_64")
    spec = bare_spec(made, (NodeSpec(size_bytes=256 * MIB, cpus=(0,)),))
    run = RunDirectory.create(tmp_path, "module")
    with Guest(spec, run) as guest:
        evidence = Evidence(
            guest, kernel=made.kernel, image=made.image, directory=tmp_path / "module"
        )
        load_slab_module(evidence)
        evidence.shell(
            "ask",
            say(
                "create mm_test 100 0 ctor",
                "quiet; alloc mm_test 50; free mm_test forward 2 0; alloc mm_test 5",
                "kmalloc 1 100 normal",
                "vmalloc 1 10000",
                "pages 1 2",
            ),
        )
        objects = parse_requests(evidence.shell("objects", f"cat {DIRECTORY}/objects"))
        cached, (plain, area, block) = objects[:55], objects[55:]
        assert sum(request.live for request in cached) == 30
        freed = {request.address for request in cached[:50] if not request.live}
        assert {request.address for request in cached[50:]} <= freed
        assert (plain.kind, plain.usable) == ("kmalloc", 128)
        assert (block.kind, block.pfn % 4) == ("pages", 0)
        frames = evidence.shell("frames", f"cat {DIRECTORY}/frames").split()
        assert [int(frames[0]), len(frames)] == [area.number, 1 + 3]
        listed = vmallocinfo.parse(evidence.shell("areas", "cat /proc/vmallocinfo"))
        ours = [a for a in listed if "mmscope_slab" in (a.caller or "") and a.pages == 3]
        assert [a.size_bytes for a in ours] == [area_size_bytes(3, 4096)]
        with pytest.raises(WorkloadFailedError):  # it has live objects
            evidence.shell("destroy", say("destroy mm_test"))
        with pytest.raises(WorkloadFailedError):
            evidence.shell("nonsense", say("alloc mm_other 1"))
        state = state_numbers(evidence.shell("state", f"cat {DIRECTORY}/state"))
        assert state["requests"] == len(objects)
        left = evidence.shell(
            "remove",
            "rmmod mmscope_slab; ls -d /sys/kernel/slab/mm_test /sys/kernel/debug/mmscope_slab "
            "2>/dev/null; grep -c mmscope_slab /proc/modules; dmesg | grep -E 'BUG|WARNING'; true",
        )
        assert left.split() == ["0"]
