"""The threshold of a wakeful kswapd, by numbers worked out by hand and seen in a guest."""

from __future__ import annotations

import pytest

from analysis.model.stat_threshold import pressure_threshold


@pytest.mark.parametrize(
    ("low", "minimum", "cpus", "pages"),
    [
        (6943, 5555, 4, 125),  # a guest of four CPUs showed 125 while kswapd was awake
        (233, 187, 2, 23),  # its DMA zone, two CPUs
        (233, 187, 8, 5),
        (10, 10, 4, 1),
        (500, 0, 4, 125),
        (499, 0, 4, 124),
    ],
)
def test_pressure_threshold(low: int, minimum: int, cpus: int, pages: int) -> None:
    assert pressure_threshold(low, minimum, cpus) == pages
