"""Guests without a shell: what can be asked of them, and the programs that answer."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from harness.cli.shellless import bare_command, check_shell, shell_command
from harness.errors import UsageError
from harness.experiment.plan import load_plan
from harness.image.programs import AGENT, TOOLS
from harness.image.rootless import rootless_entries
from harness.kernel.fetch import obtain
from harness.workload.mechanism import BUSYBOX
from tests.guest_programs import host_programs

LIMIT_S = 20
Tool = Callable[..., subprocess.CompletedProcess[str]]


def test_a_command_is_run_by_the_shell_where_there_is_one() -> None:
    assert shell_command("arm64", "cat a | wc") == ["/bin/sh", "-c", "cat a | wc"]
    assert shell_command("m68k", "cat '/proc/b c' d") == [BUSYBOX, "cat", "/proc/b c", "d"]


@pytest.mark.parametrize("command", ["cat a | wc", "cat *", "a; b", "echo $HOME", "a > b", ""])
def test_what_is_written_for_a_shell_is_refused(command: str) -> None:
    with pytest.raises(UsageError, match="this guest has none"):
        bare_command(command)


def test_an_open_quote_is_refused() -> None:
    with pytest.raises(UsageError, match="No closing quotation"):
        bare_command("cat 'a")


def test_ssh_and_loads_are_refused_before_anything_starts() -> None:
    check_shell("x86_64", "ssh")
    with pytest.raises(UsageError, match="m68k guests have no ssh"):
        check_shell("m68k", "ssh")
    with pytest.raises(UsageError, match="m68k guests have no shell"):
        load_plan("boot-uma").check_arch("m68k")


def test_a_stock_kernel_for_m68k_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no kernels for m68k") as error:
        obtain(
            "bookworm",
            "m68k",
            progress=lambda _: None,
            environment={"MMSCOPE_CACHE": str(tmp_path)},
        )
    assert error.value.fix is not None
    assert "discontigmem" in error.value.fix


def test_the_initramfs_has_our_programs_and_a_console(tmp_path: Path) -> None:
    for name in (AGENT, TOOLS):
        (tmp_path / name).write_bytes(name.encode())
    entries = {entry.path: entry for entry in rootless_entries(tmp_path)}
    assert entries["init"].data == AGENT.encode()
    assert entries["run/mmscope/bin/mmscope-tools"].data == TOOLS.encode()
    assert entries["run/mmscope/bin/busybox"].data == TOOLS.encode()
    assert "dev/console" in entries


@pytest.fixture(scope="module")
def tool(tmp_path_factory: pytest.TempPathFactory) -> Tool:
    """Runs one of the commands on this machine."""
    programs = host_programs(tmp_path_factory.getbasetemp() / "guest-programs")
    return partial(_tool, programs / TOOLS)


def _tool(program: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(program), *words],
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )


def test_tools(tmp_path: Path, tool: Tool) -> None:
    (tmp_path / "a").write_text("one two\nthree\nfour one\n")
    (tmp_path / "link").symlink_to("a")
    assert tool("cat", str(tmp_path / "a")).stdout == "one two\nthree\nfour one\n"
    assert tool("grep", "one", str(tmp_path / "a")).stdout == "one two\nfour one\n"
    assert tool("grep", "on", str(tmp_path / "a")).returncode == 1
    listed = tool("ls", "-l", str(tmp_path)).stdout.splitlines()
    assert sorted(listed) == ["- a", "l link -> a"]
    assert tool("uname", "-a").stdout.startswith("Linux ")


def test_tools_say_what_they_are_not(tool: Tool) -> None:
    unknown = tool("sh", "-c", "true")
    assert unknown.returncode == 127
    assert "no shell" in unknown.stderr
    missing = tool("cat", "/does/not/exist")
    assert missing.returncode == 1
    assert "No such file" in missing.stderr
