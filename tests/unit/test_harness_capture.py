"""Captures are written whole, of the files that were asked for, and packed the same each time."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from analysis.procfs import slab_sysfs
from harness.capture.archive import pack, unpacked
from harness.capture.host import capture_host
from harness.capture.matrix import cells, load_matrix
from harness.capture.record import capture_directory, without_places
from harness.cli.capture import parse_settings
from harness.errors import RecordError, UsageError
from harness.record.captured import MOVING, STILL, held_still, kept_as, slab_listing

MATRIX = Path(__file__).parents[2] / "kernel-configs" / "captures.toml"


def test_a_capture_of_this_machine(tmp_path: Path) -> None:
    record = capture_host(tmp_path / "here")
    assert (tmp_path / "here" / "proc" / "zoneinfo").read_bytes()
    assert (tmp_path / "here" / "proc" / "zoneinfo.after").read_bytes()
    assert not (tmp_path / "here" / "proc" / "sys" / "vm" / "stat_refresh").exists(), "it writes"
    kept = json.loads((tmp_path / "here" / "capture.json").read_text())
    assert kept["of"] == "host"
    assert kept["unreadable"] == record.unreadable
    assert [path.name for path in tmp_path.iterdir()] == ["here"], "nothing else is left"


def test_a_capture_is_whole_or_not_there(tmp_path: Path) -> None:
    def broken() -> None:
        with capture_directory(tmp_path / "one") as directory:
            (directory / "zoneinfo").write_text("x")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        broken()
    assert list(tmp_path.iterdir()) == []
    with capture_directory(tmp_path / "one") as directory:
        (directory / "zoneinfo").write_text("x")
    with pytest.raises(UsageError, match="exists already"), capture_directory(tmp_path / "one"):
        pass


@pytest.mark.parametrize("path", ["proc/zoneinfo", "/proc/../etc/shadow"])
def test_names_that_lead_out_are_refused(path: str) -> None:
    with pytest.raises(ValueError, match="absolute path"):
        kept_as(path)


def test_places_of_the_taking_machine_are_left_out() -> None:
    words = [
        "/usr/bin/qemu",
        "-initrd",
        "/home/me/.cache/x/init.cpio",
        "-a",
        "id=a,path=/run/q/s.sock",
    ]
    assert without_places(words) == [
        "/usr/bin/qemu",
        "-initrd",
        "init.cpio",
        "-a",
        "id=a,path=s.sock",
    ]
    assert without_places(["mem-path=/proc/self/fd/9", "root=/dev/vda", "/capture"]) == [
        "mem-path=/proc/self/fd/9",
        "root=/dev/vda",
        "/capture",
    ]


def test_no_file_is_listed_twice() -> None:
    assert len({*MOVING, *STILL}) == len(MOVING) + len(STILL)


def test_stillness_is_of_blocks_and_memory_in_use() -> None:
    first = {"/proc/buddyinfo": b"a", "/proc/meminfo": b"b", "/proc/vmstat": b"c"}
    assert held_still(first, {**first, "/proc/vmstat": b"events are counted at each reading"})
    assert not held_still(first, {**first, "/proc/meminfo": b"d"})


def test_slab_attributes_of_links_are_left_out() -> None:
    text = slab_listing(
        {
            "/sys/kernel/slab/:0000064/order": b"0\n",
            "/sys/kernel/slab/filp/order": b"0\n",
            "/sys/kernel/slab/dentry/ctor": b"",
        },
        {"filp": ":0000064"},
    ).decode()
    parsed = slab_sysfs.parse(text)
    assert parsed.aliases == {"filp": ":0000064"}
    assert parsed.caches == {":0000064": {"order": "0"}, "dentry": {"ctor": ""}}
    cache = parsed.cache_of("filp")
    assert cache is not None
    assert cache["order"] == "0"


def capture(root: Path, text: str) -> Path:
    (root / "proc").mkdir(parents=True)
    (root / "proc" / "zoneinfo").write_text(text)
    return root


def test_an_archive_keeps_what_is_not_taken_again(tmp_path: Path) -> None:
    archive = tmp_path / "kernel.tar.xz"
    pack({"one": capture(tmp_path / "1", "a"), "two": capture(tmp_path / "2", "b")}, archive)
    first = archive.read_bytes()
    pack({"one": tmp_path / "1", "two": tmp_path / "2"}, archive)
    assert archive.read_bytes() == first, "the same files make the same bytes"
    pack({"two": capture(tmp_path / "3", "c")}, archive)
    assert unpacked(archive) == {"one/proc/zoneinfo": b"a", "two/proc/zoneinfo": b"c"}
    archive.write_bytes(first[:-30])
    with pytest.raises(RecordError, match="kernel"):
        unpacked(archive)


def test_the_matrix_covers_what_it_must() -> None:
    matrix = load_matrix(MATRIX)
    wanted = list(cells(matrix))
    assert len(wanted) >= 60
    assert {cell.arch for cell in wanted} >= {"x86_64", "arm64"}
    assert {cell.machine for cell in wanted} == set(matrix.machines), "no machine is unused"
    assert len({(cell.kernel, cell.arch, cell.machine) for cell in wanted}) == len(wanted)
    only = list(cells(matrix, "sid/arm64/numa*"))
    assert {cell.machine for cell in only} == {"numa2", "numa4"}
    numa4 = next(cell for cell in only if cell.machine == "numa4").options()
    assert numa4[numa4.index("--distance") + 1] == "0,1=15"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("machines = 3", "machines"),
        (
            "[machines.a]\nwhy='x'\nnode='1G'\n[[kernels]]\nkernel='k'\narch='x'\nmachines=[]",
            "node",
        ),
        ("kernels=[{kernel='k',arch='x',machines=['a']}]\n[machines]", "'a', which is not in"),
        ("kernels=[]\n[machines.a]\nwhy='x'\nshapes=['huge']", "machines.a: no shape is called"),
        ("][", "captures"),
    ],
)
def test_a_bad_matrix_is_named(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "captures.toml"
    path.write_text(text)
    with pytest.raises(UsageError, match=said):
        load_matrix(path)


def test_settings() -> None:
    assert parse_settings(["vm.a=1", "vm.b = 2 3"]) == {"vm.a": "1", "vm.b": "2 3"}
    for bad in (["vm.a"], ["=1"], ["vm.a="], ["vm.a=1", "vm.a=2"]):
        with pytest.raises(UsageError, match="--sysctl"):
            parse_settings(bad)
