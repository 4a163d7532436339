"""By which release's rules a kernel may size its per-cpu lists, from what a capture shows of it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import product

from analysis.capture.snapshot import Snapshot
from analysis.model.eras_pcp_sizes import AFTER_DEFERRAL_POSTED, PcpSizesEra, pcp_sizes_era_of
from analysis.model.pcp_sizes import zone_batchsize
from analysis.procfs.zoneinfo import Zone

FRACTION = "vm/percpu_pagelist_fraction"
HIGH_FRACTION = "vm/percpu_pagelist_high_fraction"
_LIFO = re.compile(r"\s*\S+ zone: (\d+) pages, LIFO batch:(\d+)")


def possible_eras(snapshot: Snapshot, zones: Sequence[Zone]) -> tuple[PcpSizesEra, ...]:
    """The rules that may be in force: what the capture shows of the code comes before its name."""
    eras = {
        pcp_sizes_era_of(release, sized_after_deferral=again)
        for release, again in product(snapshot.releases, _sizes_again(snapshot))
    }
    if snapshot.has_sysctl(HIGH_FRACTION):
        eras = {era for era in eras if era.high_follows_low} or eras
    elif snapshot.has_sysctl(FRACTION):
        eras = {era for era in eras if not era.high_follows_low} or eras
    said = [(int(match[1]), int(match[2])) for match in snapshot.dmesg.matching(_LIFO)]
    size = snapshot.page_size_bytes
    if any(batch > zone_batchsize(1 << 40, size, limit_kib=512) for _, batch in said):
        eras = {era for era in eras if era.batch_limit_kib > 512} or eras
    # Of a zone's pages at most a part went into its memmap by then.
    elif any(batch < zone_batchsize(pages * 3 // 4, size, limit_kib=1024) for pages, batch in said):
        eras = {era for era in eras if era.batch_limit_kib <= 512} or eras
    prints = any("high_min" in cpu.fields for zone in zones for cpu in zone.cpus)
    if prints or (snapshot.has("config") and "PCP_BATCH_SCALE_MAX" in snapshot.config.values):
        eras = {era for era in eras if era.tunes_itself} or eras
    elif snapshot.has("config"):
        eras = {era for era in eras if not era.tunes_itself} or eras
    return tuple(
        sorted(
            eras,
            key=lambda era: (
                era.batch_limit_kib,
                era.high_follows_low,
                era.tunes_itself,
                era.sized_after_deferral,
            ),
        )
    )


def _sizes_again(snapshot: Snapshot) -> tuple[bool, ...]:
    """Whether the kernel sizes its lists again after deferred struct pages: both where an older
    release may have taken that back."""
    own = pcp_sizes_era_of(snapshot.release).sized_after_deferral
    built = snapshot.built
    if own or (built is not None and built < AFTER_DEFERRAL_POSTED):
        return (own,)
    return (False, True)
