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

from harness.image.programs import PROGRAMS
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
        ("forks", ["--processes", "1"], "--bytes"),
        ("forks", ["--bytes", "1M"], "--processes"),
        ("forks", ["--processes", "1", "--bytes", "1"], "less than a page"),
        ("forks", ["--processes", "1", "--bytes", "1M", "--parallel", "0"], "--parallel 0"),
        ("files", ["--files", "5"], "--bytes"),
        ("files", ["--files", "5", "--bytes", "4"], "less than a byte a file"),
        ("hugetlb", [], "--pages"),
        ("hugetlb", ["--pages", "1", "--size-kb", "3"], "power of two"),
        ("thp", [], "--bytes"),
        ("thp", ["--bytes", "1M", "--holes", "x"], "--holes x"),
        ("thrash", ["--touches", "3"], "--bytes"),
        ("thrash", ["--bytes", "1"], "less than a page"),
        ("fallback", ["--bytes", "1M"], "--rings"),
        ("fallback", ["--bytes", "1M", "--rings", "1"], "less than a page"),
        ("fallback", ["--bytes", "1M", "--rings", "1M", "--order-max", "11"], "--order-max 11"),
        ("loopback", ["--connections", "1"], "--bytes"),
        ("loopback", ["--connections", "1", "--bytes", "1M", "--piece", "1M"], "--piece 1M"),
        ("rebind", [], "--times"),
    ],
)
def test_bad_arguments_are_named(run: Run, name: str, arguments: list[str], complaint: str) -> None:
    done = run(name, *arguments)
    assert done.returncode == 2
    assert complaint in done.stderr
    assert f"usage: {name} " in done.stderr
    assert done.stdout == ""


@pytest.mark.parametrize("name", [name for name in PROGRAMS if "-" not in name])
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


def test_forks_end_all_their_processes(programs: Path) -> None:
    labels, status = run_marked(
        programs,
        "forks",
        *("--label", "f", "--processes", "12", "--bytes", "1M", "--parallel", "5"),
    )
    assert (labels, status) == (["f/0/before", "f/1/forks/12"], 0)


def test_files_are_written_cut_and_gone(programs: Path, tmp_path: Path) -> None:
    sizes: dict[str, list[int]] = {}

    def look(label: str) -> None:
        (own,) = tmp_path.iterdir()
        sizes[label] = [path.stat().st_size for path in own.iterdir()]

    labels, status = run_marked(
        programs,
        "files",
        *("--label", "f", "--files", "40", "--bytes", "1M", "--rounds", "2"),
        *("--dir", str(tmp_path)),
        hook=look,
    )
    assert status == 0
    assert labels == [
        "f/0/before",
        *("f/1/write/40", "f/2/cut", "f/3/unlink/40"),
        *("f/4/write/40", "f/5/cut", "f/6/unlink/40"),
    ]
    assert len(sizes["f/1/write/40"]) == 40
    assert sum(sizes["f/1/write/40"]) == pytest.approx(1 << 20, rel=0.4)
    assert sorted(sizes["f/2/cut"]) != sorted(sizes["f/1/write/40"])
    assert sizes["f/3/unlink/40"] == sizes["f/6/unlink/40"] == []
    assert list(tmp_path.iterdir()) == []


def test_files_leave_nothing_behind_when_writing_fails(programs: Path, tmp_path: Path) -> None:
    """A limit on the size of files stands for a full disk."""
    done = subprocess.run(
        [
            *("sh", "-c", 'trap "" XFSZ; ulimit -f 8; exec "$@"', "sh", str(programs / "files")),
            *("--files", "3", "--bytes", "3M", "--dir", str(tmp_path)),
        ],
        capture_output=True,
        text=True,
        check=False,
        timeout=LIMIT_S,
    )
    assert done.returncode == 1
    assert "writing byte" in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("forks", ["--processes", "6", "--bytes", "1M"]),
        ("files", ["--files", "50", "--bytes", "1M"]),
        ("thrash", ["--bytes", "4M", "--touches", "5000"]),
        ("loopback", ["--connections", "3", "--bytes", "300K"]),
    ],
)
def test_the_same_seed_makes_the_same_report(run: Run, name: str, arguments: list[str]) -> None:
    one = run(name, "--seed", "5", *arguments)
    assert (one.returncode, one.stderr) == (0, "")
    assert run(name, "--seed", "5", *arguments).stdout == one.stdout
    report = json.loads(one.stdout)
    assert (report["workload"], report["seed"]) == (name, 5)


def test_thrash_finds_its_memory_unchanged(run: Run) -> None:
    report = json.loads(run("thrash", "--bytes", "8M", "--touches", "3000").stdout)
    assert report["wrong"] == 0
    assert report["pages"] == (8 << 20) // os.sysconf("SC_PAGESIZE")


def test_thp_gives_back_its_holes(run: Run) -> None:
    done = run("thp", "--bytes", "8M", "--rounds", "2", "--holes", "3")
    if not Path("/sys/kernel/mm/transparent_hugepage/hpage_pmd_size").exists():
        assert "hpage_pmd_size" in done.stderr
        return
    report = json.loads(done.stdout)
    assert report["given_back"] == 2 * 3 * report["huge_pages"]
    assert report["huge_pages"] == (8 << 20) // report["huge_bytes"]


def test_loopback_needs_both_ends(programs: Path) -> None:
    labels, status = run_marked(
        programs, "loopback", *("--label", "t", "--connections", "4", "--bytes", "200K")
    )
    assert (labels, status) == (["t/0/before", "t/1/sent/4"], 0)


def test_fallback_takes_rings_of_every_order(programs: Path) -> None:
    arguments = ["--bytes", "4M", "--rings", "1M", "--files", "7", "--fill", "1M"]
    if packet_socket_errno():
        done = subprocess.run(
            [str(programs / "fallback"), *arguments],
            capture_output=True,
            text=True,
            check=False,
            timeout=LIMIT_S,
        )
        assert "packet socket: Operation not permitted" in done.stderr
        return
    labels, status = run_marked(programs, "fallback", "--label", "s", *arguments)
    pages = 256 * 4096 // os.sysconf("SC_PAGESIZE")
    blocks = sum(pages // 5 >> order for order in range(5))
    assert status == 0
    assert [label.split("/")[2] for label in labels] == [
        *("before", "touch", "runs", "rings", "files", "fill", "drop", "release")
    ]
    assert f"s/3/rings/{blocks}" in labels
    assert list(Path("/tmp").glob("fallback.*")) == []


def test_rebind_wants_its_disk(run: Run) -> None:
    done = run("rebind", "--times", "1")
    assert done.returncode == 1
    assert "mmscope-dma" in done.stderr
