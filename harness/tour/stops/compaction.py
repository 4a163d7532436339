"""Stops about compaction, direct and by kcompactd."""

from __future__ import annotations

from harness.tour.stop import Stop

STOPS: tuple[Stop, ...] = ()
