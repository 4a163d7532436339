"""What a stop gathers on a booted guest, and where it is kept."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path, PurePosixPath
from types import MappingProxyType
from typing import Any

from harness.capture.guest import capture_guest
from harness.capture.record import without_places
from harness.deadline import StallClock
from harness.errors import SessionError, WorkloadFailedError
from harness.experiment.provenance import image_record, kernel_record, machine_record
from harness.image.assembly import Image
from harness.kernel.package import Kernel
from harness.machine.spec import MachineSpec
from harness.record.captured import kept_as
from harness.record.rundir import write_atomic
from harness.session.guest import Guest
from harness.session.protocol import CommandResult
from harness.tour.record import BOOT_NAME, FILES_NAME, BootRecord, CommandRecord, write_record

SHELL = "/bin/sh"
STALL_S = 240.0
CEILING_S = 300.0
_STDERR_CHARACTERS = 4000
_COMPLAINT_LINES = 8


class Evidence:
    """A booted guest and the directory that keeps what it shows.

    Everything kept has a name of its own; keeping two things under one name is a mistake in the
    stop, and an assertion says so.
    """

    def __init__(
        self,
        guest: Guest,
        *,
        kernel: Kernel,
        image: Image,
        directory: Path,
        label: str = "main",
        shapes: tuple[str, ...] = (),
        progress: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.guest = guest
        self.kernel = kernel
        self.image = image
        self.spec: MachineSpec = guest.spec
        self.directory = directory
        self.progress = progress
        self._names: set[str] = set()
        early, _ = self._read("/proc/version", "/proc/cmdline")
        self.record = BootRecord(
            label=label,
            arch=kernel.arch,
            release=kernel.release,
            version=early.get("/proc/version", b"").decode(errors="replace").strip(),
            cmdline=early.get("/proc/cmdline", b"").decode(errors="replace").strip(),
            shapes=list(shapes),
            kernel=kernel_record(kernel),
            image=image_record(image),
            machine=machine_record(guest.spec, without_places(guest.machine.argv), guest.shaped),
            boot_s=round(guest.boot_s, 3),
        )
        self._write()

    def run(
        self, name: str, *argv: str, check: bool = True, stall_s: float = STALL_S
    ) -> CommandResult:
        """Runs a command in the guest; its stdout is kept as ``NAME.txt``, the rest in the record.

        Raises:
            WorkloadFailedError: it ended with another status than 0, and ``check`` is set.
            GuestTimeoutError: nothing moved for ``stall_s``.
        """
        self._claim(f"{name}.txt")
        result = self.guest.agent.run(list(argv), clock=StallClock(stall_s, CEILING_S))
        self.record.commands[name] = CommandRecord(
            argv=list(argv),
            status=result.status,
            seconds=round(result.wall_s, 3),
            stderr=result.stderr.decode(errors="replace")[:_STDERR_CHARACTERS],
        )
        write_atomic(self.directory / f"{name}.txt", result.stdout)
        self._write()
        if check and result.status:
            said = (result.stderr or result.stdout).decode(errors="replace").strip().splitlines()
            raise WorkloadFailedError(
                f"{name}: {' '.join(argv)[:200]} ended with status {result.status} in the guest",
                details={"it said": "\n".join(said[-_COMPLAINT_LINES:])},
            )
        return result

    def shell(self, name: str, script: str, *, check: bool = True, stall_s: float = STALL_S) -> str:
        """Runs a script in the guest's shell, keeps and returns what it printed.

        Raises: as ``run``.
        """
        result = self.run(name, SHELL, "-c", script, check=check, stall_s=stall_s)
        return result.stdout.decode("utf-8", "surrogateescape")

    def read(self, *patterns: str) -> dict[str, bytes]:
        """Files of the guest by glob pattern, kept under ``files/`` by their path in the guest.

        A file that is read again replaces what was kept: keep the first one by ``keep``.

        Raises:
            SessionError: the guest's agent failed. Files that cannot be read are no error: the
                record lists them.
        """
        files, unreadable = self._read(*patterns)
        for path, content in files.items():
            try:
                kept = kept_as(path)
            except ValueError as error:
                raise SessionError(f"the guest answered with {error}") from None
            write_atomic(self.directory / FILES_NAME / kept, content)
        self.record.unreadable.update(unreadable)
        self._write()
        return files

    def keep(self, name: str, content: bytes | str) -> None:
        """Keeps something by a file name with its ending (``frames.txt``, ``pagemap.bin``)."""
        self._claim(name)
        data = content.encode("utf-8", "surrogateescape") if isinstance(content, str) else content
        write_atomic(self.directory / name, data)

    def keep_json(self, name: str, value: Any) -> None:
        """Keeps something that was worked out, as ``NAME.json``."""
        self._claim(f"{name}.json")
        text = json.dumps(value, indent=1, ensure_ascii=False) + "\n"
        write_atomic(self.directory / f"{name}.json", text.encode())

    def capture(
        self, name: str = "capture", settings: Mapping[str, str] = MappingProxyType({})
    ) -> Path:
        """A whole capture of the guest, after writing sysctls; where it lies.

        Raises:
            UsageError: the guest refuses a sysctl.
        """
        self._claim(name)
        path = self.directory / name
        capture_guest(
            self.guest, self.kernel, self.image, path, settings=settings, progress=self.progress
        )
        return path

    def note(self, text: str) -> None:
        """A remark for whoever reads the record."""
        self.record.notes.append(text)
        self._write()

    def _read(self, *patterns: str) -> tuple[dict[str, bytes], dict[str, str]]:
        answer = self.guest.agent.read(list(patterns))
        errors = dict(error.partition(": ")[::2] for error in answer.errors)
        return dict(answer.files), errors

    def _claim(self, name: str) -> None:
        path = PurePosixPath(name)
        assert not path.is_absolute(), f"{name!r} leads elsewhere"
        assert ".." not in path.parts, f"{name!r} leads elsewhere"
        taken = {BOOT_NAME, FILES_NAME, "console.log", "qemu", *self._names}
        assert name not in taken, f"{name!r} is kept twice"
        self._names.add(name)

    def _write(self) -> None:
        write_record(self.directory / BOOT_NAME, self.record)
