"""What is done in a guest before its loads: set-up, watermarks, and the files read once."""

from __future__ import annotations

import fnmatch
from collections.abc import Sequence

from harness.errors import SessionError, WorkloadFailedError
from harness.kernel.package import Kernel
from harness.machine.argv import SWAP_SERIAL
from harness.record.captured import SLAB, SLAB_ATTRIBUTES, STILL, SYSCTLS, slab_listing
from harness.record.rundir import RunDirectory, write_atomic
from harness.session.guest import Guest
from harness.workload.mechanism import BUSYBOX

WATERMARK_SCALE = "/proc/sys/vm/watermark_scale_factor"

ONCE = (*STILL, SYSCTLS)
"""Guest files that do not change by themselves, read once before the first load."""

_SWAP_ON = f"""
for disk in /sys/block/*; do
  [ -e $disk/serial ] && [ "$({BUSYBOX} cat $disk/serial)" = {SWAP_SERIAL} ] && break
  disk=
done
[ -n "$disk" ] || {{ echo "no disk with the serial {SWAP_SERIAL}" >&2; exit 1; }}
device=/dev/${{disk##*/}}
{BUSYBOX} mkswap $device >/dev/null && {BUSYBOX} swapon $device
"""


def run_shell(guest: Guest, lines: Sequence[str], what: str) -> None:
    """Runs shell lines in the guest, one after the other.

    Raises:
        WorkloadFailedError: one of them failed; says which and what it complained of.
    """
    for line in lines:
        result = guest.agent.run([BUSYBOX, "sh", "-c", line])
        if result.status:
            raise WorkloadFailedError(
                f"{what}: a line failed with status {result.status}",
                details={
                    "line": line.strip(),
                    "it said": result.stderr.decode(errors="replace").strip(),
                },
            )


def swap_on(guest: Guest) -> None:
    """Makes the machine's swap disk a swap area and uses it."""
    run_shell(guest, [_SWAP_ON], "turning swap on")


def settle_watermarks(guest: Guest) -> None:
    """Makes the kernel compute its watermarks anew, now that boot memory is handed over.

    Kernel: mm/page_alloc.c, watermark_scale_factor_sysctl_handler() calls
    setup_per_zone_wmarks() for a write of any value, the present one too.
    """
    script = f"v=$({BUSYBOX} cat {WATERMARK_SCALE}) && echo $v > {WATERMARK_SCALE}"
    result = guest.agent.run([BUSYBOX, "sh", "-c", script])
    if result.status:
        raise SessionError(
            f"vm.watermark_scale_factor cannot be written in the guest: "
            f"{result.stderr.decode(errors='replace').strip()}"
        )


def read_once(guest: Guest, kernel: Kernel, directory: RunDirectory) -> tuple[str, ...]:
    """Keeps ``ONCE``, the kernel's configuration and its messages; what could not be read."""
    answer = guest.agent.read(ONCE)
    for path, content in answer.files.items():
        write_atomic(directory.guest_path / guest_file(path), content)
    slab = read_slab(guest)
    if slab is not None:
        write_atomic(directory.guest_path / "slab_sysfs", slab)
    write_atomic(directory.guest_path / "config", kernel.config_path.read_bytes())
    keep_dmesg(guest, directory)
    return answer.errors


def read_slab(guest: Guest) -> bytes | None:
    """The guest's /sys/kernel/slab as one text; None where it has none (SLAB, SLOB)."""
    answer = guest.agent.read([f"{SLAB}/*/{name}" for name in SLAB_ATTRIBUTES])
    if not answer.files:
        return None
    listed = guest.agent.run([BUSYBOX, "ls", "-l", SLAB]).stdout.decode(errors="replace")
    links = {}
    for line in listed.splitlines():
        head, arrow, target = line.rpartition(" -> ")
        if arrow and line.startswith("l"):
            links[head.split()[-1]] = target
    return slab_listing(dict(answer.files), links)


def keep_dmesg(guest: Guest, directory: RunDirectory) -> None:
    """Keeps the kernel's messages up to now."""
    result = guest.agent.run([BUSYBOX, "dmesg"])
    write_atomic(directory.guest_path / "dmesg", result.stdout)


def guest_file(path: str) -> str:
    """A path of the guest as one below ``guest/``.

    Raises:
        SessionError: the agent named a file that was not asked for; a guest is not trusted with
            names on the host.
    """
    if ".." in path.split("/") or not any(fnmatch.fnmatchcase(path, asked) for asked in ONCE):
        raise SessionError(f"the guest answered with {path!r}, which nobody asked for")
    return path.lstrip("/")
