"""``mmscope doctor``: what is here, what is not, and the command that mends it."""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import typer

from harness.cli.options import Json
from harness.cli.prepare import Prepared, bare_spec
from harness.cli.terminal import TerminalProgress, output_console
from harness.errors import MmscopeError
from harness.image.assembly import build_image
from harness.image.programs import compiler_for
from harness.kernel.cache import cache_root
from harness.kernel.catalog import list_cached
from harness.kernel.package import port_of
from harness.kernel.toolchain import check_for_config, find_toolchain, host_has_header
from harness.machine.accel import host_arch, probe_kvm, without_probe
from harness.machine.argv import PLATFORMS
from harness.machine.qemu import find_qemu, may_keep_stale_code, qemu_version
from harness.machine.spec import NodeSpec

GIB = 1 << 30
NEEDED_BYTES = 2 * GIB
"""Kernel and guest packages, images and a few runs, two architectures."""

_TOOLS = (
    ("apt-get", "apt", "fetches and verifies packages"),
    ("dpkg-deb", "dpkg", "unpacks packages"),
    ("setpriv", "util-linux", "ends QEMU with mmscope"),
    ("mkfs.erofs", "erofs-utils", "makes the guest's root"),
    ("make", "make", "builds the guest's programs"),
    ("xz", "xz-utils", "unpacks sources of kernels"),
)

