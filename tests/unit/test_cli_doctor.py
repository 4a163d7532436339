"""What the doctor says of the tools that building kernels takes."""

from __future__ import annotations

import shutil

import pytest

import harness.cli.doctor as doctor_module
from harness.cli.doctor import _build_tools, _compiler, _qemu
from harness.errors import MissingToolError
from harness.kernel.toolchain import Toolchain


def test_build_tools_that_are_there(monkeypatch: pytest.MonkeyPatch) -> None:
    tools = Toolchain(arch="arm64", prefix="aarch64-linux-gnu-", version="gcc 12")
    monkeypatch.setattr(doctor_module, "find_toolchain", lambda arch: tools)
    monkeypatch.setattr(doctor_module, "check_for_config", lambda config, has_header: None)
    finding = _build_tools("arm64")
    assert (finding.what, finding.state, finding.detail) == ("kernel builds arm64", "ok", "gcc 12")


def test_build_tools_that_are_missing_are_no_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(arch: str) -> Toolchain:
        raise MissingToolError(f"to build a kernel for {arch}, bc must be installed", fix="apt bc")

    monkeypatch.setattr(doctor_module, "find_toolchain", missing)
    finding = _build_tools("arm64")
    assert (finding.state, finding.fix) == ("note", "apt bc")
    assert "bc must be installed" in finding.detail


def test_a_host_without_the_headers(monkeypatch: pytest.MonkeyPatch) -> None:
    tools = Toolchain(arch="x86_64", prefix="", version="gcc 12")
    monkeypatch.setattr(doctor_module, "find_toolchain", lambda arch: tools)
    monkeypatch.setattr(doctor_module, "host_has_header", lambda name: False)
    assert "libelf-dev" in _build_tools("x86_64").fix


def test_what_only_m68k_needs_is_no_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    assert _compiler("arm64").state == "bad"
    assert _compiler("m68k").state == "note"


@pytest.mark.parametrize(("number", "told"), [("7.2.22", True), ("10.0.13", False)])
def test_an_old_qemu_is_told(number: str, told: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor_module, "find_qemu", lambda arch: "qemu")
    monkeypatch.setattr(
        doctor_module, "qemu_version", lambda binary: f"QEMU emulator version {number}"
    )
    finding = _qemu("x86_64")
    assert finding.state == "ok"
    assert ("take turns" in finding.detail) is told
