"""Claims about a release that may follow one of several rules: told where all rules agree."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import TypeVar

from analysis.compare.claim import Claim, Scope, Verdict
from analysis.tour.traced import left_open

_EVERYWHERE: Scope = MappingProxyType({})
_Era = TypeVar("_Era")


def in_every_era(
    eras: Sequence[_Era], judge: Callable[[_Era], list[Claim]], release: str
) -> list[Claim]:
    """The judge's claims, in all eras that the release may be of.

    What says the same in all of them is told. What does not is left open, unless it fails in each:
    claim by claim where all eras have the same scopes, else all claims of one id together.
    """
    judged = [judge(era) for era in eras]
    told: list[Claim] = []
    for name in dict.fromkeys(claim.id for claims in judged for claim in claims):
        variants = [[claim for claim in claims if claim.id == name] for claims in judged]
        if all(_scopes(one) == _scopes(variants[0]) for one in variants):
            told += [_agreed(list(same), release) for same in zip(*variants, strict=True)]
        else:
            told.append(_undecided(variants, release, scope=_EVERYWHERE))
    return told


def _scopes(claims: Sequence[Claim]) -> list[Scope]:
    return [claim.scope for claim in claims]


def _agreed(same: Sequence[Claim], release: str) -> Claim:
    """One claim as all eras tell it; how they arrive at it is kept where that is the same too."""
    bare = [replace(claim, working=()) for claim in same]
    if all(claim == bare[0] for claim in bare):
        return same[0] if all(claim == same[0] for claim in same) else bare[0]
    return _undecided([[claim] for claim in same], release, scope=same[0].scope)


def _undecided(variants: Sequence[Sequence[Claim]], release: str, *, scope: Scope) -> Claim:
    """Claims that differ between eras: unknown, or failing where some claim fails in each era."""
    failing = [
        next((claim for claim in claims if claim.verdict is Verdict.FAILS), None)
        for claims in variants
    ]
    first = next(claim for claims in variants for claim in claims)
    why = f"the source of {release} was not compared, and its possible rules differ here"
    if failing[0] is None or None in failing:
        return left_open(first.id, why, first.unit, scope=scope)
    return replace(failing[0], predicted=None, why=f"by every rule {release} may have, as by one: "
                   f"{failing[0].why}")  # fmt: skip
