"""Files in memory: copies are equal, and holes stay holes."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.errors import LaunchError
from harness.machine.memfile import copy_memory_file, data_extents, memory_file

PAGE = os.sysconf("SC_PAGESIZE")
MIB = 1 << 20


@pytest.fixture
def source_fd() -> Iterator[int]:
    memory_fd = memory_file("test", 64 * MIB, fix="")
    yield memory_fd
    os.close(memory_fd)


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def test_a_new_file_takes_no_memory(source_fd: int) -> None:
    assert os.fstat(source_fd).st_size == 64 * MIB
    assert data_extents(source_fd) == []
    assert os.fstat(source_fd).st_blocks == 0


@pytest.mark.parametrize(
    "pages", [(), (0,), (16383,), (0, 1, 2, 700), (5, 512, 513, 9000)], ids=str
)
def test_a_copy_is_equal_and_has_the_same_holes(source_fd: int, pages: tuple[int, ...]) -> None:
    for page in pages:
        os.pwrite(source_fd, os.urandom(PAGE), page * PAGE)
    copy_fd = copy_memory_file(source_fd, "copy")
    try:
        assert data_extents(copy_fd) == data_extents(source_fd)
        assert os.fstat(copy_fd).st_blocks == os.fstat(source_fd).st_blocks
        assert os.fstat(copy_fd).st_size == 64 * MIB
        for start, end in data_extents(source_fd):
            assert os.pread(copy_fd, end - start, start) == os.pread(source_fd, end - start, start)
        os.pwrite(copy_fd, b"mine", 3 * PAGE)
        assert os.pread(source_fd, 4, 3 * PAGE) == bytes(4)
    finally:
        os.close(copy_fd)


def test_a_size_that_no_host_has_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.EFBIG, os.strerror(errno.EFBIG))

    monkeypatch.setattr(os, "truncate", refuse)
    before = open_files()
    with pytest.raises(
        LaunchError, match="swap: the host has no 1T to give: File too large"
    ) as caught:
        memory_file("swap", 1 << 40, fix="ask for less")
    assert caught.value.fix == "ask for less"
    assert open_files() == before


def test_a_copy_that_fails_leaves_no_file(source_fd: int, monkeypatch: pytest.MonkeyPatch) -> None:
    os.pwrite(source_fd, b"x", 0)

    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "sendfile", full)
    before = open_files()
    with pytest.raises(LaunchError, match="copying failed: No space left"):
        copy_memory_file(source_fd, "copy")
    assert open_files() == before
