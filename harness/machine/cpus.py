"""Where the CPUs of a guest stand: what a guest that makes no progress can still be asked."""

from __future__ import annotations

import re

from harness.errors import QmpError
from harness.machine.process import Machine

_CPU = re.compile(r"^CPU#(\d+)\s*$", re.MULTILINE)
_COUNTER = re.compile(r"\b(?:RIP|EIP|PC) ?= ?([0-9a-f]{8,16})\b")
"""The program counter's name on x86, on arm64 and on m68k."""
_ASK_S = 3.0
_HALTED = re.compile(r"\bHLT=1\b")


def parse_registers(text: str) -> dict[int, str]:
    """CPU → ``0xffffffff81a4ec47``, or ``… (halted)``, from QEMU's ``info registers -a``.

    A CPU whose program counter is not shown is left out.
    """
    found: dict[int, str] = {}
    parts = _CPU.split(text)
    for number, registers in zip(parts[1::2], parts[2::2], strict=True):
        if (counter := _COUNTER.search(registers)) is not None:
            halted = " (halted)" if _HALTED.search(registers) else ""
            found[int(number)] = f"0x{counter[1]}{halted}"
    return found


def where_cpus_stand(machine: Machine) -> str:
    """``CPU 0 at 0x…, CPU 1 at 0x… (halted)``; empty when QEMU does not say so soon."""
    try:
        text = machine.qmp.human("info registers -a", timeout_s=_ASK_S)
    except (QmpError, RuntimeError):  # RuntimeError: the machine has ended, and its event loop
        return ""
    registers = parse_registers(text)
    return ", ".join(f"CPU {cpu} at {where}" for cpu, where in registers.items())
