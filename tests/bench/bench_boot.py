"""Cold boot to the first answer, beside raw QEMU with the bare kernel until it wants a root.

Budget: 5 s on either architecture under TCG on two cores.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time

from harness.cli.prepare import prepare
from harness.machine.argv import PLATFORMS, kernel_command_line
from harness.machine.spec import MachineSpec, NodeSpec

ARCHES = ("x86_64", "arm64")
BOOTS = int(os.environ.get("MMSCOPE_BENCH_BOOTS", "10"))
_LIMIT_S = 300


def run() -> list[tuple[str, float, str]]:
    """Medians and their ratio for each architecture."""
    rows: list[tuple[str, float, str]] = []
    for arch in ARCHES:
        answers_s = [_answer_s(arch) for _ in range(BOOTS)]
        raw_s = statistics.median(_raw_s(arch) for _ in range(max(3, BOOTS // 3)))
        median_s = statistics.median(answers_s)
        rows += [
            (f"{arch}: boot to answer, median of {BOOTS}", median_s, "s"),
            (f"{arch}: slowest of {BOOTS}", max(answers_s), "s"),
            (f"{arch}: raw QEMU, bare kernel, to its panic", raw_s, "s"),
            (f"{arch}: ratio", median_s / raw_s, "x"),
        ]
    return rows


def _answer_s(arch: str) -> float:
    """One ``mmscope boot --command``: from start until its first line of output."""
    with tempfile.TemporaryDirectory() as runs:
        start_s = time.monotonic()
        with subprocess.Popen(
            [
                *(sys.executable, "-m", "harness", "boot", "--arch", arch, "--runs", runs),
                *("--command", "cat /proc/buddyinfo"),
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        ) as process:
            assert process.stdout is not None
            line = process.stdout.readline()
            took_s = time.monotonic() - start_s
            process.wait(_LIMIT_S)
        if not line.startswith(b"Node 0"):
            raise RuntimeError(f"{arch}: the guest did not answer (status {process.returncode})")
    return took_s


def _raw_s(arch: str) -> float:
    """QEMU with nothing but the kernel: it panics for want of a root, and QEMU ends."""
    kernel = prepare(arch, None, lambda _: None).kernel
    platform = PLATFORMS[arch]
    spec = MachineSpec(
        arch=arch,
        nodes=(NodeSpec(size_bytes=1 << 30, cpus=(0, 1)),),
        kernel=kernel.boot_image,
        initramfs=kernel.boot_image,
    )
    start_s = time.monotonic()
    subprocess.run(
        [
            *(platform.binary, "-nodefaults", "-no-user-config", "-display", "none"),
            *("-no-reboot", "-machine", f"{platform.machine},accel=tcg"),
            *("-cpu", platform.cpu_model, "-smp", "2", "-m", "1G", "-serial", "stdio"),
            *("-kernel", str(kernel.boot_image), "-append", kernel_command_line(spec)),
        ],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        check=True,
        timeout=_LIMIT_S,
    )
    return time.monotonic() - start_s
