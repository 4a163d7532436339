"""Sizes as kernel parameters write them: ``512M``, ``0x1000``, ``25%``."""

from __future__ import annotations

import re

_NUMBER = re.compile(r"0[xX][0-9a-fA-F]+|0[0-7]*|[1-9][0-9]*")
_SHIFTS = {"K": 10, "M": 20, "G": 30, "T": 40, "P": 50, "E": 60}


def leading_size(text: str) -> tuple[int, str]:
    """Bytes at the begin of a text, and the rest of it.

    Raises:
        ValueError: the text does not begin with a number.

    Kernel: lib/cmdline.c, ``memparse``: a number in C's notation (0x and octal too) and one of
        K, M, G, T, P, E in either case; 5.10 to 7.3.
    Ignores: numbers of more than 64 bits.
    """
    match = _NUMBER.match(text)
    if match is None:
        raise ValueError(f"{text!r} does not begin with a number")
    digits, rest = match[0], text[match.end() :]
    octal = digits.startswith("0") and digits[1:].isdecimal()
    number = int(digits, 8) if octal else int(digits, 0)
    if rest and rest[0].upper() in _SHIFTS:
        return number << _SHIFTS[rest[0].upper()], rest[1:]
    return number, rest


def core_pages(text: str, total_pages: int, page_bytes: int) -> int:
    """Pages that the value of ``kernelcore=`` or ``movablecore=`` asks for.

    Raises:
        ValueError: the text is no size.

    Kernel: mm/mm_init.c (page_alloc.c to 6.3), ``cmdline_parse_core`` and the shares in
        ``find_zone_movable_pfns_for_nodes``; the same arithmetic in 5.10 to 7.3.
    Ignores: ``kernelcore=mirror``, which is no size.
    """
    match = _NUMBER.match(text)
    if match is not None and text[match.end() :].startswith("%"):
        percent, _ = leading_size(match[0])
        return total_pages * 100 * percent // 10000
    return leading_size(text)[0] // page_bytes
