"""SLUB with sheaves (from 7.0) on one CPU, object by object: arrays instead of a slab of the CPU's.

As in ``slub_cpu``, an object is known by its slab and its number in the slab's first order.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from analysis.model.slab.place import Place

FULL_SHEAVES = 10
"""MAX_FULL_SHEAVES: so many the barn of a node takes."""
LOOKAHEAD = 3
"""Objects of other slabs at which a search for objects of one slab ends."""


@dataclass(slots=True)
class _Slab:
    objects: int
    free: list[int]
    """A stack: the last one is handed out next."""


@dataclass(slots=True, kw_only=True)
class SlubWithSheaves:
    """A cache that nobody else uses, on a machine with one CPU and one node.

    The CPU has two sheaves, stacks of objects: a main one and a spare. A request pops from the
    main one; empty, it changes places with the spare, or goes to the node's barn for a full one,
    and only if the barn has none a sheaf is filled: from the node's partial slabs by turns, each
    emptied, then from new ones. What of a slab does not fit the sheaf stays with it, on the
    partial list. Objects that return are pushed on the main sheaf, full ones go to the barn; ten
    of them are enough, then the spare's objects return to their slabs, those of one slab
    together.

    Kernel: mm/slub.c, ``alloc_from_pcs``, ``__pcs_replace_empty_main``, ``refill_objects``,
        ``__refill_objects_node``, ``alloc_from_new_slab``, ``free_to_pcs``,
        ``__pcs_replace_full_main``, ``build_detached_freelist``, ``__slab_free``; 7.2, 7.3.
    Ignores: other CPUs and nodes, debugging, kfence, RCU's sheaves, failed allocations.
    """

    objects_per_slab: int
    min_partial: int
    capacity: int
    """Objects that a sheaf holds."""
    slabs: dict[int, _Slab] = field(default_factory=dict)
    made: int = 0
    _main: list[Place] = field(default_factory=list)
    _spare: list[Place] | None = None
    _full: list[list[Place]] = field(default_factory=list)
    """The barn's; the last one came last."""
    _empty: int = 0
    """Empty sheaves in the barn."""
    _partial: deque[int] = field(default_factory=deque)

    def alloc(self) -> Place:
        """The object that the next request gets."""
        if not self._main:
            self._replace_empty()
        return self._main.pop()

    def free(self, place: Place) -> None:
        """An object returns.

        Raises:
            ValueError: its slab is not there.
        """
        if place.block not in self.slabs:
            raise ValueError(f"slab {place.block} was given back before its objects")
        if len(self._main) == self.capacity:
            self._replace_full()
        self._main.append(place)

    def shrink(self) -> None:
        """kmem_cache_shrink(): all sheaves are emptied, all empty slabs go.

        Kernel: mm/slub.c, ``__kmem_cache_shrink``; 7.2, 7.3.
        Ignores: the order of what is left, fullest first.
        """
        sheaves = [*self._full, self._spare or [], self._main]
        self._full, self._spare, self._main, self._empty = [], None, [], 0
        for sheaf in sheaves:
            self._flush(sheaf)
        for number in list(self._partial):
            if len(self.slabs[number].free) == self.slabs[number].objects:
                self._partial.remove(number)
                del self.slabs[number]

    def _replace_empty(self) -> None:
        if self._spare:
            self._main, self._spare = self._spare, self._main
        elif self._full:
            self._main = self._full.pop()
            self._empty += 1
        else:
            # the spare one, which is empty, is filled; without it one of the barn's, or a new one
            if self._spare is None and self._empty:
                self._empty -= 1
            self._spare, self._main = self._main, self._refill(self.capacity)

    def _refill(self, wanted: int) -> list[Place]:
        taken: list[Place] = []
        chosen: list[int] = []
        free = 0
        for number in self._partial:
            chosen.append(number)
            free += len(self.slabs[number].free)
            if free >= wanted:
                break
        for number in chosen:
            self._partial.remove(number)
        for number in chosen:
            slab = self.slabs[number]
            while slab.free and len(taken) < wanted:
                taken.append(Place(number, slab.free.pop()))
            if slab.free:
                self._list(number)
        while len(taken) < wanted:
            number, self.made = self.made, self.made + 1
            count = min(wanted - len(taken), self.objects_per_slab)
            taken += [Place(number, within) for within in range(count)]
            rest = list(range(self.objects_per_slab - 1, count - 1, -1))
            self.slabs[number] = _Slab(objects=self.objects_per_slab, free=rest)
            if rest:
                self._list(number, first=True)
        return taken

    def _replace_full(self) -> None:
        if self._spare is None:
            self._empty -= bool(self._empty)
            self._spare, self._main = self._main, []
        elif len(self._spare) < self.capacity:
            self._main, self._spare = self._spare, self._main
        elif len(self._full) >= FULL_SHEAVES:
            flushed, self._spare = self._spare, None
            self._flush(flushed)
            self._spare, self._main = self._main, []
        else:
            self._empty -= bool(self._empty)
            self._full.append(self._main)
            self._main = []

    def _flush(self, sheaf: list[Place]) -> None:
        """Objects return to their slabs, from the end, those of one slab together as far as a
        look ahead finds them."""
        places = list(sheaf)
        size = len(places)
        while size:
            size -= 1
            together = [places[size]]
            same = at = size
            lookahead = LOOKAHEAD
            while at:
                at -= 1
                if places[at].block == together[0].block:
                    together.append(places[at])
                    same -= 1
                    if at != same:
                        places[at], places[same] = places[same], places[at]
                    continue
                lookahead -= 1
                if not lookahead:
                    break
            size = same
            self._return(together)

    def _return(self, together: list[Place]) -> None:
        number = together[0].block
        slab = self.slabs[number]
        was_full = not slab.free
        slab.free += [place.within for place in together]
        if len(slab.free) == slab.objects and len(self._partial) >= self.min_partial:
            if not was_full:
                self._partial.remove(number)
            del self.slabs[number]
        elif was_full:
            self._list(number)

    def _list(self, number: int, *, first: bool = False) -> None:
        if first:
            self._partial.appendleft(number)
        else:
            self._partial.append(number)

    @property
    def nr_slabs(self) -> int:
        """/sys/kernel/slab/CACHE/slabs."""
        return len(self.slabs)

    @property
    def nr_partial(self) -> int:
        """CACHE/partial: slabs on the node's list."""
        return len(self._partial)

    @property
    def nr_cpu_slabs(self) -> int:
        """CACHE/cpu_slabs: there are none any more."""
        return 0

    @property
    def nr_objects(self) -> int:
        """CACHE/objects: all but the free ones of the node's partial slabs; those in sheaves count
        as in use."""
        everything = sum(slab.objects for slab in self.slabs.values())
        return everything - sum(len(self.slabs[number].free) for number in self._partial)
