"""Windows of random histories: replay is exact, and any event that is wrong is found."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from analysis.replay.exact import WindowReplay, replay_window
from analysis.replay.ledger import Kind
from analysis.verdict import Verdict
from harness.record.memory import MemorySample
from tests.made_window import MadeEvent, MadeKernel, made_window

MOVES = (
    "kmem/mm_page_alloc_zone_locked",
    "kmem/mm_page_pcpu_drain",
    "mmscope/free_one_page",
    "mmscope/putback_isolated_page",
)
"""Events that alone say that pages left or joined the free lists."""

Step = Callable[[MadeKernel, int], object]


def _free(kernel: MadeKernel, number: int, *, bypass: bool) -> None:
    if kernel.held:
        kernel.free(sorted(kernel.held)[number % len(kernel.held)], bypass=bypass)


STEPS: tuple[Step, ...] = (
    lambda kernel, number: kernel.allocate(0),
    lambda kernel, number: kernel.allocate(0),
    lambda kernel, number: kernel.allocate(number % 6),
    lambda kernel, number: _free(kernel, number, bypass=False),
    lambda kernel, number: _free(kernel, number, bypass=False),
    lambda kernel, number: _free(kernel, number, bypass=True),
    lambda kernel, number: kernel.drain(1 + number % 4),
    lambda kernel, number: kernel.isolate(refused=number % 3 == 0),
    lambda kernel, number: kernel.put_back(),
    lambda kernel, number: kernel.use_isolated(),
    lambda kernel, number: kernel.capture(1 + number % 3),
)
histories = st.lists(
    st.tuples(st.sampled_from(range(len(STEPS))), st.integers(0, 63)), min_size=5, max_size=80
)


def play(kernel: MadeKernel, history: list[tuple[int, int]]) -> None:
    for step, number in history:
        STEPS[step](kernel, number)


def made(
    before: list[tuple[int, int]], history: list[tuple[int, int]]
) -> tuple[MadeKernel, list[MemorySample]]:
    """A kernel that lived through ``before``, and then, between samples, ``history``."""
    kernel = MadeKernel()
    play(kernel, before)
    samples = [kernel.sample("w/begin")]
    half = len(history) // 2
    play(kernel, history[:half])
    samples.append(kernel.sample("w/1"))
    play(kernel, history[half:])
    samples.append(kernel.sample("w/end"))
    return kernel, samples


def replayed(events: list[MadeEvent], samples: list[MemorySample]) -> WindowReplay:
    """The window's rings decoded and replayed."""
    return replay_window(made_window(events, samples), moments=7)


def moves_in(events: list[MadeEvent], samples: list[MemorySample]) -> list[int]:
    """Numbers of the events within the window that move pages."""
    begin, end = samples[0].meta["trace_counter"], samples[-1].meta["trace_counter"]
    return [
        at
        for at, event in enumerate(events)
        if event.name in MOVES and begin < event.counter <= end
    ]


@settings(max_examples=60, deadline=None)
@given(histories, histories)
def test_a_sound_history_is_replayed_exactly(
    before: list[tuple[int, int]], history: list[tuple[int, int]]
) -> None:
    kernel, samples = made(before, history)

    result = replayed(kernel.events, samples)

    assert result.verdict is Verdict.HOLDS, result.why
    replay = result.replay
    assert replay is not None
    assert [one.label for one in replay.comparisons] == ["w/1", "w/end"]
    assert not replay.ledger.unexplained
    assert tuple(replay.end.predicted[0]) == kernel.zone.free_blocks()
    assert (replay.timeline.nr_free[-1] == replay.end.predicted).all()
    assert (replay.timeline.nr_free[0] == replay.begin).all()


