"""``mmscope compare`` on made runs: real differences, none, and everything that cannot be."""

from __future__ import annotations

import contextlib
import io
import json
import random
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from analysis.compare.groups.selection import select
from analysis.errors import SelectionError
from harness.cli import app
from harness.record.manifest import OutcomeKind
from harness.record.sweep import read_sweep, write_sweep
from tests.recorded_groups import write_repeat, write_sweep_of


@dataclass(frozen=True)
class Done:
    returncode: int
    stdout: str
    stderr: str


def compare(*arguments: object) -> Done:
    """The command in this process: what it prints, and the code it would exit with."""
    out, err = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["mmscope", "compare", *map(str, arguments)])
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = app._run()
    return Done(code, out.getvalue(), err.getvalue())


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_sweep_of(
        tmp_path_factory.mktemp("sweeps") / "made",
        {
            "lean": {"objects_kb": 4000},
            "fat": {
                "objects_kb": 6000,
                "stalls": 40,
                "config": "CONFIG_SLAB=y\nCONFIG_NUMA=y\n",
            },
            "lean-again": {"objects_kb": 4000},
            "slob": {
                "objects_kb": 4000,
                "slabinfo": False,
                "config": "CONFIG_SLOB=y\n",
                "setup": ("swapoff -a",),
            },
        },
    )


@pytest.fixture(scope="module")
def found(sweep: Path) -> dict[str, Any]:
    done = compare(sweep, "--json")
    assert done.returncode == 0, done.stderr
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def pair(found: dict[str, Any], second: str) -> dict[str, Any]:
    return next(each for each in found["pairs"] if each["second"] == second)


def findings(found: dict[str, Any], second: str) -> dict[str, str]:
    return {each["id"]: each["finding"] for each in pair(found, second)["measures"]}


def test_what_differs_is_found_with_its_size(found: dict[str, Any]) -> None:
    fat = findings(found, "fat")
    assert fat["slab_kb@objects: make"] == "differs"
    assert fat["slab_growth_kb@run"] == "differs"
    assert fat["allocstall@whole run"] == "differs"
    assert fat["slab_kb@after boot"] == "the same"
    assert fat["allocstall@objects"] == "differs", "details are looked into"
    growth = next(
        each for each in pair(found, "fat")["measures"] if each["id"] == "slab_growth_kb@run"
    )
    low, high = growth["difference_interval"]
    assert low <= 2000 <= high
    assert low > 1800
    assert high < 2200
    assert growth["p"] <= 0.05
    symbols = [each["name"] for each in pair(found, "fat")["configuration"]]
    assert symbols == ["CONFIG_SLAB", "CONFIG_SLUB"]
    text = " ".join(pair(found, "fat")["conclusion"])
    assert "direct reclaims" in text
    assert "memory in slabs" in text


def test_a_configuration_against_itself_differs_in_nothing(found: dict[str, Any]) -> None:
    again = pair(found, "lean-again")
    assert set(again["summary"]) <= {"the same", "inside the noise"}
    assert again["configuration"] == []
    assert not again["details_tested"]
    assert "no difference" in again["conclusion"][0]


def test_what_slob_does_not_show_is_unknown_with_its_reason(found: dict[str, Any]) -> None:
    slob = findings(found, "slob")
    assert slob["slab_unused_kb@at the end"] == "unknown"
    assert slob["slab_kb@objects: make"] == "inside the noise"
    assert any("SLOB keeps no account" in line for line in pair(found, "slob")["conclusion"])
    caches = [each for each in pair(found, "slob")["measures"] if each["id"].startswith("cache_")]
    assert caches
    assert all(each["why"].startswith("SLOB keeps no account") for each in caches)


def test_setup_that_differs_is_told(found: dict[str, Any]) -> None:
    told = [each for each in pair(found, "slob")["configuration"] if each["kind"] == "setup"]
    assert told == [{"kind": "setup", "name": "swapoff -a", "first": "", "second": "given"}]


