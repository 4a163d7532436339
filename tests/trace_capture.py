"""Rings of a real kernel with its own text of the same events, as a fixture or on the spot.

``python -m tests.trace_capture NAME --arch ARCH --kernel KERNEL`` makes ``fixtures/NAME``. The
text (tracefs' ``trace``) is read after recording was switched off and before the rings are
drained, so both tell of the same events.
"""

from __future__ import annotations

import argparse
import datetime
import json
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import zstandard

from harness.cli.prepare import bare_spec, prepare
from harness.machine.spec import NodeSpec
from harness.record.rundir import RunDirectory
from harness.session.agent import AgentSession
from harness.session.guest import Guest
from tests.recorded_run import FIXTURES

TRACEFS = "/sys/kernel/tracing"
INSTANCE = f"{TRACEFS}/instances/fixture"
GROUP = "fixture"

EVENTS = (
    "kmem/mm_page_alloc",
    "kmem/mm_page_free",
    "kmem/mm_page_free_batched",
    "kmem/mm_page_alloc_zone_locked",
    "kmem/mm_page_pcpu_drain",
    "kmem/mm_page_alloc_extfrag",
    "compaction/mm_compaction_begin",
    "compaction/mm_compaction_end",
    "compaction/mm_compaction_isolate_migratepages",
    "compaction/mm_compaction_isolate_freepages",
    "compaction/mm_compaction_finished",
    "sched/sched_switch",
    "sched/sched_process_exec",
    "fixture/freed",
    "fixture/allocated",
    "fixture/opened",
)
PROBES = (
    "p:fixture/freed __free_pages page=$arg1 order=$arg2:u32",
    "r:fixture/allocated {alloc} page=$retval",
    # A user string, a signed byte, an array at an odd offset.
    "p:fixture/opened do_sys_openat2 name=+0($arg2):ustring dfd=$arg1:s8 stack=+0(%sp):x64[3]",
)
LOAD = (
    "for i in 1 2 3 4 5; do ls -lR /etc; done; echo marked > {instance}/trace_marker;"
    " ls -lR /etc; echo 1 > /proc/sys/vm/compact_memory; ls /"
)
FILTERED = ("free",)
TRIGGER = "hist:keys=next_pid:ts0=common_timestamp:clock=counter"
FILTER = "order > 0"
"""Together these make the kernel write freed single pages and take them back at once. The event
after each carries an absolute time stamp (kernel/trace/ring_buffer.c, rb_try_to_discard); the
trigger alone would do nothing, and the filter alone would work on a buffer of its own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Capture:
    """What one recording left."""

    rings: Mapping[int, bytes]
    text: str
    formats: Mapping[str, bytes]
    """Path below tracefs' ``events`` → content."""
    stats: Mapping[int, str]
    """CPU → its ``stats`` before the ring was drained."""

    def write_formats(self, directory: Path) -> None:
        for name, content in self.formats.items():
            path = directory / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)


def capture(
    agent: AgentSession, *, buffer_kb: int = 24, absolute: bool = False, load: str = LOAD
) -> Capture:
    """Records ``load`` in a ring of ``buffer_kb`` a CPU, in which newer events replace older."""
    symbols = _run(agent, "cat /proc/kallsyms").decode()
    alloc = "__alloc_pages_noprof" if " __alloc_pages_noprof\n" in symbols else "__alloc_pages"
    _run(agent, _setup(alloc, buffer_kb, absolute))
    _run(
        agent,
        f"cd {INSTANCE}; echo 1 > tracing_on; {{ {load.format(instance=INSTANCE)}; }} >/dev/null;"
        " echo 0 > tracing_on",
    )
    text = _run(agent, f"cat {INSTANCE}/trace").decode()
    cpus = range(int(_run(agent, f"ls -d {INSTANCE}/per_cpu/cpu* | wc -l")))
    stats = {cpu: _run(agent, f"cat {INSTANCE}/per_cpu/cpu{cpu}/stats").decode() for cpu in cpus}
    rings: dict[int, bytes] = {}
    for cpu in cpus:
        # An empty ring blocks its reader, recording off or not: dd is ended then.
        path = f"{INSTANCE}/per_cpu/cpu{cpu}/trace_pipe_raw"
        rings[cpu] = _run(agent, f"busybox timeout -s KILL 3 dd if={path} bs=64k; true")
    names = [name for name in EVENTS if f" {name.partition('/')[2]}: " in f" {text} "]
    # A kprobe's line is named like its event; an event that never occurred needs no format.
    wanted = ["header_page", "header_event", "ftrace/print/format"]
    wanted += [f"{name}/format" for name in names]
    read = agent.read([f"{TRACEFS}/events/{name}" for name in wanted])
    formats = {path.partition("/events/")[2]: content for path, content in read.files.items()}
    _run(agent, _take_down())
    return Capture(rings=rings, text=text, formats=formats, stats=stats)


