"""Random allocator states and random walks through them, for two models side by side."""

from __future__ import annotations

from dataclasses import dataclass, field
from random import Random
from typing import Any

from analysis.model.allocator.allocator import Allocator, Choice, Request
from analysis.model.allocator.gfp import Alloc, Gfp
from analysis.model.allocator.pcp import Excess
from analysis.model.allocator.zone import Zone
from analysis.model.freelist import FreeBlock, Migratetype
from analysis.model.release import Release
from analysis.replay.model_state import Block, ModelState
from tests.allocator_model import MAX_ORDER, PAGEBLOCK_ORDER, make_allocator, make_zone

RELEASES = [Release(6, 1), Release(6, 6), Release(6, 8), Release(6, 12), Release(6, 18)]
RELEASES += [Release(7, 2), Release(7, 3)]
ORDINARY = (Migratetype.UNMOVABLE, Migratetype.MOVABLE, Migratetype.RECLAIMABLE)
GFPS = [
    int(gfp)
    for gfp in (
        Gfp.DIRECT_RECLAIM | Gfp.KSWAPD_RECLAIM,
        Gfp.DIRECT_RECLAIM | Gfp.KSWAPD_RECLAIM | Gfp.MOVABLE | Gfp.HIGHMEM,
        Gfp.DIRECT_RECLAIM | Gfp.KSWAPD_RECLAIM | Gfp.RECLAIMABLE,
        Gfp.HIGH | Gfp.ATOMIC | Gfp.KSWAPD_RECLAIM,
        Gfp.HIGH | Gfp.KSWAPD_RECLAIM,
        Gfp.KSWAPD_RECLAIM | Gfp.NOMEMALLOC,
        Gfp.DMA32 | Gfp.DIRECT_RECLAIM,
        Gfp.DMA | Gfp.DIRECT_RECLAIM,
        Gfp.THISNODE | Gfp.DIRECT_RECLAIM | Gfp.MOVABLE | Gfp.HIGHMEM,
    )
]
GET_PAGES = 1 << MAX_ORDER

Outcome = tuple[object, list[Block], list[Block]]
"""What an action returned, or that it was impossible; and the moves it made."""


def random_allocator(random: Random) -> Allocator:
    """Some zones on one or two nodes, partly free, their lists and counters in any state."""
    release = random.choice(RELEASES)
    cpus = random.choice([1, 1, 2, 3])
    nodes = random.choice([1, 1, 2])
    has_cma = random.random() < 0.4
    zones: list[Zone] = []
    pfn = random.choice([0, 1 << 20])
    for node in range(nodes):
        for zone_type in random.choice([(1,), (2,), (1, 2), (0, 1, 2)]):
            pageblocks = random.choice([2, 4, 6])
            gap = random.choice([0, 0, 0, 1, 64])
            marks = sorted(random.sample(range(pageblocks << (PAGEBLOCK_ORDER - 2)), 3))
            zone = make_zone(
                release=release,
                number=len(zones),
                node=node,
                zone_type=zone_type,
                start_pfn=pfn + gap,
                pageblocks=pageblocks,
                watermarks=(marks[0], marks[1], marks[2]),
                cpus=cpus,
                threshold=random.choice([0, 4, 40]),
                boost_factor=random.choice([0, 15000]),
            )
            zone.free.end_pfn -= gap
            pfn += pageblocks << PAGEBLOCK_ORDER
            pfn = -(-pfn >> MAX_ORDER) << MAX_ORDER
            _fill(zone, random, has_cma)
            zones.append(zone)
    batch = random.choice([1, 7, 31, 63])
    high = random.choice([0, 14, 100, 400])
    allocator = make_allocator(
        *zones,
        cpus=cpus,
        batch=batch,
        high=high,
        high_max=random.choice([None, None, high + 300]),
        has_cma=has_cma,
    )
    if random.random() < 0.3:
        allocator.huge_order = None
    for pcp in allocator.pcps.values():
        pcp.huge_order = allocator.huge_order
        pcp.flags = random.choice([0, 0, 2])
        pcp.lists = pcp.lists[: len(pcp.lists) - (allocator.era.pcp_remembers_type)]
    if nodes > 1 and random.random() < 0.3:
        allocator.awake_kswapds.add(random.randrange(nodes))
    return allocator


