"""Fixtures that several tiers share."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Generator, Iterator
from pathlib import Path

import pytest
from hypothesis import settings

# A first call may compile, and the machine may be busy: no example is judged by its time.
settings.register_profile("mmscope", deadline=None)
settings.load_profile("mmscope")

FAKE_QEMU = Path(__file__).with_name("fake_qemu.py")


_MARKER = f"{os.getpid()}-{time.monotonic_ns()}"
os.environ["MMSCOPE_TEST_RUN"] = _MARKER


def qemu_pids() -> set[int]:
    """Pids of the QEMUs, real or fake, that this test run has started and that still live.

    They are told from other people's by an environment variable that they inherit.
    """
    found: set[int] = set()
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            words = (entry / "cmdline").read_bytes().split(b"\0")
            ours = f"MMSCOPE_TEST_RUN={_MARKER}".encode() in (entry / "environ").read_bytes().split(
                b"\0"
            )
        except OSError:
            continue
        if ours and any(b"qemu-system" in word or b"fake_qemu" in word for word in words[:2]):
            found.add(int(entry.name))
    return found


@pytest.fixture
def no_qemu_left() -> Iterator[None]:
    """Fails the test when it leaves a QEMU behind that was not there before."""
    before = qemu_pids()
    yield
    assert qemu_pids() - before == set()


@pytest.fixture
def fake_qemu(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, no_qemu_left: None
) -> Callable[[str], None]:
    """A function that installs the fake QEMU in one of its modes."""
    launcher = tmp_path / "fake_qemu_launcher"
    launcher.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{FAKE_QEMU}" "$@"\n')
    launcher.chmod(0o755)

    def install(mode: str) -> None:
        monkeypatch.setenv("MMSCOPE_QEMU_X86_64", str(launcher))
        monkeypatch.setenv("MMSCOPE_FAKE_QEMU", mode)

    return install


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """In CI a skipped machine test is a failure: what boots nothing proves nothing."""
    report = yield
    in_ci = os.environ.get("CI", "") not in ("", "0", "false")
    if in_ci and report.skipped and item.get_closest_marker("vm"):
        report.outcome = "failed"
        report.longrepr = f"skipped in CI: {report.longrepr}"
    return report


def pytest_configure() -> None:
    """Background jobs start with SIGINT ignored, and so would everything the tests interrupt."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--update-golden", action="store_true", help="Rewrite golden files instead of comparing."
    )
