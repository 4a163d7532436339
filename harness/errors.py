"""Every error the harness raises, in one tree.

::

    MmscopeError
    ├── UsageError                 a person asked for what cannot be        (exit 2)
    ├── InfrastructureError        the host side broke                      (exit 3)
    │   ├── MissingToolError       a program or package is not installed
    │   ├── FetchError             a package could not be had
    │   │   ├── NetworkError       no mirror answered
    │   │   ├── GoneError          the index names a file that the mirror no longer has
    │   │   └── VerificationError  signature or digest is wrong
    │   │       └── StaleIndexError  an index is older or newer than what was signed
    │   ├── DiskFullError          no room left where we write
    │   ├── BuildError             the guest image or programs did not build
    │   ├── LaunchError            QEMU did not start
    │   ├── QmpError               QEMU does not answer its monitor
    │   ├── LostMachineError       QEMU went away under us
    │   ├── SessionError           the channel to the guest broke
    │   ├── MemoryReadError        guest RAM cannot be read, or not be understood
    │   │   ├── NotLinuxError      no Linux kernel is in it
    │   │   ├── WrongTypesError    the types at hand are another kernel's
    │   │   └── MissingSymbolError the kernel lacks a symbol, type or member that we need
    │   └── RecordError            a run directory or stream is damaged
    └── GuestError                 the guest itself failed                  (exit 4)
        ├── BootError              it never came up
        ├── KernelCrashError       panic, oops, or the OOM killer took our side of the guest
        ├── GuestTimeoutError      it stopped making progress
        └── WorkloadFailedError    a workload did not do what it was asked for

Infrastructure faults are not guest faults: a retry may mend the first, only a finding
explains the second. The death of a workload is neither, but data (see ``record.manifest``).
"""

from __future__ import annotations

from collections.abc import Mapping


class MmscopeError(Exception):
    """What went wrong, what is known about it, and how to mend it.

    ``details`` are shown one a line under the message (argv, elapsed time, last console
    lines, run directory); ``fix`` is the command or change that helps, if there is one.
    """

    exit_code = 3

    def __init__(
        self,
        message: str,
        *,
        fix: str | None = None,
        details: Mapping[str, object] | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.fix = fix
        self.details: dict[str, str] = {k: str(v) for k, v in (details or {}).items()}

    def render(self) -> str:
        """The whole error as plain text, message first and remedy last."""
        lines = [self.message]
        for name, text in self.details.items():
            if "\n" in text:
                lines.append(f"  {name}:")
                lines.extend(f"    {line}" for line in text.splitlines())
            else:
                lines.append(f"  {name}: {text}")
        if self.fix:
            lines.append(f"  fix: {self.fix}")
        return "\n".join(lines)


class UsageError(MmscopeError):
    exit_code = 2


class InfrastructureError(MmscopeError):
    exit_code = 3


class MissingToolError(InfrastructureError):
    pass


class FetchError(InfrastructureError):
    pass


class NetworkError(FetchError):
    pass


class GoneError(FetchError):
    pass


class VerificationError(FetchError):
    pass


class StaleIndexError(VerificationError):
    pass


class DiskFullError(InfrastructureError):
    pass


class BuildError(InfrastructureError):
    pass


class LaunchError(InfrastructureError):
    pass


class QmpError(InfrastructureError):
    pass


class LostMachineError(InfrastructureError):
    pass


class SessionError(InfrastructureError):
    pass


class MemoryReadError(InfrastructureError):
    pass


class NotLinuxError(MemoryReadError):
    pass


class WrongTypesError(MemoryReadError):
    pass


class MissingSymbolError(MemoryReadError):
    pass


class RecordError(InfrastructureError):
    pass


class GuestError(MmscopeError):
    exit_code = 4


class BootError(GuestError):
    pass


class KernelCrashError(GuestError):
    pass


class GuestTimeoutError(GuestError):
    pass


class WorkloadFailedError(GuestError):
    pass