def _setup(alloc: str, buffer_kb: int, absolute: bool) -> str:
    lines = [
        f"mkdir {INSTANCE} && cd {INSTANCE} && echo 0 > tracing_on",
        "echo counter > trace_clock",
        f"echo {buffer_kb} > buffer_size_kb",
        *(f"echo 1 > options/{name}" for name in ("overwrite", "sym-addr", "sym-offset")),
    ]
    probes = [probe.format(alloc=alloc) for probe in PROBES]
    lines += [f"echo '{probe}' >> {TRACEFS}/kprobe_events" for probe in probes]
    if absolute:
        lines.append(f"echo '{TRIGGER}' > events/sched/sched_switch/trigger")
        lines += [f"echo '{FILTER}' > events/kmem/mm_page_{name}/filter" for name in FILTERED]
    lines += [f"echo 1 > events/{event}/enable" for event in EVENTS]
    return " && ".join(lines)


def _take_down() -> str:
    return (
        f"cd {TRACEFS}; echo 0 > {INSTANCE}/events/enable;"
        f" echo '!{TRIGGER}' > {INSTANCE}/events/sched/sched_switch/trigger 2>/dev/null;"
        f" rmdir {INSTANCE} && echo > kprobe_events"
    )


def _run(agent: AgentSession, script: str) -> bytes:
    result = agent.run(["busybox", "sh", "-c", script])
    if result.status:
        raise RuntimeError(f"{script!r}: status {result.status}: {result.stderr.decode()}")
    return result.stdout


def read_fixture(name: str) -> Capture:
    """A capture that ``main`` wrote."""
    root = FIXTURES / name
    unpack = zstandard.ZstdDecompressor().decompress
    provenance = json.loads((root / "provenance.json").read_text())
    rings = {
        int(path.name.removeprefix("cpu").partition(".")[0]): unpack(path.read_bytes())
        for path in sorted(root.glob("cpu*.ring.zst"))
    }
    formats = {
        str(path.relative_to(root / "formats")): path.read_bytes()
        for path in (root / "formats").rglob("*")
        if path.is_file()
    }
    return Capture(
        rings=rings,
        text=unpack((root / "trace.txt.zst").read_bytes()).decode(),
        formats=formats,
        stats={int(cpu): text for cpu, text in provenance["stats"].items()},
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name")
    parser.add_argument("--arch", required=True)
    parser.add_argument("--kernel", required=True)
    parser.add_argument("--absolute", action="store_true", help="all time stamps absolute")
    given = parser.parse_args()
    prepared = prepare(given.arch, given.kernel, print)
    spec = bare_spec(prepared, (NodeSpec(size_bytes=512 << 20, cpus=(0, 1)),))
    with tempfile.TemporaryDirectory() as runs:
        run = RunDirectory.create(Path(runs), "capture")
        with Guest(spec, run) as guest:
            taken = capture(guest.agent, absolute=given.absolute)
            argv = guest.machine.argv
    version = subprocess.run([argv[0], "--version"], capture_output=True, text=True, check=True)
    qemu = version.stdout.splitlines()[0].removeprefix("QEMU emulator version ")
    root = FIXTURES / given.name
    root.mkdir(exist_ok=True)
    pack = zstandard.ZstdCompressor(level=19).compress
    taken.write_formats(root / "formats")
    for cpu, ring in taken.rings.items():
        (root / f"cpu{cpu}.ring.zst").write_bytes(pack(ring))
    (root / "trace.txt.zst").write_bytes(pack(taken.text.encode()))
    kernel = prepared.kernel
    provenance = {
        "release": kernel.release,
        "arch": kernel.arch,
        "package": kernel.package,
        "version": kernel.version,
        "sha256": dict(kernel.sha256),
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "qemu": f"{qemu}, TCG",
        "machine": [word for word in argv if word.startswith(("q35", "virt,"))] + ["2 CPUs, 512M"],
        "command": f"python -m tests.trace_capture {given.name} --arch {given.arch}"
        f" --kernel {given.kernel}{' --absolute' * given.absolute}",
        "stats": taken.stats,
    }
    (root / "provenance.json").write_text(json.dumps(provenance, indent=1) + "\n")


if __name__ == "__main__":
    main()
