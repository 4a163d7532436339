"""Why guests did not come up: from what kernels printed when they were given what was wrong.

The texts of unpacking, /init, disks, erofs and channels are what Debian's 6.1 kernel printed when
its initramfs lacked or spoiled that one thing.
"""

from __future__ import annotations

import pytest

from harness.machine.diagnosis import diagnose

UNPACKING = (
    "[    2.184233] Initramfs unpacking failed: invalid magic at start of compressed archive\n"
)
RUN = "[    5.835130] Run /init as init process\n"
PANIC = (
    "[    2.571850] Kernel panic - not syncing: VFS: Unable to mount root fs on unknown-block(0,0)"
    "\n[    2.572401] CPU: 0 PID: 1 Comm: swapper/0 Not tainted 6.1.0-56-amd64 #1  Debian 6.1.192-2"
    "\n[    2.580819] Kernel Offset: disabled\n"
)
KILLED = "[    4.754201] Kernel panic - not syncing: Attempted to kill init! exitcode=0x"


@pytest.mark.parametrize(
    ("console", "why", "fix"),
    [
        (PANIC, "no /init in its initramfs, or has no initramfs support", "CONFIG_BLK_DEV_INITRD"),
        (
            UNPACKING + PANIC,
            "did not take its initramfs: invalid magic at start of compressed archive",
            "images/",
        ),
        (
            RUN + "mmscope: failed: mount /dev/vda on /newroot: No such device\n",
            "cannot read erofs",
            "CONFIG_EROFS_FS",
        ),
        (
            RUN + "mmscope: failed: no disk with the serial mmscope-root: No such device\n",
            "no virtio disk",
            "CONFIG_VIRTIO_BLK",
        ),
        (
            RUN + "mmscope: failed: agent: port org.mmscope.control: No such file or directory\n"
            "mmscope: ready\n",
            "no virtio console",
            "CONFIG_VIRTIO_CONSOLE",
        ),
        (
            RUN + "mmscope: failed: mount debugfs on /sys/kernel/debug: No such device\n",
            "lacks a file system",
            "guest.config",
        ),
        (
            RUN + "mmscope: failed: module erofs.ko: Exec format error\n",
            "not of this very kernel",
            "--modules",
        ),
        (
            f"{RUN}[    4.1] Failed to execute /init (error -8)\n{KILLED}00000200\n",
            "cannot execute /init: of that format",
            "CONFIG_BINFMT_SCRIPT",
        ),
        (
            f"{RUN}[    4.1] Failed to execute /init (error -2)\n{KILLED}00000200\n",
            "no /init in the initramfs, or no interpreter",
            "rdinit=",
        ),
        (
            "[    4.1] Kernel panic - not syncing: Requested init /x failed (error -13).\n",
            "cannot execute /x (error 13)",
            "console log",
        ),
        (f"{RUN}{KILLED}00007e00\n", "ended: with status 126", "console log"),
        (f"{RUN}{KILLED}00000004\n", "an instruction that this CPU model lacks", "console log"),
        (f"{RUN}{KILLED}00000009\n", "of signal 9", "console log"),
        (
            "[    2.1] Warning: unable to open an initial console.\n",
            "without a console",
            "CONFIG_SERIAL_8250_CONSOLE must be y",
        ),
        ("", "no driver for the serial console (CONFIG_SERIAL_8250_CONSOLE=y)", "--accel tcg"),
    ],
)
def test_each_cause_is_told(console: str, why: str, fix: str) -> None:
    found = diagnose(console, "x86_64", ended=False)
    assert found is not None
    assert why in found.why
    assert fix in found.fix


def test_the_console_is_the_architectures() -> None:
    found = diagnose("", "arm64", ended=False)
    assert found is not None
    assert "CONFIG_SERIAL_AMBA_PL011_CONSOLE=y" in found.why


def test_a_reset() -> None:
    silent = diagnose(" \n", "x86_64", ended=True)
    assert silent is not None
    assert silent.why == "the kernel reset the machine before it printed anything"
    later = diagnose("[    0.0] Linux version 6.1\n[    0.1] x86/fpu: on\n", "x86_64", ended=True)
    assert later is not None
    assert later.why == "the kernel reset the machine after '[    0.1] x86/fpu: on'"


@pytest.mark.parametrize(
    ("console", "ended"),
    [
        ("[    0.0] Linux version 6.1\n", False),
        ("[    9.9] Kernel panic - not syncing: Fatal exception\n", True),
    ],
)
def test_nothing_is_made_up(console: str, *, ended: bool) -> None:
    assert diagnose(console, "x86_64", ended=ended) is None
