"""Laws of /proc/vmstat alone: which counters it has, and that events only rise."""

from __future__ import annotations

from collections.abc import Iterator

from analysis.capture.snapshot import Snapshot
from analysis.compare.claim import Claim
from analysis.compare.rule import Rule, exact, unknown
from analysis.compare.static.readings import AFTER
from analysis.errors import MissingInputError
from analysis.model import vmstat_names as model
from analysis.procfs import vmstat

FILE = "proc/vmstat"
_RISING_NODE_COUNTERS = ("nr_vmscan_", "nr_dirtied", "nr_written", "nr_foll_pin_")
_ENDS = ("nr_free_pages", "nr_unstable")
"""The first and the last counter of every release that was compared."""
_LEVELS = ("nr_", "workingset_nodes", "kstack_")


def _names(snapshot: Snapshot) -> Iterator[Claim]:
    config = snapshot.config
    first, *_, last = snapshot.vmstat.values
    if (first, last) != _ENDS:
        raise MissingInputError(f"{FILE} from {_ENDS[0]} to {_ENDS[1]} (cut short?)")
    options = {name for name, value in config.values.items() if value in ("y", "m")}
    if config.on("DEBUG_STACK_USAGE") and config.on("KASAN"):
        yield unknown("vmstat_names", why="CONFIG_KASAN enlarges the stacks that are counted")
        return
    stack = 8192 if snapshot.arch in ("i386", "arm") else max(16384, snapshot.page_size_bytes)
    try:
        expected = {
            model.counter_names(release, options, stack_bytes=stack)
            for release in snapshot.releases
        }
    except ValueError as error:
        yield unknown("vmstat_names", why=str(error), observed=len(snapshot.vmstat.values))
        return
    names = min(expected, key=len)
    shown = frozenset(snapshot.vmstat.values)
    missing, extra = sorted(names - shown), sorted(shown - names)
    differs = "".join(
        f", {word} {' '.join(listed)}"
        for word, listed in (("without", missing), ("with", extra))
        if listed
    )
    yield exact(
        "vmstat_names",
        {},
        predicted=f"{len(names)} counters",
        observed=f"{len(names)} counters{differs}",
        unit="names",
        working=[
            f"{snapshot.release} with the options of its config has {len(names)} counters",
            "events by zone: " + " ".join(model.zone_suffixes(snapshot.release, options)),
        ],
        why=f"the kernel shows {len(shown)} counters{differs}",
    )


def _rise(snapshot: Snapshot) -> Iterator[Claim]:
    if not snapshot.has(FILE + AFTER):
        raise MissingInputError(FILE + AFTER)
    before = snapshot.vmstat.values
    after = snapshot.parsed(FILE + AFTER, vmstat.parse).values
    events = [name for name in before if _is_event(name) and name in after]
    fallen = [name for name in events if model.fell(before[name], after[name])]
    yield exact(
        "vmstat_events_rise",
        {},
        predicted=0,
        observed=len(fallen),
        unit="counters that fell",
        working=[
            f"{len(events)} counters of events, each no smaller when read again",
            (
                f"pgalloc, pgfree: {after.get('pgfree', 0) - before.get('pgfree', 0)} pages were "
                f"freed meanwhile"
            ),
        ],
        why="".join(f"{n} fell from {before[n]} to {after[n]} " for n in fallen[:3]),
    )


def _is_event(name: str) -> bool:
    return name.startswith(_RISING_NODE_COUNTERS) or not name.startswith(_LEVELS)


RULES: tuple[Rule, ...] = (
    Rule(
        id="vmstat_names",
        says=(
            "Which counters vmstat has follows from the release and the configuration. A "
            "difference says that a patch or an option is not what it seems."
        ),
        inputs=("config", "proc/version"),
        observed="vmstat, the names",
        model=(model.counter_names, model.zone_suffixes),
        judge=_names,
    ),
    Rule(
        id="vmstat_events_rise",
        says="Counters of events only rise: read again later, none is smaller.",
        inputs=(FILE, f"{FILE}.after"),
        observed="vmstat.after, the events",
        model=(model.fell,),
        judge=_rise,
    ),
)
