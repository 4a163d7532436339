"""A list of kernel-virtual stretches to copy at every stop, and where each lands in the copy."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from harness.sampling.memory.paging import AddressSpace
from harness.sampling.memory.ram import Span
from harness.sampling.memory.scan import copy_spans


@dataclass(slots=True)
class Gather:
    """Add stretches, ``freeze``, then ``copy`` as often as wanted."""

    space: AddressSpace
    size_bytes: int = 0
    spans: list[Span] = field(default_factory=list)
    _sources: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    _sizes: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))

    def add(self, address: int, size_bytes: int) -> int:
        """Where in the copy the stretch at this virtual address will begin.

        Raises:
            MemoryReadError: it is not mapped.
        """
        return self.add_spans(list(self.space.spans(address, size_bytes)))

    def add_spans(self, spans: list[Span]) -> int:
        """The same for guest-physical spans."""
        start = self.size_bytes
        self.spans += spans
        self.size_bytes += sum(size_bytes for _, size_bytes in spans)
        return start

    def freeze(self) -> None:
        base = self.space.ram.base
        self._sources = np.array([start - base for start, _ in self.spans], np.int64)
        self._sizes = np.array([size_bytes for _, size_bytes in self.spans], np.int64)

    def copy(self, into: NDArray[np.uint8]) -> None:
        """Copies all stretches into an array of ``size_bytes``."""
        copy_spans(self.space.ram.array, self._sources, self._sizes, into)
