"""A claim: what the model predicts, what the kernel showed, and the verdict."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

from analysis.verdict import Verdict

Number = int | float | str
"""Mostly a number; a name or a list (a fallback order, a memory model) is claimed as its text."""
Scope = Mapping[str, int | str]

__all__ = ["Claim", "Number", "Scope", "Verdict", "check_to_json", "summary"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """One prediction held against one observation.

    ``scope`` says where and when (node, zone, order, step, number of rounds …). ``predicted`` is
    None when the model cannot say, ``observed`` when the run does not show it; ``why`` is never
    empty unless the claim holds. ``working`` is the arithmetic from the inputs to the prediction,
    a line each, as ``mmscope check --explain`` shows it.
    """

    id: str
    scope: Scope = field(default_factory=lambda: MappingProxyType({}))
    predicted: Number | None
    observed: Number | None
    unit: str
    verdict: Verdict
    why: str = ""
    working: tuple[str, ...] = ()
    lacking: bool = False
    """Unknown since the capture lacks an input, or the kernel has or shows no such thing: not for
    want of a rule."""

    def __post_init__(self) -> None:
        assert self.why or self.verdict is Verdict.HOLDS, f"{self.id}: a verdict without a reason"

    def to_json(self) -> dict[str, object]:
        """The claim as ``mmscope check`` prints it."""
        return {
            "id": self.id,
            "scope": dict(self.scope),
            "predicted": self.predicted,
            "observed": self.observed,
            "unit": self.unit,
            "verdict": self.verdict.value,
            "why": self.why,
        }


def summary(claims: Iterable[Claim]) -> dict[str, int]:
    """How many claims hold, fail and are unknown; every verdict is there, zero or not."""
    counts = Counter(claim.verdict for claim in claims)
    return {verdict.value: counts[verdict] for verdict in Verdict}


def check_to_json(source: str, kernel: str, claims: Sequence[Claim]) -> dict[str, object]:
    """The whole result of ``mmscope check``: ``source`` is the run directory or capture."""
    return {
        "source": source,
        "kernel": kernel,
        "claims": [claim.to_json() for claim in claims],
        "summary": summary(claims),
    }
