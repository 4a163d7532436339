"""Rings of real kernels, decoded, against the text that those kernels printed of them."""

from __future__ import annotations

import re

import numpy as np
import pytest

from analysis.trace.ring import ABSOLUTE, walk_rings
from tests.trace_capture import read_fixture
from tests.trace_oracle import assert_agrees, formats_of

# Overwritten rings of three releases and both architectures.
KERNELS = (
    "6.1-x86_64-trace",
    "6.1-arm64-trace",
    "6.12-x86_64-trace",
    "7.3-arm64-trace",
    "7.3-x86_64-trace-absolute",
)
_OVERRUN = re.compile(r"overrun: (\d+)")


@pytest.mark.parametrize("name", KERNELS)
def test_every_field_is_as_the_kernel_prints_it(name: str) -> None:
    capture = read_fixture(name)
    stream = assert_agrees(capture)
    assert stream.events > 500
    assert len(stream.arrays) >= 8

    overruns: dict[int, int] = {}
    for cpu, text in capture.stats.items():
        match = _OVERRUN.search(text)
        assert match is not None
        if int(match[1]):
            overruns[cpu] = int(match[1])
    assert overruns, "a fixture should show what an overwritten ring looks like"
    assert {gap.cpu for gap in stream.gaps} == overruns.keys()
    for gap in stream.gaps:
        # A page that is full to the last word has no room for the number.
        assert gap.count in (overruns[gap.cpu], None)
        assert gap.before is None
        assert gap.after is not None


def test_absolute_time_stamps_are_among_them() -> None:
    capture = read_fixture("7.3-x86_64-trace-absolute")
    ring = walk_rings(capture.rings, formats_of(capture).page)
    assert np.count_nonzero(ring.flags & ABSOLUTE) > 10
