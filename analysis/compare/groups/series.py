"""What figures show over time: free memory, how much of it is in pieces, slabs."""

from __future__ import annotations

import pandas as pd

from analysis.compare.groups.blocks import free_by_size
from analysis.compare.groups.columns import by_round
from analysis.compare.groups.run import Run
from analysis.compare.zones import frame

COLUMNS = ("seconds", "phase", "broken_percent", "free_mib", "slab_mib")
"""``seconds`` since the phase began; ``broken_percent`` of the free memory is in blocks below
2 MiB."""


def series_of(run: Run) -> pd.DataFrame:
    """A row a complete round within a phase."""
    rounds = frame(run.tables, "rounds")
    free = free_by_size(run)
    if rounds is None or free is None:
        return pd.DataFrame(columns=list(COLUMNS))
    starts = pd.Series(
        rounds["t_ns"].to_numpy(dtype=float) / 1e9, index=rounds["round"].to_numpy(dtype=int)
    )
    table = pd.DataFrame({"t_s": starts}).join(free, how="inner")
    meminfo = by_round(run.tables, "meminfo")
    slab = meminfo["Slab"] / 1024 if "Slab" in meminfo else pd.Series(dtype=float)
    table["slab_mib"] = slab.reindex(table.index)
    parts = []
    for span in run.calendar.spans:
        part = table[(table.index >= span.begin) & (table.index <= span.end)]
        if len(part):
            part = part.assign(phase=span.phase, seconds=part["t_s"] - part["t_s"].iloc[0])
            parts.append(part)
    if not parts:
        return pd.DataFrame(columns=list(COLUMNS))
    joined = pd.concat(parts)
    joined["broken_percent"] = 100.0 * (1.0 - joined["2M_bytes"] / joined["free_bytes"])
    joined["free_mib"] = joined["free_bytes"] / (1 << 20)
    return joined[list(COLUMNS)].reset_index(drop=True)
