"""``mmscope check``: every claim about a run directory or a capture, and rules explained."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from analysis.capture.snapshot import Snapshot
from analysis.capture.source import is_run, open_source
from analysis.compare.claim import check_to_json
from analysis.compare.rule import claims_of
from analysis.compare.static.registry import RULES
from analysis.report.explain import explain


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """A run or a capture held against the model."""

    check: dict[str, Any]
    """The JSON of ``mmscope check``."""
    damage: tuple[str, ...]


def check_source(path: Path) -> Checked:
    """Every claim about a run directory or a capture in any layout; writes nothing.

    Raises:
        CaptureError, BundleError, ParseError, RecordError: it cannot be read.
    """
    if is_run(path):
        # loads replay and plotting, which a capture has no use for
        from analysis.report.pipeline import evaluate_run

        run = evaluate_run(path)
        return Checked(check=run.check, damage=run.damage)
    snapshot = Snapshot(open_source(path))
    claims = list(claims_of(RULES, snapshot))
    kernel = snapshot.kernel if snapshot.knows_kernel else "a kernel that the capture does not name"
    return Checked(check=check_to_json(str(path), kernel, claims), damage=())


def rule_ids() -> tuple[str, ...]:
    """The ids of all static rules, in the order in which a reader meets them."""
    return tuple(rule.id for rule in RULES)


def explain_rule(path: Path, rule_id: str) -> str:
    """One of ``rule_ids`` explained on a run directory or capture.

    Raises:
        CaptureError, BundleError, RecordError: it cannot be read.
    """
    rule = next(rule for rule in RULES if rule.id == rule_id)
    return explain(rule, Snapshot(open_source(path)))
