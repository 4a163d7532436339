"""One memory sample: the page allocator's state as the host read it in the guest's RAM.

A sample is a ``.npz`` file (no pickles) of structured arrays whose dtypes stand below, and
``meta``, a JSON text. A field that a kernel release does not have is -1, in every row. Names are
the kernel's; pages are counted in the guest's page size.

``memory/0003-anon-end.npz`` is the fourth sample of a run.
"""

from __future__ import annotations

import io
import json
import zipfile
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.errors import RecordError
from harness.record.rundir import write_atomic

SCHEMA = 1
LOWMEM_RESERVES = 6
"""Columns of ``lowmem_reserve``: more than any kernel has zone types."""

ZONE = np.dtype(
    [
        ("zone", "<i2"),  # number of the zone within the sample; other arrays refer to it
        ("node", "<i2"),  # as the kernel numbers it
        ("zone_type", "<i2"),  # index in the node's node_zones
        ("name", "S16"),
        ("start_pfn", "<i8"),
        ("spanned_pages", "<i8"),
        ("present_pages", "<i8"),
        ("managed_pages", "<i8"),
        ("cma_pages", "<i8"),
        ("nr_free_pages", "<i8"),  # zone->vm_stat[NR_FREE_PAGES], without per-cpu differences
        ("nr_free_cma", "<i8"),
        ("watermark_min", "<i8"),  # zone->_watermark[], without the boost
        ("watermark_low", "<i8"),
        ("watermark_high", "<i8"),
        ("watermark_promo", "<i8"),
        ("watermark_boost", "<i8"),
        ("nr_reserved_highatomic", "<i8"),
        ("nr_free_highatomic", "<i8"),
        ("nr_isolate_pageblock", "<i8"),
        ("percpu_drift_mark", "<i8"),  # 0: its counters' thresholds do not change with kswapd
        ("flags", "<u8"),  # zone->flags, see meta["zone_flag_bits"]
        ("lowmem_reserve", "<i8", (LOWMEM_RESERVES,)),
    ]
)
AREA = np.dtype([("zone", "<i2"), ("order", "i1"), ("nr_free", "<i8")])
BLOCK = np.dtype(
    [
        ("zone", "<i2"),
        ("order", "i1"),
        ("migratetype", "i1"),  # of the list the block is on; names in meta["migratetypes"]
        ("position", "<i4"),  # 0 is the head of the list
        ("pfn", "<i8"),
    ]
)
PCP = np.dtype(
    [
        ("zone", "<i2"),
        ("cpu", "<i2"),
        ("count", "<i4"),
        ("high", "<i4"),
        ("high_min", "<i4"),
        ("high_max", "<i4"),
        ("batch", "<i4"),
        ("flags", "<i4"),
        ("free_factor", "<i4"),
        ("alloc_factor", "<i4"),
        ("expire", "<i4"),
        ("free_count", "<i4"),
        ("stat_threshold", "<i4"),  # of the CPU's vm_stat_diff
        ("diff_free_pages", "<i4"),  # vm_stat_diff[NR_FREE_PAGES], not yet in zone->vm_stat
        ("diff_free_cma", "<i4"),
    ]
)
PCP_PAGE = np.dtype(
    [
        ("zone", "<i2"),
        ("cpu", "<i2"),
        ("pindex", "i1"),  # index in per_cpu_pages->lists
        ("position", "<i4"),  # 0 is the head of the list
        ("pfn", "<i8"),  # first page of the block
        ("pcp_migratetype", "i1"),  # what page->index holds where the release keeps it there
    ]
)
PAGEBLOCK = np.dtype(
    [
        ("zone", "<i2"),
        ("migratetype", "i1"),
        ("isolated", "i1"),  # 7.x keeps isolation in a bit of its own; else type == Isolate
        ("skip", "i1"),  # PB_migrate_skip
        ("pfn", "<i8"),  # first page of the pageblock (may lie before the zone's first)
    ]
)
ZONELIST = np.dtype(
    [
        ("node", "<i2"),
        ("fallback", "i1"),  # 1: ZONELIST_FALLBACK, 0: ZONELIST_NOFALLBACK
        ("position", "<i2"),
        ("zone", "<i2"),
    ]
)
CPU = np.dtype([("cpu", "<i2"), ("node", "<i2")])
FRAME_RANGE = np.dtype([("start_pfn", "<i8"), ("pages", "<i8")])


@dataclass(frozen=True, slots=True, kw_only=True)
class MemorySample:
    """See the module; ``meta`` is described by ``META_KEYS``."""

    meta: dict[str, Any]
    zones: NDArray[np.void]
    """ZONE, populated zones only (present_pages > 0)."""
    areas: NDArray[np.void]
    """AREA: free_area[order].nr_free."""
    blocks: NDArray[np.void]
    """BLOCK, in the order of the lists."""
    pcps: NDArray[np.void]
    """PCP."""
    pcp_pages: NDArray[np.void]
    """PCP_PAGE, in the order of the lists."""
    pageblocks: NDArray[np.void]
    """PAGEBLOCK: every pageblock of every zone."""
    zonelists: NDArray[np.void]
    """ZONELIST."""
    cpus: NDArray[np.void]
    """CPU: online CPUs."""
    frame_ranges: NDArray[np.void] = field(default_factory=lambda: np.zeros(0, FRAME_RANGE))
    """FRAME_RANGE: which pages the ``frame_*`` arrays describe, one range after the other; empty
    in a light sample."""
    frame_flags: NDArray[np.uint32] = field(default_factory=lambda: np.zeros(0, np.uint32))
    """Low 32 bits of page->flags; meaning of the bits in meta["page_flag_bits"]."""
    frame_type: NDArray[np.uint32] = field(default_factory=lambda: np.zeros(0, np.uint32))
    """page->page_type (shares its word with _mapcount)."""
    frame_mapping: NDArray[np.uint8] = field(default_factory=lambda: np.zeros(0, np.uint8))
    """Low two bits of page->mapping (1: anonymous, 2: movable driver page)."""

    @property
    def label(self) -> str:
        return str(self.meta["label"])

    @property
    def sound(self) -> bool:
        """Every self-check of the sample passed."""
        return bool(self.meta["sound"])


