"""Stops about SLAB, SLUB and SLOB, and caches of our own."""

from __future__ import annotations

from harness.tour.stop import Stop

STOPS: tuple[Stop, ...] = ()
