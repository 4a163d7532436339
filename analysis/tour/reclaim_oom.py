"""reclaim/oom: who is killed, by points worked out beforehand and by the kernel's own table."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from analysis.compare.claim import Claim
from analysis.errors import ParseError
from analysis.figures import tour_reclaim
from analysis.figures.tour_reclaim import Points
from analysis.model.oom import OomEra, OomTask, oom_badness, oom_eras_of, oom_score, oom_victim
from analysis.model.release import parse_release
from analysis.procfs import meminfo
from analysis.procfs.oom_log import Kill, read_kills
from analysis.procfs.task import TaskStatus, parse_status
from analysis.tour.every_era import in_every_era
from analysis.tour.evidence import BootEvidence, StopEvidence
from analysis.tour.finding import Finding, Listing, Plate
from analysis.tour.traced import counted, each_boot, equal, page_bytes_of, unseen


@dataclass(frozen=True, slots=True, kw_only=True)
class _Machine:
    total_pages: int
    page_bytes: int
    era: OomEra


@dataclass(frozen=True, slots=True, kw_only=True)
class _Held:
    """A process of the stop before memory ran out."""

    task: OomTask
    shown_score: int
    asked_mib: int


def oom(evidence: StopEvidence) -> Finding:
    """The judge; the same on every boot."""
    boot = evidence.boot()
    kills = read_kills(boot.text("dmesg"))
    exhibits: list[Plate | Listing] = []
    points, *others = (_points(_held(boot, machine), kills, machine) for machine in _machines(boot))
    if all(other == points for other in others):
        exhibits.append(Plate(id="points", draw=partial(tour_reclaim.oom_points, points)))
    if kills:
        lines = kills[0].lines
        marked = [
            number for number, line in enumerate(lines, 1)
            if f"[{kills[0].pid:7d}]" in line or number == len(lines)
        ]  # fmt: skip
        exhibits.append(Listing(id="table", text="\n".join(lines) + "\n", marked=tuple(marked)))
    return Finding(claims=each_boot(evidence, _claims), exhibits=tuple(exhibits))


def _claims(boot: BootEvidence) -> list[Claim]:
    return in_every_era(_machines(boot), lambda machine: _claims_of(boot, machine), boot.release)


def _claims_of(boot: BootEvidence, machine: _Machine) -> list[Claim]:
    held = _held(boot, machine)
    kills = read_kills(boot.text("dmesg"))
    claims = [
        equal(
            "score",
            oom_score(each.task, total_pages=machine.total_pages, page_bytes=machine.page_bytes,
                      era=machine.era),
            each.shown_score, "points", scope=_scope(each),
            working=_working(each, machine),
        )
        for each in held
    ]  # fmt: skip
    if not kills:
        claims.append(unseen("victim", "memory did not run out", "kills"))
    claims += _order_claims(held, kills, machine)
    claims += _table_claims(kills, machine)
    claims.append(
        equal(
            "counter", len(kills),
            counted(boot, "oom_kill", before="vmstat-before", after="vmstat-after"), "kills",
            working=("'Killed process' in the messages; observed: oom_kill of /proc/vmstat",),
        )
    )  # fmt: skip
    return claims


def _machines(boot: BootEvidence) -> list[_Machine]:
    """The machine, once for each way in which its kernel may count."""
    page_bytes = page_bytes_of(boot)
    info = meminfo.parse(boot.file("/proc/meminfo"), source="/proc/meminfo").values
    return [
        _Machine(
            total_pages=(info["MemTotal"] + info["SwapTotal"]) * 1024 // page_bytes,
            page_bytes=page_bytes,
            era=era,
        )
        for era in oom_eras_of(parse_release(boot.release))
    ]


def _held(boot: BootEvidence, machine: _Machine) -> list[_Held]:
    asked: dict[int, tuple[int, int]] = {}
    for line in boot.text("held").splitlines():
        pid, mib, adj = map(int, line.split())
        asked[pid] = (mib, adj)
    held = []
    for text in boot.text("scores").split("\n\n"):
        if not text.strip():
            continue
        status = parse_status(f"{text.strip()}\n", source="scores.txt")
        pid = int(status.fields["Pid"])
        held.append(
            _Held(
                task=OomTask(
                    pid=pid,
                    rss_pages=_rss_pages(status, machine),
                    swap_entries=_kib(status, "VmSwap") * 1024 // machine.page_bytes,
                    page_table_bytes=_kib(status, "VmPTE") * 1024,
                    oom_score_adj=int(status.fields["oom_score_adj"]),
                ),
                shown_score=int(status.fields["oom_score"]),
                asked_mib=asked[pid][0],
            )
        )
    return sorted(held, key=lambda each: each.task.pid)


def _rss_pages(status: TaskStatus, machine: _Machine) -> int:
    """Resident pages as badness counts them. Newer /proc/PID/status shows the exact sum; what is
    folded differs by some dozen pages, and was not kept of older evidence."""
    folded = status.fields.get("folded_rss", "")
    if folded.isdigit() and not machine.era.exact_memory:
        return int(folded)
    return _kib(status, "VmRSS") * 1024 // machine.page_bytes


def _kib(status: TaskStatus, name: str) -> int:
    number, _, unit = status.fields.get(name, "").partition(" ")
    if unit.strip() != "kB" or not number.isdigit():
        raise ParseError("scores.txt", 0, f"{name}: {status.fields.get(name)}", "a number of kB")
    return int(number)


def _scope(each: _Held) -> dict[str, int | str]:
    return {"MiB": each.asked_mib, "oom_score_adj": each.task.oom_score_adj}


def _working(each: _Held, machine: _Machine) -> tuple[str, ...]:
    task = each.task
    tables = task.page_table_bytes // machine.page_bytes
    return (
        f"{task.rss_pages} rss + {task.swap_entries} swapents + {tables} pgtables",
        f"{task.oom_score_adj} x {machine.total_pages // 1000} (of {machine.total_pages} pages)",
        f"points: {_badness(task, machine)}",
    )


def _badness(task: OomTask, machine: _Machine) -> int:
    return (
        oom_badness(
            task, total_pages=machine.total_pages, page_bytes=machine.page_bytes, era=machine.era
        )
        or 0
    )


def _line(task: OomTask, machine: _Machine) -> str:
    points = oom_badness(
        task, total_pages=machine.total_pages, page_bytes=machine.page_bytes, era=machine.era
    )
    return f"{task.pid}: never" if points is None else f"{task.pid}: {points} points"


def _order_claims(held: list[_Held], kills: tuple[Kill, ...], machine: _Machine) -> list[Claim]:
    """``victim``: who is killed first, second …, of what was known before memory ran out."""
    claims = []
    left = list(held)
    for number, kill in enumerate(kills, 1):
        chosen = oom_victim(
            [each.task for each in left], total_pages=machine.total_pages,
            page_bytes=machine.page_bytes, era=machine.era,
        )  # fmt: skip
        if chosen is None:
            break
        names = {each.task.pid: f"{each.asked_mib} MiB" for each in held}
        claims.append(
            equal(
                "victim", names[chosen.pid], names.get(kill.pid, f"{kill.name} ({kill.pid})"),
                "process", scope={"kill": number},
                working=tuple(
                    f"{names[each.task.pid]}: {_badness(each.task, machine)} points"
                    for each in left
                ),
            )
        )  # fmt: skip
        left = [each for each in left if each.task.pid != chosen.pid]
    return claims


def _table_claims(kills: tuple[Kill, ...], machine: _Machine) -> list[Claim]:
    """``table``: who is killed, of the table that the kernel printed at that moment."""
    claims = []
    gone: set[int] = set()
    for number, kill in enumerate(kills, 1):
        tasks = [
            OomTask(
                pid=row.pid, rss_pages=row.rss_pages, swap_entries=row.swap_entries,
                page_table_bytes=row.page_table_bytes, oom_score_adj=row.oom_score_adj,
                unkillable=row.pid == 1 or row.pid in gone,
            )
            for row in kill.table
        ]  # fmt: skip
        chosen = oom_victim(
            tasks, total_pages=machine.total_pages, page_bytes=machine.page_bytes, era=machine.era
        )
        claims.append(
            equal(
                "table", chosen.pid if chosen else "none", kill.pid, "pid", scope={"kill": number},
                working=tuple(_line(task, machine) for task in tasks),
            )
        )  # fmt: skip
        gone.add(kill.pid)
    return claims


def _points(held: list[_Held], kills: tuple[Kill, ...], machine: _Machine) -> list[Points]:
    turn = {kill.pid: number for number, kill in enumerate(kills, 1)}
    rows = []
    for each in sorted(held, key=lambda one: -_badness(one.task, machine)):
        adjustment = each.task.oom_score_adj * (machine.total_pages // 1000)
        rows.append(
            Points(
                label=f"{each.asked_mib} MiB, {each.task.oom_score_adj:+d}",
                memory_pages=_badness(each.task, machine) - adjustment,
                adjustment_pages=adjustment,
                killed=turn.get(each.task.pid),
            )
        )
    return rows
