"""The allocator model's state at chosen moments of a window, while it picks pages for itself."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from analysis.memory.geometry import Geometry
from analysis.model.allocator.allocator import Allocator
from analysis.replay.allocator_state import load_allocator, migratetypes_of
from analysis.replay.prediction import Predictor
from analysis.replay.requests import PageAddresses, RequestReader, timeline
from analysis.replay.window import Window


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSnapshot:
    """A model's state at one moment; page indices are those of a ``Geometry``."""

    head: NDArray[np.int8]
    """Order + 1 at the first page of every free block, else 0."""
    on_pcp: NDArray[np.bool_]
    """Whether a page lies on a per-cpu list."""
    nr_free: NDArray[np.int64]
    """Free blocks, zone by order."""


ModelStates = Callable[[Window, Geometry, Sequence[int]], Sequence[ModelSnapshot]]
"""A model's states in an opened window, each after all that took effect up to a counter, the
counters ascending. Raises BundleError when it cannot predict the window."""


def snapshot_of(allocator: Allocator, geometry: Geometry) -> ModelSnapshot:
    """The state that a plain model is in."""
    head = np.zeros(geometry.pages, np.int8)
    on_pcp = np.zeros(geometry.pages, np.bool_)
    nr_free = np.zeros((len(geometry.zones), geometry.max_order + 1), np.int64)
    for zone in allocator.zones:
        for block in zone.free.blocks():
            head[block.pfn - geometry.first_pfn] = block.order + 1
            nr_free[zone.number, block.order] += 1
    for pcp in allocator.pcps.values():
        for pindex, pages in enumerate(pcp.lists):
            for pfn in pages:
                first = pfn - geometry.first_pfn
                on_pcp[first : first + (1 << pcp.order(pindex))] = True
    return ModelSnapshot(head=head, on_pcp=on_pcp, nr_free=nr_free)


def predicted_states(
    window: Window, geometry: Geometry, counters: Sequence[int]
) -> list[ModelSnapshot]:
    """``ModelStates`` of the plain model. Moments should be quiet ones.

    Raises:
        BundleError: the first sample is not sound, or holds what the model does not know.
    """
    sample = window.samples[0]
    assert window.stream is not None
    model = load_allocator(sample)
    rows = timeline(window.stream, int(sample.meta["trace_counter"]), counters[-1])
    addresses = PageAddresses(
        vmemmap_base=int(sample.meta["vmemmap"] or 0), struct_page_bytes=geometry.struct_page_bytes
    )
    reader = RequestReader(
        addresses,
        huge_order=model.huge_order,
        claims_then_steals=model.era.claims_then_steals,
    )
    steps = reader.read(rows)
    zones = sample.meta.get("zone_addresses") or []
    nodes = sample.meta.get("node_addresses") or {}
    predictor = Predictor(
        model,
        migratetypes_of(sample),
        zone_pointers={int(address): number for number, address in enumerate(zones)},
        node_pointers={int(address): int(node) for node, address in nodes.items()},
        page_shift=int(sample.meta["page_size_bytes"]).bit_length() - 1,
    )
    effects = [step.effect for step in steps]
    states: list[ModelSnapshot] = []
    done = 0
    for counter in counters:
        end = max(bisect_right(effects, counter), done)
        predictor.run(steps[done:end])
        done = end
        states.append(snapshot_of(model, geometry))
    return states
