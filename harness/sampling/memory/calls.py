"""Single calls of a kernel function, with the allocator's state just before and just after each.

A debugger stops the guest where the function begins and where it returns to; with one CPU
nothing but the call, and what interrupts it, comes between the two samples.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from harness.errors import MemoryReadError, MissingSymbolError
from harness.machine.gdb import Gdb
from harness.record.memory import MemorySample
from harness.sampling.memory.kallsyms import Kallsyms, read_kallsyms
from harness.sampling.memory.sampler import MemorySampler

MAX_PASSED = 20_000
"""Calls that are let pass while the wanted one is waited for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One call. ``arguments`` and ``result`` are the registers' values."""

    function: str
    arguments: tuple[int, ...]
    result: int
    before: MemorySample
    after: MemorySample


class CallWatcher:
    """Waits for calls in a guest that a debugger is attached to."""

    def __init__(self, gdb: Gdb, sampler: MemorySampler) -> None:
        self._gdb = gdb
        self._sampler = sampler
        kernel = sampler.kernel
        self._release = kernel.info.release
        self._kallsyms: Kallsyms = read_kallsyms(kernel.space, kernel.info)

    def address(self, names: Sequence[str]) -> tuple[str, int]:
        """The first of some names that the kernel has, and where that function begins.

        Raises:
            MissingSymbolError: it has none of them.
        """
        for name in names:
            found = self._kallsyms.addresses_of(name)
            if len(found) == 1:
                return name, found[0]
        raise MissingSymbolError(
            f"kernel {self._release} has no function {' or '.join(names)}",
            fix="run this stop on another kernel",
        )

    def next_call(
        self,
        names: Sequence[str],
        wanted: Callable[[tuple[int, ...]], bool],
        label: str,
        *,
        arguments: int = 2,
        full: bool = True,
    ) -> Call:
        """The next call with wanted arguments; the guest stands still behind it.

        Raises:
            QmpError: no call came within the debugger's time.
            MemoryReadError: only others came.
        """
        name, entry = self.address(names)
        for _ in range(MAX_PASSED):
            self._gdb.run_to(entry)
            given = self._gdb.arguments(arguments)
            if wanted(given):
                break
            self._gdb.run_to(self._gdb.return_address())
        else:
            raise MemoryReadError(f"{MAX_PASSED} calls of {name} passed, none the wanted one")
        back = self._gdb.return_address()
        before = self._sampler.sample(f"{label}/before", full=full)
        self._gdb.run_to(back)
        return Call(
            function=name,
            arguments=given,
            result=self._gdb.result(),
            before=before,
            after=self._sampler.sample(f"{label}/after", full=full),
        )
