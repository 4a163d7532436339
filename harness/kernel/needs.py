"""What a guest of mmscope needs of its kernel, told from the configuration before it boots.

A kernel without one of these would boot into silence, or into a panic that does not say why.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from harness.errors import UsageError
from harness.kernel.kconfig import is_set
from harness.kernel.package import port_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Need:
    """One symbol, and what fails without it."""

    symbol: str
    """Without its CONFIG_."""
    why: str
    module: str | None = None
    """The module that serves as well as the symbol built in; None: it must be built in."""
    arches: tuple[str, ...] = ("x86_64", "arm64", "i386")


_PC = ("x86_64", "i386")

NEEDS = (
    Need(symbol="BLK_DEV_INITRD", why="the initramfs that the guest starts from is not unpacked"),
    Need(symbol="BINFMT_ELF", why="no program can be started"),
    Need(symbol="BINFMT_SCRIPT", why="/init, a script, cannot be started"),
    Need(symbol="TTY", why="there is no console"),
    Need(symbol="SERIAL_8250_CONSOLE", why="nothing appears on the serial console", arches=_PC),
    Need(
        symbol="SERIAL_AMBA_PL011_CONSOLE",
        why="nothing appears on the serial console",
        arches=("arm64",),
    ),
    Need(symbol="PROC_FS", why="there is no /proc to look at"),
    Need(symbol="SYSFS", why="disks and nodes are not found"),
    Need(symbol="DEVTMPFS", why="devices have no names in /dev"),
    Need(symbol="TMPFS", why="the read-only root has no place for what is written"),
    Need(symbol="DEBUG_FS", why="/sys/kernel/debug cannot be mounted"),
    Need(symbol="TRACING", why="/sys/kernel/tracing cannot be mounted"),
    Need(symbol="UNIX98_PTYS", why="/dev/pts cannot be mounted"),
    Need(symbol="PCI", why="the machine's devices are on PCI"),
    Need(
        symbol="PCI_HOST_GENERIC", why="the machine's PCI bridge is not driven", arches=("arm64",)
    ),
    Need(symbol="VIRTIO_PCI", why="channels and disks are not found", module="virtio_pci"),
    Need(symbol="VIRTIO_CONSOLE", why="there is no channel to it", module="virtio_console"),
    Need(symbol="VIRTIO_BLK", why="the root's disk is not found", module="virtio_blk"),
    Need(symbol="EROFS_FS", why="the root cannot be mounted", module="erofs"),
)

OPTIONAL: Mapping[str, str] = {"virtio_net": "VIRTIO_NET", "af_packet": "PACKET"}
"""Modules that a guest boots without, if its kernel has none: no ssh, no packet rings."""

_LATER: Mapping[str, str] = {
    "virtio_mem": "VIRTIO_MEM",
    "nd_e820": "X86_PMEM_LEGACY",
    "nd_pmem": "BLK_DEV_PMEM",
    "zram": "ZRAM",
}
"""Modules that some machines ask for."""


def unmet_needs(config: Mapping[str, str], arch: str) -> list[Need]:
    """What the kernel lacks of what a guest of ``arch`` needs."""
    return [
        need
        for need in NEEDS
        if arch in need.arches
        and not (
            is_set(config, f"CONFIG_{need.symbol}")
            if need.module
            else config.get(f"CONFIG_{need.symbol}") == "y"
        )
    ]


def check_guest(config: Mapping[str, str], arch: str, release: str) -> None:
    """Raises UsageError that names every symbol without which the guest would not come up."""
    if not port_of(arch).archived:
        return
    unmet = unmet_needs(config, arch)
    if not unmet:
        return
    details = {
        f"CONFIG_{need.symbol}": f"{need.why} (it is "
        f"{config.get(f'CONFIG_{need.symbol}', 'not in its configuration')})"
        for need in unmet
    }
    shown = ", ".join(f"CONFIG_{need.symbol}" for need in unmet)
    raise UsageError(
        f"kernel {release} cannot be a guest here: it is built without {shown}",
        details=details,
        fix="build it with these set to y (or m, with --modules, for virtio and erofs), or take "
        "another --kernel; kernel-configs/fragments/guest.config has all that guests need",
    )


def check_network(config: Mapping[str, str], release: str) -> None:
    """Raises UsageError for a kernel that no guest can be reached by ssh with."""
    missing = [name for name in ("INET", "VIRTIO_NET") if not is_set(config, f"CONFIG_{name}")]
    if missing:
        raise UsageError(
            f"kernel {release} has no network: it is built without "
            f"{', '.join(f'CONFIG_{name}' for name in missing)}",
            fix="use --command instead of --shell",
        )


def guest_modules(wanted: Sequence[str], config: Mapping[str, str]) -> tuple[str, ...]:
    """Those of ``wanted`` that the kernel has, as far as a guest can be without them."""
    return tuple(
        name
        for name in wanted
        if name not in OPTIONAL or is_set(config, f"CONFIG_{OPTIONAL[name]}")
    )


def module_symbols() -> dict[str, str]:
    """Module → the symbol that builds it (without CONFIG_), of all that a guest may load."""
    needed = {need.module: need.symbol for need in NEEDS if need.module}
    return {**needed, **OPTIONAL, **_LATER}


GUEST_MODULES = (*(need.module for need in NEEDS if need.module), *OPTIONAL)
"""The modules that every guest loads, unless they are built in."""
