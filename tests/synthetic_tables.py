"""Tables as a run would leave them, made up from a seed: shapes and magnitudes are a kernel's,
the numbers are not. For tests of what reads tables; nothing here is ever shown as a result."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

ORDERS = 11
PAGE_SIZE_BYTES = 4096
START_NS = 7_300_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class ZoneShape:
    node: int
    zone: str
    managed_pages: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """A machine and how long it was watched."""

    zones: tuple[ZoneShape, ...]
    rounds: int = 200
    period_ms: int = 250
    phases: tuple[tuple[str, float], ...] = (
        ("null", 0.15),
        ("pktring", 0.1),
        ("anon", 0.4),
        ("compact", 0.05),
        ("idle", 0.2),
    )
    """Name and share of the run, after a settle phase."""
    missing: frozenset[str] = frozenset()
    kcompactd: bool = True
    killed: bool = False
    """Leave the last phase without its end mark."""
    off_blocks: int = 0
    """Make the kernel differ from the model by this much at a high order of the stimulus."""
    seed: int = 1

    @property
    def nodes(self) -> list[int]:
        return sorted({zone.node for zone in self.zones})


UMA = (
    ZoneShape(node=0, zone="DMA", managed_pages=3840),
    ZoneShape(node=0, zone="DMA32", managed_pages=225_000),
)
NUMA2 = (
    *UMA,
    ZoneShape(node=1, zone="DMA32", managed_pages=124_000),
    ZoneShape(node=1, zone="Normal", managed_pages=131_000),
)
NUMA4 = (
    ZoneShape(node=0, zone="DMA", managed_pages=3840),
    ZoneShape(node=0, zone="DMA32", managed_pages=120_000),
    ZoneShape(node=1, zone="DMA32", managed_pages=60_000),
    ZoneShape(node=2, zone="DMA32", managed_pages=30_000),
    ZoneShape(node=2, zone="Normal", managed_pages=98_000),
    ZoneShape(node=3, zone="Normal", managed_pages=0),
)


@dataclass(slots=True)
class _Rows:
    rows: list[tuple[object, ...]] = field(default_factory=list)

    def frame(self, *columns: str) -> pd.DataFrame:
        frame = pd.DataFrame(self.rows, columns=list(columns))
        kinds = {name: pd.api.types.infer_dtype(frame[name]) for name in columns}
        dtypes = {"integer": "Int64", "floating": "Float64", "string": "category"}
        return frame.astype({name: dtypes[kind] for name, kind in kinds.items() if kind in dtypes})


def take(blocks: Sequence[int], order: int, count: int) -> list[int]:
    """Free blocks by order after ``count`` blocks of ``order`` left, splitting as needed."""
    left = list(blocks)
    for _ in range(count):
        source = next((o for o in range(order, len(left)) if left[o]), None)
        if source is None:
            break
        left[source] -= 1
        for o in range(order, source):
            left[o] += 1
    return left


def split_free(free_pages: int, fragmented: float, rng: np.random.Generator) -> list[int]:
    """Free blocks by order of a zone, ``fragmented`` in 0 to 1 being in small pieces."""
    blocks = [0] * ORDERS
    small_pages = int(free_pages * fragmented)
    for order in range(ORDERS - 1):
        share = int(small_pages * rng.uniform(0.05, 0.2)) >> order
        blocks[order] = share
        small_pages -= share << order
    used = sum(count << order for order, count in enumerate(blocks))
    rest = max(free_pages - used, 0)
    blocks[ORDERS - 1] += rest >> (ORDERS - 1)
    rest &= (1 << (ORDERS - 1)) - 1
    for order in range(ORDERS - 1):
        blocks[order] += rest >> order & 1
    return blocks


def make_tables(shape: Shape) -> dict[str, pd.DataFrame]:
    """Every table of a run of that shape, but those named in ``shape.missing``."""
    rng = np.random.default_rng(shape.seed)
    length = shape.rounds
    start_ns = START_NS + np.arange(length) * shape.period_ms * 1_000_000
    start_ns = start_ns + rng.integers(0, 3_000_000, length)
    sparse = np.arange(length) % 20 == 0
    took_ns = rng.normal(9e6, 8e5, length).clip(4e6).astype(int) + sparse * 14_000_000
    names = _phase_of_round(shape)
    tables = {
        "rounds": pd.DataFrame(
            {
                "round": pd.array(range(length), dtype="Int64"),
                "t_ns": pd.array(start_ns, dtype="Int64"),
                "t_end_ns": pd.array(start_ns + took_ns, dtype="Int64"),
                "sparse": pd.array(sparse, dtype="boolean"),
            }
        ),
        "marks": _marks(shape, names, start_ns),
        "stimulus": _stimulus(shape, rng),
    }
    tables |= _zone_tables(shape, names, start_ns, rng)
    tables |= _counter_tables(shape, names, start_ns, rng)
    return {name: frame for name, frame in tables.items() if name not in shape.missing}


def _phase_of_round(shape: Shape) -> list[str]:
    names = ["settle"] * shape.rounds
    at = max(1, int(shape.rounds * 0.1))
    for name, share in shape.phases:
        end = min(shape.rounds, at + max(1, round(shape.rounds * share)))
        names[at:end] = [name] * (end - at)
        at = end
    return names[: shape.rounds]


def _marks(shape: Shape, names: list[str], start_ns: np.ndarray) -> pd.DataFrame:
    rows = _Rows()
    for i, name in enumerate(names):
        if i == 0 or names[i - 1] != name:
            if i:
                rows.rows.append((i, int(start_ns[i]) - 2000, f"{names[i - 1]}/end"))
            if name != "settle":
                rows.rows.append((i, int(start_ns[i]) - 1000, f"{name}/begin"))
        if name == "pktring":
            rows.rows.append((i, int(start_ns[i]), f"pktring/{i}/take/64/5"))
    if not shape.killed:
        rows.rows.append((len(names) - 1, int(start_ns[-1]), f"{names[-1]}/end"))
    return rows.frame("round", "t_ns", "label")


def _zone_tables(
    shape: Shape, names: list[str], start_ns: np.ndarray, rng: np.random.Generator
) -> dict[str, pd.DataFrame]:
    buddyinfo, zoneinfo, fragindex = _Rows(), _Rows(), _Rows()
    for zone in shape.zones:
        level, fragmented = 0.9, 0.05
        low = zone.managed_pages // 64
        for i, name in enumerate(names):
            t_ns = int(start_ns[i])
            target = {"anon": 0.03, "compact": 0.85}.get(name, 0.88)
            level += (target - level) * 0.15
            fragmented += ((0.7 if name in ("anon", "idle") else 0.05) - fragmented) * 0.1
            quiet = name in ("null", "settle", "idle")
            jitter = 0 if quiet and rng.random() < 0.9 else int(rng.integers(-40, 40))
            free = max(0, int(zone.managed_pages * level) + jitter) if zone.managed_pages else 0
            boost = low // 2 if name == "anon" and i % 9 < 3 else 0
            values = {
                "free": free, "boost": boost, "min": low * 4 // 5 + boost, "low": low + boost,
                "high": low * 6 // 5 + boost, "spanned": zone.managed_pages + 256,
                "present": zone.managed_pages + 100 if zone.managed_pages else 0,
                "managed": zone.managed_pages,
            }  # fmt: skip
            zoneinfo.rows += [
                (i, t_ns, t_ns + 90_000, zone.node, zone.zone, name_, value)
                for name_, value in values.items()
            ]
            if not zone.managed_pages:
                continue
            blocks = split_free(free, fragmented, rng)
            for bracket, delta in (("before", 0), ("after", 0 if quiet else 1)):
                buddyinfo.rows += [
                    (i, t_ns, t_ns + 40_000, bracket, zone.node, zone.zone, order,
                     max(0, count - (delta if order == 0 else 0)))
                    for order, count in enumerate(blocks)
                ]  # fmt: skip
            for order in range(ORDERS):
                below = sum(count << o for o, count in enumerate(blocks[:order]))
                milli = below * 1000 // free if free else 0
                for index, value in (("unusable", milli), ("extfrag", -1000)):
                    fragindex.rows.append(
                        (i, t_ns, t_ns + 30_000, index, zone.node, zone.zone, order, value)
                    )
    stamps = ("round", "t_ns", "t_end_ns")
    return {
        "buddyinfo": buddyinfo.frame(*stamps, "bracket", "node", "zone", "order", "free_blocks"),
        "zoneinfo": zoneinfo.frame(*stamps, "node", "zone", "field", "value"),
        "fragindex": fragindex.frame(*stamps, "index", "node", "zone", "order", "value_milli"),
    }


def _counter_tables(
    shape: Shape, names: list[str], start_ns: np.ndarray, rng: np.random.Generator
) -> dict[str, pd.DataFrame]:
    vmstat, pressure, kthreads = _Rows(), _Rows(), _Rows()
    counters = dict.fromkeys(
        (
            "pgalloc_dma", "pgalloc_dma32", "pgalloc_normal", "pgfree", "pgfault",
            "pgscan_kswapd", "pgscan_direct", "pgsteal_kswapd", "pgsteal_direct",
            "compact_migrate_scanned", "compact_free_scanned", "pgmigrate_success",
        ),
        100_000,
    )  # fmt: skip
    threads = [f"kswapd{node}" for node in shape.nodes]
    threads += [f"kcompactd{node}" for node in shape.nodes] if shape.kcompactd else []
    run_ns = dict.fromkeys(threads, 1_000_000)
    switches = dict.fromkeys(threads, 12)
    some_us = full_us = 500
    for i, name in enumerate(names):
        t_ns = int(start_ns[i])
        busy = name == "anon"
        for counter in counters:
            kind = counter.split("_")[0]
            if kind in ("pgalloc", "pgfree", "pgfault"):
                counters[counter] += int(rng.integers(50, 200) + busy * rng.integers(5_000, 20_000))
            elif kind in ("pgscan", "pgsteal"):
                counters[counter] += int(busy * rng.integers(0, 4000))
            else:
                counters[counter] += int((name == "compact") * rng.integers(1_000, 30_000))
        vmstat.rows += [(i, t_ns, t_ns + 60_000, key, value) for key, value in counters.items()]
        some_us += int(busy * rng.integers(0, 90_000))
        full_us += int(busy * rng.integers(0, 30_000))
        for resource in ("memory", "cpu"):
            for kind, total in (("some", some_us), ("full", full_us)):
                pressure.rows.append((i, t_ns, t_ns + 20_000, resource, kind, 0.0, 0.0, 0.0, total))
        for thread in threads:
            active = busy if thread.startswith("kswapd") else name == "compact"
            run_ns[thread] += int(active * rng.integers(0, 60_000_000))
            switches[thread] += int(active * rng.integers(0, 9))
            kthreads.rows.append(
                (i, t_ns, t_ns + 20_000, thread, int(thread[-1]), 0,
                 run_ns[thread] // 10_000_000, run_ns[thread], 1000, 3, switches[thread], 1)
            )  # fmt: skip
    stamps = ("round", "t_ns", "t_end_ns")
    return {
        "vmstat": vmstat.frame(*stamps, "field", "value"),
        "pressure": pressure.frame(
            *stamps, "resource", "kind", "avg10", "avg60", "avg300", "total_us"
        ),
        "kthreads": kthreads.frame(
            *stamps, "thread", "node", "utime_ticks", "stime_ticks", "run_ns", "wait_ns",
            "timeslices", "voluntary_ctxt_switches", "nonvoluntary_ctxt_switches",
        ),
    }  # fmt: skip


def _stimulus(shape: Shape, rng: np.random.Generator) -> pd.DataFrame:
    rows = _Rows()
    for zone in shape.zones:
        if not zone.managed_pages:
            continue
        before = split_free(int(zone.managed_pages * 0.88), 0.1, rng)
        states, labels = [before], ["pktring/0/before"]
        touched = zone.zone != "DMA"
        for order, count in ((5, 64), (5, 128), (9, 4), (7, 32), (10, 2)):
            labels.append(f"pktring/{len(labels)}/take/{count}/{order}")
            states.append(take(states[-1], order, count) if touched else states[-1])
        for step in range(5, 0, -1):
            labels.append(f"pktring/{len(labels)}/drop/{step}")
            states.append(states[step - 1])
        for step, (label, state) in enumerate(zip(labels, states, strict=True)):
            for order, predicted in enumerate(state):
                drift = int(rng.integers(-3, 4)) if touched and order < 3 and step else 0
                if order == 7 and step == 3 and touched:
                    drift = shape.off_blocks
                rows.rows.append(
                    (step, label, zone.node, zone.zone, order, max(0, predicted + drift), predicted)
                )
    return rows.frame(
        "step", "label", "node", "zone", "order", "observed_blocks", "predicted_blocks"
    )
