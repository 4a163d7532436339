from __future__ import annotations

import stat

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.errors import BuildError
from harness.image.cpio import (
    CpioEntry,
    device_entry,
    directory_entry,
    file_entry,
    link_entry,
    read_cpio,
    with_parents,
    write_cpio,
)

NAMES = st.text(
    st.characters(codec="utf-8", exclude_characters="/\0"), min_size=1, max_size=8
).filter(lambda name: name not in {".", "..", "TRAILER!!!"})
PATHS = st.lists(NAMES, min_size=1, max_size=3).map("/".join)
ENTRIES = st.one_of(
    st.builds(file_entry, PATHS, st.binary(max_size=40), executable=st.booleans()),
    st.builds(directory_entry, PATHS, st.integers(0, 0o7777)),
    st.builds(link_entry, PATHS, PATHS),
    st.builds(device_entry, PATHS, st.integers(0, 4095), st.integers(0, 0xFFFFF)),
)
TREES = st.lists(ENTRIES, max_size=8, unique_by=lambda entry: entry.path)


@given(TREES)
def test_round_trip_in_any_order(entries: list[CpioEntry]) -> None:
    archive = write_cpio(entries)
    assert {entry.path: entry for entry in read_cpio(archive)} == {e.path: e for e in entries}
    assert write_cpio(reversed(entries)) == archive
    assert len(archive) % 4 == 0


@given(TREES, st.data())
def test_a_cut_archive_is_an_error(entries: list[CpioEntry], data: st.DataObject) -> None:
    archive = write_cpio(entries)
    size_bytes = data.draw(st.integers(0, len(archive) - 1))
    with pytest.raises(BuildError, match="cpio: "):
        read_cpio(archive[:size_bytes])


@given(TREES)
def test_parents_come_before_their_children(entries: list[CpioEntry]) -> None:
    paths = [entry.path for entry in read_cpio(write_cpio(with_parents(entries)))]
    for position, path in enumerate(paths):
        parent = path.rpartition("/")[0]
        assert not parent or parent in paths[:position]


@pytest.mark.parametrize("path", ["", "/init", "a//b", "a/../b", "./a", "a\0b", "TRAILER!!!"])
def test_odd_paths_are_refused(path: str) -> None:
    with pytest.raises(BuildError, match="not a plain relative path"):
        write_cpio([file_entry(path, b"")])


def test_a_path_may_come_once() -> None:
    with pytest.raises(BuildError, match="a occurs twice"):
        write_cpio([file_entry("a", b"1"), directory_entry("a")])


def test_a_path_longer_than_the_kernel_takes() -> None:
    with pytest.raises(BuildError, match="longer"):
        write_cpio([file_entry("/".join(["a" * 200] * 21), b"")])


def test_no_trace_of_the_host_in_a_header() -> None:
    archive = write_cpio([file_entry("init", b"#!/bin/sh\n", executable=True)])
    fields = [int(archive[start : start + 8], 16) for start in range(6, 110, 8)]
    inode, mode, uid, gid, links, mtime = fields[:6]
    assert (inode, uid, gid, links, mtime) == (1, 0, 0, 1, 0)
    assert mode == stat.S_IFREG | 0o755
