"""Counterfactuals: how fragmented memory would have been under other rules of the allocator.

Three states side by side: the kernel's, the model's that ran freely under the kernel's own rules
(how far that is from the kernel's is the error to expect of any counterfactual), and the model's
that ran freely under the rules asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from analysis.memory.state import nr_free_of
from analysis.model.allocator.policy import parse_policy
from analysis.replay.allocator_state import Comparison, compare_allocator
from analysis.replay.free_run import FreeRun, run_freely
from analysis.replay.request_stream import Followed, RequestStream, follow
from analysis.replay.unusable import unusable_milli

MOMENTS = 200
"""Points of a curve where exact replay gives none."""
_LOW_ORDER = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class ZoneState:
    """A zone's free memory at one moment."""

    free_pages: int
    largest_order: int | None
    """Of its free blocks; None: it has none."""
    unusable: dict[int, float]
    """Unusable free space index (0 to 1) by order."""
    free_blocks: tuple[int, ...]
    """By order."""
    pcp_pages: int

    def to_json(self) -> dict[str, object]:
        """As ``mmscope replay --json`` prints it."""
        return {
            "free_pages": self.free_pages,
            "pcp_pages": self.pcp_pages,
            "largest_order": self.largest_order,
            "unusable_index": {str(order): index for order, index in self.unusable.items()},
            "free_blocks": list(self.free_blocks),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class ZoneWhatIf:
    """One zone at the window's end."""

    number: int
    """As the memory samples count zones."""
    name: str
    """``node 0 DMA32``."""
    real: ZoneState | None
    as_recorded: ZoneState
    what_if: ZoneState


@dataclass(frozen=True, slots=True, kw_only=True)
class WhatIf:
    """A window under other rules."""

    stream: RequestStream
    options: tuple[str, ...]
    """As asked for."""
    followed: Followed
    as_recorded: FreeRun
    what_if: FreeRun
    drift: Comparison | None
    """The free run under the kernel's own rules, held against the kernel at the end."""

    @property
    def orders(self) -> tuple[int, ...]:
        """Orders whose index is told."""
        return index_orders(self.stream)

    @property
    def zones(self) -> tuple[ZoneWhatIf, ...]:
        """Zones that had or would have had free memory."""
        end = self.stream.end
        real = None if end is None else nr_free_of(end)
        shown: list[ZoneWhatIf] = []
        for number, row in enumerate(self.stream.begin.zones):
            blocks = [self.as_recorded.end[number], self.what_if.end[number]]
            if not any(one.any() for one in blocks):
                continue
            pcp: int | None = None
            if end is not None:
                pcp = int(end.pcps["count"][end.pcps["zone"] == number].sum())
            shown.append(
                ZoneWhatIf(
                    number=number,
                    name=f"node {int(row['node'])} {row['name'].decode()}",
                    real=None if real is None else self._state(real[number], pcp or 0),
                    as_recorded=self._state(blocks[0], int(self.as_recorded.on_pcp[-1, number])),
                    what_if=self._state(blocks[1], int(self.what_if.on_pcp[-1, number])),
                )
            )
        return tuple(shown)

    def curves(self, zone: int, order: int) -> dict[str, tuple[NDArray[np.int64], NDArray[Any]]]:
        """Unusable index (0 to 1) of a zone over the counter, by what it is of."""
        runs = {"as recorded": self.as_recorded, "what if": self.what_if}
        found: dict[str, tuple[NDArray[np.int64], NDArray[Any]]] = {}
        if self.stream.real is not None:
            real = self.stream.real
            found["real"] = real.counter, unusable_milli(real.nr_free[:, zone])[:, order] / 1000
        for name, run in runs.items():
            found[name] = run.counter, unusable_milli(run.nr_free[:, zone])[:, order] / 1000
        return found

    def to_json(self) -> dict[str, object]:
        """As ``mmscope replay --json`` prints it."""
        return {
            "window": self.stream.name,
            "kernel": self.stream.kernel,
            "arch": self.stream.arch,
            "options": list(self.options),
            "requests": self.what_if.requests,
            "pfn_match_pct": self.followed.result.match_pct,
            "drift": None
            if self.drift is None
            else {
                "pages_differing": self.drift.pages_differing,
                "lists_differing": len(self.drift.differing),
                "same_page_pct": _share(self.as_recorded),
            },
            "same_page_pct": _share(self.what_if),
            "aside": {
                "as_recorded": dict(self.as_recorded.aside),
                "what_if": dict(self.what_if.aside),
            },
            "zones": [
                {
                    "zone": zone.name,
                    "real": zone.real.to_json() if zone.real else None,
                    "as_recorded": zone.as_recorded.to_json(),
                    "what_if": zone.what_if.to_json(),
                }
                for zone in self.zones
            ],
            "curves": [
                {
                    "zone": f"node {int(row['node'])} {row['name'].decode()}",
                    "order": order,
                    **{
                        name.replace(" ", "_"): {
                            "counter": counter.tolist(),
                            "unusable_index": index.tolist(),
                        }
                        for name, (counter, index) in self.curves(number, order).items()
                    },
                }
                for number, row in enumerate(self.stream.begin.zones)
                for order in self.orders
            ],
        }

    def _state(self, blocks: NDArray[np.int64], pcp_pages: int) -> ZoneState:
        index = unusable_milli(blocks)
        there = np.flatnonzero(blocks)
        return ZoneState(
            free_pages=int((blocks << np.arange(len(blocks))).sum()),
            largest_order=int(there[-1]) if len(there) else None,
            unusable={order: float(index[order]) / 1000 for order in self.orders},
            free_blocks=tuple(blocks.tolist()),
            pcp_pages=pcp_pages,
        )


def _share(run: FreeRun) -> float:
    return 100.0 * run.same_page / run.requests if run.requests else 100.0


def index_orders(stream: RequestStream) -> tuple[int, ...]:
    """A middling order and that of huge pages."""
    largest = int(stream.begin.meta["max_order"])
    wanted = {min(_LOW_ORDER, largest), min(int(stream.begin.meta["pageblock_order"]), largest)}
    return tuple(sorted(wanted))


def run_what_if(
    stream: RequestStream,
    options: Sequence[str],
    *,
    stage: Callable[[str], None] = lambda _text: None,
    note: Callable[[str], None] = lambda _text: None,
) -> WhatIf:
    """Runs a stream under the rules that ``options`` (``name=value``) ask for.

    Raises:
        ValueError: an option is none; the message lists the choices.
        BundleError: the stream's begin cannot be loaded.
    """
    policy = parse_policy(options)
    stage(f"window {stream.name}: predicting {len(stream.steps):,} steps")
    followed = follow(stream)
    moments = _moments(stream)

    def progress(done: int, steps: int) -> None:
        note(f"{done:,} of {steps:,} steps")

    stage(f"window {stream.name}: as recorded")
    recorded = run_freely(stream, followed, moments=moments, progress=progress)
    stage(f"window {stream.name}: what if {' '.join(options)}")
    changed = run_freely(stream, followed, policy, moments=moments, progress=progress)
    end = stream.end
    return WhatIf(
        stream=stream,
        options=tuple(options),
        followed=followed,
        as_recorded=recorded,
        what_if=changed,
        drift=None if end is None else compare_allocator(recorded.allocator, end),
    )


def _moments(stream: RequestStream) -> list[int]:
    if stream.real is not None:
        return [int(counter) for counter in stream.real.counter]
    effects = np.array([step.effect for step in stream.steps], np.int64)
    if not len(effects):
        return []
    return [int(effects[at]) for at in np.linspace(0, len(effects) - 1, MOMENTS).astype(int)]
