"""The reader in the guest, for one window: its command runs in a thread of ours."""

from __future__ import annotations

import math
import threading

from harness.deadline import StallClock
from harness.errors import MmscopeError
from harness.sampling.trace.instance import INSTANCE, GuestFiles
from harness.session.protocol import CommandResult

PROGRAM = "mmscope-trace"


class Reader:
    """Started when made; see guest/trace/main.c for what it says and does."""

    def __init__(self, agent: GuestFiles, label: str, period_ms: int) -> None:
        self._agent = agent
        self._argv = [
            *(PROGRAM, "--instance", INSTANCE),
            *("--label", label, "--period-ms", str(period_ms)),
        ]
        # No limit: it runs as long as the window does, and the agent's session ends it with the
        # guest. A ceiling of zero ends the wait, and the agent then kills it.
        self._clock = StallClock(math.inf, math.inf)
        self._result: CommandResult | None = None
        self._error: MmscopeError | None = None
        self._thread = threading.Thread(target=self._run, name="trace reader", daemon=True)
        self._thread.start()

    @property
    def ended(self) -> bool:
        return not self._thread.is_alive()

    def join(self, timeout_s: float) -> None:
        """Waits for its end."""
        self._thread.join(timeout_s)

    def give_up(self) -> None:
        """Kills it, where it still runs."""
        self._clock.ceiling_s = 0.0

    def complaint(self) -> str:
        """How it failed and its last words; empty when it has not."""
        if self._error is not None:
            return self._error.message
        if self._result is None or self._result.status == 0:
            return ""
        said = self._result.stderr.decode(errors="replace").strip()
        return f"ended with status {self._result.status}" + (f": {said}" if said else "")

    def _run(self) -> None:
        try:
            self._result = self._agent.run(self._argv, clock=self._clock)
        except MmscopeError as error:
            self._error = error
