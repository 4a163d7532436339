"""Where an arm64 function's atomic variable lies, read from the function's own instructions.

For static variables of kernels whose kallsyms has functions only. Instructions are those of the
Arm Architecture Reference Manual, C6.2.
"""

from __future__ import annotations

import struct

_ADRP, _ADRP_MASK = 0x9000_0000, 0x9F00_0000
_ADR, _ADR_MASK = 0x1000_0000, 0x9F00_0000
_ADD, _ADD_MASK = 0x9100_0000, 0xFF80_0000  # 64-bit, immediate
_MOVZ, _MOVZ_MASK = 0xD280_0000, 0xFF80_0000
_BRANCH, _BRANCH_MASK = 0x1400_0000, 0xFC00_0000
_HINT, _HINT_MASK = 0xD503_201F, 0xFFFF_F01F  # nop, paciasp, bti …
_LSE, _LSE_MASK = 0xF820_0000, 0xFF20_8C00  # ldadd, ldclr, ldset, swp … of 64 bits
_EXCLUSIVE, _EXCLUSIVE_MASK = 0xC840_0000, 0xFFE0_0000  # ldxr, ldaxr of 64 bits
_PREFETCH, _PREFETCH_MASK = 0xF980_0000, 0xFFC0_0000


def atomic_target(code: bytes, address: int) -> int | None:
    """Address of the first 64-bit word that the code at ``address`` accesses atomically.

    Follows plain branches, so that it does not matter which of the two alternatives (LSE or
    load-exclusive) the kernel has patched in. None when an instruction on the way is not among
    those that compilers use to form such an address: nothing is guessed.

    *Kernel:* atomic64_inc_return in arch/arm64/include/asm/atomic_lse.h and atomic_ll_sc.h, 6.1
    to 7.3.
    """
    words = struct.unpack(f"<{len(code) // 4}I", code[: len(code) & ~3])
    registers: dict[int, int] = {}
    index = 0
    for _ in range(len(words)):
        if not 0 <= index < len(words):
            return None
        word = words[index]
        target, source = word & 31, (word >> 5) & 31
        here = address + 4 * index
        index += 1
        if word & _ADRP_MASK == _ADRP:
            registers[target] = (here & ~0xFFF) + (_adr_immediate(word) << 12)
        elif word & _ADR_MASK == _ADR:
            registers[target] = here + _adr_immediate(word)
        elif word & _ADD_MASK == _ADD:
            if source not in registers:
                return None
            shift = 12 if word >> 22 & 1 else 0
            registers[target] = registers[source] + ((word >> 10 & 0xFFF) << shift)
        elif word & _MOVZ_MASK == _MOVZ:
            registers[target] = (word >> 5 & 0xFFFF) << (16 * (word >> 21 & 3))
        elif word & _BRANCH_MASK == _BRANCH:
            index += _signed(word & 0x3FF_FFFF, 26) - 1
        elif word & _LSE_MASK == _LSE or word & _EXCLUSIVE_MASK == _EXCLUSIVE:
            return registers.get(source)
        elif word & _HINT_MASK != _HINT and word & _PREFETCH_MASK != _PREFETCH:
            return None
    return None


def _adr_immediate(word: int) -> int:
    return _signed((word >> 5 & 0x7_FFFF) << 2 | (word >> 29 & 3), 21)


def _signed(value: int, bits: int) -> int:
    return value - (1 << bits) if value >> (bits - 1) else value
