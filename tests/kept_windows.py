"""Which windows of a run count: those of which no event was lost."""

from __future__ import annotations

from harness.record.manifest import Manifest, WindowRecord

_ENDING = "-retaken"


def planned_name(name: str) -> str:
    """The window's name in the plan."""
    return name.removesuffix(_ENDING)


def kept_windows(manifest: Manifest) -> dict[str, WindowRecord]:
    """By name in the plan; where events were lost, the window that was taken in its place."""
    kept = [window for window in manifest.windows if window.retaken_as is None]
    return {planned_name(window.name): window for window in kept}
