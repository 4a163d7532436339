from __future__ import annotations

import stat
from dataclasses import replace
from pathlib import Path

import pytest

from harness.errors import BuildError
from harness.image.assembly import Image, assemble, read_scripts
from harness.image.cpio import read_cpio
from harness.image.modules import WANTED
from harness.image.programs import PROGRAMS, TOOLS, Programs
from harness.image.userland import Root
from harness.kernel.package import Kernel
from tests.made_packages import make_module

SCRIPTS = {"init": b"#!/bin/sh\n", "start-ssh": b"#!/bin/sh\necho\n", "etc/data": b"text"}


@pytest.fixture
def kernel(tmp_path: Path) -> Kernel:
    """A kernel in whose tree every wanted module but one is a file."""
    directory = tmp_path / "kernel"
    modules = directory / "modules"
    (modules / "kernel").mkdir(parents=True)
    (modules / "modules.builtin").write_text("kernel/net/packet/af_packet.ko\n")
    for name in WANTED:
        if name != "af_packet":
            (modules / f"kernel/{name}.ko").write_bytes(make_module(name))
    (directory / "config").write_text("CONFIG_VIRTIO_NET=m\nCONFIG_PACKET=y\n")
    return Kernel(
        name="bookworm",
        release="6.1.0-1-amd64",
        arch="x86_64",
        package="linux-image-6.1.0-1-amd64",
        version="6.1.1-1",
        directory=directory,
        boot_image=directory / "vmlinux",
        modules_directory=modules,
        config_path=directory / "config",
        sha256={"x.deb": "0" * 64},
    )


@pytest.fixture
def root(tmp_path: Path) -> Root:
    directory = tmp_path / "root"
    directory.mkdir()
    (directory / "busybox").write_bytes(b"busybox")
    return Root(
        arch="x86_64",
        suite="bookworm",
        directory=directory,
        sha256="1" * 64,
        packages={"coreutils": "9.1-1"},
    )


@pytest.fixture
def programs(tmp_path: Path) -> Programs:
    directory = tmp_path / "programs"
    directory.mkdir()
    for name in PROGRAMS:
        (directory / name).write_bytes(name.encode())
    return Programs(arch="x86_64", directory=directory, key="2" * 64)


def _assemble(
    kernel: Kernel, root: Root, programs: Programs, cache: Path, scripts: dict[str, bytes] = SCRIPTS
) -> Image:
    return assemble(kernel, root, programs, scripts, cache=cache, progress=lambda note: None)


def test_what_the_initramfs_holds(
    kernel: Kernel, root: Root, programs: Programs, tmp_path: Path
) -> None:
    image = _assemble(kernel, root, programs, tmp_path / "cache")
    entries = {entry.path: entry for entry in read_cpio(image.initramfs.read_bytes())}
    assert entries["init"].data == SCRIPTS["init"]
    assert entries["init"].mode == stat.S_IFREG | 0o755
    assert entries["bin/busybox"].data == b"busybox"
    assert entries["bin/sh"].data == b"busybox"
    assert entries["mmscope/start-ssh"].mode == stat.S_IFREG | 0o755
    assert entries["mmscope/etc/data"].mode == stat.S_IFREG | 0o644
    assert {f"mmscope/{name}" for name in PROGRAMS if name != TOOLS} <= entries.keys()
    assert f"mmscope/{TOOLS}" not in entries
    order = entries["modules/order"].data.decode().split()
    assert order == [f"{name}.ko" for name in WANTED if name != "af_packet"]
    assert {f"modules/{name}" for name in order} <= entries.keys()
    assert entries["dev/console"].device == (5, 1)
    assert image.modules == tuple(name.removesuffix(".ko") for name in order)
    assert (image.root, image.root_sha256) == (root.directory / "root.erofs", "1" * 64)


def test_the_same_inputs_are_found_again(
    kernel: Kernel, root: Root, programs: Programs, tmp_path: Path
) -> None:
    cache = tmp_path / "cache"
    first = _assemble(kernel, root, programs, cache)
    written_ns = first.initramfs.stat().st_mtime_ns
    assert _assemble(kernel, root, programs, cache) == first
    assert first.initramfs.stat().st_mtime_ns == written_ns
    again = _assemble(kernel, root, programs, tmp_path / "other")
    assert again.initramfs_sha256 == first.initramfs_sha256


def test_every_input_makes_another_image(
    kernel: Kernel, root: Root, programs: Programs, tmp_path: Path
) -> None:
    cache = tmp_path / "cache"
    paths = {
        _assemble(kernel, root, programs, cache).initramfs,
        _assemble(replace(kernel, version="2"), root, programs, cache).initramfs,
        _assemble(kernel, replace(root, sha256="3" * 64), programs, cache).initramfs,
        _assemble(kernel, root, replace(programs, key="4" * 64), cache).initramfs,
        _assemble(kernel, root, programs, cache, {**SCRIPTS, "init": b"x"}).initramfs,
    }
    assert len(paths) == 5


def test_a_cut_initramfs_is_built_again(
    kernel: Kernel, root: Root, programs: Programs, tmp_path: Path
) -> None:
    cache = tmp_path / "cache"
    image = _assemble(kernel, root, programs, cache)
    whole = image.initramfs.read_bytes()
    image.initramfs.write_bytes(whole[:100])
    assert _assemble(kernel, root, programs, cache) == image
    assert image.initramfs.read_bytes() == whole


def test_a_kernel_without_a_wanted_module(
    kernel: Kernel, root: Root, programs: Programs, tmp_path: Path
) -> None:
    (kernel.modules_directory / "kernel/erofs.ko").unlink()
    with pytest.raises(BuildError, match="module erofs is neither"):
        _assemble(kernel, root, programs, tmp_path / "cache")


def test_a_kernel_without_a_network_needs_no_modules_for_it(
    kernel: Kernel, root: Root, programs: Programs, tmp_path: Path
) -> None:
    (kernel.modules_directory / "kernel/virtio_net.ko").unlink()
    with pytest.raises(BuildError, match="module virtio_net is neither"):
        _assemble(kernel, root, programs, tmp_path / "cache")
    kernel.config_path.write_text("# CONFIG_VIRTIO_NET is not set\nCONFIG_PACKET=y\n")
    assert "virtio_net" not in _assemble(kernel, root, programs, tmp_path / "cache").modules


def test_scripts_are_read_with_their_paths(tmp_path: Path) -> None:
    with pytest.raises(BuildError, match="init is missing"):
        read_scripts(tmp_path)
    (tmp_path / "init").write_bytes(b"1")
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub/two").write_bytes(b"2")
    (tmp_path / ".swap").write_bytes(b"3")
    assert read_scripts(tmp_path) == {"init": b"1", "sub/two": b"2"}
