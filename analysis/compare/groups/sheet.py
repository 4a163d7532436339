"""Collects a run's measures."""

from __future__ import annotations

from analysis.compare.groups.measure import Measure, Measured


class Sheet:
    """Numbers and what is not known, as they are found."""

    def __init__(self) -> None:
        self._values: dict[Measure, float] = {}
        self._unknown: dict[Measure, str] = {}
        self._lacking: dict[str, str] = {}

    def put(self, measure: Measure, value: float | None, why: str = "") -> None:
        """A measure's number, or why there is none."""
        if value is None:
            self._unknown[measure] = why
        else:
            self._values[measure] = float(value)

    def lack(self, beginning: str, why: str) -> None:
        """No measure whose id begins so can be had, whichever they are in other runs."""
        self._lacking[beginning] = why

    def finish(self) -> Measured:
        """All of them."""
        return Measured(values=self._values, unknown=self._unknown, lacking=self._lacking)
