"""Captures of every layout are found, and what is no capture is refused with a reason."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import cast

import pytest
import zstandard

from analysis.bundle import Bundle, Sample
from analysis.capture.snapshot import Snapshot
from analysis.capture.source import captures_in, open_source, run_source
from analysis.errors import CaptureError, MissingInputError, ParseError
from analysis.model.release import Release
from tests.recorded_run import FIXTURES

ROUND = FIXTURES / "6.1-x86_64-3nodes" / "round0"
VERSION = (ROUND / "version").read_text()
KERNEL = VERSION.split()[2]
FILES = {
    "proc/zoneinfo": (ROUND / "zoneinfo").read_bytes(),
    "proc/buddyinfo": (ROUND / "buddyinfo").read_bytes(),
    "proc/meminfo": (ROUND / "meminfo").read_bytes(),
    "proc/cmdline": b'quiet movablecore=1G name="two words" mem-map=a -- init=b\n',
    "proc/version": VERSION.encode(),
    "sys/devices/system/node/online": b"0-1\n",
    "sys/devices/system/node/node0/distance": b"10 20\n",
    "sys/devices/system/node/node0/cpulist": b"0-1,4\n",
    "sys/devices/system/node/node1/cpulist": b"\n",
    "proc/sys/vm/min_free_kbytes": b"45056\n",
}
CONFIG = b"CONFIG_X86_64=y\n# CONFIG_NUMA is not set\nCONFIG_NODES_SHIFT=10\n"


def lay(root: Path, files: dict[str, bytes]) -> Path:
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return root


def tar(files: dict[str, bytes], top: str = "") -> bytes:
    plain = io.BytesIO()
    with tarfile.open(fileobj=plain, mode="w") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(top + name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return plain.getvalue()


def same(snapshot: Snapshot) -> None:
    assert snapshot.kernel == KERNEL
    assert snapshot.release == Release(6, 1)
    assert snapshot.sysctl_number("vm/min_free_kbytes") == 45056
    assert snapshot.nodes == (0, 1)
    assert snapshot.node_distances(0) == (10, 20)
    assert snapshot.node_cpus(0) == (0, 1, 4)
    assert snapshot.node_cpus(1) == ()
    assert snapshot.cmdline.last("movablecore") == "1G"
    assert len(snapshot.zoneinfo.zones) > 3


def test_laid_out_as_in_the_system(tmp_path: Path) -> None:
    snapshot = Snapshot(open_source(lay(tmp_path, {**FILES, "config": CONFIG})))
    same(snapshot)
    assert snapshot.arch == "x86_64"
    assert snapshot.page_size_bytes == 4096
    assert not snapshot.config.on("NUMA")
    assert snapshot.config.number("NODES_SHIFT") == 10
    assert snapshot.cmdline.last("name") == "two words"
    assert snapshot.cmdline.has("mem_map"), "dashes in names are underscores"
    assert not snapshot.cmdline.has("init"), "what follows -- is for init"


@pytest.mark.parametrize("joint", ["_", "-", "/", "."])
def test_flat(tmp_path: Path, joint: str) -> None:
    files = {
        name.rpartition("/")[2]: content
        for name, content in FILES.items()
        if "node" not in name and "sys/" not in name
    }
    files["sysctl"] = b"vm.min_free_kbytes = 45056\nsysctl: permission denied on key 'x'\n"
    for node in (0, 1):
        files[f"node{node}{joint}cpulist"] = FILES[f"sys/devices/system/node/node{node}/cpulist"]
    files[f"node0{joint}distance"] = b"10 20\n"
    same(Snapshot(open_source(lay(tmp_path, files))))


def test_a_sosreport(tmp_path: Path) -> None:
    files = {name: content for name, content in FILES.items() if "proc/sys" not in name}
    files["sos_commands/kernel/sysctl_-a"] = b"vm.min_free_kbytes = 45056\n"
    files["sos_commands/kernel/dmesg"] = f"[    0.000000] {VERSION}".encode()
    files[f"boot/config-{KERNEL}"] = CONFIG
    files["boot/config-9.9.9"] = b"CONFIG_ARM64=y\n"
    snapshot = Snapshot(open_source(lay(tmp_path / "sosreport-host-2026", files)))
    same(snapshot)
    assert snapshot.arch == "x86_64", "the configuration is that of the running kernel"
    assert snapshot.dmesg.whole
    assert snapshot.dmesg.messages[0].time_s == 0.0


def test_the_directory_above_a_sosreport(tmp_path: Path) -> None:
    lay(tmp_path / "sosreport-host-2026", FILES)
    same(Snapshot(open_source(tmp_path)))


@pytest.mark.parametrize("ending", ["tar", "tar.gz", "tgz", "tar.bz2", "tar.xz", "tar.zst"])
def test_an_archive(tmp_path: Path, ending: str) -> None:
    packers: dict[str, Callable[[bytes], bytes]] = {
        "tar": bytes,
        "tar.gz": gzip.compress,
        "tgz": gzip.compress,
        "tar.bz2": bz2.compress,
        "tar.xz": lzma.compress,
        "tar.zst": zstandard.compress,
    }
    path = tmp_path / f"report.{ending}"
    path.write_bytes(packers[ending](tar(FILES, "./sosreport-host/")))
    same(Snapshot(open_source(path)))


def test_several_captures_in_an_archive(tmp_path: Path) -> None:
    path = tmp_path / "kernel.tar.xz"
    both = {f"{name}/{file}": text for name in ("one", "two") for file, text in FILES.items()}
    path.write_bytes(lzma.compress(tar(both)))
    with pytest.raises(CaptureError, match="several captures: one, two"):
        open_source(path)
    same(Snapshot(open_source(path / "two")))
    captures = captures_in(path)
    assert list(captures) == ["one", "two"]
    same(Snapshot(captures["one"]))
    with pytest.raises(CaptureError, match="neither a run directory nor a capture"):
        open_source(path / "three")


def test_a_damaged_archive_is_said(tmp_path: Path) -> None:
    path = tmp_path / "report.tar.xz"
    path.write_bytes(lzma.compress(tar(FILES))[:-40])
    with pytest.raises(CaptureError, match=r"report\.tar\.xz"):
        open_source(path)


def test_what_is_no_capture_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CaptureError, match="no such directory"):
        open_source(tmp_path / "absent")
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(CaptureError, match="neither a run directory nor a capture"):
        open_source(tmp_path)
    with pytest.raises(CaptureError, match="not a directory, nor an archive"):
        open_source(tmp_path / "notes.txt")


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    snapshot = Snapshot(open_source(lay(tmp_path, {"zoneinfo": FILES["proc/zoneinfo"]})))
    with pytest.raises(MissingInputError, match="proc/version"):
        _ = snapshot.kernel
    with pytest.raises(MissingInputError, match="dmesg"):
        _ = snapshot.dmesg
    with pytest.raises(MissingInputError, match="proc/sys/vm/swappiness"):
        snapshot.sysctl_number("vm/swappiness")


def test_a_file_that_is_not_what_the_kernel_prints_is_named(tmp_path: Path) -> None:
    files = {**FILES, "proc/buddyinfo": b"nonsense\n", "proc/sys/vm/swappiness": b"much\n"}
    snapshot = Snapshot(open_source(lay(tmp_path, files)))
    with pytest.raises(ParseError, match="proc/buddyinfo:1"):
        _ = snapshot.buddyinfo
    with pytest.raises(ParseError, match="proc/sys/vm/swappiness"):
        snapshot.sysctl_number("vm/swappiness")


@pytest.mark.parametrize(
    ("kernel", "vendor", "last"),
    [
        ("5.14.0-427.el9.x86_64", "el9", Release(7, 3)),
        ("5.14.21-150500.55-default", "default", Release(7, 3)),
        ("5.15.0-91-generic", None, Release(5, 15)),
        ("6.1.0-56-amd64", None, Release(6, 1)),
    ],
)
def test_releases_that_may_be_in_force(
    tmp_path: Path, kernel: str, vendor: str | None, last: Release
) -> None:
    files = {**FILES, "proc/version": f"Linux version {kernel} (x) #1\n".encode()}
    snapshot = Snapshot(open_source(lay(tmp_path, files)))
    assert snapshot.vendor == vendor
    assert snapshot.releases[0] == snapshot.release
    assert snapshot.releases[-1] == last


@pytest.mark.parametrize(
    ("uname", "kernel", "arch"),
    [
        (
            "Linux h 5.14.0-427.el9.x86_64 #1 SMP x86_64 GNU/Linux",
            "5.14.0-427.el9.x86_64",
            "x86_64",
        ),
        ("Linux h 6.1.0-56-arm64 #1 SMP aarch64 GNU/Linux", "6.1.0-56-arm64", "arm64"),
        ("Linux h 6.1.0-56-686-pae #1 SMP i686 GNU/Linux", "6.1.0-56-686-pae", "i386"),
    ],
)
def test_the_architecture_without_a_configuration(
    tmp_path: Path, uname: str, kernel: str, arch: str
) -> None:
    files = {"zoneinfo": FILES["proc/zoneinfo"], "uname": uname.encode() + b"\n"}
    snapshot = Snapshot(open_source(lay(tmp_path, files)))
    assert snapshot.kernel == kernel
    assert snapshot.arch == arch


class MadeRun:
    """A bundle of rounds: of the last two, one lacks a source and one is not complete."""

    path = Path("run")
    complete_rounds = (1, 2, 3)

    def samples(self) -> list[Sample]:
        rounds = {
            1: {"buddyinfo": b"b1", "pagetypeinfo": b"p1"},
            2: {"buddyinfo": b"b2", "pagetypeinfo": b"p2"},
            3: {"buddyinfo": b"b3"},
            4: {"buddyinfo": b"b4", "pagetypeinfo": b"p4"},
        }
        return [
            Sample(name=name, round=number, start_ns=0, end_ns=0, payload=payload)
            for number, files in rounds.items()
            for name, payload in files.items()
        ]

    def texts(self) -> dict[str, str]:
        return {"dmesg": "said"}


def test_the_files_of_a_run_are_of_one_round() -> None:
    files = run_source(cast(Bundle, MadeRun())).files
    assert {name: read() for name, read in files.items()} == {
        "dmesg": b"said",
        "proc/buddyinfo": b"b2",
        "proc/pagetypeinfo": b"p2",
    }
