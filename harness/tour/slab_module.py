"""Our kernel module in a guest of the tour: built, brought in and loaded when a stop wants it."""

from __future__ import annotations

from harness.kernel.external_module import ExternalModule, build_module
from harness.session.kernel_module import insert_module
from harness.tour.evidence import Evidence

DIRECTORY = "/sys/kernel/debug/mmscope_slab"


def load_slab_module(evidence: Evidence) -> ExternalModule:
    """Build the module for the guest's kernel unless the cache has it, bring it in and load it.

    Raises:
        WorkloadFailedError: the guest's kernel refuses it.
        BuildError, UsageError, FetchError: see ``build_module``.
    """
    module = build_module(evidence.kernel, progress=evidence.progress)
    insert_module(evidence.guest, module)
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
