"""SLOB (to 6.3), block by block: which page serves a request, and where in the page."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from analysis.model.slab.place import Place
from analysis.model.slab.slub_layout import align_up


@dataclass(slots=True, kw_only=True)
class SlobPages:
    """One of SLOB's lists of pages, from the moment on when none of its older pages has room.

    The pages are tried in the order of the list; of a page, the free pieces by address. The
    first piece that holds the block, aligned, serves it; the page is moved to the front, so that
    the next search begins there. If no page has room a new one comes first in the list. A page
    that is full leaves the list and comes back to its front when a block of it is freed; one that
    is all free goes back to the page allocator. Neighbouring free pieces are joined.

    Kernel: mm/slob.c, ``slob_alloc``, ``slob_page_alloc``, ``slob_free``; 6.1.
    Ignores: requests of others; pages that had room for smaller blocks before (they have none for
        these, and keep their places in the list); NUMA requests for a node.
    """

    page_size: int
    unit_bytes: int
    pages: dict[int, list[tuple[int, int]]] = field(default_factory=dict)
    """Number → its free pieces as (begin, bytes), by address."""
    made: int = 0
    _order: deque[int] = field(default_factory=deque)

    def alloc(self, size: int, align: int) -> Place:
        """Where a block of ``size`` bytes is placed."""
        wanted = align_up(size, self.unit_bytes)
        for number in list(self._order):
            begin = self._fit(number, wanted, align)
            if begin is not None:
                if self.pages[number]:
                    while self._order[0] != number:
                        self._order.rotate(-1)
                else:
                    self._order.remove(number)
                return Place(number, begin)
        number, self.made = self.made, self.made + 1
        self.pages[number] = [(0, self.page_size)]
        self._order.appendleft(number)
        begin = self._fit(number, wanted, align)
        assert begin is not None, f"{size} bytes do not fit a page"
        if not self.pages[number]:
            self._order.remove(number)
        return Place(number, begin)

    def free(self, place: Place, size: int) -> None:
        """A block returns.

        Raises:
            ValueError: its page is not there.
        """
        if place.block not in self.pages:
            raise ValueError(f"page {place.block} was given back before its blocks")
        bytes_ = align_up(size, self.unit_bytes)
        pieces = self.pages[place.block]
        if sum(length for _, length in pieces) + bytes_ == self.page_size:
            del self.pages[place.block]
            if place.block in self._order:
                self._order.remove(place.block)
            return
        if not pieces:
            self._order.appendleft(place.block)
        joined: list[tuple[int, int]] = []
        for begin, length in sorted([*pieces, (place.within, bytes_)]):
            if joined and sum(joined[-1]) == begin:
                joined[-1] = (joined[-1][0], joined[-1][1] + length)
            else:
                joined.append((begin, length))
        self.pages[place.block] = joined

    def _fit(self, number: int, wanted: int, align: int) -> int | None:
        pieces = self.pages[number]
        for index, (begin, length) in enumerate(pieces):
            at = align_up(begin, align) if align > 1 else begin
            if at + wanted <= begin + length:
                rest = [(begin, at - begin), (at + wanted, begin + length - at - wanted)]
                pieces[index : index + 1] = [piece for piece in rest if piece[1]]
                return at
        return None
