"""The QEMU that is installed: where it is, what it calls itself, what it must not be trusted with.

QEMU before 8.1 loses a race: while one CPU of the guest translates a page of code, another may
write to it, and the translation of the old code stays. Linux patches its code all the time (static
keys, trace events, kprobes), so a CPU of such a guest is now and then stuck for ever on a
breakpoint that is long gone from its memory, or passes by an event that was enabled: with two
busy CPUs, at about every twentieth time that a trace event is switched (x86_64, QEMU 7.2; none of
4,270 times with 10.0). From 8.1 on the page is locked before it is translated. Older ones are
made to run all of a guest's CPUs in one thread, where nobody writes while another translates.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess

from harness.errors import LaunchError, MissingToolError
from harness.machine.argv import platform_of

_LOCKS_PAGES = (8, 1)


def find_qemu(arch: str) -> str:
    """Path of the QEMU binary for the architecture, honouring MMSCOPE_QEMU_<ARCH>.

    Raises:
        MissingToolError: it is not installed; says how to install it.
    """
    platform = platform_of(arch)
    override = os.environ.get(f"MMSCOPE_QEMU_{arch.upper()}")
    path = shutil.which(override or platform.binary)
    if path is None:
        raise MissingToolError(
            f"{override or platform.binary} is not installed",
            fix=f"apt-get install {platform.debian_package}",
        )
    return path


def qemu_version(binary: str) -> str:
    """First line of ``--version``; LaunchError when the program does not even say that."""
    try:
        answer = subprocess.run(
            [binary, "--version"], capture_output=True, text=True, timeout=30, check=True
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise LaunchError(f"{binary} --version failed: {error}") from None
    return answer.stdout.splitlines()[0].strip() if answer.stdout else binary


def may_keep_stale_code(version: str) -> bool:
    """Whether a QEMU of this ``--version`` may run code that another CPU has since patched.

    A version that cannot be read counts as a new one.
    """
    found = re.search(r"version (\d+)\.(\d+)", version)
    return found is not None and (int(found[1]), int(found[2])) < _LOCKS_PAGES