def _fill(zone: Zone, random: Random, has_cma: bool) -> None:
    lists = zone.free
    kinds = [*ORDINARY, Migratetype.MOVABLE, Migratetype.HIGHATOMIC]
    kinds += [Migratetype.CMA] if has_cma else []
    size = 1 << PAGEBLOCK_ORDER
    for pfn in range(lists.start_pfn // size * size, lists.end_pfn, size):
        kind = random.choice(kinds)
        lists.set_pageblock_migratetype(max(pfn, lists.start_pfn), 0, kind)
        if kind is Migratetype.HIGHATOMIC:
            zone.nr_reserved_highatomic += size
        full = random.choice([0.2, 0.5, 0.9])
        _fill_range(zone, random, pfn, PAGEBLOCK_ORDER, kind, full)
    zone.below_high = random.random() < 0.5
    zone.watermark_boost = random.choice([0, 0, 512])


def _fill_range(
    zone: Zone, random: Random, pfn: int, order: int, kind: Migratetype, full: float
) -> None:
    """Makes an aligned range free, allocated, or each half one or the other."""
    lists = zone.free
    whole = lists.spans(pfn) and lists.spans(pfn + (1 << order) - 1)
    if order and (not whole or random.random() < 0.7):
        for half in (pfn, pfn + (1 << (order - 1))):
            _fill_range(zone, random, half, order - 1, kind, full)
    elif whole and random.random() < full:
        if kind is Migratetype.MOVABLE and random.random() < 0.7:
            zone.movable.update(range(pfn, pfn + (1 << order)))
    elif whole and not _buddy_is_free(zone, pfn, order):
        lists.add(FreeBlock(pfn=pfn, order=order, migratetype=kind), to_tail=True)
        zone.account(1 << order, kind)


def _buddy_is_free(zone: Zone, pfn: int, order: int) -> bool:
    buddy = zone.free.block_at(pfn ^ (1 << order))
    return buddy is not None and buddy.order == order


@dataclass(slots=True)
class Walk:
    """A random walk: every step is made in all models, and what they say is written down."""

    random: Random
    models: list[ModelState]
    plain: Allocator
    """The first of the models, to look at."""
    held: list[tuple[int, int]] = field(default_factory=list)
    """Blocks handed out: first page and order."""
    isolated: list[tuple[int, int, int]] = field(default_factory=list)
    boosts: dict[int, int] = field(default_factory=dict)
    rests: list[tuple[int, int, Excess]] = field(default_factory=list)
    """What was left when pages were given back: zone, CPU of the lists, and how much."""
    as_told: bool = True
    """Requests may tell what the kernel did: which zone was served, and that lists were locked."""
    without: frozenset[str] = frozenset()
    """Actions that are not done."""
    largest_order: int = MAX_ORDER
    last: list[Any] = field(default_factory=list)
    """What was done last: the name of the call, then its arguments."""

    def step(self) -> list[tuple[str, Outcome]]:
        """One random action; its name and what came of it, by model."""
        names = [name for name in _ACTIONS if name not in self.without]
        name = self.random.choices(names, [_ACTIONS[name] for name in names])[0]
        arguments = getattr(self, f"_{name}")()
        if arguments is None:
            return []
        call, *rest = self.last = arguments
        if name.startswith("allocate"):  # as before every request of a window
            heads = self._heads()
            for model in self.models:
                model.show_heads(*heads)
        outcomes = [(name, _outcome(model, call, rest)) for model in self.models]
        self._remember(name, rest, outcomes[0][1])
        return outcomes

    def _remember(self, name: str, rest: list[Any], outcome: Outcome) -> None:
        result = outcome[0]
        if name.startswith("allocate") and isinstance(result, Choice):
            if result.pfn >= 0:
                self.held.append((result.pfn, rest[0].order))
        elif isinstance(result, Excess):
            self._remember_rest(name, rest, result)
        elif name == "isolate" and result is True:
            _, pfn, order = rest
            kind = self.plain.zone_of(pfn).free.pageblock_migratetype(pfn)
            self.isolated.append((pfn, order, kind))
        elif name == "begin_balance" and isinstance(result, int):
            self.boosts[rest[0]] = result

    def _remember_rest(self, name: str, rest: list[Any], left: Excess) -> None:
        if name == "free":
            self.rests.append((self.plain.zone_of(rest[1]).number, rest[0], left))
        else:
            self.rests.append((rest[1], rest[2], left))

    def _cpu(self) -> int:
        return self.random.choice(list(self.plain.cpu_nodes))

    def _zone(self) -> int:
        return self.random.randrange(len(self.plain.zones))

    def _page(self) -> int:
        lists = self.random.choice(self.plain.zones).free
        return self.random.randrange(lists.start_pfn, lists.end_pfn)

    def _block(self) -> FreeBlock | None:
        blocks = list(self.random.choice(self.plain.zones).free.blocks())
        return self.random.choice(blocks) if blocks else None

    def _allocate(self) -> list[Any]:
        random = self.random
        order = random.choices([0, 1, 2, 3, 5, 8, 9, 10], [40, 8, 6, 6, 2, 1, 3, 1])[0]
        order = min(order, self.largest_order)
        flags = None
        if random.random() < 0.2:
            flags = random.choice([0, 1, 2, 4]) | int(
                random.choice([0, Alloc.OOM, Alloc.NON_BLOCK | Alloc.MIN_RESERVE])
                | random.choice([0, Alloc.CMA, Alloc.NOFRAGMENT, Alloc.HIGHATOMIC])
                | random.choice([0, Alloc.KSWAPD])
            )
        return [
            "allocate",
            Request(
                cpu=self._cpu(),
                node=random.randrange(len({node for node, _ in self.plain.zonelists})),
                order=order,
                gfp=random.choice(GFPS),
                migratetype=random.choice(ORDINARY),
                alloc_flags=flags,
                pcp_locked=self.as_told and random.random() < 0.1,
                zone=self._zone() if self.as_told and random.random() < 0.3 else None,
            ),
        ]

    def _allocate_from(self) -> list[Any]:
        return ["allocate_from", self._allocate()[1], self._zone()]

    def _allocate_bulk(self) -> list[Any]:
        request = self._allocate()[1]
        assert isinstance(request, Request)
        one = Request(
            cpu=request.cpu,
            node=request.node,
            order=0,
            gfp=request.gfp,
            migratetype=_type_of(request.gfp),
        )
        return ["allocate_bulk", one, self.random.choice([1, 2, 8, 40])]

    def _free(self) -> list[Any] | None:
        if not self.held:
            return None
        pfn, order = self.held.pop(self.random.randrange(len(self.held)))
        return ["free", self._cpu(), pfn, order, self._stop_after()]

    def _stop_after(self) -> int:
        return self.random.choice([0, 0, 1, 4, 20])

    def _free_direct(self) -> list[Any] | None:
        arguments = self._free()
        captured = self.random.choice([None, None, None, 1, 3, 9])
        return None if arguments is None else ["free_direct", *arguments[1:4], captured]

    def _free_anything(self) -> list[Any] | None:
        """A free of pages that may be free already, but are on no per-cpu list."""
        order = self.random.choice([0, 0, 1, 3])
        first = self._page() >> order << order
        pages = set(range(first, first + (1 << order)))
        for pcp in self.plain.pcps.values():
            for pindex, listed in enumerate(pcp.lists):
                size = 1 << pcp.order(pindex) if listed else 1
                if any(pages & set(range(pfn, pfn + size)) for pfn in listed):
                    return None
        self.held = [block for block in self.held if _apart(pages, *block)]
        self.isolated = [block for block in self.isolated if _apart(pages, *block[:2])]
        return ["free_direct", self._cpu(), first, order, None]

    def _isolate(self) -> list[Any] | None:
        block = self._block()
        if block is None:
            return None
        wrong = self.random.random() < 0.1
        return ["isolate_free", self._cpu(), block.pfn, block.order + wrong]

    def _put_back(self) -> list[Any] | None:
        if not self.isolated:
            return None
        pfn, order, kind = self.isolated.pop(self.random.randrange(len(self.isolated)))
        return ["put_back", self._cpu(), pfn, order, Migratetype(kind)]

    def _drain(self) -> list[Any]:
        name = self.random.choice(["drain_all", "drain_batch", "decay"])
        return [name, self._cpu(), self._zone(), self._cpu(), self._stop_after()]

    def _give_rest(self) -> list[Any] | None:
        if not self.rests:
            return None
        zone, owner, left = self.rests.pop(self.random.randrange(len(self.rests)))
        return ["give_rest", self._cpu(), zone, owner, left, self._stop_after()]

    def _set_right(self) -> list[Any]:
        if self.random.random() < 0.5:
            return ["drop_boost", self._zone()]
        return ["count_free_later", self._zone(), self._cpu(), self.random.randrange(9)]

    def _fold(self) -> list[Any]:
        return ["fold", self._cpu()]

    def _unreserve(self) -> list[Any]:
        return ["unreserve_highatomic", {"force": self.random.random() < 0.5}]

    def _mark_movable(self) -> list[Any] | None:
        if not self.held:
            return None
        return ["mark_movable", *self.random.choice(self.held)]

    def _turn(self) -> list[Any]:
        return ["may_be_turned", self._page()]

    def _heads(self) -> tuple[list[Block], list[int]]:
        """Heads that the kernel might have found: blocks of the lists, in any order."""
        blocks = [self._block() for _ in range(self.random.randrange(12))]
        found = [(block.pfn, block.order) for block in blocks if block is not None]
        return found, [pfn for pfn, _ in found[: self.random.randrange(4)]]

    def _set_threshold(self) -> list[Any]:
        return ["set_threshold", self._zone(), 12, {"under_pressure": self.random.random() < 0.5}]

    def _kswapd(self) -> list[Any]:
        node = self.random.choice(self.plain.zones).node
        return ["set_kswapd", node, {"awake": self.random.random() < 0.5}]

    def _isolate_pageblock(self) -> list[Any]:
        return ["count_isolated", self._page(), self.random.choice([1, -1, -1])]

    def _capture(self) -> list[Any] | None:
        if not self.held:
            return None
        pfn, order = self.random.choice(self.held)
        return ["capture", pfn, self.random.randint(order, MAX_ORDER - 1)]

    def _begin_balance(self) -> list[Any]:
        return ["begin_balance", self._zone()]

    def _end_balance(self) -> list[Any] | None:
        if not self.boosts:
            return None
        return ["end_balance", *self.boosts.popitem()]

    def _overfills(self) -> list[Any]:
        order = self.random.choice([0, 0, 1, 3])
        return ["overfills", self._zone(), self._cpu(), order]

    def _push(self) -> list[Any] | None:
        """A single page that somebody holds lands on a list after all."""
        held = [pfn for pfn, order in self.held if order == 0]
        if not held:
            return None
        pfn = self.random.choice(held)
        self.held.remove((pfn, 0))
        zone, kind = self.plain.zone_of(pfn).number, self.random.choice(ORDINARY)
        to_tail = self.random.random() < 0.5
        return ["push", zone, self._cpu(), int(kind), pfn, kind, {"to_tail": to_tail}]

    def _forget(self) -> list[Any]:
        lists = [pages for pcp in self.plain.pcps.values() for pages in pcp.lists if pages]
        if not lists or self.random.random() < 0.1:
            return ["forget", self._page()]
        return ["forget", self.random.choice(list(self.random.choice(lists)))]

    def _carve(self) -> list[Any]:
        order = self.random.choice([0, 0, 1, 2])
        return ["carve", self._cpu(), self._page() >> order << order, order]

    def _look(self) -> list[Any]:
        """Questions that change nothing."""
        if self.random.random() < 0.3:
            return ["candidates", self._allocate()[1]]
        if self.random.random() < 0.5:
            return ["uses_pcp", self._zone(), self._cpu(), self.random.randrange(12)]
        lists = [
            (zone, cpu, pindex, pages)
            for (zone, cpu), pcp in self.plain.pcps.items()
            for pindex, pages in enumerate(pcp.lists)
            if pages
        ]
        if not lists:
            return ["on_pcp", self._page()]
        zone, cpu, pindex, pages = self.random.choice(lists)
        pfn = self.random.choice(list(pages))
        return ["above", zone, cpu, pindex, pfn]


_ACTIONS = {
    "allocate": 60,
    "allocate_bulk": 4,
    "allocate_from": 4,
    "free": 50,
    "free_direct": 5,
    "free_anything": 2,
    "isolate": 3,
    "put_back": 3,
    "drain": 4,
    "give_rest": 4,
    "set_right": 1,
    "fold": 2,
    "unreserve": 2,
    "mark_movable": 6,
    "turn": 2,
    "set_threshold": 1,
    "kswapd": 1,
    "isolate_pageblock": 2,
    "capture": 1,
    "begin_balance": 1,
    "end_balance": 1,
    "overfills": 3,
    "push": 2,
    "forget": 2,
    "carve": 2,
    "look": 2,
}
"""Name → how often."""


def _type_of(gfp: int) -> Migratetype:
    """The type that a request's flags ask for."""
    if gfp & Gfp.MOVABLE:
        return Migratetype.MOVABLE
    return Migratetype.RECLAIMABLE if gfp & Gfp.RECLAIMABLE else Migratetype.UNMOVABLE


def _apart(pages: set[int], pfn: int, order: int) -> bool:
    return pages.isdisjoint(range(pfn, pfn + (1 << order)))


def _outcome(model: ModelState, call: object, rest: list[Any]) -> Outcome:
    named = rest[-1] if rest and isinstance(rest[-1], dict) else {}
    numbers = rest[:-1] if named else rest
    try:
        result = getattr(model, str(call))(*numbers, **named)
    except ValueError:
        result = "impossible"
    return (result, *model.moves())
