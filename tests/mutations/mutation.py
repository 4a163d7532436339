"""A change of one field of a capture."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Mutation:
    """What to change in a file so that one rule must fail."""

    file: str
    """Canonical name: ``proc/zoneinfo``."""
    pattern: str
    """Regular expression with one group, the field; ``^`` and ``$`` stand for line ends."""
    change: Callable[[str], str]
    """Old text of the field → new text."""
    occurrence: int = 0
    """Which match of the pattern, from 0; negative counts from the last."""

    def apply(self, text: str) -> str | None:
        """The text with the field changed; None where the pattern does not occur that often."""
        matches = list(re.finditer(self.pattern, text, re.MULTILINE))
        if not -len(matches) <= self.occurrence < len(matches):
            return None
        match = matches[self.occurrence]
        start, end = match.span(1)
        changed = self.change(match[1])
        assert changed != match[1], f"{self.pattern}: the change changes nothing"
        return text[:start] + changed + text[end:]


def plus(amount: int) -> Callable[[str], str]:
    """The change that adds to a number."""
    return lambda old: str(int(old) + amount)
