"""A run against the fake QEMU; as a program, for tests that kill it."""

from __future__ import annotations

import sys
from pathlib import Path

from harness.experiment.plan import Plan
from harness.experiment.runner import Run, RunRequest
from harness.image.assembly import Image
from harness.kernel.package import Kernel

PLAN = {
    "name": "fake",
    "machine": {"nodes": ["256M"]},
    "sampling": {"period_ms": 1000},
    "phases": [
        {
            "name": "null",
            "load": {"workload": "pktring", "steps": ["idle"]},
            "stall_s": 2,
            "ceiling_s": 30,
        },
        {"name": "cmd", "load": {"workload": "command", "command": ["true"]}},
    ],
}


class Silent:
    """Progress that nobody watches."""

    def stage(self, text: str) -> None:
        pass

    def note(self, text: str) -> None:
        pass


def fake_request(directory: Path, plan: object = None) -> RunRequest:
    """A request whose kernel and image are empty files; the fake QEMU does not mind."""
    for name in ("kernel", "initramfs", "root", "config"):
        (directory / name).touch()
    kernel = Kernel(
        name="fake",
        release="0.0.0-fake",
        arch="x86_64",
        package="linux-image-fake",
        version="0",
        directory=directory,
        boot_image=directory / "kernel",
        modules_directory=directory,
        config_path=directory / "config",
        sha256={"fake.deb": "0" * 64},
    )
    image = Image(
        arch="x86_64",
        initramfs=directory / "initramfs",
        root=directory / "root",
        initramfs_sha256="0" * 64,
        root_sha256="0" * 64,
        packages={},
        modules=(),
    )
    return RunRequest(
        plan=Plan.model_validate(plan or PLAN),
        kernel=kernel,
        image=image,
        accel="tcg",
        runs_root=directory / "runs",
    )


if __name__ == "__main__":
    Run(fake_request(Path(sys.argv[1])), Silent()).execute()