def test_table_and_page(sweep: Path, tmp_path: Path) -> None:
    page = tmp_path / "out" / "page.html"
    done = compare(
        f"lean={sweep}/lean", f"fat={sweep}/fat/run-*", "--html", page, "--figures", tmp_path / "f"
    )
    assert done.returncode == 0, done.stderr
    assert "CONFIG_SLAB" in done.stdout
    assert "differs" in done.stdout
    assert "fat against lean" in done.stdout
    html = page.read_text()
    assert html.count("<svg") == 3
    assert "<script" not in html
    assert str(tmp_path) not in html
    assert sorted(path.name for path in (tmp_path / "f").glob("*.png")) == [
        "compare_forest.png",
        "compare_strips.png",
        "compare_time.png",
    ]


def test_too_few_runs_find_nothing_and_say_so(sweep: Path) -> None:
    one = json.loads(compare(sweep / "lean" / "run-1", f"B={sweep}/fat/run-1", "--json").stdout)
    assert "one run in a group" in one["pairs"][0]["conclusion"][0]
    assert "differs" not in {each["finding"] for each in one["pairs"][0]["measures"]}
    three = json.loads(
        compare(f"A={sweep}/lean/run-[123]", f"B={sweep}/fat/run-[123]", "--json").stdout
    )
    assert "run each 4 times" in three["pairs"][0]["conclusion"][0]
    assert three["pairs"][0]["summary"].keys() <= {"undecided", "the same", "unknown"}


def test_missing_runs_are_told(sweep: Path, tmp_path: Path) -> None:
    copy = tmp_path / "sweep"
    shutil.copytree(sweep, copy)
    record = read_sweep(copy)
    lost = record.find("fat", 2)
    assert lost is not None
    lost.outcome, lost.message = OutcomeKind.PANICKED, "BUG at mm/slab.c"
    write_sweep(copy, record)
    done = compare(copy, "--json")
    warnings = json.loads(done.stdout)["warnings"]
    assert any("fat, repeat 2: panicked BUG at mm/slab.c" in line for line in warnings)
    assert any("different numbers of runs" in line for line in warnings)


def test_what_cannot_be_compared_is_said(sweep: Path, tmp_path: Path) -> None:
    noise = random.Random(3)
    write_repeat(tmp_path / "plan", seed=1, noise=noise, phases=("objects", "forks"))
    write_repeat(tmp_path / "arm", seed=1, noise=noise, arch="arm64")
    write_repeat(tmp_path / "bad", seed=1, noise=noise)
    write_repeat(tmp_path / "setup", seed=1, noise=noise, setup=("swapoff -a",))
    (tmp_path / "bad" / "samples.mms").write_bytes(b"nonsense" * 50)
    write_repeat(tmp_path / "cut", seed=1, noise=noise, outcome=OutcomeKind.TIMED_OUT)
    (tmp_path / "empty").mkdir()
    base = sweep / "lean"
    cases: list[tuple[tuple[object, ...], int, str]] = [
        ((base, tmp_path / "plan"), 2, "different plans: phases"),
        ((base, tmp_path / "arm"), 2, "one architecture"),
        ((f"mixed={base},{sweep}/fat", sweep / "fat"), 2, "not of one configuration"),
        ((f"mixed={base},{tmp_path}/setup", sweep / "fat"), 2, "setup swapoff -a is absent"),
        ((base,), 2, "two groups"),
        ((base, f"lean={base}"), 2, "two groups are called 'lean'"),
        ((base, tmp_path / "absent"), 2, "nothing is at"),
        ((base, tmp_path / "empty"), 2, "no run directory is at"),
        ((base, tmp_path / "bad"), 3, "samples.mms"),
        ((base, tmp_path / "cut"), 3, "not a whole run: timed-out"),
    ]
    for arguments, code, said in cases:
        done = compare(*arguments)
        assert (done.returncode, said in done.stderr) == (code, True), done.stderr
        assert "fix:" in done.stderr


def test_a_run_that_the_record_names_but_is_gone(sweep: Path, tmp_path: Path) -> None:
    copy = tmp_path / "sweep"
    shutil.copytree(sweep, copy)
    shutil.rmtree(copy / "lean" / "run-3")
    with pytest.raises(SelectionError, match="it is no run"):
        select([str(copy)])
