"""The moments of a run that its marks name: after boot, within each phase, at the end."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from analysis.compare.facts import Tables
from analysis.compare.zones import frame

BOOT = "after boot"
END = "at the end"


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """A round of samples that a mark names alike in every run of a plan."""

    name: str
    """``objects: free (2 of 4)``: phase, action, and which where it is not the only one."""
    round: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """A phase as rounds: its first and its last."""

    phase: str
    begin: int
    end: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Calendar:
    """Every moment of a run."""

    boot: int
    end: int
    spans: tuple[Span, ...]
    moments: tuple[Moment, ...]


def calendar(tables: Tables) -> Calendar | None:
    """The moments by a run's marks; None: it has no complete round."""
    rounds = frame(tables, "rounds")
    if rounds is None:
        return None
    known = sorted(int(number) for number in rounds["round"])
    marks = frame(tables, "marks")
    labels: list[tuple[int, str]] = []
    if marks is not None:
        pairs = zip(marks["round"].tolist(), marks["label"].tolist(), strict=True)
        labels = [(int(number), str(label)) for number, label in pairs if int(number) in known]
    begins: dict[str, int] = {}
    spans: list[Span] = []
    actions: list[tuple[str, int]] = []
    for number, label in labels:
        parts = label.split("/")
        if label == "settle/end":
            continue
        if len(parts) == 2 and parts[1] == "begin":
            begins[parts[0]] = number
        elif len(parts) == 2 and parts[1] == "end" and parts[0] in begins:
            spans.append(Span(phase=parts[0], begin=begins[parts[0]], end=number))
        elif len(parts) >= 3 and parts[1].isdigit():
            actions.append((f"{parts[0]}: {parts[2]}", number))
    counts = Counter(name for name, _ in actions)
    seen: Counter[str] = Counter()
    moments: list[Moment] = []
    for name, number in actions:
        seen[name] += 1
        full = name if counts[name] == 1 else f"{name} ({seen[name]} of {counts[name]})"
        moments.append(Moment(name=full, round=number))
    settled = [number for number, label in labels if label == "settle/end"]
    return Calendar(
        boot=settled[0] if settled else known[0],
        end=known[-1],
        spans=tuple(spans),
        moments=tuple(moments),
    )
