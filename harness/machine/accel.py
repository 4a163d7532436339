"""KVM counts as usable only when a guest has really come up under it.

/dev/kvm may exist, answer its API version, create a virtual machine, and still hang every guest
(nested virtualisation that is half configured). So the kernel that is to be booted is booted
once, without its root, and must say that it is ready before a deadline; the answer is kept for
this host, its kernel and this QEMU.
"""

from __future__ import annotations

import dataclasses
import json
import os
import platform
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from harness.deadline import StallClock
from harness.errors import LaunchError, MmscopeError, UsageError
from harness.kernel import package
from harness.kernel.cache import cache_root, read_json_object, write_atomically
from harness.machine.process import Machine
from harness.machine.qemu import find_qemu, qemu_version
from harness.machine.spec import MachineSpec, NodeSpec
from harness.record.rundir import RunDirectory

ACCELS = ("auto", "tcg", "kvm")
PROBE_STALL_S = 12.0
PROBE_CEILING_S = 60.0
_READY = "mmscope: ready"
_ALSO_RUNS: Mapping[str, frozenset[str]] = {"x86_64": frozenset({"i386"})}
"""Host → further architectures whose guests its CPUs run."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KvmVerdict:
    """Whether KVM runs guests of this architecture here, and how that is known."""

    usable: bool
    why: str


def host_arch() -> str:
    """This machine's architecture in our words (``x86_64``, ``arm64``), or as the OS names it."""
    return package.host_arch() or platform.machine()


def without_probe(arch: str, device: Path = Path("/dev/kvm")) -> KvmVerdict | None:
    """The verdict where no guest needs to be started for it; None where one must be."""
    if arch != host_arch() and arch not in _ALSO_RUNS.get(host_arch(), ()):
        return KvmVerdict(usable=False, why=f"{arch} guests are emulated on a {host_arch()} host")
    if not device.exists():
        return KvmVerdict(usable=False, why=f"there is no {device}")
    if not os.access(device, os.R_OK | os.W_OK):
        return KvmVerdict(
            usable=False, why=f"{device} may not be opened (adduser {_user()} kvm, log in again)"
        )
    return None


def probe_kvm(
    spec: MachineSpec,
    *,
    scratch: Path,
    progress: Callable[[str], None],
    again: bool = False,
) -> KvmVerdict:
    """Boots the kernel under KVM to its first sign of life; remembers the answer.

    ``scratch`` is an existing directory for the probe's logs.
    """
    early = without_probe(spec.arch)
    if early is not None:
        return early
    key = f"{platform.release()} {qemu_version(find_qemu(spec.arch))} {spec.arch}"
    memory = cache_root() / "kvm.json"
    known = (read_json_object(memory) or {}).get(key)
    if isinstance(known, dict) and not again:
        return KvmVerdict(usable=bool(known.get("usable")), why=f"{known.get('why')} (remembered)")
    progress("probing whether KVM really runs a guest")
    try:
        verdict = _boot_under_kvm(spec, scratch)
    except LaunchError as error:
        verdict = KvmVerdict(usable=False, why=error.message)
    except MmscopeError as error:
        # Not remembered: a full disk or a busy host says nothing about KVM.
        return KvmVerdict(usable=False, why=f"a probe guest failed: {error.message}")
    answers = read_json_object(memory) or {}
    answers[key] = {"usable": verdict.usable, "why": verdict.why}
    write_atomically(memory, json.dumps(answers, indent=1) + "\n")
    return verdict


def choose_accel(
    requested: str,
    spec: MachineSpec,
    *,
    scratch: Path,
    progress: Callable[[str], None],
) -> str:
    """``tcg`` or ``kvm``. ``auto`` takes KVM where a probe guest has come up under it.

    Raises:
        UsageError: no such accelerator, or KVM was asked for and does not work here.
    """
    if requested not in ACCELS:
        raise UsageError(
            f"unknown accelerator {requested!r}", fix=f"use one of: {', '.join(ACCELS)}"
        )
    if requested == "tcg":
        return "tcg"
    verdict = probe_kvm(spec, scratch=scratch, progress=progress)
    if requested == "kvm" and not verdict.usable:
        raise UsageError(f"KVM does not work here: {verdict.why}", fix="use --accel tcg")
    return "kvm" if verdict.usable else "tcg"


def _boot_under_kvm(spec: MachineSpec, scratch: Path) -> KvmVerdict:
    probe = dataclasses.replace(
        spec,
        accel="kvm",
        nodes=(NodeSpec(size_bytes=256 << 20, cpus=(0,)),),
        distances=(),
        root=None,
        network=False,
        append=(),
    )
    clock = StallClock(PROBE_STALL_S, PROBE_CEILING_S)
    start_s = time.monotonic()
    with Machine(probe, RunDirectory(scratch / "kvm-probe")) as machine:
        printed = 0
        while not clock.expired:
            if _READY in machine.console.tail(40):
                took_s = time.monotonic() - start_s
                return KvmVerdict(usable=True, why=f"a probe guest came up in {took_s:.1f} s")
            if machine.console.received_bytes != printed:
                printed = machine.console.received_bytes
                clock.progress()
            machine.check_alive("probing KVM")
            machine.console.wait_change(0.2)
    what = f"after {printed} bytes of output" if printed else "and printed nothing"
    return KvmVerdict(usable=False, why=f"a probe guest hung for {PROBE_STALL_S:g} s {what}")


def _user() -> str:
    return os.environ.get("USER", "YOU")
