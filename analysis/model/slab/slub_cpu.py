"""SLUB on one CPU, object by object: which slab serves a request, and what its lists hold.

Every object is known by its slab and by its number in the list that the slab was born with, so
that nothing depends on addresses: where the list is shuffled, its order is not known, but that the
same objects come back in the reverse order of their return is.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from analysis.model.slab.place import Place


@dataclass(slots=True)
class _Slab:
    objects: int
    free: list[int]
    """A stack: the last one is handed out next."""
    frozen: bool = True


@dataclass(slots=True, kw_only=True)
class SlubOnCpu:
    """A cache that nobody else uses, on a machine with one CPU and one node.

    A request takes the first object of the CPU's list; when that is empty, the list of the slab
    that went to the CPU's partial slabs last; then a slab of the node's partial list, with
    further ones for the CPU's up to half of what it may keep; then a new slab. An object that
    returns goes to the front of the CPU's list if its slab is the CPU's, else to the front of its
    slab's own. A full slab that gets one back joins the CPU's partial slabs; when there are as
    many as allowed already, those move to the end of the node's list first, the empty ones among
    them given back once the node holds ``min_partial``.

    Kernel: mm/slub.c, ``___slab_alloc``, ``get_partial_node``, ``__slab_free``,
        ``put_cpu_partial``, ``__unfreeze_partials`` (``unfreeze_partials``; ``__put_partials`` in
        6.12, where a slab on these lists is no longer frozen but marked where it is on the node's
        list, to the same effect); 6.1, 6.12, and 5.10, where not slabs are counted but the objects
        that were free when a slab joined; all with CONFIG_SLUB_CPU_PARTIAL.
    Ignores: other CPUs and nodes, debugging, kfence, bulk requests, failed allocations of pages.
    """

    objects_per_slab: int
    min_partial: int
    cpu_partial_slabs: int = 0
    """How many partial slabs a CPU may keep, from 5.16 on."""
    cpu_partial_objects: int | None = None
    """Before: how many free objects in them, beyond which they move."""
    slabs: dict[int, _Slab] = field(default_factory=dict)
    """By number; a slab that was given back is gone."""
    made: int = 0
    _cpu: int | None = None
    _free: list[int] = field(default_factory=list)
    _cpu_partial: list[int] = field(default_factory=list)
    """The last one came last."""
    _counted: list[int] = field(default_factory=list)
    """Free objects of each of these and of those before it, when it joined."""
    _partial: deque[int] = field(default_factory=deque)

    def alloc(self) -> Place:
        """The object that the next request gets."""
        if not self._free:
            self._refill()
        assert self._cpu is not None
        return Place(self._cpu, self._free.pop())

    def free(self, place: Place) -> None:
        """An object returns.

        Raises:
            ValueError: its slab is not there.
        """
        if place.block not in self.slabs:
            raise ValueError(f"slab {place.block} was given back before its objects")
        if place.block == self._cpu:
            self._free.append(place.within)
            return
        slab = self.slabs[place.block]
        was_full = not slab.free
        slab.free.append(place.within)
        if slab.frozen:
            return
        if was_full:
            slab.frozen = True
            self._to_cpu_partial(place.block, drain=True)
        elif len(slab.free) == slab.objects and len(self._partial) >= self.min_partial:
            self._partial.remove(place.block)
            del self.slabs[place.block]

    def shrink(self) -> None:
        """kmem_cache_shrink(): the CPU's slabs join the node's list, all empty ones go.

        Kernel: mm/slub.c, ``__kmem_cache_shrink`` and ``__kmem_cache_do_shrink``; 5.10 to 7.3.
        Ignores: the order of what is left, fullest first.
        """
        if self._cpu is not None:
            self.slabs[self._cpu].free = self._free
            self._cpu_partial.append(self._cpu)
        self._cpu, self._free = None, []
        for number in self._cpu_partial:
            self.slabs[number].frozen = False
            if self.slabs[number].free:
                self._partial.append(number)
        self._cpu_partial, self._counted = [], []
        for number in list(self._partial):
            if len(self.slabs[number].free) == self.slabs[number].objects:
                self._partial.remove(number)
                del self.slabs[number]

    def _refill(self) -> None:
        if self._cpu is not None:
            self.slabs[self._cpu].frozen = False
            self._cpu = None
        if self._cpu_partial:
            self._counted.pop()
            self._take(self._cpu_partial.pop())
        elif self._partial:
            self._take(self._partial.popleft())
            slabs, objects = 0, len(self._free)
            while self._partial and not self._enough(slabs, objects):
                number = self._partial.popleft()
                self.slabs[number].frozen = True
                slabs, objects = slabs + 1, objects + len(self.slabs[number].free)
                self._to_cpu_partial(number, drain=False)
        else:
            number, self.made = self.made, self.made + 1
            first = list(range(self.objects_per_slab - 1, -1, -1))
            self.slabs[number] = _Slab(objects=self.objects_per_slab, free=first)
            self._take(number)

    def _take(self, number: int) -> None:
        slab = self.slabs[number]
        slab.frozen = True
        self._cpu, self._free = number, slab.free
        slab.free = []

    def _to_cpu_partial(self, number: int, *, drain: bool) -> None:
        if drain and self._full():
            moved, self._cpu_partial, self._counted = self._cpu_partial, [], []
            for other in reversed(moved):
                slab = self.slabs[other]
                slab.frozen = False
                if len(slab.free) == slab.objects and len(self._partial) >= self.min_partial:
                    del self.slabs[other]
                else:
                    self._partial.append(other)
        before = self._counted[-1] if self._counted else 0
        self._counted.append(before + len(self.slabs[number].free))
        self._cpu_partial.append(number)

    def _full(self) -> bool:
        """Whether the CPU's partial slabs move before another joins."""
        if self.cpu_partial_objects is not None:
            return bool(self._counted) and self._counted[-1] > self.cpu_partial_objects
        return len(self._cpu_partial) >= self.cpu_partial_slabs

    def _enough(self, slabs: int, objects: int) -> bool:
        """Whether no more slabs of the node's list are taken, besides the first of all."""
        if self.cpu_partial_objects is not None:
            return objects > self.cpu_partial_objects // 2
        return slabs > self.cpu_partial_slabs // 2

    @property
    def nr_slabs(self) -> int:
        """/sys/kernel/slab/CACHE/slabs."""
        return len(self.slabs)

    @property
    def nr_partial(self) -> int:
        """CACHE/partial: slabs on the node's list."""
        return len(self._partial)

    @property
    def nr_cpu_partial(self) -> int:
        """The number in brackets of CACHE/slabs_cpu_partial."""
        return len(self._cpu_partial)

    @property
    def nr_cpu_slabs(self) -> int:
        """CACHE/cpu_slabs: the CPU's slab and its partial ones, which are not counted without."""
        return 0 if self._cpu is None else 1 + self.nr_cpu_partial

    @property
    def nr_objects(self) -> int:
        """CACHE/objects: all but the free ones of the node's partial slabs, since what lies on the
        CPU's lists counts as in use."""
        everything = sum(slab.objects for slab in self.slabs.values())
        return everything - sum(len(self.slabs[number].free) for number in self._partial)