META_KEYS = {
    "schema": "1",
    "label": "window and moment: anon/begin, anon/3, anon/end",
    "sequence": "number of the sample in its run, from 0",
    "release": "the guest kernel's release, from its own memory",
    "arch": "x86_64 or arm64",
    "page_size_bytes": "4096, 16384, 65536",
    "max_order": "the largest order there is (10 where buddyinfo has eleven columns)",
    "pageblock_order": "order of a pageblock",
    "migratetypes": "names in the order of the kernel's enum migratetype, without MIGRATE_TYPES",
    "pcp_types": "MIGRATE_PCPTYPES",
    "pcp_lists": "NR_PCP_LISTS",
    "page_flag_bits": "name (PG_lru without the PG_) → bit of page->flags",
    "zone_flag_bits": "name (ZONE_BOOSTED_WATERMARK) → bit of zone->flags",
    "trace_counter": "trace_clock=counter's value at the stop, or null where it was not found",
    "stopped_ms": "how long the guest stood still",
    "t_ns": "host CLOCK_MONOTONIC at the stop",
    "full": "whether frame_* are there",
    "vmemmap": "address of the struct page of page frame 0 (pages lie evenly from there), or null",
    "struct_page_bytes": "sizeof(struct page)",
    "zone_addresses": "address of each struct zone, in the order of zones; as probes show them",
    "retries": "how often a lock was found held and the guest was let go on",
    "sound": "all self-checks passed: memmap scan = list walk = nr_free, links, bounds",
    "problems": "what did not pass, a sentence each",
}
"""Keys of ``MemorySample.meta`` and what they say; all are present."""
OPTIONAL_META_KEYS = {
    "node_addresses": "node (as text) → address of its pglist_data, as probes show it",
    "kswapds_awake": "nodes whose kswapd is not on its wait queue; null where that cannot be told",
    "kernel_build_id": "the kernel's build ID, hexadecimal; empty where it does not say",
}
"""Keys that samples read from a guest have besides."""

_ARRAYS = {
    "zones": ZONE,
    "areas": AREA,
    "blocks": BLOCK,
    "pcps": PCP,
    "pcp_pages": PCP_PAGE,
    "pageblocks": PAGEBLOCK,
    "zonelists": ZONELIST,
    "cpus": CPU,
    "frame_ranges": FRAME_RANGE,
    "frame_flags": np.dtype(np.uint32),
    "frame_type": np.dtype(np.uint32),
    "frame_mapping": np.dtype(np.uint8),
}


def save_memory_sample(sample: MemorySample, path: Path) -> None:
    """Writes the sample whole or not at all.

    Raises:
        DiskFullError, RecordError: it could not be written.
    """
    missing = META_KEYS.keys() - sample.meta.keys()
    assert not missing, f"memory sample without {', '.join(sorted(missing))}"
    arrays: dict[str, NDArray[Any]] = {name: getattr(sample, name) for name in _ARRAYS}
    for name, dtype in _ARRAYS.items():
        assert arrays[name].dtype == dtype, f"{name}: {arrays[name].dtype}, expected {dtype}"
    text = np.frombuffer(json.dumps(sample.meta).encode(), np.uint8)
    buffer = io.BytesIO()
    np.savez_compressed(buffer, meta=text, **arrays)  # type: ignore[arg-type]
    write_atomic(path, buffer.getvalue())


def load_memory_sample(path: Path) -> MemorySample:
    """Raises RecordError naming the file and what is wrong in it."""
    try:
        with np.load(path, allow_pickle=False) as archive:
            meta = json.loads(bytes(archive["meta"]))
            arrays = {name: archive[name] for name in _ARRAYS}
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise _damaged(path, str(error)) from None
    if not isinstance(meta, dict) or META_KEYS.keys() - meta.keys():
        raise _damaged(path, "its description is incomplete")
    if meta["schema"] != SCHEMA:
        raise _damaged(path, f"schema {meta['schema']}, this mmscope reads {SCHEMA}")
    for name, dtype in _ARRAYS.items():
        arrays[name] = _widened(arrays[name], dtype)
        if arrays[name].dtype != dtype:
            raise _damaged(path, f"array {name} has type {arrays[name].dtype}, expected {dtype}")
    return MemorySample(meta=meta, **arrays)


def _widened(array: NDArray[Any], dtype: np.dtype[Any]) -> NDArray[Any]:
    """An array of an older mmscope with the columns that came since, all -1 there."""
    names, wanted = array.dtype.names or (), dtype.names or ()
    if array.dtype == dtype or not names or not set(names) <= set(wanted):
        return array
    wide = np.zeros(len(array), dtype)
    for name in wanted:
        if name in names and array.dtype[name] != dtype[name]:
            return array
        wide[name] = array[name] if name in names else -1
    return wide


def _damaged(path: Path, reason: str) -> RecordError:
    return RecordError(f"{path}: not a memory sample: {reason}", fix="run the experiment again")
