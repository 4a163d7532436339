"""Stops about how the kernel finds a page's descriptor."""

from __future__ import annotations

from harness.tour.stop import Stop

STOPS: tuple[Stop, ...] = ()
