"""Kept evidence of stops, and copies of it that say something else."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from analysis.tour.evidence import StopEvidence, open_stop
from analysis.tour.finding import Finding
from analysis.tour.registry import JUDGES
from analysis.verdict import Verdict

FIXTURES = Path(__file__).with_name("fixtures") / "tour"


def kept(stop: str) -> StopEvidence:
    """The evidence of a stop that is kept with the tests."""
    return open_stop(stop, FIXTURES / stop.replace("/", "-"))


def judged(stop: str) -> Finding:
    """What its judge makes of it."""
    return JUDGES[stop](kept(stop))


def altered(stop: str, to: Path, file: str, old: str, new: str) -> Finding:
    """What the judge makes of a copy in which ``old`` stands nowhere in a file, but ``new``."""
    copy = to / stop.replace("/", "-")
    shutil.copytree(FIXTURES / copy.name, copy)
    path = copy / file
    text = path.read_text()
    assert old in text, f"{file} has no {old!r}"
    path.write_text(text.replace(old, new))
    return JUDGES[stop](open_stop(stop, copy))


def verdicts(finding: Finding) -> dict[str, set[Verdict]]:
    """The verdicts on the claims of each id."""
    found: dict[str, set[Verdict]] = {}
    for claim in finding.claims:
        found.setdefault(claim.id, set()).add(claim.verdict)
    return found


def failing(finding: Finding) -> set[str]:
    """Ids of claims of which one fails."""
    return {claim.id for claim in finding.claims if claim.verdict is Verdict.FAILS}


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
