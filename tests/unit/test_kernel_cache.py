from __future__ import annotations

import errno
import multiprocessing
import time
from pathlib import Path

import pytest

from harness.errors import DiskFullError, InfrastructureError, UsageError
from harness.kernel.cache import cache_root, install_directory, locked, write_atomically


def _is_made(path: Path) -> bool:
    return (path / "made").is_file()


def _make(path: Path) -> None:
    (path / "made").write_text("whole")


def test_the_environment_names_the_cache(tmp_path: Path) -> None:
    assert cache_root({"MMSCOPE_CACHE": str(tmp_path)}) == tmp_path
    assert cache_root({}).parts[-2:] == (".cache", "mmscope")


def test_a_path_that_apt_cannot_take_is_refused() -> None:
    with pytest.raises(UsageError, match="apt"):
        cache_root({"MMSCOPE_CACHE": '/tmp/a"; Evil "b'})


def test_a_directory_is_built_once(tmp_path: Path) -> None:
    target = tmp_path / "deep" / "thing"
    install_directory(target, _make, is_valid=_is_made)

    def never(path: Path) -> None:
        raise AssertionError("built again")

    assert install_directory(target, never, is_valid=_is_made) == target
    assert (target / "made").read_text() == "whole"


def test_a_failed_build_leaves_nothing(tmp_path: Path) -> None:
    def fail(path: Path) -> None:
        (path / "half").write_text("x")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        install_directory(tmp_path / "thing", fail, is_valid=_is_made)
    assert [path.name for path in tmp_path.iterdir()] == [".thing.lock"]


def test_what_a_killed_builder_left_is_removed(tmp_path: Path) -> None:
    stale = tmp_path / ".thing.0123abcd.tmp"
    stale.mkdir()
    (stale / "half").write_text("x")
    other = tmp_path / ".thing2.0123abcd.tmp"
    other.mkdir()
    install_directory(tmp_path / "thing", _make, is_valid=_is_made)
    assert not stale.exists()
    assert other.exists()


def test_an_invalid_directory_is_replaced(tmp_path: Path) -> None:
    target = tmp_path / "thing"
    target.mkdir()
    (target / "rubbish").write_text("x")
    install_directory(target, _make, is_valid=_is_made)
    assert [path.name for path in target.iterdir()] == ["made"]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_named(tmp_path: Path, number: int) -> None:
    def fail(path: Path) -> None:
        raise OSError(number, "full")

    with pytest.raises(DiskFullError, match="thing") as caught:
        install_directory(tmp_path / "thing", fail, is_valid=_is_made)
    assert "MMSCOPE_CACHE" in (caught.value.fix or "")
    assert not list(tmp_path.glob("*.tmp"))


def test_other_errors_of_the_system_stay_themselves(tmp_path: Path) -> None:
    def fail(path: Path) -> None:
        raise PermissionError(errno.EACCES, "no")

    with pytest.raises(PermissionError):
        install_directory(tmp_path / "thing", fail, is_valid=_is_made)


def test_a_file_is_replaced_in_one_step(tmp_path: Path) -> None:
    path = tmp_path / "a" / "file"
    write_atomically(path, "one")
    write_atomically(path, "two")
    assert path.read_text() == "two"
    assert list(path.parent.iterdir()) == [path]


def test_a_lock_that_is_never_freed_ends_the_wait(tmp_path: Path) -> None:
    told: list[str] = []
    with (
        locked(tmp_path / "thing"),
        pytest.raises(InfrastructureError, match=r"\.thing\.lock"),
        locked(tmp_path / "thing", progress=told.append, limit_s=0.15),
    ):
        pass
    assert told == ["waiting for another mmscope that prepares thing"]


def _count_build(target: Path, log: Path) -> None:
    def build(path: Path) -> None:
        time.sleep(0.2)
        with log.open("a") as stream:
            stream.write("built\n")
        _make(path)

    install_directory(target, build, is_valid=_is_made)


def test_two_processes_build_once(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    log = tmp_path / "log"
    workers = [
        context.Process(target=_count_build, args=(tmp_path / "thing", log)) for _ in range(3)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(timeout=60)
        assert worker.exitcode == 0
    assert log.read_text() == "built\n"
