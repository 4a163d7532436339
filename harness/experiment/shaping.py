"""What a machine's shape still wants once the guest is up: memory added, swap turned on.

Whoever boots a shaped machine does three things: ``compose`` the shapes
(``harness.machine.shape``), boot what ``prepare`` and ``asked_spec`` (``harness.cli.prepare``) make
of the composition, and call ``apply_shape`` on the guest before anything else is done with it.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable

from harness.deadline import Deadline
from harness.errors import SessionError, WorkloadFailedError
from harness.experiment.preparation import run_shell, swap_on
from harness.machine.hotplug import add_memory
from harness.machine.shape import Composition, Shaped
from harness.session.guest import Guest
from harness.units import format_size
from harness.workload.mechanism import BUSYBOX

ONLINE = "online_movable"
BLOCKS = "/sys/devices/system/memory"
_WAIT_S = 60.0
_POLL_S = 0.1
_BLOCK = re.compile(rf"{BLOCKS}/memory(\d+)/state")

_ZRAM_ON = f"""
echo {{size_bytes}} > /sys/block/zram0/disksize &&
{BUSYBOX} mkswap /dev/zram0 >/dev/null && {BUSYBOX} swapon /dev/zram0
"""


def apply_shape(
    guest: Guest, composition: Composition, progress: Callable[[str], None] = lambda _: None
) -> Shaped:
    """Does the composition's steps in a guest that has just booted, which then tells of them
    (``guest.shaped``, for records).

    Memory is added first, then onlined block by block from the highest downward, so that each
    block becomes movable on every release: before 4.14 only the last of a zone could.

    Raises:
        WorkloadFailedError: the guest refused one of them; says which.
        QmpError: QEMU did.
        GuestTimeoutError: nothing came of one.
    """
    done: list[str] = []

    def tell(text: str) -> None:
        done.append(text)
        progress(text)

    for index, part in enumerate(composition.hot):
        before = set(_states(guest))
        tell(add_memory(guest.machine, index))
        blocks = _wait_blocks(guest, before, part.size_bytes)
        tell(_online(guest, blocks))
    if composition.pmem_bytes:
        _wait_device(guest, "/sys/block/pmem0/size")
        tell(f"/dev/pmem0 is there: {format_size(composition.pmem_bytes)}")
    if composition.swap_bytes:
        swap_on(guest)
        tell(f"swap is on: a disk of {format_size(composition.swap_bytes)}")
    if composition.zram_bytes:
        _wait_device(guest, "/sys/block/zram0/disksize")
        script = _ZRAM_ON.format(size_bytes=composition.zram_bytes)
        run_shell(guest, [script], "turning zram on")
        tell(f"swap is on: zram of {format_size(composition.zram_bytes)}")
    guest.shaped = Shaped(names=composition.shapes, steps=tuple(done))
    return guest.shaped


def from_highest(blocks: Iterable[int]) -> list[int]:
    """Numbers of memory blocks in the order in which they are onlined."""
    return sorted(blocks, reverse=True)


def _states(guest: Guest) -> dict[int, str]:
    """Number of each memory block → ``online`` or ``offline``."""
    answer = guest.agent.read([f"{BLOCKS}/memory*/state"])
    states: dict[int, str] = {}
    for path, content in answer.files.items():
        if match := _BLOCK.fullmatch(path):
            states[int(match[1])] = content.decode(errors="replace").strip()
    if not states:
        raise SessionError(f"the guest shows no memory blocks in {BLOCKS}")
    return states


def _block_bytes(guest: Guest) -> int:
    path = f"{BLOCKS}/block_size_bytes"
    return int(guest.agent.read([path]).files[path], 16)


def _wait_blocks(guest: Guest, before: set[int], size_bytes: int) -> dict[int, str]:
    """The blocks that were added, once all are there; the guest adds them when it gets to it."""
    block_bytes = _block_bytes(guest)
    deadline = Deadline(_WAIT_S)
    while True:
        fresh = {block: state for block, state in _states(guest).items() if block not in before}
        if len(fresh) * block_bytes >= size_bytes:
            return fresh
        deadline.check(
            f"waiting for {format_size(size_bytes)} of added memory, of which the guest has "
            f"{len(fresh)} blocks of {format_size(block_bytes)}"
        )
        time.sleep(_POLL_S)


def _online(guest: Guest, blocks: dict[int, str]) -> str:
    """Onlines the blocks that are not; in words, which."""
    offline = from_highest(block for block, state in blocks.items() if state != "online")
    for block in offline:
        line = f"echo {ONLINE} > {BLOCKS}/memory{block}/state"
        run_shell(guest, [line], f"onlining memory block {block}")
    after = _states(guest)
    left = [block for block in blocks if after.get(block) != "online"]
    if left:
        raise WorkloadFailedError(f"memory blocks {left} are still not online")
    itself = sorted(set(blocks) - set(offline))
    told = [f"onlined memory blocks {', '.join(map(str, offline))} as {ONLINE}"] if offline else []
    if itself:
        told.append(f"the kernel onlined {', '.join(map(str, itself))} by itself")
    return "; ".join(told)


def _wait_device(guest: Guest, path: str) -> None:
    deadline = Deadline(_WAIT_S)
    while path not in guest.agent.read([path]).files:
        deadline.check(f"waiting for {path} in the guest")
        time.sleep(_POLL_S)
