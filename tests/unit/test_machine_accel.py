from __future__ import annotations

from pathlib import Path

import pytest

from harness.machine import accel


@pytest.mark.parametrize(
    ("host", "arch", "possible"),
    [
        ("x86_64", "x86_64", True),
        ("x86_64", "i386", True),
        ("x86_64", "arm64", False),
        ("arm64", "arm64", True),
        ("arm64", "i386", False),
        ("i386", "x86_64", False),
    ],
)
def test_whose_guests_a_host_can_run(
    host: str, arch: str, possible: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(accel, "host_arch", lambda: host)
    device = tmp_path / "kvm"
    device.touch()
    verdict = accel.without_probe(arch, device)
    assert (verdict is None) is possible
    if verdict is not None:
        assert verdict.why == f"{arch} guests are emulated on a {host} host"


def test_no_device_is_no_kvm(tmp_path: Path) -> None:
    verdict = accel.without_probe(accel.host_arch(), tmp_path / "kvm")
    assert verdict is not None
    assert "there is no" in verdict.why