_CUSTOM_KERNELS_HAVE = {"CONFIG_OBJTOOL": "y", "CONFIG_DEBUG_INFO_BTF": "y"}
"""Symbols of custom kernels that ask something of the host that builds them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """``state`` is ``ok``, ``note`` (works without) or ``bad``."""

    what: str
    state: str
    detail: str
    fix: str = ""


def doctor(
    as_json: Json = False,
    again: Annotated[
        bool, typer.Option("--again", help="Probe KVM anew instead of remembering.")
    ] = False,
) -> None:
    """Say what is installed, whether KVM runs a guest, what is cached, and what mends the rest.

    Example: `mmscope doctor`
    """
    progress = TerminalProgress()
    try:
        findings = list(examine(progress.note, again=again))
    finally:
        progress.close()
    if as_json:
        typer.echo(json.dumps([asdict(finding) for finding in findings], indent=1))
    else:
        console = output_console()
        marks = {"ok": "[green]ok  [/]", "note": "[yellow]note[/]", "bad": "[red]bad [/]"}
        for finding in findings:
            console.print(
                f"{marks[finding.state]} {finding.what:22} {finding.detail}", highlight=False
            )
            if finding.fix:
                console.print(f"     {'':22} fix: {finding.fix}", highlight=False)
    if any(finding.state == "bad" for finding in findings):
        raise typer.Exit(3)


def examine(note: Callable[[str], None], *, again: bool) -> Iterator[Finding]:
    """All findings, cheap ones first."""
    yield _python()
    for arch in PLATFORMS:
        yield _qemu(arch)
    for program, package, purpose in _TOOLS:
        yield _tool(program, package, purpose)
    for arch in PLATFORMS:
        yield _compiler(arch)
    for arch in PLATFORMS:
        yield _build_tools(arch)
    yield _keyring()
    yield from _disk()
    yield from _cached()
    yield _kvm(note, again=again)


def _python() -> Finding:
    version = ".".join(str(part) for part in sys.version_info[:3])
    good = (3, 11) <= sys.version_info[:2] <= (3, 13)
    return Finding(
        what="python",
        state="ok" if good else "note",
        detail=version if good else f"{version}; tested are 3.11 to 3.13",
    )


def _qemu(arch: str) -> Finding:
    what = f"qemu {arch}"
    try:
        version = qemu_version(find_qemu(arch))
    except MmscopeError as error:
        return Finding(what=what, state=_lacking(arch), detail=error.message, fix=error.fix or "")
    turns = "; before 8.1: emulated CPUs take turns" if may_keep_stale_code(version) else ""
    return Finding(what=what, state="ok", detail=f"{version}{turns}")


def _lacking(arch: str) -> str:
    """How bad it is that something is not there which only guests of ``arch`` need."""
    return "bad" if port_of(arch).archived else "note"


def _tool(program: str, package: str, purpose: str, *, lacking: str = "bad") -> Finding:
    path = shutil.which(program)
    if path is None:
        return Finding(
            what=program,
            state=lacking,
            detail=f"not installed; {purpose}",
            fix=f"apt-get install {package}",
        )
    return Finding(what=program, state="ok", detail=purpose)


def _compiler(arch: str) -> Finding:
    compiler = compiler_for(arch, host=host_arch())
    purpose = f"compiles the {arch} guest's programs"
    return _tool(compiler.program, compiler.packages, purpose, lacking=_lacking(arch))


def _build_tools(arch: str) -> Finding:
    what = f"kernel builds {arch}"
    try:
        tools = find_toolchain(arch)
        check_for_config(_CUSTOM_KERNELS_HAVE, has_header=host_has_header)
    except MmscopeError as error:
        return Finding(what=what, state="note", detail=error.message, fix=error.fix or "")
    return Finding(what=what, state="ok", detail=tools.version)


def _keyring() -> Finding:
    path = Path(
        os.environ.get("MMSCOPE_KEYRING") or "/usr/share/keyrings/debian-archive-keyring.gpg"
    )
    if path.is_file():
        return Finding(what="keyring", state="ok", detail=str(path))
    return Finding(
        what="keyring",
        state="bad",
        detail=f"{path} is missing: nothing fetched could be verified",
        fix="apt-get install debian-archive-keyring",
    )


def _disk() -> Iterator[Finding]:
    for what, path in (("cache", cache_root()), ("runs", Path.cwd())):
        existing = path
        while not existing.exists():
            existing = existing.parent
        free_bytes = shutil.disk_usage(existing).free
        enough = free_bytes >= NEEDED_BYTES
        yield Finding(
            what=f"disk for {what}",
            state="ok" if enough else "bad",
            detail=f"{free_bytes / GIB:.1f} GiB free at {path}",
            fix="" if enough else "free some space, or set MMSCOPE_CACHE to another disk",
        )


def _cached() -> Iterator[Finding]:
    kernels = list_cached(cache_root())
    if not kernels:
        yield Finding(
            what="kernels",
            state="note",
            detail="none cached; the first boot fetches one",
            fix="mmscope kernels fetch",
        )
    for kernel in kernels:
        yield Finding(
            what=f"kernel {kernel.arch}",
            state="ok",
            detail=f"{kernel.release} ({kernel.name}, {kernel.version})",
        )


def _kvm(note: Callable[[str], None], *, again: bool) -> Finding:
    arch = host_arch()
    early = without_probe(arch)
    if early is not None:
        return Finding(what="kvm", state="note", detail=f"{early.why}; guests run under TCG")
    kernels = [kernel for kernel in list_cached(cache_root()) if kernel.arch == arch]
    if not kernels:
        return Finding(
            what="kvm",
            state="note",
            detail="/dev/kvm is there, but no kernel is cached to probe it with",
            fix=f"mmscope kernels fetch --arch {arch}",
        )
    try:
        image = build_image(kernels[0], progress=note)
        spec = bare_spec(
            Prepared(kernel=kernels[0], image=image),
            (NodeSpec(size_bytes=256 << 20, cpus=(0,)),),
        )
        with tempfile.TemporaryDirectory(prefix="mmscope-probe-") as scratch:
            verdict = probe_kvm(spec, scratch=Path(scratch), progress=note, again=again)
    except MmscopeError as error:
        return Finding(what="kvm", state="bad", detail=error.message, fix=error.fix or "")
    if verdict.usable:
        return Finding(what="kvm", state="ok", detail=verdict.why)
    return Finding(what="kvm", state="note", detail=f"{verdict.why}; guests run under TCG")
