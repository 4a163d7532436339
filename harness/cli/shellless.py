"""Guests that have no shell: those of architectures that Debian's archive has no packages for."""

from __future__ import annotations

import re
import shlex

from harness.errors import UsageError
from harness.kernel.package import port_of
from harness.workload.mechanism import BUSYBOX

GUEST_SHELL = "/bin/sh"

COMMANDS = (
    *("cat FILE…", "dmesg", "grep WORD… FILE", "ls -l DIRECTORY", "sysctl -w NAME=VALUE"),
    "uname -a",
)
"""What ``mmscope-tools`` knows (guest/tools)."""

_SYNTAX = re.compile(r"[|&;<>()$`*?\[\]{}~\n]")


def has_shell(arch: str) -> bool:
    """Whether guests of this architecture have a root with a shell, programs and ssh."""
    return port_of(arch).archived


def check_shell(arch: str, what: str) -> None:
    """Raises UsageError where ``what`` needs a shell that guests of ``arch`` do not have."""
    if not has_shell(arch):
        raise UsageError(
            f"{arch} guests have no {what}: they stay in an initramfs of mmscope's own programs, "
            f"since Debian's archive has no packages for {arch}",
            fix=f"use --command with one of: {'; '.join(COMMANDS)}",
        )


def shell_command(arch: str, command: str) -> list[str]:
    """The words that run ``command`` in a guest: by its shell, where it has one.

    Raises:
        UsageError: there is none, and the command is written for one.
    """
    return [GUEST_SHELL, "-c", command] if has_shell(arch) else bare_command(command)


def bare_command(command: str) -> list[str]:
    """The words of a command that needs no shell, as the agent starts it.

    Raises:
        UsageError: it is written for a shell.
    """
    found = _SYNTAX.search(command)
    try:
        words = shlex.split(command)
    except ValueError as error:
        raise UsageError(f"--command {command!r}: {error}") from None
    if found or not words:
        what = f"{found[0]!r} means something to a shell only" if found else "it is empty"
        raise UsageError(
            f"--command {command!r}: {what}, and this guest has none",
            fix=f"give one of: {'; '.join(COMMANDS)}",
        )
    return [BUSYBOX, *words]
