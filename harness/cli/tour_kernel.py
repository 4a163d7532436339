"""A kernel that stops are walked on instead of their own: ``mmscope tour --kernel …``."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from harness.cli.prepare import chosen_arch, prepare
from harness.cli.tour_boot import check_built, machine_of
from harness.errors import UsageError
from harness.kernel.cache import safe_file_name
from harness.kernel.kconfig import read_kconfig
from harness.kernel.own import NO_FILES, OwnFiles
from harness.kernel.package import Kernel
from harness.machine.shape import check_needs
from harness.tour.stop import DEFAULT_KERNEL, Stop, StopBoot


@dataclass(frozen=True, slots=True, kw_only=True)
class OtherKernel:
    """What --kernel, --arch, --modules and --config ask for together."""

    kernel: str
    arch: str
    files: OwnFiles = NO_FILES

    def options(self) -> list[str]:
        """The options that ask for it."""
        words = ["--kernel", self.kernel, "--arch", self.arch]
        for option, path in (("--modules", self.files.modules), ("--config", self.files.config)):
            if path is not None:
                words += [option, str(path)]
        return words

    def obtain(self, *, build: bool, note: Callable[[str], None]) -> Kernel:
        """The kernel, fetched if need be, and built if it is a custom one and ``build``.

        Raises:
            UsageError, FetchError, InfrastructureError: see ``prepare`` and ``check_built``.
        """
        if not build:
            check_built(self.arch, self.kernel)
        return prepare(self.arch, self.kernel, note, files=self.files).kernel

    def move(
        self, stops: Sequence[Stop], named: Sequence[str], kernel: Kernel
    ) -> tuple[list[Stop], list[str]]:
        """The stops on this kernel, and what is left out of them and why.

        Raises:
            UsageError: a stop that is ``named`` cannot be walked on it.
        """
        config = read_kconfig(kernel.config_path)
        there, left_out = [], []
        for stop in stops:
            moved = stop.on_kernel(self.kernel, self.arch)
            if moved is None:
                kernels = ", ".join(dict.fromkeys(boot.kernel for boot in stop.boots))
                why = f"it contrasts kernels ({kernels})"
            else:
                impossible = {boot.label: _lacks(boot, kernel, config) for boot in moved.boots}
                why = moved.lacks(config) or impossible[moved.boots[0].label]
            if moved is not None and not why:
                can = tuple(boot for boot in moved.boots if not impossible[boot.label])
                there.append(replace(moved, boots=can))
                left_out += [
                    f"{stop.name}, its machine {label}: {reason}"
                    for label, reason in impossible.items()
                    if reason
                ]
            elif stop.name in named:
                raise UsageError(
                    f"{stop.name} cannot be walked on {kernel.release} ({self.arch}): {why}",
                    fix="leave out --kernel and --arch, or name other stops",
                )
            else:
                left_out.append(f"{stop.name}: {why}")
        return there, left_out


def tours_of(kernel: Kernel, root: Path) -> Path:
    """Where tours on this very kernel are kept: apart from those on the stops' own kernels, and
    from those on another build of it."""
    return root / f"on-{kernel.arch}-{safe_file_name(kernel.directory.name)}"


def other_kernel(
    kernel: str | None, arch: str | None, modules: Path | None, config: Path | None
) -> OtherKernel | None:
    """The kernel that these options ask for; None where none of them is given.

    Raises:
        UsageError: an unknown architecture, or files without a kernel that they go with.
    """
    files = OwnFiles(modules=modules, config=config)
    if kernel is None and arch is None:
        files.check_path(None)
        return None
    return OtherKernel(kernel=kernel or DEFAULT_KERNEL, arch=chosen_arch(arch, kernel), files=files)


def _lacks(boot: StopBoot, kernel: Kernel, config: Mapping[str, str]) -> str:
    """Why this kernel, or its architecture, cannot have the machine of a boot; empty if it can."""
    try:
        check_needs(machine_of(boot), config, kernel.release)
    except UsageError as error:
        return error.message
    return ""
