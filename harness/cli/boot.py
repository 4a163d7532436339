"""``mmscope boot``: one guest, for a shell or a single command."""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from harness.cli.guest_run import guest_run
from harness.cli.options import (
    Accel,
    Append,
    Cpus,
    Distances,
    GuestArch,
    KernelConfig,
    KernelName,
    Modules,
    Nodes,
    Runs,
    Shapes,
)
from harness.cli.prepare import DEFAULT_RUNS, asked_machine, asked_spec, chosen_arch, prepare
from harness.cli.shellless import check_shell, shell_command
from harness.cli.terminal import TerminalProgress
from harness.errors import LostMachineError, UsageError
from harness.kernel.external_module import build_module
from harness.kernel.kconfig import read_kconfig
from harness.kernel.needs import check_network
from harness.kernel.own import OwnFiles
from harness.session.guest import Guest
from harness.session.kernel_module import insert_module


def boot(
    arch: GuestArch = None,
    shape: Shapes = None,
    node: Nodes = None,
    distance: Distances = None,
    cpus: Cpus = None,
    append: Append = None,
    kernel: KernelName = None,
    modules: Modules = None,
    config: KernelConfig = None,
    accel: Accel = None,
    command: Annotated[
        str | None,
        typer.Option("--command", help="Run this in the guest's shell and exit with its status."),
    ] = None,
    shell: Annotated[bool, typer.Option("--shell", help="A root shell by ssh.")] = False,
    slab_module: Annotated[
        bool,
        typer.Option(
            "--slab-module",
            help="Load our module that asks for memory on command (guest/module says how).",
        ),
    ] = False,
    runs: Runs = DEFAULT_RUNS,
    keep: Annotated[
        bool, typer.Option("--keep", help="Keep console and QEMU logs of a boot that went well.")
    ] = False,
) -> None:
    """Boot a guest for a shell or one command.

    Example: `mmscope boot --arch arm64 --node 512M --node 1G --distance 0,1=20 --shell`
    """
    if shell == (command is not None):
        raise UsageError(
            "boot wants either --shell or --command",
            fix="mmscope boot --command 'cat /proc/buddyinfo'",
        )
    arch = chosen_arch(arch, kernel)
    if shell:
        check_shell(arch, "ssh")
    words = shell_command(arch, command) if command is not None else []
    asked = asked_machine(node, distance, cpus, append, arch=arch, shape=shape)
    files = OwnFiles(modules=modules, config=config)
    progress = TerminalProgress()
    try:
        prepared = prepare(arch, kernel, progress.note, asked, files)
        if shell:
            check_network(read_kconfig(prepared.kernel.config_path), prepared.kernel.release)
        spec = asked_spec(asked, prepared, accel, progress.note)
        module = build_module(prepared.kernel, progress=progress.note) if slab_module else None
        with guest_run(
            "boot", spec, prepared, runs, shape=asked, progress=progress.note, ssh=shell, keep=keep
        ) as guest:
            if module is not None:
                insert_module(guest, module)
            progress.close()
            status = _shell(guest) if shell else _command(guest, words)
    finally:
        progress.close()
    raise typer.Exit(status)


def _shell(guest: Guest) -> int:
    session = guest.ssh()
    try:
        return session.shell()
    except LostMachineError:
        if guest.machine.poll() == 0:  # someone typed poweroff, which is a way to leave
            return 0
        raise
    finally:
        session.close()


def _command(guest: Guest, words: list[str]) -> int:
    def show(data: bytes, is_stderr: bool) -> None:
        target = sys.stderr.fileno() if is_stderr else sys.stdout.fileno()
        while data:
            data = data[os.write(target, data) :]

    return guest.agent.run(words, on_output=show).status
