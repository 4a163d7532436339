"""Which architecture and which kernel the options mean."""

from __future__ import annotations

from pathlib import Path

import pytest

import harness.cli.prepare as prepare_module
from harness.cli.prepare import chosen_arch, prepare
from harness.errors import UsageError
from harness.image.assembly import Image
from harness.kernel.own import OwnFiles
from harness.kernel.package import Kernel
from tests.made_own_kernel import (
    config_text,
    make_own_arm64,
    make_own_bzimage,
    make_own_vmlinux,
)
from tests.made_packages import make_bzimage, make_vmlinux32


@pytest.mark.parametrize(
    ("content", "arch"),
    [
        (make_own_vmlinux("6.1.9"), "x86_64"),
        (make_own_bzimage("6.1.9"), "x86_64"),
        (make_bzimage(make_vmlinux32(), bits=32), "i386"),
        (make_own_arm64("6.1.9"), "arm64"),
    ],
)
def test_the_architecture_is_the_images(tmp_path: Path, content: bytes, arch: str) -> None:
    (tmp_path / "image").write_bytes(content)
    assert chosen_arch(None, str(tmp_path / "image")) == arch
    assert chosen_arch("i386", str(tmp_path / "image")) == "i386", "as asked; refused later"


def test_the_architecture_without_a_file() -> None:
    assert chosen_arch(None, None) == chosen_arch(None, "bookworm") == "x86_64"
    assert chosen_arch("arm64", "bookworm") == "arm64"
    with pytest.raises(UsageError, match="unknown architecture 'mips'"):
        chosen_arch("mips", None)
    with pytest.raises(UsageError, match="No such file"):
        chosen_arch(None, "./gone")


@pytest.fixture
def no_guest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Kernel]:
    """No QEMU and no image; the kernels that images were wanted for."""
    built: list[Kernel] = []

    def build_image(kernel: Kernel, **_: object) -> Image:
        built.append(kernel)
        return Image(
            arch=kernel.arch,
            initramfs=tmp_path,
            root=tmp_path,
            initramfs_sha256="",
            root_sha256="",
            packages={},
            modules=(),
        )

    monkeypatch.setenv("MMSCOPE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(prepare_module, "find_qemu", lambda arch: "qemu")
    monkeypatch.setattr(prepare_module, "build_image", build_image)
    return built


def test_a_kernel_by_its_path_is_prepared_like_any_other(
    no_guest: list[Kernel], tmp_path: Path
) -> None:
    (tmp_path / "vmlinux").write_bytes(make_own_vmlinux("6.1.9-mine", config_text()))
    kernel = prepare("x86_64", str(tmp_path / "vmlinux"), lambda _: None).kernel
    assert no_guest == [kernel]
    assert kernel.release == "6.1.9-mine"


def test_options_of_a_file_with_a_kernel_by_name(no_guest: list[Kernel], tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="goes with a kernel given by its path"):
        prepare("x86_64", "bookworm", lambda _: None, files=OwnFiles(modules=tmp_path))
    assert no_guest == []


def test_a_kernel_by_name_is_held_against_what_guests_need(
    no_guest: list[Kernel], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "vmlinux").write_bytes(make_own_vmlinux("6.1.9-mine", config_text()))
    kernel = prepare("x86_64", str(tmp_path / "vmlinux"), lambda _: None).kernel
    kernel.config_path.write_text(config_text(VIRTIO_CONSOLE="n"))
    monkeypatch.setattr(prepare_module, "obtain", lambda *_, **__: kernel)
    with pytest.raises(UsageError, match="built without CONFIG_VIRTIO_CONSOLE"):
        prepare("x86_64", "mine", lambda _: None)
