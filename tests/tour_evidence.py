"""Stored evidence of the tour's stops, judged as it is and after a change."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

from analysis.tour.evidence import StopEvidence, open_stop
from analysis.tour.finding import Finding
from analysis.tour.registry import JUDGES
from analysis.verdict import Verdict

FIXTURES = Path(__file__).parent / "fixtures" / "tour"

Change = tuple[str, str, str | Callable[["re.Match[str]"], str]]
"""A file of the stop, what to find in it first (a regular expression), and what to put there."""


def kept(stop: str) -> StopEvidence:
    """The evidence of a stop that is kept with the tests."""
    return open_stop(stop, FIXTURES / stop.replace("/", "-"))


def judged(stop: str, tmp_path: Path | None = None, *changes: Change) -> Finding:
    """What the judge makes of the stored evidence; with these changes, which are made in a copy."""
    if tmp_path is None:
        return JUDGES[stop](kept(stop))
    path = _copy(stop, tmp_path)
    for name, found, instead in changes:
        file = path / name
        text = file.read_text(encoding="utf-8")
        changed, times = re.subn(found, instead, text, count=1, flags=re.MULTILINE)
        assert times == 1, f"{name} has no {found!r}"
        assert changed != text, f"{found!r} in {name} stays what it was"
        file.write_text(changed, encoding="utf-8")
    return JUDGES[stop](open_stop(stop, path))


def altered(stop: str, to: Path, file: str, old: str, new: str) -> Finding:
    """What the judge makes of a copy in which ``old`` stands nowhere in a file, but ``new``."""
    return judged(stop, to, (file, r"(?s)\A(.*)\Z", lambda m: _replaced(m[1], file, old, new)))


def _replaced(text: str, file: str, old: str, new: str) -> str:
    assert old in text, f"{file} has no {old!r}"
    return text.replace(old, new)


def _copy(stop: str, to: Path) -> Path:
    kept_at = FIXTURES / stop.replace("/", "-")
    return Path(shutil.copytree(kept_at, to / kept_at.name))


def verdicts(finding: Finding) -> dict[str, set[Verdict]]:
    """The verdicts on the claims of each id."""
    found: dict[str, set[Verdict]] = {}
    for claim in finding.claims:
        found.setdefault(claim.id, set()).add(claim.verdict)
    return found


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


def tour_of(stops: list[str], to: Path) -> Path:
    """A tour in which these stops were walked."""
    for stop in stops:
        place = to / "stops" / stop.replace("/", "-")
        shutil.copytree(FIXTURES / place.name, place)
        record = {
            "schema_version": 1,
            "name": stop,
            "definition": "",
            "made": "2026-01-01T00:00:00+00:00",
            "labels": sorted(path.parent.name for path in place.glob("*/boot.json")),
            "seconds": 7.0,
        }
        (place / "stop.json").write_text(json.dumps(record))
    return to
