"""A kernel given by the path of its image: what it is, its configuration, its modules."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from harness.errors import UsageError
from harness.kernel.own import OwnFiles, names_file, obtain_own
from harness.kernel.package import Kernel
from tests.made_own_kernel import (
    config_text,
    make_module_tree,
    make_own_arm64,
    make_own_bzimage,
    make_own_vmlinux,
    zboot,
)
from tests.made_packages import gzipped, make_bzimage, make_elf, make_vmlinux32

RELEASE = "6.1.9-mine"
VIRTIO = ("virtio_pci", "virtio_console", "virtio_blk", "erofs")
MODULAR = {"VIRTIO_PCI": "m", "VIRTIO_CONSOLE": "m", "VIRTIO_BLK": "m", "EROFS_FS": "m"}


class Owner:
    """A person with a directory of kernels."""

    def __init__(self, top: Path) -> None:
        self.top = top / "kernels"
        self.top.mkdir()
        self.cache = top / "cache"
        self.notes: list[str] = []

    def put(self, content: bytes, name: str = "vmlinux") -> Path:
        path = self.top / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        return path

    def __call__(
        self,
        path: Path,
        arch: str | None = None,
        *,
        modules: Path | None = None,
        config: Path | None = None,
    ) -> Kernel:
        self.notes = []
        return obtain_own(
            str(path),
            arch,
            files=OwnFiles(modules=modules, config=config),
            progress=self.notes.append,
            environment={"MMSCOPE_CACHE": str(self.cache)},
        )

    def refused(
        self,
        path: Path,
        arch: str | None = None,
        *,
        modules: Path | None = None,
        config: Path | None = None,
    ) -> UsageError:
        with pytest.raises(UsageError) as caught:
            self(path, arch, modules=modules, config=config)
        assert not list(self.cache.glob("own/*/*/kernel.json"))
        return caught.value


@pytest.fixture
def own(tmp_path: Path) -> Owner:
    return Owner(tmp_path)


@pytest.mark.parametrize(
    ("content", "arch", "image"),
    [
        (make_own_vmlinux(RELEASE, config_text()), "x86_64", "vmlinux"),
        (make_own_bzimage(RELEASE, config_text()), "x86_64", "vmlinux"),
        (make_own_vmlinux(RELEASE, config_text("i386"), machine=3), "i386", "vmlinux"),
        (make_own_arm64(RELEASE, config_text("arm64")), "arm64", "Image"),
        (gzipped(make_own_arm64(RELEASE, config_text("arm64"))), "arm64", "Image"),
        (zboot(make_own_arm64(RELEASE, config_text("arm64"))), "arm64", "Image"),
    ],
)
def test_what_a_file_is_told_from_itself(own: Owner, content: bytes, arch: str, image: str) -> None:
    kernel = own(own.put(content))
    assert (kernel.arch, kernel.release, kernel.boot_image.name) == (arch, RELEASE, image)
    assert (kernel.name, kernel.package) == ("vmlinux", "own")
    assert kernel.version == "#7 SMP Mon Nov 16 2026"
    assert kernel.config_path.read_text() == config_text(arch)
    assert kernel.sha256.keys() == {"vmlinux", "config", "modules"}
    assert "kernel/erofs.ko" in (kernel.modules_directory / "modules.builtin").read_text()


def test_an_image_that_is_booted_as_it_is_is_not_copied(own: Owner) -> None:
    path = own.put(make_own_vmlinux(RELEASE, config_text()))
    assert own(path).boot_image.is_symlink()
    assert not own(own.put(make_own_bzimage(RELEASE, config_text()), "bz")).boot_image.is_symlink()


def test_another_build_is_another_kernel_and_the_same_is_the_same(own: Owner) -> None:
    path = own.put(make_own_vmlinux(RELEASE, config_text()))
    first = own(path)
    assert own(path) == first
    assert not any("digests" in note for note in own.notes)
    own.put(make_own_vmlinux(RELEASE, config_text(SLUB="y")))
    assert own(path).sha256 != first.sha256


def test_a_kernel_not_booted_for_long_is_forgotten(own: Owner) -> None:
    first = own(own.put(make_own_vmlinux(RELEASE, config_text())))
    second = own(own.put(make_own_vmlinux("6.1.9-other", config_text()), "other"))
    month_ago_s = time.time() - 30 * 86400
    os.utime(first.directory, (month_ago_s, month_ago_s))
    own(own.top / "other")
    assert second.directory.exists()
    assert not first.directory.exists()


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"", "not a kernel image (it starts with nothing)"),
        (b"#!/bin/sh\n" + bytes(2000), "not a kernel image (it starts with 23 21 2f"),
        (make_elf(62), "no Linux kernel: it has no version of Linux in it"),
        (make_elf(243), "an ELF file for machine 243, of which there are no guests"),
        (make_bzimage(b"\x1f\x8bnonsense"), "the compressed kernel is damaged"),
        (gzipped(b"a text"), "not an arm64 Image"),
        (make_own_bzimage(RELEASE)[:1100], "truncated bzImage"),
        (make_vmlinux32(pvh=False), "no Linux kernel"),
    ],
)
def test_what_is_no_kernel_is_said_to_be_none(own: Owner, content: bytes, complaint: str) -> None:
    error = own.refused(own.put(content))
    assert complaint in error.message
    assert str(own.top / "vmlinux") in error.message


def test_a_file_that_is_not_there(own: Owner) -> None:
    assert "No such file" in own.refused(own.top / "gone").message
    assert "directory" in own.refused(own.top).message


def test_a_kernel_of_another_architecture(own: Owner) -> None:
    path = own.put(make_own_arm64(RELEASE, config_text("arm64")))
    error = own.refused(path, "x86_64")
    assert "it is a kernel for arm64, not for x86_64" in error.message
    assert error.fix == "add --arch arm64"
    assert own(path, "arm64").arch == "arm64"


def test_without_a_configuration(own: Owner) -> None:
    error = own.refused(own.put(make_own_vmlinux(RELEASE)))
    assert "its configuration is not known" in error.message
    assert str(own.top / f"config-{RELEASE}") in error.details["looked for"]
    assert error.fix == "name it: --config FILE"


def test_a_configuration_beside_the_image(own: Owner) -> None:
    path = own.put(make_own_vmlinux(RELEASE))
    (own.top / f"config-{RELEASE}").write_text(config_text(SLUB="y"))
    assert own(path).config_path.read_text() == config_text(SLUB="y")


def test_the_configuration_of_the_build_tree_that_the_image_lies_in(own: Owner) -> None:
    path = own.put(make_own_bzimage(RELEASE), "tree/arch/x86/boot/bzImage")
    tree = own.top / "tree"
    (tree / ".config").write_text(config_text())
    (tree / "include/config").mkdir(parents=True)
    (tree / "include/config/kernel.release").write_text("6.1.9-older\n")
    assert "not known" in own.refused(path).message, "the tree has been built on since"
    (tree / "include/config/kernel.release").write_text(f"{RELEASE}\n")
    assert own(path).config_path.read_text() == config_text()


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        (config_text(series="6.12"), "it is of Linux 6.12 for x86, the kernel is 6.1.9-mine"),
        (config_text("arm64"), "it is of Linux 6.1 for arm64"),
        ("hello\n", "not the configuration of a kernel"),
        (None, "No such file"),
    ],
)
def test_a_configuration_of_something_else(own: Owner, text: str | None, complaint: str) -> None:
    path, config = own.put(make_own_vmlinux(RELEASE)), own.top / "some.config"
    if text is not None:
        config.write_text(text)
    error = own.refused(path, config=config)
    assert error.message.startswith(f"--config {config}: ")
    assert complaint in error.message


def test_a_configuration_that_the_image_contradicts(own: Owner) -> None:
    path, config = own.put(make_own_vmlinux(RELEASE, config_text())), own.top / "some.config"
    config.write_text(config_text(SLUB="y", NUMA="y"))
    error = own.refused(path, config=config)
    assert "differs in 2 symbols: CONFIG_NUMA, CONFIG_SLUB" in error.message
    config.write_text(config_text())
    assert own(path, config=config).release == RELEASE


def test_modules_are_needed(own: Owner) -> None:
    path = own.put(make_own_vmlinux(RELEASE, config_text(**MODULAR)))
    error = own.refused(path)
    assert "its modules are needed, and were not found: virtio_pci, virtio_console" in error.message
    assert f"--modules …/lib/modules/{RELEASE}" in str(error.fix)
    assert "CONFIG_EROFS_FS=y" in str(error.fix)


@pytest.mark.parametrize("below", ["", RELEASE, f"lib/modules/{RELEASE}"])
def test_a_module_tree_or_a_parent_of_it(own: Owner, below: str) -> None:
    path = own.put(make_own_vmlinux(RELEASE, config_text(**MODULAR)))
    tree = make_module_tree(own.top / "installed" / below, RELEASE, VIRTIO)
    kernel = own(path, modules=own.top / "installed")
    assert kernel.modules_directory.resolve() == tree
    first = kernel.sha256["modules"]
    (tree / "kernel/erofs.ko").write_bytes((tree / "kernel/erofs.ko").read_bytes() + b"\0")
    assert own(path, modules=own.top / "installed").sha256["modules"] != first


def test_modules_beside_the_image_are_found(own: Owner) -> None:
    path = own.put(make_own_vmlinux(RELEASE, config_text(**MODULAR)), "boot/vmlinuz")
    tree = make_module_tree(own.top / "lib/modules" / RELEASE, RELEASE, VIRTIO)
    assert own(path).modules_directory.resolve() == tree
    assert any(str(tree) in note for note in own.notes)


def test_modules_of_another_release(own: Owner) -> None:
    path = own.put(make_own_vmlinux(RELEASE, config_text(**MODULAR)))
    tree = make_module_tree(own.top / "other", "6.1.8", VIRTIO)
    error = own.refused(path, modules=tree)
    assert "they are of 6.1.8, the kernel is 6.1.9-mine" in error.message
    (tree / "kernel/virtio_pci.ko").unlink()
    (tree / "kernel/a.ko").write_bytes(b"not a module")
    assert "not an ELF file" in own.refused(path, modules=tree).message


def test_a_directory_without_its_modules(own: Owner) -> None:
    path = own.put(make_own_vmlinux(RELEASE, config_text(**MODULAR)))
    make_module_tree(own.top / "lib/modules/6.1.8", "6.1.8", VIRTIO)
    error = own.refused(path, modules=own.top)
    assert f"no modules of {RELEASE} are in it" in error.message
    assert error.details["it has those of"] == "6.1.8"
    assert "no such directory" in own.refused(path, modules=own.top / "gone").message
    (own.top / "half/kernel").mkdir(parents=True)
    assert "has no modules.builtin" in own.refused(path, modules=own.top / "half").message


@pytest.mark.parametrize(
    ("symbol", "value", "why"),
    [
        ("VIRTIO_PCI", "n", "channels and disks are not found (it is n)"),
        ("VIRTIO_CONSOLE", "n", "there is no channel to it"),
        ("BLK_DEV_INITRD", "n", "the initramfs that the guest starts from is not unpacked"),
        ("EROFS_FS", "n", "the root cannot be mounted"),
        ("SERIAL_8250_CONSOLE", "m", "nothing appears on the serial console (it is m)"),
    ],
)
def test_a_kernel_that_could_not_be_a_guest(own: Owner, symbol: str, value: str, why: str) -> None:
    path = own.put(make_own_vmlinux(RELEASE, config_text(**{symbol: value})))
    error = own.refused(path)
    assert error.message == (
        f"kernel {RELEASE} cannot be a guest here: it is built without CONFIG_{symbol}"
    )
    assert why in error.details[f"CONFIG_{symbol}"]


def test_which_names_are_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert names_file("./vmlinux")
    assert names_file("/boot/vmlinuz")
    assert names_file("~/linux/vmlinux")
    assert not names_file("vmlinux")
    (tmp_path / "vmlinux").touch()
    assert names_file("vmlinux")
    assert not names_file("bookworm/rt-amd64")
    assert not names_file(None)


def test_options_that_go_with_a_file_only() -> None:
    with pytest.raises(UsageError, match="--modules /x goes with a kernel given by its path"):
        OwnFiles(modules=Path("/x")).check_path("bookworm")
    OwnFiles().check_path(None)
