"""Guests that cannot come up are told apart in seconds: real kernels, each with one thing wrong."""

from __future__ import annotations

import dataclasses
import struct
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.cli.prepare import Prepared, bare_spec, prepare
from harness.errors import BootError, GuestError
from harness.machine.spec import MachineSpec, NodeSpec
from harness.record.rundir import RunDirectory
from harness.session.guest import Guest
from tests.conftest import qemu_pids

pytestmark = [pytest.mark.vm, pytest.mark.timeout(300)]

NODES = (NodeSpec(size_bytes=256 << 20, cpus=(0,)),)


def _without_module(initramfs: bytes, name: str) -> bytes:
    """The initramfs with ``name`` struck from the list of modules to load."""
    line = f"{name}.ko\n".encode()
    start = initramfs.index(line, initramfs.index(b"modules/order"))
    return initramfs[:start] + b"\n" * len(line) + initramfs[start + len(line) :]


def _without_interpreter(initramfs: bytes) -> bytes:
    return initramfs.replace(b"#!/bin/sh\n# Process 1", b"#!/bin/zz\n# Process 1", 1)


def _failure(spec: MachineSpec, tmp_path: Path, *, stall_s: float = 60.0) -> GuestError:
    run = RunDirectory.create(tmp_path, "boot")
    with pytest.raises(GuestError) as caught, Guest(spec, run, boot_stall_s=stall_s):
        pass
    assert qemu_pids() == set()
    return caught.value


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (lambda _: b"no archive", "did not take its initramfs: "),
        (lambda archive: _without_module(archive, "erofs"), "cannot read erofs"),
        (lambda archive: _without_module(archive, "virtio_console"), "no virtio console"),
        (_without_interpreter, "no /init in the initramfs, or no interpreter"),
    ],
    ids=["no-initramfs", "no-erofs", "no-virtio-console", "no-interpreter"],
)
def test_a_real_kernel_says_what_it_lacks(
    spoil: Callable[[bytes], bytes], why: str, tmp_path: Path
) -> None:
    # Of 6.1 all of these are modules; later suites build some of them in.
    spec = bare_spec(prepare("x86_64", "bookworm", lambda _: None), NODES)
    spoilt = tmp_path / "initramfs.cpio"
    spoilt.write_bytes(spoil(spec.initramfs.read_bytes()))
    error = _failure(dataclasses.replace(spec, initramfs=spoilt), tmp_path)
    assert why in error.details["diagnosis"]
    assert error.fix


def test_silence_is_bounded(prepared: Callable[[str], Prepared], tmp_path: Path) -> None:
    """An Image whose first instruction jumps to itself: as silent as a kernel can be."""
    image = struct.pack("<I4xQQQ24x4sI", 0x1400_0000, 0, 4096, 0, b"ARM\x64", 0) + bytes(4032)
    kernel = tmp_path / "Image"
    kernel.write_bytes(image)
    spec = dataclasses.replace(bare_spec(prepared("arm64"), NODES), kernel=kernel)
    start_s = time.monotonic()
    error = _failure(spec, tmp_path, stall_s=4.0)
    assert time.monotonic() - start_s < 60
    assert isinstance(error, BootError)
    assert "printed nothing for 4 s" in error.message
    assert "CONFIG_SERIAL_AMBA_PL011_CONSOLE" in error.details["diagnosis"]
