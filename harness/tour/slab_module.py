"""Our kernel module in a guest of the tour: built, brought in and loaded when a stop wants it."""

from __future__ import annotations

import base64
from collections.abc import Sequence

from harness.errors import WorkloadFailedError
from harness.kernel.external_module import ExternalModule, build_module
from harness.session.protocol import CommandResult
from harness.tour.evidence import SHELL, Evidence

DIRECTORY = "/sys/kernel/debug/mmscope_slab"
_DEBUGFS = "/sys/kernel/debug"
_AT = "/run/mmscope_slab.ko"
_CHUNK_CHARACTERS = 40000
"""Well below what the agent takes in one request."""


def load_slab_module(evidence: Evidence) -> ExternalModule:
    """Build the module for the guest's kernel unless the cache has it, bring it in and load it.

    Raises:
        WorkloadFailedError: the guest's kernel refuses it.
        BuildError, UsageError, FetchError: see ``build_module``.
    """
    module = build_module(evidence.kernel, progress=evidence.progress)
    text = base64.b64encode(module.path.read_bytes()).decode()
    _quiet(evidence, f": > {_AT}.base64")
    for start in range(0, len(text), _CHUNK_CHARACTERS):
        chunk = text[start : start + _CHUNK_CHARACTERS]
        _quiet(evidence, f'printf %s "$1" >> {_AT}.base64', chunk)
    _quiet(evidence, f"base64 -d {_AT}.base64 > {_AT} && rm {_AT}.base64")
    _quiet(evidence, f"grep -q ' {_DEBUGFS} ' /proc/mounts || mount -t debugfs debugfs {_DEBUGFS}")
    evidence.run("insmod", "insmod", _AT)
    evidence.note(f"loaded {module.name}.ko of {module.release}, SHA-256 {module.sha256}")
    return module


def say(*commands: str) -> str:
    """Lines of a shell script that give the module these commands, one after another, without
    starting a process; the script ends where the module refuses."""
    lines = [f"echo '{command}' > {DIRECTORY}/command || exit 1" for command in commands]
    return "\n".join(lines) + "\n"


def show(*files: str) -> str:
    """Lines of a shell script that print files under a heading each, without starting a process."""
    return "".join(
        f"echo '== {file}'; while IFS= read -r line; do echo \"$line\"; done < {file}\n"
        for file in files
    )


def _quiet(evidence: Evidence, script: str, *arguments: str) -> CommandResult:
    argv: Sequence[str] = (SHELL, "-c", script, SHELL, *arguments)
    result = evidence.guest.agent.run(argv)
    if result.status:
        raise WorkloadFailedError(
            f"the module could not be brought into the guest ({script})",
            details={"it said": result.stderr.decode(errors="replace").strip()},
        )
    return result
