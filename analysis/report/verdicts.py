"""Claims as the page shows them: counted by family, the bad news first."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from analysis.compare.static.registry import RULES

NOTHING = "\N{EN DASH}"
"""Stands for a value that there is not."""

VERDICTS = ("fails", "unknown", "holds")

MEANINGS: Mapping[str, str] = MappingProxyType(
    {
        "watermark_min_rounds": "it follows from managed pages and sysctls in every round",
        "watermark_low_rounds": "it follows from managed pages and sysctls in every round",
        "watermark_high_rounds": "it follows from managed pages and sysctls in every round",
        "free_pages": "the free lists add up to the zone's free-page counter",
        "unusable_index": "the unusable free space index follows from the free lists",
        "replay_pages": "every free page after a window is as its events say",
        "replay_nr_free": "and so is the number of free blocks of every zone and order",
        "replay_events": "every event of a window fits the state that it meets",
        "extfrag_index": "the external fragmentation index follows from the free lists",
        "buddy_split": "taking blocks of a known order splits larger ones as the model does",
        "buddy_coalesce": "giving blocks back joins them again as the model does",
    }
)
"""Claim family → what it claims, in plain words; of a static rule its own first sentence."""


def meanings() -> dict[str, str]:
    """What each family of claims says."""
    return {**{rule.id: _first_sentence(rule.says) for rule in RULES}, **MEANINGS}


def _first_sentence(text: str) -> str:
    sentence, stop, _ = text.partition(". ")
    return sentence if stop else text.removesuffix(".")


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimRow:
    """One claim as text."""

    id: str
    family: str
    scope: str
    predicted: str
    observed: str
    unit: str
    verdict: str
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """Claims of one kind."""

    name: str
    meaning: str
    rows: tuple[ClaimRow, ...]

    def count(self, verdict: str) -> int:
        return sum(row.verdict == verdict for row in self.rows)

    @property
    def judged(self) -> bool:
        """Whether any claim holds or fails."""
        return self.count("unknown") < len(self.rows)

    def of(self, verdict: str) -> tuple[ClaimRow, ...]:
        return tuple(row for row in self.rows if row.verdict == verdict)


def claim_row(claim: Mapping[str, Any]) -> ClaimRow:
    """A claim in the JSON shape of ``check``.

    Raises:
        ValueError: it lacks a field, or its verdict is none of the three.
    """
    try:
        verdict = str(claim["verdict"])
        row = ClaimRow(
            id=str(claim["id"]),
            family=family_of(str(claim["id"])),
            scope=scope_text(claim["scope"]),
            predicted=value_text(claim["predicted"]),
            observed=value_text(claim["observed"]),
            unit=str(claim["unit"] or ""),
            verdict=verdict,
            why=str(claim["why"] or ""),
        )
    except KeyError as error:
        raise ValueError(f"claim {claim.get('id', '?')}: no field {error}") from None
    if verdict not in VERDICTS:
        raise ValueError(
            f"claim {row.id}: verdict {verdict!r}; expected one of {', '.join(VERDICTS)}"
        )
    return row


def families(
    claims: Sequence[Mapping[str, Any]], meanings: Mapping[str, str]
) -> tuple[Family, ...]:
    """Claims by family: failures first, then in the order of the claims, last those that no claim
    decides.

    Raises:
        ValueError: a claim has not the shape of a claim.
    """
    rows: dict[str, list[ClaimRow]] = {}
    for claim in claims:
        row = claim_row(claim)
        rows.setdefault(row.family, []).append(row)
    found = [
        Family(name=name, meaning=meanings.get(name, ""), rows=tuple(members))
        for name, members in rows.items()
    ]
    return tuple(sorted(found, key=lambda family: (-family.count("fails"), not family.judged)))


def family_of(claim_id: str) -> str:
    """The id up to its first separator: ``watermark.low`` → ``watermark``."""
    for i, character in enumerate(claim_id):
        if character in "./:" and i:
            return claim_id[:i]
    return claim_id


def scope_text(scope: object) -> str:
    """``{"node": 0, "zone": "DMA"}`` → ``node 0 · zone DMA``; a text stays as it is."""
    if isinstance(scope, Mapping):
        return " · ".join(
            f"{key} {value_text(value)}" for key, value in scope.items() if value is not None
        )
    return value_text(scope)


def value_text(value: object) -> str:
    """A number, text or list of them, exactly; nothing is rounded here."""
    if value is None or value == []:
        return NOTHING
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, str):
        return value
    if isinstance(value, int):
        return f"{value:,}" if abs(value) >= 10_000 else str(value)
    if isinstance(value, Sequence) and all(isinstance(item, int | float | str) for item in value):
        return " ".join(str(item) for item in value)
    return json.dumps(value, ensure_ascii=False, default=str)
