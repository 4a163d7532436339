"""A rule: what the model says of a capture, in a form that can be listed, judged and explained."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from analysis.capture.snapshot import Snapshot
from analysis.compare.claim import Claim, Number, Scope, Verdict
from analysis.errors import MissingInputError, ParseError

BROKEN = "a defect of this rule on this capture"
"""How the reason of a claim begins whose rule broke."""

Judge = Callable[[Snapshot], Iterable[Claim]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One claim id and all that belongs to it."""

    id: str
    says: str
    """The rule for a reader who does not know it, in a few sentences."""
    inputs: tuple[str, ...]
    """Canonical names of the files that the prediction is computed from."""
    observed: str
    """Where the kernel shows the answer: file and field."""
    model: tuple[Callable[..., object], ...]
    """The functions of ``analysis.model`` that predict; their docstrings name the kernel source
    and what they ignore."""
    judge: Judge
    """All claims of this id about a capture. May raise MissingInputError or ParseError: the rule
    is then unknown, with that as the reason."""

    def claims(self, snapshot: Snapshot) -> list[Claim]:
        """The claims, at least one: a rule that finds nothing to say is unknown."""
        try:
            found = list(self.judge(snapshot))
        except MissingInputError as error:
            return [unknown(self.id, why=error.message, lacking=True)]
        except ParseError as error:
            return [unknown(self.id, why=f"an input cannot be read: {error.message}")]
        except (LookupError, ArithmeticError, ValueError, TypeError) as error:
            # A machine that nobody thought of must not cost its owner all other rules.
            return [unknown(self.id, why=f"{BROKEN} ({type(error).__name__}: {error}); report it")]
        assert all(claim.id == self.id for claim in found), f"{self.id}: a claim of another rule"
        nothing = "the capture shows nothing that the rule is about"
        return found or [unknown(self.id, why=nothing, lacking=True)]


def exact(
    rule_id: str,
    scope: Scope,
    *,
    predicted: Number,
    observed: Number,
    unit: str,
    working: Iterable[str] = (),
    why: str = "",
) -> Claim:
    """A claim that holds when both are equal, and fails when they are not.

    ``why`` is said only of a failure; without it both numbers are.
    """
    equal = predicted == observed
    return Claim(
        id=rule_id,
        scope=scope,
        predicted=predicted,
        observed=observed,
        unit=unit,
        verdict=Verdict.HOLDS if equal else Verdict.FAILS,
        why="" if equal else why or f"the rule gives {predicted}, the kernel shows {observed}",
        working=tuple(working),
    )


def unknown(
    rule_id: str,
    scope: Scope | None = None,
    *,
    why: str,
    predicted: Number | None = None,
    observed: Number | None = None,
    unit: str = "",
    working: Iterable[str] = (),
    lacking: bool = False,
) -> Claim:
    """A claim that cannot be judged, and why; ``lacking``: see ``Claim``."""
    return Claim(
        id=rule_id,
        scope=scope or {},
        predicted=predicted,
        observed=observed,
        unit=unit,
        verdict=Verdict.UNKNOWN,
        why=why,
        working=tuple(working),
        lacking=lacking,
    )


def one_of(
    rule_id: str,
    scope: Scope,
    *,
    options: Iterable[Number],
    observed: Number,
    unit: str,
    undecided: str,
    working: Iterable[str] = (),
) -> Claim:
    """A claim for a kernel whose rule may be one of several: exact where all give the same.

    ``undecided`` says what is not known of the kernel (a release between two that were compared, a
    vendor's backports). Where the options differ the claim is unknown, unless the kernel shows none
    of them, which fails.
    """
    possible = sorted(set(options), key=str)
    if len(possible) == 1:
        return exact(
            rule_id, scope, predicted=possible[0], observed=observed, unit=unit, working=working
        )
    listed = " or ".join(map(str, possible))
    if observed not in possible:
        return Claim(
            id=rule_id,
            scope=scope,
            predicted=None,
            observed=observed,
            unit=unit,
            verdict=Verdict.FAILS,
            why=f"{undecided}: {listed} is possible, the kernel shows {observed}",
            working=tuple(working),
        )
    return unknown(
        rule_id, scope, why=f"{undecided}: {listed}", observed=observed, unit=unit, working=working
    )


def claims_of(rules: Iterable[Rule], snapshot: Snapshot) -> Iterator[Claim]:
    """The claims of several rules, in order."""
    for rule in rules:
        yield from rule.claims(snapshot)