@settings(max_examples=60, deadline=None)
@given(histories, histories, st.data())
def test_a_dropped_move_is_found(
    before: list[tuple[int, int]], history: list[tuple[int, int]], data: st.DataObject
) -> None:
    kernel, samples = made(before, history)
    moves = moves_in(kernel.events, samples)
    assume(moves)
    dropped = data.draw(st.sampled_from(moves))
    events = [event for at, event in enumerate(kernel.events) if at != dropped]

    result = replayed(events, samples)

    assert result.verdict is Verdict.FAILS
    assert result.replay is not None
    assert result.replay.pages_differing or result.replay.ledger.unexplained
    assert result.why


@settings(max_examples=60, deadline=None)
@given(histories, histories, st.data())
def test_a_corrupt_page_number_is_found(
    before: list[tuple[int, int]], history: list[tuple[int, int]], data: st.DataObject
) -> None:
    kernel, samples = made(before, history)
    moves = moves_in(kernel.events, samples)
    assume(moves)
    at = data.draw(st.sampled_from(moves))
    event = kernel.events[at]
    size = 64 if event.name == "mmscope/putback_isolated_page" else 1  # an address, or a number
    flipped = event.values[0] ^ size << data.draw(st.integers(0, 40))
    events = list(kernel.events)
    events[at] = dataclasses.replace(event, values=(flipped, *event.values[1:]))

    result = replayed(events, samples)

    assert result.verdict is Verdict.FAILS
    assert result.replay is not None
    assert result.replay.pages_differing or result.replay.ledger.unexplained


def test_a_captured_block_is_told_from_a_page_handed_out_while_free() -> None:
    kernel = MadeKernel()
    pair = [kernel.allocate(1), kernel.allocate(1)]
    assert pair[0] is not None
    assert pair[1] == pair[0] ^ 2
    samples = [kernel.sample("w/begin")]
    kernel.free(pair[0], bypass=True)
    assert kernel.capture(2) == min(pair[0], pair[1])
    samples.append(kernel.sample("w/end"))

    result = replayed(kernel.events, samples)

    assert result.verdict is Verdict.HOLDS, result.why
    assert result.replay is not None
    assert result.replay.ledger.counts[Kind.CAPTURED] == 1

    other = [
        dataclasses.replace(event, pid=8) if event.name == "kmem/mm_page_alloc" else event
        for event in kernel.events
    ]
    result = replayed(other, samples)
    assert result.verdict is Verdict.FAILS
    assert result.replay is not None
    assert result.replay.ledger.counts[Kind.ALLOCATED_FREE] == 1

    idle = [event for event in kernel.events if not event.name.startswith("compaction/")]
    result = replayed(idle, samples)
    assert result.verdict is Verdict.FAILS


@pytest.mark.parametrize("order", [0, 2, 4])
@pytest.mark.parametrize("moment", ["begin", "end"])
def test_a_free_that_waits_when_the_guest_stops_has_not_happened(order: int, moment: str) -> None:
    kernel = MadeKernel()
    pfn, other = kernel.allocate(order), kernel.allocate(order)
    assert pfn is not None
    assert other is not None
    samples: list[MemorySample] = []

    def stop() -> None:
        samples.append(kernel.sample(f"w/{moment}"))

    if moment == "begin":
        kernel.free(pfn, bypass=True, meanwhile=stop)
        kernel.free(other, bypass=True)
        samples.append(kernel.sample("w/end"))
    else:
        samples.append(kernel.sample("w/begin"))
        kernel.free(other, bypass=True)
        kernel.free(pfn, bypass=True, meanwhile=stop)

    result = replayed(kernel.events, samples)

    assert result.verdict is Verdict.HOLDS, result.why
    assert result.replay is not None
    assert result.replay.end.in_flight == (0 if moment == "begin" else 1 << order)


def test_a_free_that_its_cpu_has_left_behind_has_happened() -> None:
    kernel = MadeKernel()
    pfn = kernel.allocate(2)
    assert pfn is not None
    samples = [kernel.sample("w/begin")]

    def stop() -> None:
        kernel.emit("compaction/mm_compaction_begin")
        samples.append(kernel.sample("w/end"))

    kernel.free(pfn, bypass=True, meanwhile=stop)

    assert replayed(kernel.events, samples).verdict is Verdict.FAILS
