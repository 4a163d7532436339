"""Sizes as people write them (512M, 1G) and as machines count them (bytes)."""

from __future__ import annotations

import re

from harness.errors import UsageError

_SUFFIX_BYTES = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
_SIZE = re.compile(r"^\s*(\d+)\s*([KMGT]?)(?:i?B)?\s*$", re.IGNORECASE)


def parse_size_bytes(text: str) -> int:
    """``"512M"`` → 536870912. Binary suffixes K, M, G, T; a bare number is bytes.

    Raises:
        UsageError: the text is not a size.
    """
    match = _SIZE.match(text)
    if match is None:
        raise UsageError(
            f"{text!r} is not a size", fix="write a number with K, M or G, for example 512M"
        )
    return int(match[1]) * _SUFFIX_BYTES[match[2].upper()]


def format_size(size_bytes: int) -> str:
    """The shortest exact form: 536870912 → ``"512M"``; what does not divide stays in bytes."""
    for suffix in ("T", "G", "M", "K"):
        unit_bytes = _SUFFIX_BYTES[suffix]
        if size_bytes and size_bytes % unit_bytes == 0:
            return f"{size_bytes // unit_bytes}{suffix}"
    return str(size_bytes)
