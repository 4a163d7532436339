"""Setting up tracefs: the scripts, run by a real shell on a made-up tree, and their answers."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from harness.deadline import StallClock
from harness.errors import SessionError
from harness.sampling.trace import instance
from harness.sampling.trace.instance import OPTIONS, TRACEFS
from harness.sampling.trace.symbols import PlannedProbe
from harness.session.agent import ReadResult
from harness.session.protocol import CommandResult, Output

EVENTS = ("kmem/mm_page_alloc", "cma/cma_release")
PROBES = (
    PlannedProbe(
        name="free_one_page",
        function="free_one_page",
        symbol="free_one_page.constprop.0",
        definition="p:mmscope/free_one_page free_one_page.constprop.0 zone=$arg1:x64",
    ),
    PlannedProbe(name="absent", function="absent", symbol=None, definition=""),
)
STATS = """\
entries: 0
overrun: 3
commit overrun: 1
bytes: 52
oldest event ts:     0.000001
now ts:     0.000002
dropped events: 2
read events: 9
"""


class ShellAgent:
    """Runs commands here, with tracefs and /proc below another directory."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def run(
        self,
        argv: Sequence[str],
        *,
        clock: StallClock | None = None,
        on_output: Output | None = None,
    ) -> CommandResult:
        assert argv[0] == "busybox"
        words = [word.replace(TRACEFS, str(self.root / "tracing")) for word in argv[1:]]
        words = [word.replace("/proc/", f"{self.root}/proc/") for word in words]
        done = subprocess.run(words, capture_output=True, timeout=20, check=False)
        return CommandResult(
            argv=tuple(argv),
            status=done.returncode,
            stdout=done.stdout,
            stderr=done.stderr,
            wall_s=0.0,
        )

    def read(self, patterns: Sequence[str]) -> ReadResult:
        files: dict[str, bytes] = {}
        errors: list[str] = []
        tracing = self.root / "tracing"
        for pattern in patterns:
            found = sorted(tracing.glob(pattern.removeprefix(TRACEFS + "/")))
            if not found:
                errors.append(f"{pattern}: No such file or directory")
            for path in found:
                files[f"{TRACEFS}/{path.relative_to(tracing)}"] = path.read_bytes()
        return ReadResult(files=files, errors=tuple(errors))


@pytest.fixture
def agent(tmp_path: Path) -> ShellAgent:
    """An instance that is there already, since a plain mkdir does not fill it."""
    top = tmp_path / "tracing"
    files = {
        "kprobe_events": "",
        "kprobe_profile": "  free_one_page      12       3\n",
        "error_log": "",
        "events/header_page": "page\n",
        "events/header_event": "event\n",
        "events/kmem/mm_page_alloc/format": "name: mm_page_alloc\n",
        "events/mmscope/free_one_page/format": "name: free_one_page\n",
        "events/ftrace/print/format": "name: print\n",
    }
    own = {
        **dict.fromkeys(("tracing_on", "trace_clock", "buffer_size_kb", "trace"), "old\n"),
        **dict.fromkeys(("trace_options", "events/enable"), "old\n"),
        "events/kmem/mm_page_alloc/enable": "0\n",
        "events/mmscope/free_one_page/enable": "0\n",
        "per_cpu/cpu0/buffer_size_kb": "4099\n",
        "per_cpu/cpu0/stats": STATS,
        "per_cpu/cpu1/stats": STATS.replace("3", "0"),
    }
    files |= {f"instances/mmscope/{name}": text for name, text in own.items()}
    for name, text in files.items():
        (top / name).parent.mkdir(parents=True, exist_ok=True)
        (top / name).write_text(text)
    (tmp_path / "proc").mkdir()
    return ShellAgent(tmp_path)


def text_of(agent: ShellAgent, name: str) -> str:
    return (agent.root / "tracing" / name).read_text()


def test_an_instance_is_set_up(agent: ShellAgent) -> None:
    setup = instance.set_up(agent, EVENTS, PROBES, 4096)
    assert setup.events == ("kmem/mm_page_alloc",)
    assert setup.events_missing == ("cma/cma_release",)
    assert setup.probe_errors == {}
    assert setup.options_missing == ()
    assert setup.buffer_kb == 4099  # what the kernel made of it
    assert text_of(agent, "kprobe_events").splitlines() == [
        "-:mmscope/free_one_page",  # one of that name was left over
        PROBES[0].definition,
    ]
    for name, text in {
        "tracing_on": "0\n",
        "trace_clock": "counter\n",
        "buffer_size_kb": "4096\n",
        "trace": "\n",
        "trace_options": f"{OPTIONS[-1]}\n",
        "events/enable": "0\n",
        "events/kmem/mm_page_alloc/enable": "1\n",
        "events/mmscope/free_one_page/enable": "1\n",
    }.items():
        assert text_of(agent, f"instances/mmscope/{name}") == text


