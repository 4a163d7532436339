"""The model left to itself: a window's requests, and never a look at the kernel's answers.

A free run begins in the state of a memory sample. An allocation gets whatever page the model
chooses; the kernel's page is only the name under which a later event speaks of it. What was
allocated before the window keeps its place. Under a policy that is not the kernel's this is a
counterfactual; under the kernel's own it says how far prediction drifts when nobody sets it right.

Given, as far as it still applies: what compaction isolated, turned and captured, pageblocks set
apart, when daemons woke, slept and drained, which node had room for dirty pages. Reclaim is not
foretold: pages are freed when the kernel freed them, also where another policy would have needed
more or less of it.
"""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from analysis.model.allocator.allocator import Allocator, Request
from analysis.model.allocator.counterfactual import impose
from analysis.model.allocator.fallback import Memory, rmqueue
from analysis.model.allocator.gfp import gfp_migratetype
from analysis.model.allocator.pcp import pcp_allowed
from analysis.model.allocator.policy import KERNEL, Policy
from analysis.model.buddy import is_free
from analysis.model.freelist import Migratetype
from analysis.replay.allocator_state import migratetypes_of
from analysis.replay.kswapd import Kswapds
from analysis.replay.model_state import Block, PlainState
from analysis.replay.request_stream import Followed, RequestStream
from analysis.replay.step import Kind, Step

_NOBODY = -1
"""Image of a page that is free in the kernel, or was allocated there and not in the model."""
_REPORTED_EVERY = 1 << 14


@dataclass(slots=True, kw_only=True)
class FreeRun:
    """What became of the requests."""

    policy: Policy
    allocator: Allocator
    """The model as it ended."""
    counter: NDArray[np.int64]
    """Moments at which ``nr_free`` was taken, in the order of events."""
    nr_free: NDArray[np.int64]
    """Free blocks by moment, zone and order."""
    on_pcp: NDArray[np.int64]
    """Pages on per-cpu lists by moment and zone."""
    requests: int = 0
    same_page: int = 0
    """Requests that got the very page that the kernel gave."""
    aside: Counter[str] = field(default_factory=Counter)
    """What could not be done as it was: how often, by kind."""

    @property
    def end(self) -> NDArray[np.int64]:
        """Free blocks at the end, zone by order."""
        return np.asarray(self.nr_free[-1], np.int64)


def run_freely(
    stream: RequestStream,
    followed: Followed,
    policy: Policy = KERNEL,
    *,
    moments: Sequence[int] = (),
    progress: Callable[[int, int], None] = lambda _done, _of: None,
) -> FreeRun:
    """Runs a stream's requests; ``followed`` gives bulk requests' pages their names.

    ``moments`` are counters at which free blocks are noted, besides the end. ``progress`` is told
    how many steps of how many are done.

    Raises:
        BundleError: the begin cannot be loaded.
    """
    allocator = stream.allocator()
    allocated = _Images(allocator)
    impose(allocator, policy)
    runner = _Runner(stream, followed, policy, allocator, allocated)
    effects = [step.effect for step in stream.steps]
    stops = np.searchsorted(np.array(effects, np.int64), np.array(moments, np.int64), "right")
    counters = [*moments, effects[-1] if effects else int(stream.begin.meta["trace_counter"] or 0)]
    taken: list[tuple[NDArray[np.int64], NDArray[np.int64]]] = []
    turns = followed.turns.tolist()
    next_stop = 0
    for done, number in enumerate(turns):
        while next_stop < len(stops) and stops[next_stop] <= done:
            taken.append(runner.census())
            next_stop += 1
        if done % _REPORTED_EVERY == 0:
            progress(done, len(turns))
        runner.take(stream.steps[number])
    while len(taken) < len(counters):
        taken.append(runner.census())
    progress(len(turns), len(turns))
    return FreeRun(
        policy=policy,
        allocator=allocator,
        counter=np.array(counters, np.int64),
        nr_free=np.array([free for free, _ in taken], np.int64),
        on_pcp=np.array([pcp for _, pcp in taken], np.int64),
        requests=runner.requests,
        same_page=runner.same_page,
        aside=runner.aside,
    )


