"""Stops about the buddy allocator, from its first page on."""

from __future__ import annotations

from harness.tour.stop import Stop

STOPS: tuple[Stop, ...] = ()
