"""SLAB (to 6.7) on one CPU, object by object: the CPU's array, and refills in batches."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from analysis.model.slab.place import Place
from analysis.model.slab.slab import SlabGeometry

REFILL_LIMIT = 16
"""BATCHREFILL_LIMIT: the first refill of an array that was not used for a while."""


@dataclass(slots=True)
class _Slab:
    order: list[int]
    """Numbers of the objects; those from ``active`` on are free."""
    active: int = 0


@dataclass(slots=True, kw_only=True)
class SlabOnCpu:
    """A cache that nobody else uses, on a machine with one CPU and one node.

    Objects go through the CPU's array, a stack. Empty, it is refilled with a batch from the
    first partial slab, then from the first free one, and only if both lists are empty from a new
    slab. Since the batch is pushed in the slab's order it is handed out backwards. Full, it gives
    its oldest batch back; a slab that gets one moves to the end of the partial list, or to the
    front of the free list, of which the last is given back while more objects are free than the
    node may keep.

    Kernel: mm/slab.c, ``cache_alloc_refill``, ``alloc_block``, ``cache_flusharray``,
        ``free_block``, ``fixup_slab_list``; 6.1 without CONFIG_SLAB_FREELIST_RANDOM and without
        a shared array (one possible CPU).
    Ignores: the reaper, which every two seconds may drain the array and marks it unused; other
        nodes; debugging.
    """

    geometry: SlabGeometry
    limit: int
    batchcount: int
    free_limit: int
    """Free objects that the node may keep: a batch for each CPU and one more, and a slab."""
    slabs: dict[int, _Slab] = field(default_factory=dict)
    made: int = 0
    _array: list[Place] = field(default_factory=list)
    _touched: bool = False
    _partial: deque[int] = field(default_factory=deque)
    _empty: deque[int] = field(default_factory=deque)
    _free_objects: int = 0

    def alloc(self) -> Place:
        """The object that the next request gets."""
        if not self._array:
            self._refill()
        self._touched = True
        return self._array.pop()

    def free(self, place: Place) -> None:
        """An object returns."""
        if len(self._array) >= self.limit:
            self._flush()
        self._array.append(place)

    def _refill(self) -> None:
        wanted = self.batchcount if self._touched else min(self.batchcount, REFILL_LIMIT)
        while wanted > 0 and (self._partial or self._empty):
            lists = self._partial or self._empty
            wanted -= self._draw(lists.popleft(), wanted)
        self._free_objects -= len(self._array)
        if self._array:
            return
        number, self.made = self.made, self.made + 1
        self.slabs[number] = _Slab(order=list(range(self.geometry.objects)))
        drawn = self._draw(number, wanted)
        self._free_objects += self.geometry.objects - drawn

    def _draw(self, number: int, wanted: int) -> int:
        """Move up to so many objects of a slab that is on no list to the array; put it on one."""
        slab = self.slabs[number]
        drawn = slab.order[slab.active : slab.active + wanted]
        self._array += [Place(number, within) for within in drawn]
        slab.active += len(drawn)
        if slab.active < len(slab.order):
            self._partial.appendleft(number)
        return len(drawn)

    def _flush(self) -> None:
        given, self._array = self._array[: self.batchcount], self._array[self.batchcount :]
        self._free_objects += len(given)
        for place in given:
            slab = self.slabs[place.block]
            for numbers in (self._partial, self._empty):
                if place.block in numbers:
                    numbers.remove(place.block)
            slab.active -= 1
            slab.order[slab.active] = place.within
            if slab.active:
                self._partial.append(place.block)
            else:
                self._empty.appendleft(place.block)
        while self._free_objects > self.free_limit and self._empty:
            del self.slabs[self._empty.pop()]
            self._free_objects -= self.geometry.objects

    def offset_bytes(self, place: Place, *, size: int, colours: int, colour_bytes: int) -> int:
        """Where the object begins in its slab: each new slab's objects are moved by one colour
        more than the last's, so that they do not all meet in the same cache lines.

        Kernel: mm/slab.c, ``cache_grow_begin``: the first slab has colour 1 where there are two or
            more; 6.1.
        Ignores: nothing known.
        """
        colour = (place.block + 1) % colours if colours > 1 else 0
        return colour * colour_bytes + place.within * size
