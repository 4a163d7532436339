"""Packages of a kernel's source that are not what they should be."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from harness.errors import BuildError
from harness.kernel.source_tree import RECORD_NAME, cached_source, load_source, unpack_source
from tests.made_packages import make_deb
from tests.made_source import make_source_deb


def test_a_source_is_unpacked_without_its_top_directory(tmp_path: Path) -> None:
    target = tmp_path / "tree"
    target.mkdir()
    unpack_source(make_source_deb(tmp_path), target)
    names = sorted(path.name for path in target.iterdir())
    assert names == ["Documentation", "Kconfig", "Makefile"]


def test_a_package_without_a_source(tmp_path: Path) -> None:
    target = tmp_path / "tree"
    target.mkdir()
    files = {"usr/src/linux-patch-6.1-rt.patch.xz": b"x", "usr/share/doc/x": b"y"}
    with pytest.raises(BuildError, match=r"expected one archive below usr/src, found 0"):
        unpack_source(make_deb(tmp_path, "linux-source-6.1", "1", "all", dict(files)), target)


def test_a_damaged_archive(tmp_path: Path) -> None:
    target = tmp_path / "tree"
    target.mkdir()
    files = {"usr/src/linux-source-6.1.tar.xz": b"\xfd7zXZ\0 and then nothing"}
    deb = make_deb(tmp_path, "linux-source-6.1", "1", "all", dict(files))
    with pytest.raises(BuildError, match="did not unpack"):
        unpack_source(deb, target)


def _put(cache: Path, version: str, record: object, *, makefile: bool = True) -> Path:
    directory = cache / "sources" / f"linux-source-6.1_{version}"
    directory.mkdir(parents=True)
    if makefile:
        (directory / "Makefile").touch()
    (directory / RECORD_NAME).write_text(json.dumps(record))
    return directory


def test_only_whole_sources_count(tmp_path: Path) -> None:
    record = {
        "package": "linux-source-6.1",
        "version": "6.1.1-1",
        "file_name": "x.deb",
        "sha256": "0",
    }
    assert cached_source("6.1", tmp_path) is None
    assert load_source(_put(tmp_path, "6.1.2-1", record, makefile=False)) is None
    assert load_source(_put(tmp_path, "6.1.3-1", {**record, "sha256": 7})) is None
    assert cached_source("6.1", tmp_path) is None
    whole = _put(tmp_path, "6.1.1-1", record)
    source = cached_source("6.1", tmp_path)
    assert source is not None
    assert (source.directory, source.version) == (whole, "6.1.1-1")
    assert cached_source("6.12", tmp_path) is None
