"""Stops about pages and page frame numbers."""

from __future__ import annotations

from harness.tour.stop import Stop

STOPS: tuple[Stop, ...] = ()
