"""Rings of the running guest against its own text of the same events."""

from __future__ import annotations

import pytest

from harness.session.guest import Guest
from tests.trace_capture import capture
from tests.trace_oracle import assert_agrees

pytestmark = pytest.mark.vm

LOAD = (
    "for i in 1 2; do ls -lR /usr/share | busybox tail -n 1 & done; wait;"
    " dd if=/dev/zero of=/tmp/trace-load bs=64k count=64 2>&1; rm /tmp/trace-load;"
    " echo marked > {instance}/trace_marker; echo 1 > /proc/sys/vm/compact_memory"
)


@pytest.mark.parametrize("absolute", [False, True], ids=["deltas", "absolute"])
def test_decoded_events_are_those_that_the_kernel_prints(guest: Guest, absolute: bool) -> None:
    taken = capture(guest.agent, buffer_kb=200, load=LOAD, absolute=absolute)
    stream = assert_agrees(taken)
    assert stream.events > 1500
    assert len(stream["mm_page_alloc"]) > 100
    begin = max((gap.after for gap in stream.gaps if gap.after is not None), default=None)
    audit = stream.audit(begin)
    if not absolute:  # The trigger that asks for absolute stamps reads the clock as well.
        assert audit is not None
        assert audit.silent > 0
        assert audit.unexplained == 0
