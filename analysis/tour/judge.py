"""A recorded tour, judged: needs no QEMU, only the directory."""

from __future__ import annotations

import json
import traceback
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from analysis.compare.claim import summary
from analysis.errors import AnalysisError, CaptureError
from analysis.tour.evidence import STOP_NAME, StopEvidence, open_stop
from analysis.tour.finding import Finding
from analysis.tour.registry import JUDGES, TOPICS, Judge
from analysis.verdict import Verdict

_STOPS = "stops"


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgedStop:
    """A stop: what was gathered, what it shows, or what went wrong."""

    name: str
    seconds: float = 0.0
    made: str = ""
    evidence: StopEvidence | None = None
    finding: Finding | None = None
    complaint: str = ""
    fix: str = ""
    details: Mapping[str, str]
    exit_code: int = 0

    @property
    def topic(self) -> str:
        return self.name.partition("/")[0]

    @property
    def walked(self) -> bool:
        """Whether anything is recorded of it."""
        return self.evidence is not None or bool(self.complaint)

    @property
    def counts(self) -> Mapping[str, int]:
        """How many of its claims hold, fail and are unknown."""
        return summary(self.finding.claims if self.finding else ())

    @property
    def verdict(self) -> Verdict | None:
        """``FAILS`` if any claim does, ``UNKNOWN`` if none holds; None where none was judged."""
        if self.finding is None:
            return None
        if self.counts[Verdict.FAILS.value]:
            return Verdict.FAILS
        return Verdict.HOLDS if self.counts[Verdict.HOLDS.value] else Verdict.UNKNOWN

    @property
    def status(self) -> str:
        """``holds``, ``fails``, ``unknown``, ``broken`` (no verdict: see the complaint) or
        ``not walked``."""
        if self.complaint:
            return "broken"
        return self.verdict.value if self.verdict else "not walked"

    def to_json(self) -> dict[str, object]:
        """The stop as ``mmscope tour --json`` prints it."""
        return {
            "name": self.name,
            "status": self.status,
            "seconds": self.seconds,
            "made": self.made,
            "kernels": [_kernel(self, label) for label in (self.evidence or _NONE).boots],
            "summary": dict(self.counts),
            "claims": [claim.to_json() for claim in (self.finding.claims if self.finding else ())],
            "complaint": self.complaint,
            "fix": self.fix,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgedTour:
    """All stops in the order of chapters, those that were not walked among them."""

    path: Path
    stops: tuple[JudgedStop, ...]

    @property
    def exit_code(self) -> int:
        """1 if a claim fails, else that of a stop that went wrong, else 0."""
        if any(stop.verdict is Verdict.FAILS for stop in self.stops):
            return 1
        return max((stop.exit_code for stop in self.stops), default=0)

    def to_json(self) -> dict[str, object]:
        """What ``mmscope tour --json`` prints."""
        return {
            "tour": str(self.path),
            "stops": [stop.to_json() for stop in self.stops],
            "summary": {
                status: sum(stop.status == status for stop in self.stops)
                for status in ("holds", "fails", "unknown", "broken", "not walked")
            },
        }


_NONE = StopEvidence(name="none", boots={})


def judge_tour(path: Path, names: Collection[str] | None = None) -> JudgedTour:
    """Judges every stop that a tour recorded, or those of some names.

    Raises:
        CaptureError: the directory holds no tour.
    """
    if not (path / _STOPS).is_dir():
        raise CaptureError(
            f"{path}: no directory {_STOPS} here, so it is not a tour",
            fix="name a directory made by `mmscope tour`",
        )
    wanted = [name for judges in TOPICS.values() for name in judges]
    stops = [
        judge_stop(name, path / _STOPS / name.replace("/", "-"), JUDGES[name])
        for name in wanted
        if names is None or name in names
    ]
    return JudgedTour(path=path, stops=tuple(stops))


def judge_stop(name: str, path: Path, judge: Judge) -> JudgedStop:
    """Judges the evidence of one stop; what goes wrong becomes its complaint."""
    try:
        record = _record(path)
    except CaptureError as error:
        return _broken(name, {}, error, None)
    if not record:
        return JudgedStop(name=name, details={})
    evidence = None
    try:
        evidence = open_stop(name, path)
    except AnalysisError as error:
        if not record.get("complaint"):
            return _broken(name, record, error, None)
    if record.get("complaint"):
        return JudgedStop(
            name=name,
            seconds=float(record.get("seconds", 0)),
            made=str(record.get("made", "")),
            evidence=evidence,
            complaint=str(record["complaint"]),
            fix=str(record.get("fix", "")),
            details=dict(record.get("details", {})),
            exit_code=int(record.get("exit_code", 3)),
        )
    assert evidence is not None, "told above"
    try:
        finding = judge(evidence)
    except AnalysisError as error:
        return _broken(name, record, error, evidence)
    except Exception as error:  # noqa: BLE001 - a mistake in one judge must not cost all stops
        defect = AnalysisError(
            f"a defect of the stop's judge on this evidence ({type(error).__name__}: {error})",
            fix="report it",
            details={"traceback": traceback.format_exc(limit=-6).strip()},
        )
        return _broken(name, record, defect, evidence)
    return JudgedStop(
        name=name,
        seconds=float(record.get("seconds", 0)),
        made=str(record.get("made", "")),
        evidence=evidence,
        finding=finding,
        details={},
    )


def _broken(
    name: str, record: Mapping[str, Any], error: AnalysisError, evidence: StopEvidence | None
) -> JudgedStop:
    return JudgedStop(
        name=name,
        seconds=float(record.get("seconds", 0)),
        made=str(record.get("made", "")),
        evidence=evidence,
        complaint=error.message,
        fix=error.fix or "",
        details=error.details,
        exit_code=error.exit_code,
    )


def _record(path: Path) -> Mapping[str, Any]:
    """What the stop's walk recorded; empty where it was not walked."""
    name = path / STOP_NAME
    try:
        found = json.loads(name.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise CaptureError(f"{name}: {error}", fix="walk the stop again with --again") from None
    if not isinstance(found, dict):
        raise CaptureError(f"{name}: not the record of a stop", fix="walk the stop again")
    return found


def _kernel(stop: JudgedStop, label: str) -> dict[str, object]:
    assert stop.evidence is not None
    boot = stop.evidence.boots[label]
    return {
        "label": label,
        "release": boot.release,
        "arch": boot.arch,
        "machine": machine_words(boot.record),
        "boot_s": boot.boot_s,
    }


def machine_words(record: Mapping[str, Any]) -> str:
    """A machine in a few words, of a boot's record: ``1 CPU · 512 MiB · 2 nodes``."""
    machine = record.get("machine") or {}
    words = []
    if cpus := machine.get("cpus"):
        words.append(f"{cpus} CPU{'s' if cpus > 1 else ''}")
    if size_bytes := machine.get("memory_bytes"):
        mib = size_bytes >> 20
        words.append(f"{mib} MiB" if mib % 1024 else f"{mib >> 10} GiB")
    if nodes := machine.get("nodes"):
        sizes = " + ".join(f"{node['size_bytes'] >> 20}" for node in nodes)
        words.append(f"{len(nodes)} nodes ({sizes} MiB)")
    if shapes := record.get("shapes"):
        words.append(" + ".join(shapes))
    return " · ".join(words)
