"""Rules against kernels: what every static rule says of every capture of a collection."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from analysis.capture.snapshot import Snapshot
from analysis.capture.source import Source, captures_in
from analysis.compare.claim import Claim
from analysis.compare.rule import Rule
from analysis.compare.static.registry import RULES
from analysis.verdict import Verdict

Count = tuple[int, int, int]
"""Claims that hold, fail, are unknown."""
UNKNOWN_SHARE_MAX = 0.1
"""A rule that is unknown on more of the captures that have its inputs is not done."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What one rule said of one capture."""

    rule: str
    kernel: str
    capture: str
    count: Count
    lacking: bool
    """Whether every claim is unknown for want of an input, or of such a thing in the kernel."""
    failing: tuple[Claim, ...]
    reasons: tuple[tuple[str, int], ...]
    """Why claims are unknown, and how many for each reason."""

    @property
    def judged(self) -> bool:
        """Whether any claim holds or fails."""
        return self.count[0] + self.count[1] > 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Conformance:
    """All results."""

    results: tuple[Result, ...]

    @property
    def kernels(self) -> tuple[str, ...]:
        """Kernels in the order in which they were given."""
        return tuple(dict.fromkeys(result.kernel for result in self.results))

    @property
    def rules(self) -> tuple[str, ...]:
        """Rules in the order of the registry."""
        return tuple(dict.fromkeys(result.rule for result in self.results))

    def captures(self, kernel: str | None = None) -> int:
        """How many captures there are, of one kernel or of all."""
        of = {(r.kernel, r.capture) for r in self.results if kernel in (None, r.kernel)}
        return len(of)

    def count(self, rules: Iterable[str], kernel: str | None = None) -> Count:
        """Claims of some rules on one kernel or on all."""
        wanted = set(rules)
        totals = [0, 0, 0]
        for result in self.results:
            if result.rule in wanted and kernel in (None, result.kernel):
                totals = [total + n for total, n in zip(totals, result.count, strict=True)]
        return totals[0], totals[1], totals[2]

    def failing(self) -> Iterator[tuple[Result, Claim]]:
        """Every claim that fails, and where."""
        for result in self.results:
            for claim in result.failing:
                yield result, claim

    def reasons(self, rule: str) -> Counter[str]:
        """Why claims of a rule are unknown."""
        found: Counter[str] = Counter()
        for result in self.results:
            if result.rule == rule:
                found.update(dict(result.reasons))
        return found

    def undone(self) -> Mapping[str, float]:
        """Rules that are unknown on too many of the captures with their inputs → that share."""
        shares = {}
        for rule in self.rules:
            able = [r for r in self.results if r.rule == rule and not r.lacking]
            if able:
                shares[rule] = sum(not result.judged for result in able) / len(able)
        return {rule: share for rule, share in shares.items() if share > UNKNOWN_SHARE_MAX}


def conformance(archives: Sequence[Path], *, jobs: int = 1) -> Conformance:
    """Every rule on every capture of the archives, one archive a process.

    Raises:
        CaptureError: an archive cannot be read.
    """
    if jobs == 1:
        found = [judge_archive(archive) for archive in archives]
    else:
        with ProcessPoolExecutor(jobs) as pool:
            found = list(pool.map(judge_archive, archives))
    return Conformance(results=tuple(result for results in found for result in results))


def judge_archive(archive: Path) -> list[Result]:
    """Every rule on every capture of an archive."""
    return [
        result
        for name, source in captures_in(archive).items()
        for result in judge_source(name, source)
    ]


def judge_source(name: str, source: Source, rules: Sequence[Rule] = RULES) -> Iterator[Result]:
    """Every rule on one capture."""
    snapshot = Snapshot(source)
    for rule in rules:
        claims = rule.claims(snapshot)
        verdicts = Counter(claim.verdict for claim in claims)
        unknown = Counter(claim.why for claim in claims if claim.verdict is Verdict.UNKNOWN)
        yield Result(
            rule=rule.id,
            kernel=snapshot.kernel,
            capture=name,
            count=(
                verdicts[Verdict.HOLDS],
                verdicts[Verdict.FAILS],
                verdicts[Verdict.UNKNOWN],
            ),
            lacking=all(claim.lacking for claim in claims),
            failing=tuple(claim for claim in claims if claim.verdict is Verdict.FAILS),
            reasons=tuple(unknown.items()),
        )