def test_what_the_kernel_refuses_is_told_with_its_reason(agent: ShellAgent) -> None:
    tracing = agent.root / "tracing"
    (tracing / "kprobe_events").unlink()
    (tracing / "kprobe_events").mkdir()
    (tracing / "error_log").write_text(
        "[   12.345678] trace_kprobe: error: Invalid probed address or symbol\n"
        "  Command: p:mmscope/free_one_page free_one_page.constprop.0\n"
        "                                   ^\n"
    )
    (tracing / "instances/mmscope/trace_options").unlink()
    (tracing / "instances/mmscope/trace_options").mkdir()
    setup = instance.set_up(agent, EVENTS, PROBES, 4096)
    assert setup.probe_errors == {
        "free_one_page": "trace_kprobe: error: Invalid probed address or symbol"
    }
    assert setup.options_missing == OPTIONS


def test_a_probe_that_cannot_be_enabled_is_refused_too(agent: ShellAgent) -> None:
    enable = agent.root / "tracing/instances/mmscope/events/mmscope/free_one_page/enable"
    enable.unlink()
    enable.mkdir()
    setup = instance.set_up(agent, EVENTS, PROBES, 4096)
    assert list(setup.probe_errors) == ["free_one_page"]
    assert "irectory" in setup.probe_errors["free_one_page"]


def test_a_guest_without_tracefs(tmp_path: Path) -> None:
    with pytest.raises(SessionError, match="setting up tracefs failed") as caught:
        instance.set_up(ShellAgent(tmp_path), EVENTS, PROBES, 4096)
    assert "tracing" in caught.value.details["the guest said"]


def test_an_instance_that_cannot_do_what_matters(agent: ShellAgent) -> None:
    clock = agent.root / "tracing/instances/mmscope/trace_clock"
    clock.unlink()
    clock.mkdir()
    with pytest.raises(SessionError, match="setting up tracefs failed"):
        instance.set_up(agent, EVENTS, PROBES, 4096)


def test_output_that_breaks_off_is_an_error() -> None:
    with pytest.raises(SessionError, match="could not be set up"):
        instance.parse_setup("missing cma/cma_release\n", EVENTS)


def test_probes_are_switched_for_a_window(agent: ShellAgent) -> None:
    own = "instances/mmscope/events/mmscope/free_one_page/enable"
    instance.enable(agent, on=["free_one_page"], off=[])
    assert text_of(agent, own) == "1\n"
    instance.enable(agent, on=[], off=["free_one_page"])
    assert text_of(agent, own) == "0\n"
    with pytest.raises(SessionError, match="switching probes failed"):
        instance.enable(agent, on=["nothing"], off=[])


def test_counters_are_read(agent: ShellAgent) -> None:
    counters = instance.read_counters(agent)
    assert counters.missed == {"free_one_page": 3}
    assert sorted(counters.rings) == [0, 1]
    ring = counters.rings[0]
    assert (ring.overrun, ring.commit_overrun, ring.dropped_events, ring.read_events) == (
        *(3, 1, 2, 9),
    )
    assert counters.rings[1].overrun == 0


def test_counters_that_are_not_there(agent: ShellAgent) -> None:
    stats = agent.root / "tracing/instances/mmscope/per_cpu/cpu0/stats"
    stats.write_text(STATS.replace("commit overrun", "commit overruns"))
    with pytest.raises(SessionError, match=r"cpu0/stats: no counter 'commit overrun'"):
        instance.read_counters(agent)
    for path in stats.parent.parent.glob("*/stats"):
        path.unlink()
    with pytest.raises(SessionError, match="has no rings"):
        instance.read_counters(agent)


def test_formats_of_all_that_is_traced_are_read(agent: ShellAgent) -> None:
    setup = instance.set_up(agent, EVENTS, PROBES, 4096)
    formats = instance.read_formats(agent, setup, ["free_one_page"])
    assert formats == {
        "header_page": b"page\n",
        "header_event": b"event\n",
        "kmem/mm_page_alloc/format": b"name: mm_page_alloc\n",
        "mmscope/free_one_page/format": b"name: free_one_page\n",
        "ftrace/print/format": b"name: print\n",
    }
    with pytest.raises(SessionError, match=r"no description of mmscope/other/format"):
        instance.read_formats(agent, setup, ["other"])


def test_functions_are_looked_up(agent: ShellAgent) -> None:
    symbols: Mapping[str, str] = {"free_one_page.constprop.0": "t", "free_one_pages": "D"}
    (agent.root / "proc/kallsyms").write_text(
        "".join(f"ffffffff81000000 {kind} {name}\n" for name, kind in symbols.items())
    )
    assert instance.read_symbols(agent, ["free_one_page"]) == {"free_one_page.constprop.0"}
    assert instance.read_symbols(agent, ["nothing"]) == frozenset()
    (agent.root / "proc/kallsyms").unlink()
    with pytest.raises(SessionError, match="looking up functions"):
        instance.read_symbols(agent, ["free_one_page"])


def test_everything_is_taken_down(agent: ShellAgent) -> None:
    tracing = agent.root / "tracing"
    # A kernel removes an instance with its files, and a probe with its directory.
    own = tracing / "instances/mmscope"
    subprocess.run(["rm", "-r", str(own), str(tracing / "events/mmscope")], check=True)
    instance.take_down(agent)
    assert text_of(agent, "kprobe_events") == ""
    (tracing / "events/mmscope/free_one_page").mkdir(parents=True)
    with pytest.raises(SessionError, match="taking down tracefs failed"):
        instance.take_down(agent)
    assert text_of(agent, "kprobe_events") == "-:mmscope/free_one_page\n"
