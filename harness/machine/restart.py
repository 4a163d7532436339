"""The machine started anew and stopped where a function of its kernel has returned."""

from __future__ import annotations

import os
import time

from harness.errors import QmpError
from harness.machine.gdb import attached
from harness.machine.process import Machine

_MIB = 1 << 20
_RESET_S = 20.0


def restart_behind(machine: Machine, function: int, *, timeout_s: float = 60.0) -> None:
    """Starts a booted machine anew, with clean memory, up to where a function has returned.

    ``function`` is its address, which is the same at each boot without KASLR. Without clean memory
    struct pages that are made later would be those of the boot before. The first MiB is left
    alone: a PC's firmware looks there for how it was left. The machine stands still afterwards,
    and nothing that was under way in it goes on.

    Raises:
        QmpError: QEMU does not answer, or the kernel did not come there in time.
    """
    machine.qmp.execute("stop")
    machine.qmp.execute("set-action", {"reboot": "reset"})
    for number, memory_fd in enumerate(machine.memory_fds):
        if memory_fd is not None:
            for offset in range(0 if number else _MIB, os.fstat(memory_fd).st_size, _MIB):
                os.pwrite(memory_fd, bytes(_MIB), offset)
    machine.qmp.execute("system_reset")
    deadline_s = time.monotonic() + _RESET_S
    while machine.qmp.execute("query-status")["status"] != "prelaunch":
        if time.monotonic() > deadline_s:
            raise QmpError(f"the machine was not reset within {_RESET_S:g} s")
        time.sleep(0.05)
    with attached(machine, timeout_s=timeout_s) as gdb:
        gdb.run_to(function)
        gdb.run_to(gdb.return_address())
        machine.qmp.execute("stop")
