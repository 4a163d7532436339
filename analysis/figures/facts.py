"""What a figure must know about a run beside its tables."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from analysis.compare.facts import Tables


@dataclass(frozen=True, slots=True, kw_only=True)
class FigureFacts:
    """The kernel that was watched, and the units its numbers come in."""

    kernel: str
    """Release as the kernel prints it (``6.1.0-37-amd64``)."""
    arch: str
    page_size_bytes: int
    clock_tick_hz: int = 100
    """Ticks a second of utime and stime (USER_HZ)."""

    @property
    def caption(self) -> str:
        """The line under a figure's title."""
        return f"Linux {self.kernel} on {self.arch}"

    def mib(self, pages: float) -> float:
        """Pages → MiB."""
        return pages * self.page_size_bytes / (1 << 20)


def table(tables: Tables, name: str) -> pd.DataFrame | None:
    """The named frame, or None when it is absent or holds no row."""
    frame = tables.get(name)
    return None if frame is None or frame.empty else frame
