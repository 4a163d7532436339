"""Program counters from what QEMU's monitor prints."""

from __future__ import annotations

from harness.machine.cpus import parse_registers

X86 = """\r
CPU#0\r
RAX=ffffffff81e6a1c0 RBX=ffffffff82c12800 RCX=0000000000000001 RDX=0000000000001234\r
RIP=ffffffff81e6a1cf RFL=00000246 [---Z-P-] CPL=0 II=0 A20=1 SMM=0 HLT=1\r
\r
CPU#1\r
RIP=ffffffff8126d20f RFL=00000282 [--S----] CPL=0 II=0 A20=1 SMM=0 HLT=0\r
"""
ARM64 = """
CPU#0
 PC=ffff800008c6e2b4 X00=0000000000000000 X01=ffff80000a0d9d00
 SP=ffff80000a0c3e10 PSTATE=80000005 N--- EL1h
"""
M68K = """
CPU#0
D0 = 00000000   A0 = 00000000
PC = 0000247a   SR = 2004 T:0 I:0 SI --Z--
"""


def test_each_architecture_names_its_program_counter() -> None:
    assert parse_registers(X86) == {0: "0xffffffff81e6a1cf (halted)", 1: "0xffffffff8126d20f"}
    assert parse_registers(ARM64) == {0: "0xffff800008c6e2b4"}
    assert parse_registers(M68K) == {0: "0x0000247a"}


def test_what_is_not_told_is_left_out() -> None:
    assert parse_registers("") == {}
    assert parse_registers("CPU#0\nno registers here\n") == {}
