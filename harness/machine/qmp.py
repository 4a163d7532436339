"""QEMU's machine protocol, with a deadline on every word and a log of all of them."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import threading
import time
from collections.abc import Coroutine, Mapping
from concurrent.futures import CancelledError
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

from qemu.qmp import Message, QMPClient, QMPError

from harness.errors import QmpError
from harness.record.rundir import disk_errors

CONNECT_S = 30.0
COMMAND_S = 30.0

T = TypeVar("T")


class Qmp:
    """A synchronous face on qemu.qmp: its event loop lives in a thread of its own."""

    def __init__(self, channel: socket.socket, log_path: Path) -> None:
        self._channel = channel
        self._log_path = log_path
        self._loop = asyncio.new_event_loop()
        self._client = QMPClient("mmscope")
        self._thread = threading.Thread(target=self._loop.run_forever, name="qmp", daemon=True)
        self._events: list[dict[str, Any]] = []
        self._start_s = time.monotonic()

    def __enter__(self) -> Qmp:
        with disk_errors(self._log_path):
            self._log_path.parent.mkdir(parents=True, exist_ok=True)
            self._log_path.touch()
        self._thread.start()
        return self

    def connect(self, timeout_s: float = CONNECT_S) -> None:
        """Raises QmpError when QEMU does not greet within the time, or greets with nonsense."""
        self._channel.setblocking(False)
        self._wait(self._connect(), "greeting", timeout_s)

    def execute(
        self,
        command: str,
        arguments: Mapping[str, object] | None = None,
        *,
        timeout_s: float = COMMAND_S,
    ) -> Any:
        """Runs one command and returns what QEMU answers.

        Raises:
            QmpError: QEMU refused it, went away, or did not answer within the time.
        """
        self._log("→", {"execute": command, "arguments": dict(arguments or {})})
        answer = self._wait(self._client.execute(command, arguments), command, timeout_s)
        self._log("←", {"return": answer})
        return answer

    def pass_file(self, name: str, file_fd: int) -> None:
        """Gives QEMU a copy of an open file, known to it as ``name`` (``fd:name`` in URIs).

        Raises:
            QmpError: QEMU refused it, or went away.
        """

        async def send() -> None:
            self._client.send_fd_scm(file_fd)

        self._wait(send(), "passing a file", COMMAND_S)
        self.execute("getfd", {"fdname": name})

    def human(self, command: str, *, timeout_s: float = COMMAND_S) -> str:
        """The answer of a human-monitor command (what QMP proper does not offer); raises as
        ``execute``."""
        arguments = {"command-line": command}
        return str(self.execute("human-monitor-command", arguments, timeout_s=timeout_s))

    @property
    def events(self) -> list[dict[str, Any]]:
        """Events received so far (SHUTDOWN, GUEST_PANICKED, STOP …)."""
        return list(self._events)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with contextlib.suppress(QmpError):
            self._wait(self._client.disconnect(), "disconnect", 5)
        with contextlib.suppress(QmpError):
            self._wait(self._settle(), "settle", 5)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(timeout=5)
        if not self._thread.is_alive():
            self._loop.close()
        self._channel.close()

    async def _connect(self) -> None:
        await self._client.connect(self._channel)
        self._listener = self._loop.create_task(self._listen())

    async def _listen(self) -> None:
        with self._client.listener() as listener:
            async for event in listener:
                self._note(event)

    def _note(self, event: Message) -> None:
        record = dict(event)
        self._events.append(record)
        self._log("!", record)

    async def _settle(self) -> None:
        tasks = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _wait(self, work: Coroutine[Any, Any, T], what: str, timeout_s: float) -> T:
        future = asyncio.run_coroutine_threadsafe(asyncio.wait_for(work, timeout_s), self._loop)
        try:
            return future.result(timeout_s + 5)
        except TimeoutError:
            future.cancel()
            raise QmpError(
                f"QEMU did not answer {what!r} within {timeout_s:g} s",
                details={"traffic": self._log_path},
            ) from None
        except (QMPError, OSError, EOFError, asyncio.CancelledError, CancelledError) as error:
            raise QmpError(
                f"QEMU monitor, {what!r}: {error or type(error).__name__}",
                details={"traffic": self._log_path},
            ) from None

    def _log(self, direction: str, message: Mapping[str, Any]) -> None:
        elapsed_s = time.monotonic() - self._start_s
        line = f"{elapsed_s:10.3f} {direction} {json.dumps(message, default=str)}\n"
        with contextlib.suppress(OSError), self._log_path.open("a", encoding="utf-8") as log:
            log.write(line)
