"""Stored evidence of the tour's stops, judged as it is and after a change."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path

from analysis.tour.evidence import open_stop
from analysis.tour.finding import Finding
from analysis.tour.registry import JUDGES
from analysis.verdict import Verdict

FIXTURES = Path(__file__).parent / "fixtures" / "tour"

Change = tuple[str, str, str | Callable[["re.Match[str]"], str]]
"""A file of the stop, what to find in it first (a regular expression), and what to put there."""


def judged(stop: str, tmp_path: Path, *changes: Change) -> Finding:
    """What the judge makes of the stored evidence with these changes."""
    kept = FIXTURES / stop.replace("/", "-")
    path = tmp_path / kept.name
    shutil.copytree(kept, path)
    for name, found, instead in changes:
        file = path / name
        text = file.read_text(encoding="utf-8")
        changed, times = re.subn(found, instead, text, count=1, flags=re.MULTILINE)
        assert times == 1, f"{name} has no {found!r}"
        assert changed != text, f"{found!r} in {name} stays what it was"
        file.write_text(changed, encoding="utf-8")
    return JUDGES[stop](open_stop(stop, path))


def failing(finding: Finding) -> set[str]:
    """Ids of the claims that fail."""
    return {claim.id for claim in finding.claims if claim.verdict is Verdict.FAILS}


def added(number: int) -> Callable[[re.Match[str]], str]:
    """Puts a number that much higher in the place of the last group, which is one."""

    def put(match: re.Match[str]) -> str:
        last = match.lastindex or 0
        before = match[0][: match.start(last) - match.start(0)]
        after = match[0][match.end(last) - match.start(0) :]
        return f"{before}{int(match[last]) + number}{after}"

    return put
