"""What the set-up of a host would install, with programs in apt's and dpkg's place."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "harness/setup-host.sh"
BUILD_TOOLS = {"flex", "bison", "bc", "libelf-dev", "libssl-dev", "dwarves"}
M68K = {"gcc-m68k-linux-gnu", "libc6-dev-m68k-cross", "qemu-system-misc"}


class Host:
    """A host whose packages are ``installed``; what apt-get was told is in a file."""

    def __init__(self, top: Path) -> None:
        self.bin, self.log = top / "bin", top / "log"
        self.bin.mkdir()
        self.installed: set[str] = set()
        self._program("id", "echo 0")
        self._program("uname", "echo x86_64")
        self._program("env", 'shift; exec "$@"')
        self._program("apt-get", f'echo "$@" >> {self.log}')

    def _program(self, name: str, body: str) -> None:
        (self.bin / name).write_text(f"#!/bin/sh\n{body}\n")
        (self.bin / name).chmod(0o755)

    def __call__(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        cases = "".join(
            f"{name}) echo 'install ok installed' ;;\n" for name in sorted(self.installed)
        )
        self._program("dpkg-query", f'case "$4" in\n{cases}esac')
        self.log.write_text("")
        return subprocess.run(
            ["sh", str(SCRIPT), *arguments],
            env={"PATH": f"{self.bin}:{os.defpath}", "PYTHON": "false"},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    @property
    def wanted(self) -> set[str]:
        """The packages that apt-get was told to install."""
        lines = [line for line in self.log.read_text().splitlines() if " install " in line]
        return {
            word for line in lines for word in line.partition("--no-install-recommends")[2].split()
        }


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)


def test_what_running_needs(host: Host) -> None:
    assert host().returncode == 0
    assert {"qemu-system-x86", "qemu-system-arm", "erofs-utils"} <= host.wanted
    assert not (BUILD_TOOLS | M68K) & host.wanted


def test_building_kernels_needs_more(host: Host) -> None:
    host()
    host.installed = host.wanted
    done = host("kernels")
    assert done.returncode == 0
    assert host.wanted == BUILD_TOOLS | M68K
    assert "installing" in done.stderr


def test_nothing_is_done_when_all_is_there(host: Host) -> None:
    host("kernels")
    host.installed = host.wanted
    for arguments in ((), ("kernels",)):
        done = host(*arguments)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
        assert host.log.read_text() == ""


def test_another_word_is_refused(host: Host) -> None:
    done = host("kernel")
    assert done.returncode == 2
    assert "not 'kernel'" in done.stderr
