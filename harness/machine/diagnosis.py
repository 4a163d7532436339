"""Why a guest did not come up, told from what its kernel printed.

Kernel: the texts are init/main.c's, init/do_mounts.c's, init/initramfs.c's and kernel/exit.c's,
the same in all releases from 5.10 on; lines that begin with ``mmscope:`` are our own init's.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Diagnosis:
    """What is wrong, and what helps."""

    why: str
    fix: str


_CONSOLES: Mapping[str, str] = {
    "x86_64": "SERIAL_8250_CONSOLE",
    "i386": "SERIAL_8250_CONSOLE",
    "arm64": "SERIAL_AMBA_PL011_CONSOLE",
}
_ENOEXEC = "8"
_ENOENT = "2"

_UNPACKING = re.compile(r"Initramfs unpacking failed: (?P<why>.*)")
_INIT = re.compile(
    r"(?:Failed to execute |Requested init )(?P<path>\S+?)(?: failed)? \(error -(?P<error>\d+)\)"
)
_KILLED = re.compile(r"Attempted to kill init! exitcode=0x(?P<code>[0-9a-f]+)")
_NO_ROOT = re.compile(r"VFS: Unable to mount root fs|VFS: Cannot open root device")
_NO_CONSOLE = re.compile(r"Warning: unable to open an initial console")
_OURS = (
    (
        re.compile(r"mmscope: failed: no disk with the serial"),
        Diagnosis(
            why="the kernel found no virtio disk to take its root from",
            fix="CONFIG_VIRTIO_BLK and CONFIG_VIRTIO_PCI must be y, or m with their modules",
        ),
    ),
    (
        re.compile(r"mmscope: failed: mount \S+ on /newroot: No such device"),
        Diagnosis(
            why="the kernel cannot read erofs, which the guest's root is in",
            fix="CONFIG_EROFS_FS must be y, or m with its module",
        ),
    ),
    (
        re.compile(r"mmscope: failed: agent: port \S+: No such file"),
        Diagnosis(
            why="the kernel has no virtio console, which is the channel to the guest's agent",
            fix="CONFIG_VIRTIO_CONSOLE and CONFIG_VIRTIO_PCI must be y, or m with their modules",
        ),
    ),
    (
        re.compile(r"mmscope: failed: mount (?P<what>\S+) on \S+: No such device"),
        Diagnosis(
            why="the kernel lacks a file system that every guest mounts",
            fix="kernel-configs/fragments/guest.config has all that guests need",
        ),
    ),
    (
        re.compile(r"mmscope: failed: module \S+: Exec format error"),
        Diagnosis(
            why="a module is not of this very kernel",
            fix="give the modules of the same build: --modules …/lib/modules/RELEASE",
        ),
    ),
)
_SIGNALS = {
    4: "an instruction that this CPU model lacks",
    7: "a bus error",
    11: "a memory fault",
}


def diagnose(console: str, arch: str, *, ended: bool) -> Diagnosis | None:
    """What a console text of a boot that failed says; None where it says nothing known.

    ``ended``: QEMU is gone, which with ``-no-reboot`` a reset by the guest does as well.
    """
    lines = console.strip()
    if not lines:
        return _reset("before it printed anything") if ended else _silence(arch)
    for pattern, diagnosis in _OURS:
        if pattern.search(console):
            return diagnosis
    if (unpacking := _UNPACKING.search(console)) is not None:
        return Diagnosis(
            why=f"the kernel did not take its initramfs: {unpacking['why'].strip()}",
            fix="if it was built anew meanwhile, try again; else remove it from images/ in the "
            "cache (`mmscope doctor` says where that is)",
        )
    if (init := _INIT.search(console)) is not None:
        return _init_failed(init["path"], init["error"])
    if _NO_ROOT.search(console):
        return Diagnosis(
            why="the kernel found no /init in its initramfs, or has no initramfs support",
            fix="CONFIG_BLK_DEV_INITRD must be y, and no parameter may name another init "
            "(rdinit=) or root (noinitrd)",
        )
    if (killed := _KILLED.search(console)) is not None:
        return _init_died(int(killed["code"], 16))
    if _NO_CONSOLE.search(console):
        return Diagnosis(
            why="the kernel starts init without a console: no serial driver serves as one",
            fix=f"CONFIG_{_CONSOLES.get(arch, 'TTY')} must be y (a module comes too late)",
        )
    if ended and "Kernel panic" not in console:
        return _reset(f"after {lines.splitlines()[-1].strip()!r}")
    return None


def _silence(arch: str) -> Diagnosis:
    symbol = _CONSOLES.get(arch)
    driver = f" (CONFIG_{symbol}=y)" if symbol else ""
    return Diagnosis(
        why=f"the kernel has no driver for the serial console{driver}, or does not run on this "
        "CPU model or accelerator",
        fix="try --accel tcg and another --kernel; run `mmscope doctor`",
    )


def _reset(when: str) -> Diagnosis:
    return Diagnosis(
        why=f"the kernel reset the machine {when}",
        fix="it may need a CPU feature that the emulated one lacks, or memory: try a larger --node "
        "and another --kernel",
    )


def _init_failed(path: str, error: str) -> Diagnosis:
    reasons = {
        _ENOEXEC: Diagnosis(
            why=f"the kernel cannot execute {path}: of that format it runs no programs",
            fix="CONFIG_BINFMT_ELF and CONFIG_BINFMT_SCRIPT must be y",
        ),
        _ENOENT: Diagnosis(
            why=f"there is no {path} in the initramfs, or no interpreter for it",
            fix="no parameter may name another init (rdinit=, init=)",
        ),
    }
    return reasons.get(
        error,
        Diagnosis(
            why=f"the kernel cannot execute {path} (error {error})",
            fix="see the console log in the run directory",
        ),
    )


def _init_died(status: int) -> Diagnosis:
    """``status`` as wait() has it: exit code in the high byte, signal in the low."""
    signal = status & 0x7F
    how = (
        f"with status {status >> 8}" if not signal else _SIGNALS.get(signal, f"of signal {signal}")
    )
    return Diagnosis(
        why=f"the guest's first program ended: {how}",
        fix="see the console log in the run directory",
    )