class _Images:
    """For every page that is allocated in the kernel, the model's page in its stead."""

    def __init__(self, allocator: Allocator) -> None:
        spans = [(zone.free.start_pfn, zone.free.end_pfn) for zone in allocator.zones]
        self._first = min(start for start, _ in spans)
        end = max(end for _, end in spans)
        self._one = array("q", range(self._first, end))
        self._many = np.frombuffer(self._one, np.int64)
        for zone in allocator.zones:
            for block in zone.free.blocks():
                self.set(block.pfn, block.order, _NOBODY)
        for pcp in allocator.pcps.values():
            for pindex, pages in enumerate(pcp.lists):
                for pfn in pages:
                    self.set(pfn, pcp.order(pindex), _NOBODY)

    def set(self, pfn: int, order: int, image: int) -> None:
        """The image of a block's first page; those of the others follow."""
        at = pfn - self._first
        if order == 0:
            self._one[at] = image
        elif image == _NOBODY:
            self._many[at : at + (1 << order)] = _NOBODY
        else:
            self._many[at : at + (1 << order)] = np.arange(image, image + (1 << order))

    def take(self, pfn: int, order: int) -> Iterator[Block]:
        """The images of a block, as few blocks as they make; afterwards it has none."""
        at, pages = pfn - self._first, 1 << order
        if order == 0:
            image = self._one[at]
            self._one[at] = _NOBODY
            if image != _NOBODY:
                yield image, 0
            return
        images = self._many[at : at + pages].tolist()
        self._many[at : at + pages] = _NOBODY
        yield from blocks_of(images)

    def of(self, pfn: int) -> int:
        """The image of one page, or -1."""
        return self._one[pfn - self._first]


def blocks_of(pages: Sequence[int]) -> Iterator[Block]:
    """Pages in order, -1 for none, as the largest aligned blocks that follow one another."""
    at = 0
    while at < len(pages):
        if pages[at] == _NOBODY:
            at += 1
            continue
        order = 0
        while (
            pages[at] % (2 << order) == 0
            and at + (2 << order) <= len(pages)
            and all(pages[at + more] == pages[at] + more for more in range(1 << order, 2 << order))
        ):
            order += 1
        yield pages[at], order
        at += 1 << order


