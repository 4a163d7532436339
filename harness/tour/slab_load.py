"""The same load for every slab allocator, as commands for our module.

For each size two caches are made: one whose objects fill what room the allocator has left from
before, and one to look at. All that one size is asked for happens in one command, during which
nothing else runs on the CPU: what comes out is the allocator's work alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

SIZES = (32, 104, 200, 700, 1400, 3000, 5000)
OBJECTS = 600
FREED_EVERY = 3
AGAIN = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class SizeLoad:
    """What is asked for in one size."""

    size: int
    filling: int
    """Objects that go into room left from before."""

    @property
    def filler(self) -> str:
        return f"mm_fill_{self.size}"

    @property
    def cache(self) -> str:
        return f"mm_{self.size}"

    def commands(self) -> tuple[str, ...]:
        """One write to the module each."""
        return (
            f"create {self.filler} {self.size} 0 -",
            f"create {self.cache} {self.size} 0 -",
            "; ".join(
                (
                    "quiet",
                    f"alloc {self.filler} {self.filling}",
                    f"alloc {self.cache} {OBJECTS}",
                    f"free {self.cache} forward {FREED_EVERY} 0",
                    f"alloc {self.cache} {AGAIN}",
                )
            ),
        )


def loads() -> Iterator[SizeLoad]:
    """Every size; small blocks find the most room that others left."""
    for size in SIZES:
        yield SizeLoad(size=size, filling=2000 if size < 256 else 1000)
