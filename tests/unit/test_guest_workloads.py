"""The guest's workloads, run on the host: their marks, their seeds, their complaints."""

from __future__ import annotations

import errno
import json
import os
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.guest_programs import LIMIT_S, Doorbell, host_programs


@pytest.fixture(scope="session")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return host_programs(tmp_path_factory.getbasetemp() / "guest-programs")


Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def run(programs: Path) -> Run:
    def run(name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(programs / name), *arguments],
            capture_output=True,
            text=True,
            check=False,
            timeout=LIMIT_S,
        )

    return run


def run_marked(
    programs: Path,
    name: str,
    *arguments: str,
    hook: Callable[[str], None] = lambda _: None,
) -> tuple[list[str], int]:
    """Labels that a workload set, and its exit status."""
    with Doorbell() as doorbell:
        process = subprocess.Popen(
            [str(programs / name), "--settle-ms", "0", *arguments],
            env={**os.environ, "MMSCOPE_DOORBELL": doorbell.name},
            stdout=subprocess.DEVNULL,
        )
        labels = list(doorbell.labels(hook))
        return labels, process.wait(timeout=LIMIT_S)


def packet_socket_errno() -> int:
    """0 when this process may open packet sockets, as the guest's root may."""
    try:
        socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0).close()
    except OSError as error:
        return error.errno or errno.EPERM
    return 0


@pytest.mark.parametrize(
    ("name", "arguments", "complaint"),
    [
        ("pktring", [], "--step"),
        ("pktring", ["--step", "take:0:3"], "--step take: BLOCKS 0"),
        ("pktring", ["--step", "take:1:99"], "--step take: ORDER 99"),
        ("pktring", ["--step", "take:1"], "--step take:1:"),
        ("pktring", ["--step", "take:1:2:3"], "--step take:1:2:3:"),
        ("pktring", ["--step", "drop:1"], "--step drop:1: no earlier step 1"),
        ("pktring", ["--step", "idle", "--step", "drop:1"], "no earlier step 1"),
        ("pktring", ["--step", "wait"], "--step wait"),
        ("pktring", ["--step", "idle", "--seed", "x"], "--seed x"),
        ("pktring", ["--step", "idle", "--node", "-1"], "--node -1"),
        ("pktring", ["--step", "idle", "--label", "a/b"], "--label a/b"),
        ("pktring", ["--step", "idle", "--label", ""], "--label"),
        ("pktring", ["--step", "idle", "--settle-ms", "1e3"], "--settle-ms 1e3"),
        ("pktring", ["--step", "idle", "--what"], "--what"),
        ("pktring", ["--step", "idle", "more"], "more"),
        ("fragment", ["--bytes", "1M"], "--pattern"),
        ("fragment", ["--pattern", "stride:2"], "--bytes"),
        ("fragment", ["--bytes", "1Q", "--pattern", "stride:2"], "--bytes 1Q"),
        ("fragment", ["--bytes", "101%", "--pattern", "stride:2"], "--bytes 101%"),
        ("fragment", ["--bytes", "0", "--pattern", "stride:2"], "--bytes 0"),
        ("fragment", ["--bytes", "1", "--pattern", "stride:2"], "less than a page"),
        ("fragment", ["--bytes", "99999999T", "--pattern", "stride:2"], "--bytes 99999999T"),
        ("fragment", ["--bytes", "1M", "--pattern", "stride:0"], "--pattern 0"),
        ("fragment", ["--bytes", "1M", "--pattern", "random:101"], "--pattern 101"),
        ("fragment", ["--bytes", "1M", "--pattern", "zigzag:1"], "--pattern zigzag:1"),
        ("fragment", ["--bytes", "1M", "--pattern", "runs:1", "--rounds", "0"], "--rounds 0"),
        ("slabchurn", [], "--objects"),
        ("slabchurn", ["--objects", "0"], "--objects 0"),
        ("pagecache", ["--ops", "1"], "--bytes"),
        ("pagecache", ["--bytes", "1M", "--ops", "1", "--drop", "101"], "--drop 101"),
    ],
)
def test_bad_arguments_are_named(run: Run, name: str, arguments: list[str], complaint: str) -> None:
    done = run(name, *arguments)
    assert done.returncode == 2
    assert complaint in done.stderr
    assert f"usage: {name} " in done.stderr
    assert done.stdout == ""