class _Runner:
    """Takes one step after the other."""

    def __init__(
        self,
        stream: RequestStream,
        followed: Followed,
        policy: Policy,
        allocator: Allocator,
        images: _Images,
    ) -> None:
        self._allocator = allocator
        self._state = PlainState(allocator)
        self._types = tuple(policy.grouped(kind) for kind in migratetypes_of(stream.begin))
        self._policy = policy
        self._images = images
        self._followed = followed
        self._zone_pointers = stream.zone_pointers
        self._orders: dict[int, int] = {}
        """Orders of the kernel's allocations in the window, by first page."""
        self._captured: set[Block] = set()
        """Blocks that compaction took from frees and nobody has got yet."""
        self.requests = 0
        self.same_page = 0
        self.aside: Counter[str] = Counter()
        state = self._state
        kswapds = Kswapds(state, stream.node_pointers, stream.page_shift)
        self._act: Mapping[Kind, Callable[[Step], object]] = {
            Kind.ALLOCATE: self._allocate,
            Kind.CAPTURED: self._get_captured,
            Kind.BULK: self._bulk,
            Kind.FREE: self._free,
            Kind.FREE_RANGE: self._free_range,
            Kind.FREE_DIRECT: self._free_direct,
            Kind.ISOLATE: self._isolate,
            Kind.PUT_BACK: self._put_back,
            Kind.DRAIN_ALL: self._drain,
            Kind.DRAIN_BATCH: self._drain,
            Kind.DECAY: self._drain,
            Kind.UNKNOWN_DRAIN: self._drain_unknown,
            Kind.DRAIN_REST: lambda _step: None,  # here whoever gives back does so in one go
            Kind.FOLD: lambda step: state.fold(step.cpu),
            Kind.ON_LRU: self._on_lru,
            Kind.COMPACTION: lambda step: state.may_be_turned(step.pfn),
            Kind.UNRESERVE: self._unreserve,
            Kind.ISOLATE_PAGEBLOCK: lambda step: state.count_isolated(step.pfn, 1),
            Kind.UNISOLATE_PAGEBLOCK: lambda step: state.count_isolated(step.pfn, -1),
            **kswapds.act,
        }

    def take(self, step: Step) -> None:
        self._act[step.kind](step)
        for zone in self._allocator.zones:
            if zone.moves:
                zone.moves.clear()

    def census(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Free blocks by zone and order, and pages on per-cpu lists by zone."""
        zones = self._allocator.zones
        free = np.array([zone.free.free_blocks() for zone in zones], np.int64)
        listed = np.zeros(len(zones), np.int64)
        for (zone, _), pcp in self._allocator.pcps.items():
            listed[zone] += pcp.count
        return free, listed

    # Allocations.
    def _allocate(self, step: Step) -> None:
        self.requests += 1
        self._orders[step.pfn] = step.order
        self._state.show_heads(step.locked, step.borrowed)
        node = step.node if step.node >= 0 else self._state.cpu_nodes[step.cpu]
        request = Request(
            cpu=step.cpu,
            node=self._followed.nodes.get(step.number, node),
            order=step.order,
            gfp=step.gfp,
            migratetype=self._types[step.migratetype],
            alloc_flags=step.alloc_flags if step.alloc_flags >= 0 else None,
        )
        choice = self._allocator.allocate(request)
        if choice is None and request.alloc_flags is not None:
            choice = self._allocator.allocate(replace(request, alloc_flags=None))
        if choice is None:
            self.aside["requests that found no page"] += 1
            self._images.set(step.pfn, step.order, _NOBODY)
            return
        self.same_page += choice.pfn == step.pfn
        self._images.set(step.pfn, step.order, choice.pfn)

    def _get_captured(self, step: Step) -> None:
        """A block that compaction captured, if it came together here too; else any block."""
        if (step.pfn, step.order) in self._captured:
            self._captured.discard((step.pfn, step.order))
            self._orders[step.pfn] = step.order
            self._images.set(step.pfn, step.order, step.pfn)
            return
        self.aside["captures that did not come about"] += 1
        self._allocate(step)

    def _bulk(self, step: Step) -> None:
        if step.count <= 0:
            return
        self._state.show_heads(step.locked, step.borrowed)
        request = Request(
            cpu=step.cpu,
            node=step.node if step.node >= 0 else self._state.cpu_nodes[step.cpu],
            order=0,
            gfp=step.gfp,
            migratetype=self._policy.grouped(gfp_migratetype(step.gfp)),
        )
        names = self._followed.bulk_pages.get(step.number, ())
        got = self._allocator.allocate_bulk(request, step.count)
        while len(got) < min(step.count, len(names)):
            more = self._allocator.allocate_bulk(request, step.count - len(got))
            if not more:
                break
            got += more
        for name, pfn in zip(names, got, strict=False):
            self._images.set(name, 0, pfn)
        for name in names[len(got) :]:
            self.aside["requests that found no page"] += 1
            self._images.set(name, 0, _NOBODY)
        for pfn in got[len(names) :]:
            self._allocator.free(step.cpu, pfn, 0)

    # Frees.
    def _free(self, step: Step) -> None:
        self._expect_captures(step)
        self._free_block(step.cpu, step.pfn, step.order)
        self._note_captures(step)

    def _free_range(self, step: Step) -> None:
        self._expect_captures(step)
        for pfn, order in step.pieces:
            self._free_block(step.cpu, pfn, order)
        self._note_captures(step)

    def _free_block(self, cpu: int, pfn: int, order: int) -> None:
        self._orders.pop(pfn, None)
        pages = 0
        for image, image_order in self._images.take(pfn, order):
            pages += 1 << image_order
            self._allocator.free(cpu, image, image_order)
        self._count_nobodys((1 << order) - pages)

    def _free_direct(self, step: Step) -> None:
        self._orders.pop(step.pfn, None)
        self._expect_captures(step)
        pages = 0
        for image, order in self._images.take(step.pfn, step.order):
            pages += 1 << order
            self._allocator.free_direct(step.cpu, image, order)
        self._count_nobodys((1 << step.order) - pages)
        self._note_captures(step)

    def _count_nobodys(self, pages: int) -> None:
        if pages:
            self.aside["pages freed that the model had not given out"] += pages

    def _expect_captures(self, step: Step) -> None:
        """Compaction waits for these blocks to come back; under their own names only."""
        for pfn, order in step.captured.items():
            self._state.capture(pfn, order)

    def _note_captures(self, step: Step) -> None:
        for pfn, order in step.captured.items():
            zone = self._allocator.zone_of(pfn)
            waiting = zone.captures.pop(pfn, None) is not None
            if waiting or is_free(zone.free, pfn, 0) or self._state.on_pcp(pfn):
                continue
            self._captured.add((pfn & ~((1 << order) - 1), order))

    # Compaction and isolation.
    def _isolate(self, step: Step) -> None:
        """Takes the very pages if they are free, else others of the zone that compaction might."""
        state, pfn, order = self._state, step.pfn, step.order
        if state.isolate_free(step.cpu, pfn, order) or state.carve(step.cpu, pfn, order):
            self._images.set(pfn, order, pfn)
            return
        self.aside["isolated blocks that were not free; others taken"] += 1
        zone = self._allocator.zone_of(pfn)
        zone.cpu = step.cpu
        kind = self._policy.grouped(Migratetype.MOVABLE)
        for piece in range(pfn, pfn + (1 << order)):
            found = rmqueue(zone, 0, kind, 0, Memory())
            if found is not None and not zone.era.accounts_each_block:
                zone.account(-1, found[1])
            if found is None:
                self.aside["isolated pages without others in their stead"] += 1
            self._images.set(piece, 0, _NOBODY if found is None else found[0])

    def _put_back(self, step: Step) -> None:
        kind = self._types[step.migratetype]
        pages = 0
        for image, order in self._images.take(step.pfn, step.order):
            pages += 1 << order
            self._state.put_back(step.cpu, image, order, kind)
        self._count_nobodys((1 << step.order) - pages)

    def _on_lru(self, step: Step) -> None:
        image = self._images.of(step.pfn)
        if image != _NOBODY:
            self._state.mark_movable(image, self._orders.get(step.pfn, step.order))

    # Drains.
    def _drain(self, step: Step) -> None:
        zone = self._zone_pointers.get(step.pointer)
        if zone is None and step.drained:
            zone = self._state.zone_of(step.drained[0][0])
        if zone is None:
            return
        self._expect_captures(step)
        drain = {
            Kind.DRAIN_ALL: self._state.drain_all,
            Kind.DRAIN_BATCH: self._state.drain_batch,
            Kind.DECAY: self._state.decay,
        }[step.kind]
        drain(step.cpu, zone, step.count)
        self._note_captures(step)

    def _drain_unknown(self, step: Step) -> None:
        """Blocks came back for a reason that no event tells; so do those that are listed here."""
        for pfn, order in step.drained:
            if pcp_allowed(order, self._state.huge_order) and self._state.forget(pfn):
                self._state.give_back(step.cpu, pfn, order)
            else:
                self.aside["drains without a cause"] += 1

    # Daemons.
    def _unreserve(self, step: Step) -> None:
        kind = self._policy.grouped(Migratetype.MOVABLE)
        for zone in self._allocator.zones:
            if zone.nr_reserved_highatomic and self._allocator.unreserve_highatomic(
                zone, kind, force=bool(step.count)
            ):
                return
