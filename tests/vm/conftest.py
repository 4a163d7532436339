"""Real guests. They are slow, so one of each kind is shared, and never more than one runs."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from harness.cli.prepare import Prepared, bare_spec, prepare
from harness.machine.spec import NodeSpec
from harness.record.rundir import RunDirectory
from harness.session.guest import Guest

MIB = 1 << 20
ARCHES = ("x86_64", "arm64")

Mmscope = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="session")
def prepared() -> Callable[[str], Prepared]:
    """Kernel and image of an architecture, fetched and built once."""
    known: dict[str, Prepared] = {}

    def get(arch: str) -> Prepared:
        if arch not in known:
            known[arch] = prepare(arch, None, lambda _: None)
        return known[arch]

    return get


@pytest.fixture(scope="module", params=ARCHES)
def guest(
    request: pytest.FixtureRequest,
    prepared: Callable[[str], Prepared],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Guest]:
    """A two-node guest with ssh, one for a whole module and architecture."""
    spec = bare_spec(
        prepared(request.param),
        (
            NodeSpec(size_bytes=256 * MIB, cpus=(0,)),
            NodeSpec(size_bytes=384 * MIB, cpus=(1,)),
        ),
        distances=((0, 1, 21), (1, 0, 21)),
    )
    run = RunDirectory.create(tmp_path_factory.mktemp("runs"), "guest")
    with Guest(spec, run, ssh=True) as guest:
        yield guest


@pytest.fixture
def mmscope(tmp_path: Path) -> Mmscope:
    """Runs the command as a user would; its run directories go to ``tmp_path/runs``."""

    def call(verb: str, *arguments: str, **more: object) -> subprocess.CompletedProcess[str]:
        where = ["--runs", str(tmp_path / "runs")] if verb in ("boot", "run", "capture") else []
        done: subprocess.CompletedProcess[str] = subprocess.run(
            [sys.executable, "-m", "harness", verb, *where, *arguments],
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
            **more,  # type: ignore[call-overload]
        )
        return done

    return call