@pytest.mark.parametrize("name", ["pktring", "fragment", "slabchurn", "pagecache"])
def test_help_goes_to_standard_output(run: Run, name: str) -> None:
    done = run(name, "--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"usage: {name} ")
    assert "--seed" in done.stdout


def test_marks_without_a_sampler_fail(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MMSCOPE_DOORBELL", f"mmscope-test-nobody-{os.getpid()}")
    done = run("pktring", "--label", "null", "--step", "idle")
    assert done.returncode == 1
    assert "no sampler answers" in done.stderr


def test_a_node_that_is_not_there_is_named(run: Run) -> None:
    done = run("pktring", "--node", "1000", "--step", "idle")
    assert done.returncode == 1
    assert "--node 1000" in done.stderr


def test_pktring_marks_every_step_in_order(programs: Path) -> None:
    steps = ["take:4:1", "idle", "take:2:3", "drop:1", "drop:3"]
    arguments = ["--label", "ring", "--warmup"]
    for step in steps:
        arguments += ["--step", step]
    if packet_socket_errno():
        done = subprocess.run(
            [str(programs / "pktring"), *arguments[2:]],
            capture_output=True,
            text=True,
            check=False,
            timeout=LIMIT_S,
        )
        assert done.returncode == 1
        assert "step 1: packet socket: Operation not permitted" in done.stderr
        return
    labels, status = run_marked(programs, "pktring", *arguments)
    assert status == 0
    assert labels == [
        "ring/0/before",
        "ring/1/take/4/1",
        "ring/2/idle",
        "ring/3/take/2/3",
        "ring/4/drop/1",
        "ring/5/drop/3",
    ]


def test_pktring_says_when_a_step_failed_and_goes_on(programs: Path) -> None:
    if packet_socket_errno():
        return  # the refusal itself is tested above
    labels, status = run_marked(
        programs,
        "pktring",
        *("--label", "ring", "--step", "take:2:0", "--step", "drop:1"),
        *("--step", "drop:1", "--step", "idle"),
    )
    assert status == 1
    assert labels == [
        "ring/0/before",
        "ring/1/take/2/0",
        "ring/2/drop/1",
        "ring/3/failed/drop/1",
        "ring/4/idle",
    ]


def test_pktring_reports_one_line_of_json(run: Run) -> None:
    done = run("pktring", "--seed", "7", "--step", "idle")
    assert done.returncode == 0
    assert json.loads(done.stdout) == {
        "workload": "pktring",
        "seed": 7,
        "node": None,
        "page_size_bytes": os.sysconf("SC_PAGESIZE"),
        "steps": 1,
        "quiet": True,
        "warmup": False,
        "failed_steps": 0,
        "held_pages": 0,
    }


@pytest.mark.parametrize(
    ("pattern", "given_back"),
    [("stride:2", 128), ("stride:3", 86), ("runs:64", 128), ("random:0", 0), ("random:100", 256)],
)
def test_fragment_gives_back_what_its_pattern_says(run: Run, pattern: str, given_back: int) -> None:
    size_bytes = 256 * os.sysconf("SC_PAGESIZE")
    done = run("fragment", "--bytes", str(size_bytes), "--pattern", pattern, "--no-huge")
    report = json.loads(done.stdout)
    assert (report["pages"], report["given_back"]) == (256, given_back)


def test_fragment_is_the_same_for_the_same_seed(run: Run) -> None:
    arguments = ["--bytes", "4M", "--pattern", "random:40", "--rounds", "3"]
    one = run("fragment", "--seed", "5", *arguments).stdout
    assert run("fragment", "--seed", "5", *arguments).stdout == one
    assert run("fragment", "--seed", "6", *arguments).stdout != one


def test_fragment_marks_hold_the_memory_that_they_name(programs: Path) -> None:
    """At each mark the process has as many anonymous pages as the label says."""
    page_kib = os.sysconf("SC_PAGESIZE") // 1024
    anon_pages: dict[str, int] = {}

    def measure(label: str) -> None:
        for status in Path("/proc").glob("[0-9]*/status"):
            try:
                text = status.read_text()
                exe = (status.parent / "exe").readlink()
            except OSError:
                continue
            if exe == programs / "fragment":
                field = next(line for line in text.splitlines() if line.startswith("RssAnon"))
                anon_pages[label] = int(field.split()[1]) // page_kib

    size_bytes = 4096 * os.sysconf("SC_PAGESIZE")
    labels, status = run_marked(
        programs,
        "fragment",
        *("--label", "f", "--bytes", str(size_bytes), "--pattern", "stride:4", "--no-huge"),
        hook=measure,
    )
    assert status == 0
    assert labels == ["f/0/before", "f/1/touch/4096", "f/2/free/1024", "f/3/release/3072"]
    base = anon_pages["f/0/before"]
    # The kernel's counts of a process lag by up to 64 pages a CPU.
    assert anon_pages["f/1/touch/4096"] - base == pytest.approx(4096, abs=160)
    assert anon_pages["f/2/free/1024"] - base == pytest.approx(3072, abs=160)
    assert anon_pages["f/3/release/3072"] - base == pytest.approx(0, abs=160)


def test_slabchurn_makes_and_frees_every_object(programs: Path, tmp_path: Path) -> None:
    files: dict[str, int] = {}

    def count(label: str) -> None:
        files[label] = sum(len(list(path.iterdir())) for path in tmp_path.iterdir())

    labels, status = run_marked(
        programs,
        "slabchurn",
        *("--label", "s", "--objects", "200", "--rounds", "2", "--dir", str(tmp_path)),
        hook=count,
    )
    assert status == 0
    assert labels == [
        "s/0/before",
        "s/1/make/200",
        "s/2/free/100",
        "s/3/free/200",
        "s/4/make/200",
        "s/5/free/100",
        "s/6/free/200",
    ]
    assert files["s/0/before"] == files["s/3/free/200"] == files["s/6/free/200"] == 0
    assert files["s/1/make/200"] > files["s/2/free/100"] > 0
    assert list(tmp_path.iterdir()) == []


def test_slabchurn_is_the_same_for_the_same_seed(run: Run, tmp_path: Path) -> None:
    arguments = ["--objects", "300", "--dir", str(tmp_path)]
    one = json.loads(run("slabchurn", "--seed", "5", *arguments).stdout)
    assert json.loads(run("slabchurn", "--seed", "5", *arguments).stdout) == one
    kinds = ("files", "directories", "events", "pipes", "sockets")
    assert sum(one[kind] for kind in kinds) == 300
    assert all(one[kind] > 0 for kind in kinds)
    other = json.loads(run("slabchurn", "--seed", "6", *arguments).stdout)
    assert [other[kind] for kind in kinds] != [one[kind] for kind in kinds]


def test_slabchurn_leaves_nothing_behind_when_it_fails(run: Run, tmp_path: Path) -> None:
    done = run("slabchurn", "--objects", "10", "--dir", str(tmp_path / "nowhere"))
    assert done.returncode == 1
    assert "nowhere" in done.stderr


def test_pagecache_reads_only_unless_asked(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "file"
    content = os.urandom(1 << 20)
    path.write_bytes(content)
    arguments = ["--file", str(path), "--bytes", "1M", "--ops", "50", "--chunk", "16K"]
    report = json.loads(run("pagecache", *arguments).stdout)
    assert (report["reads"], report["writes"]) == (50, 0)
    assert path.read_bytes() == content
    report = json.loads(run("pagecache", "--write", *arguments).stdout)
    assert report["reads"] + report["writes"] == 50
    assert report["writes"] > 0
    assert path.read_bytes() != content
    assert path.stat().st_size == 1 << 20


def test_pagecache_marks_its_stages(programs: Path, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(bytes(1 << 20))
    labels, status = run_marked(
        programs,
        "pagecache",
        *("--label", "p", "--file", str(path), "--bytes", "1M", "--ops", "20", "--drop", "100"),
    )
    assert status == 0
    assert labels == ["p/0/before", "p/1/read/20", "p/2/drop/16", "p/3/close"]


def test_pagecache_says_what_is_wrong_with_its_file(run: Run, tmp_path: Path) -> None:
    (tmp_path / "small").write_bytes(b"x")
    done = run("pagecache", "--file", str(tmp_path / "small"), "--bytes", "1M", "--ops", "1")
    assert (done.returncode, "has only 1 bytes" in done.stderr) == (2, True)
    done = run("pagecache", "--file", str(tmp_path / "none"), "--bytes", "1M", "--ops", "1")
    assert (done.returncode, "none: No such file" in done.stderr) == (1, True)


def test_pagecache_wants_a_file_where_there_is_no_scratch_disk(run: Run) -> None:
    done = run("pagecache", "--bytes", "1M", "--ops", "1")
    assert done.returncode == 1
    assert "mmscope-scratch: give --file" in done.stderr
