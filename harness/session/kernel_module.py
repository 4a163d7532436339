"""Bringing a kernel module of ours into a guest that runs already, and loading it.

It goes over the agent's port, in pieces: images stay what they are, and any guest will do.
"""

from __future__ import annotations

import base64

from harness.errors import WorkloadFailedError
from harness.kernel.external_module import ExternalModule
from harness.session.guest import Guest

_DEBUGFS = "/sys/kernel/debug"
_CHUNK_CHARACTERS = 40000
"""Well below what the agent takes in one request."""


def insert_module(guest: Guest, module: ExternalModule) -> None:
    """Load ``module``; debugfs, where it listens, is mounted if it is not.

    Raises:
        WorkloadFailedError: the guest lacks a program for it, or its kernel refuses the module.
    """
    at = f"/run/{module.path.name}"
    text = base64.b64encode(module.path.read_bytes()).decode()
    _run(guest, f": > {at}.base64")
    for start in range(0, len(text), _CHUNK_CHARACTERS):
        _run(guest, f'printf %s "$1" >> {at}.base64', text[start : start + _CHUNK_CHARACTERS])
    _run(guest, f"base64 -d {at}.base64 > {at} && rm {at}.base64")
    _run(guest, f"grep -q ' {_DEBUGFS} ' /proc/mounts || mount -t debugfs debugfs {_DEBUGFS}")
    _run(guest, f"insmod {at} && rm {at}")


def _run(guest: Guest, script: str, *arguments: str) -> None:
    result = guest.agent.run(["/bin/sh", "-c", script, "sh", *arguments])
    if result.status:
        said = result.stderr.decode(errors="replace").strip()
        raise WorkloadFailedError(
            "the module could not be loaded into the guest",
            details={"command": script, "it said": said or f"status {result.status}"},
        )
