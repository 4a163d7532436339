"""A running machine saved once, and any number of machines that go on from there.

QEMU is asked to leave the guest's RAM where it is (``x-ignore-shared``): what it saves is a few
hundred KiB of device state, and the RAM files are the rest. A clone maps them privately, so that
its writes are its own and a template serves any number of clones; or it gets copies of them, when
somebody else must read its RAM in the file.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

from harness.deadline import Deadline
from harness.errors import LaunchError, QmpError
from harness.machine.memfile import copy_memory_file
from harness.machine.process import Machine, describe_status
from harness.machine.qmp import Qmp
from harness.machine.spec import MachineSpec
from harness.record.rundir import RunDirectory

_STATE = "mmscope-state"
_MOVE_S = 60.0
_POLL_S = 0.005
_LAST_WORDS_S = 1.0
_ENDED = ("completed", "failed", "cancelled")


@dataclass(frozen=True, slots=True, kw_only=True)
class Template:
    """A saved machine. Use it as a context manager, or ``close`` it: it holds memory."""

    spec: MachineSpec
    hello: Mapping[str, str]
    """What the agent had said of the guest: it says so once, when it starts."""
    memory_fds: tuple[int | None, ...]
    swap_fd: int | None
    state_fd: int
    files: contextlib.ExitStack = field(repr=False)
    """Closes the files."""

    def __enter__(self) -> Template:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Gives the files up; clones that run have their own."""
        self.files.close()

    @property
    def state_bytes(self) -> int:
        """Size of the device state."""
        return os.fstat(self.state_fd).st_size


def save_template(machine: Machine, *, hello: Mapping[str, str], go_on: bool = False) -> Template:
    """Stops the guest and saves it, with the moment's content of its RAM and swap disk.

    With ``go_on`` the RAM is copied and the guest runs on. Without, nothing is copied: the guest
    stays stopped for good, and its machine is to be left.

    Raises:
        QmpError: QEMU could not save it.
        LaunchError: the host has no memory for the copies.
    """
    assert not machine.private_memory, "a clone's private RAM is not in its files"
    qmp = machine.qmp
    with contextlib.ExitStack() as stack:

        def own(file_fd: int) -> int:
            stack.callback(os.close, file_fd)
            return file_fd

        def take(file_fd: int | None, name: str) -> int | None:
            if file_fd is None:
                return None
            return own(copy_memory_file(file_fd, name) if go_on else os.dup(file_fd))

        qmp.execute("stop")
        try:
            state_fd = own(os.memfd_create(_STATE))
            _ignore_shared(qmp)
            qmp.pass_file(_STATE, state_fd)
            qmp.execute("migrate", {"uri": f"fd:{_STATE}"})
            _wait_moved(qmp, "saving the machine")
            memory_fds = tuple(
                take(file_fd, f"mmscope-saved{node}")
                for node, file_fd in enumerate(machine.memory_fds)
            )
            swap_fd = take(machine.swap_fd, "mmscope-saved-swap")
        finally:
            if go_on:
                qmp.execute("cont")
        return Template(
            spec=machine.spec,
            hello=dict(hello),
            memory_fds=memory_fds,
            swap_fd=swap_fd,
            state_fd=state_fd,
            files=stack.pop_all(),
        )


class Clone(Machine):
    """A machine that goes on where the template stood; otherwise like any other.

    ``private`` maps the template's RAM copy-on-write, which costs nothing; without, the clone
    has copies of the RAM files, shared with QEMU as those of a machine that was booted. A
    ``paused`` one stands still at the very moment of the template, until QMP's ``cont``.
    """

    restored = True

    def __init__(
        self,
        template: Template,
        run: RunDirectory,
        *,
        private: bool = True,
        paused: bool = False,
    ) -> None:
        super().__init__(template.spec, run)
        self._paused = paused
        self.private_memory = private
        self._template = template

    def _memory_file(self, node: int) -> int | None:
        saved_fd = self._template.memory_fds[node]
        if saved_fd is None:
            return None
        if self.private_memory:
            return os.dup(saved_fd)
        return copy_memory_file(saved_fd, f"mmscope-node{node}")

    def _swap_file(self) -> int | None:
        saved_fd = self._template.swap_fd
        return None if saved_fd is None else copy_memory_file(saved_fd, "mmscope-swap")

    def _launch(self) -> None:
        super()._launch()
        try:
            self._restore()
        except QmpError as error:
            # QEMU ends when it cannot read the state.
            self.wait_exit(_LAST_WORDS_S)
            status = self.poll()
            how = describe_status(status) if status is not None else error.message
            raise LaunchError(
                f"QEMU did not restore the machine ({how})", details=self.evidence()
            ) from None

    def _restore(self) -> None:
        _ignore_shared(self.qmp)
        # A description of its own, since another clone may be reading the state too.
        with open(f"/proc/self/fd/{self._template.state_fd}", "rb") as state:  # noqa: PTH123
            self.qmp.pass_file(_STATE, state.fileno())
        self.qmp.execute("migrate-incoming", {"uri": f"fd:{_STATE}"})
        _wait_moved(self.qmp, "restoring the machine")
        if not self._paused:
            self.qmp.execute("cont")


def _ignore_shared(qmp: Qmp) -> None:
    capability = {"capability": "x-ignore-shared", "state": True}
    qmp.execute("migrate-set-capabilities", {"capabilities": [capability]})


def _wait_moved(qmp: Qmp, doing: str) -> None:
    deadline = Deadline(_MOVE_S)
    while True:
        answer: dict[str, Any] = qmp.execute("query-migrate")
        status = answer.get("status", "none")
        if status == "completed":
            return
        if status in _ENDED:
            raise QmpError(f"{doing}: {status}: {answer.get('error-desc', 'QEMU says not why')}")
        deadline.check(doing)
        time.sleep(_POLL_S)
