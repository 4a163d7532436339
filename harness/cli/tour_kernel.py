"""A kernel that stops are walked on instead of their own: ``mmscope tour --kernel …``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.cli.prepare import chosen_arch, prepare
from harness.cli.tour_boot import check_built
from harness.errors import UsageError
from harness.kernel.cache import safe_file_name
from harness.kernel.own import NO_FILES, OwnFiles
from harness.tour.stop import DEFAULT_KERNEL, Stop


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

    def walked_on(
        self, stops: Sequence[Stop], named: Sequence[str]
    ) -> tuple[list[Stop], list[str]]:
        """The stops on this kernel, and the names of those that one kernel cannot show.

        Raises:
            UsageError: such a one is ``named``.
        """
        there, left_out = [], []
        for stop in stops:
            moved = stop.on_kernel(self.kernel, self.arch)
            if moved is not None:
                there.append(moved)
                continue
            if stop.name in named:
                kernels = ", ".join(dict.fromkeys(boot.kernel for boot in stop.boots))
                raise UsageError(
                    f"{stop.name} contrasts kernels ({kernels}): it cannot be walked on one",
                    fix="leave out --kernel and --arch, or name other stops",
                )
            left_out.append(stop.name)
        return there, left_out

    def tours(self, root: Path, *, build: bool, note: Callable[[str], None]) -> Path:
        """Where tours on this very kernel are kept: apart from those on the stops' own kernels,
        and from those on another build of it.

        Raises:
            UsageError, FetchError, InfrastructureError: see ``prepare`` and ``check_built``.
        """
        if not build:
            check_built(self.arch, self.kernel)
        found = prepare(self.arch, self.kernel, note, files=self.files).kernel
        return root / f"on-{self.arch}-{safe_file_name(found.directory.name)}"


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
