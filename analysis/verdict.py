"""What becomes of a claim or a window: the words that every part of the analysis uses."""

from __future__ import annotations

from enum import Enum


class Verdict(Enum):
    """What became of a claim."""

    HOLDS = "holds"
    FAILS = "fails"
    UNKNOWN = "unknown"
