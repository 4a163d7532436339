"""The counters that /proc/vmstat has, by release and configuration.

A name that is missing, or one too many, says that the kernel is not what its release and
configuration claim, or that the rules of this model are read against the wrong counters.
"""

from __future__ import annotations

from collections.abc import Set
from dataclasses import dataclass

from analysis.model.release import Release

COMPARED = (Release(5, 10), Release(6, 1), Release(6, 12), Release(7, 2), Release(7, 3))
_STACK_STEPS_BYTES = (1024, 2048, 4096, 8192, 16384, 32768, 65536)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Group:
    """Counters that came, and perhaps went, with the same release and options."""

    names: str
    since: Release = COMPARED[0]
    """The first of the compared releases that has them."""
    until: Release | None = None
    """The first of the compared releases that no longer has them."""
    needs: tuple[str, ...] = ()
    """Options without CONFIG_, of which all must be set."""


_V6_1, _V6_12, _V7_2, _V7_3 = COMPARED[1:]

_GROUPS = (
    # zones
    _Group(
        names="nr_free_pages nr_zone_inactive_anon nr_zone_active_anon nr_zone_inactive_file "
        "nr_zone_active_file nr_zone_unevictable nr_zone_write_pending nr_mlock nr_free_cma"
    ),
    _Group(names="nr_free_pages_blocks", since=_V7_2),
    _Group(names="nr_bounce", until=_V7_2),
    _Group(names="nr_zspages", needs=("ZSMALLOC",)),
    _Group(names="nr_unaccepted", since=_V6_12, needs=("UNACCEPTED_MEMORY",)),
    _Group(
        names="numa_hit numa_miss numa_foreign numa_interleave numa_local numa_other",
        needs=("NUMA",),
    ),
    # nodes
    _Group(
        names="nr_inactive_anon nr_active_anon nr_inactive_file nr_active_file nr_unevictable "
        "nr_slab_reclaimable nr_slab_unreclaimable nr_isolated_anon nr_isolated_file "
        "workingset_nodes workingset_refault_anon workingset_refault_file "
        "workingset_activate_anon workingset_activate_file workingset_restore_anon "
        "workingset_restore_file workingset_nodereclaim nr_anon_pages nr_mapped nr_file_pages "
        "nr_dirty nr_writeback nr_shmem nr_shmem_hugepages nr_shmem_pmdmapped nr_file_hugepages "
        "nr_file_pmdmapped nr_anon_transparent_hugepages nr_vmscan_write "
        "nr_vmscan_immediate_reclaim nr_dirtied nr_written nr_kernel_misc_reclaimable "
        "nr_foll_pin_acquired nr_foll_pin_released nr_kernel_stack nr_page_table_pages"
    ),
    _Group(names="nr_writeback_temp", until=_V7_2),
    _Group(names="nr_throttled_written nr_sec_page_table_pages", since=_V6_1),
    _Group(names="nr_shadow_call_stack", needs=("SHADOW_CALL_STACK",)),
    _Group(names="nr_swapcached", since=_V6_1, needs=("SWAP",)),
    _Group(names="nr_iommu_pages", since=_V6_12, needs=("IOMMU_SUPPORT",)),
    _Group(names="pgpromote_success pgpromote_candidate", since=_V6_1, needs=("NUMA_BALANCING",)),
    _Group(names="pgpromote_candidate_nrl", since=_V7_2, needs=("NUMA_BALANCING",)),
    _Group(names="pgdemote_kswapd pgdemote_direct", since=_V6_1),
    _Group(names="pgdemote_khugepaged pgsteal_khugepaged pgscan_khugepaged", since=_V6_12),
    _Group(
        names="nr_vmalloc pgdemote_proactive pgsteal_proactive pgscan_proactive nr_balloon_pages "
        "nr_kernel_file_pages nr_gpu_active nr_gpu_reclaim",
        since=_V7_2,
    ),
    _Group(names="nr_hugetlb", since=_V7_2, needs=("HUGETLB_PAGE",)),
    _Group(names="pgrotate_anon pgrotate_file", since=_V7_3),
    # the machine
    _Group(names="nr_dirty_threshold nr_dirty_background_threshold"),
    _Group(names="nr_memmap_pages nr_memmap_boot_pages", since=_V6_12),
    _Group(names="nr_unstable"),
    # events
    _Group(
        names="pgpgin pgpgout pswpin pswpout pgfree pgactivate pgdeactivate pglazyfree pgfault "
        "pgmajfault pglazyfreed pgrefill pgreuse pgsteal_kswapd pgsteal_direct pgscan_kswapd "
        "pgscan_direct pgscan_direct_throttle pgscan_anon pgscan_file pgsteal_anon pgsteal_file "
        "pginodesteal slabs_scanned kswapd_inodesteal kswapd_low_wmark_hit_quickly "
        "kswapd_high_wmark_hit_quickly pageoutrun pgrotated drop_pagecache drop_slab oom_kill "
        "unevictable_pgs_culled unevictable_pgs_scanned unevictable_pgs_rescued "
        "unevictable_pgs_mlocked unevictable_pgs_munlocked unevictable_pgs_cleared "
        "unevictable_pgs_stranded"
    ),
    _Group(names="zone_reclaim_failed", needs=("NUMA",)),
    _Group(names="zone_reclaim_success", since=_V6_12, needs=("NUMA",)),
    _Group(
        names="numa_pte_updates numa_huge_pte_updates numa_hint_faults numa_hint_faults_local "
        "numa_pages_migrated",
        needs=("NUMA_BALANCING",),
    ),
    _Group(
        names="pgmigrate_success pgmigrate_fail thp_migration_success thp_migration_fail "
        "thp_migration_split",
        needs=("MIGRATION",),
    ),
    _Group(
        names="compact_migrate_scanned compact_free_scanned compact_isolated compact_stall "
        "compact_fail compact_success compact_daemon_wake compact_daemon_migrate_scanned "
        "compact_daemon_free_scanned",
        needs=("COMPACTION",),
    ),
    _Group(names="htlb_buddy_alloc_success htlb_buddy_alloc_fail", needs=("HUGETLB_PAGE",)),
    _Group(names="cma_alloc_success cma_alloc_fail", since=_V6_1, needs=("CMA",)),
    _Group(
        names="thp_fault_alloc thp_fault_fallback thp_fault_fallback_charge thp_collapse_alloc "
        "thp_collapse_alloc_failed thp_file_alloc thp_file_fallback thp_file_fallback_charge "
        "thp_file_mapped thp_split_page thp_split_page_failed thp_deferred_split_page "
        "thp_split_pmd thp_zero_page_alloc thp_zero_page_alloc_failed thp_swpout "
        "thp_swpout_fallback",
        needs=("TRANSPARENT_HUGEPAGE",),
    ),
    _Group(
        names="thp_scan_exceed_none_pte thp_scan_exceed_swap_pte thp_scan_exceed_share_pte",
        since=_V6_1,
        needs=("TRANSPARENT_HUGEPAGE",),
    ),
    _Group(names="thp_underused_split_page", since=_V6_12, needs=("TRANSPARENT_HUGEPAGE",)),
    _Group(
        names="thp_split_pud",
        needs=("TRANSPARENT_HUGEPAGE", "HAVE_ARCH_TRANSPARENT_HUGEPAGE_PUD"),
    ),
    _Group(names="balloon_inflate balloon_deflate", until=_V7_2, needs=("MEMORY_BALLOON",)),
    _Group(names="balloon_migrate", until=_V7_2, needs=("MEMORY_BALLOON", "BALLOON_COMPACTION")),
    _Group(names="balloon_inflate balloon_deflate", since=_V7_2, needs=("BALLOON",)),
    _Group(names="balloon_migrate", since=_V7_2, needs=("BALLOON", "BALLOON_MIGRATION")),
    _Group(
        names="nr_tlb_remote_flush nr_tlb_remote_flush_received nr_tlb_local_flush_all "
        "nr_tlb_local_flush_one",
        needs=("DEBUG_TLBFLUSH",),
    ),
    _Group(
        names="vmacache_find_calls vmacache_find_hits",
        until=_V6_1,
        needs=("DEBUG_VM_VMACACHE",),
    ),
    _Group(names="swap_ra swap_ra_hit", needs=("SWAP",)),
    _Group(names="swpin_zero swpout_zero", since=_V6_12, needs=("SWAP",)),
    _Group(names="nrswpin nrswpout", since=_V7_3, needs=("SWAP",)),
    _Group(names="ksm_swpin_copy", since=_V6_1, needs=("SWAP", "KSM")),
    _Group(names="cow_ksm", since=_V6_1, needs=("KSM",)),
    _Group(names="zswpin zswpout", since=_V6_1, needs=("ZSWAP",)),
    _Group(names="zswpwb", since=_V6_12, needs=("ZSWAP",)),
    _Group(names="direct_map_level2_splits direct_map_level3_splits", since=_V6_1, needs=("X86",)),
    _Group(
        names="direct_map_level2_collapses direct_map_level3_collapses",
        since=_V7_2,
        needs=("X86",),
    ),
    _Group(
        names="vma_lock_success vma_lock_abort vma_lock_retry vma_lock_miss",
        since=_V6_12,
        needs=("PER_VMA_LOCK_STATS",),
    ),
)

_BY_ZONE = ("pgalloc", "allocstall", "pgskip")
"""Events that are counted for each kind of zone that the kernel is built with."""


def zone_suffixes(release: Release, options: Set[str]) -> tuple[str, ...]:
    """The kinds of zones in names such as ``pgalloc_normal``.

    Kernel: mm/vmstat.c, TEXTS_FOR_ZONES; 5.10, 6.1, 6.12, 7.2 and 7.3. ``device`` is there from
        6.1 on.
    Ignores: nothing known.
    """
    optional = (
        ("dma", "ZONE_DMA" in options),
        ("dma32", "ZONE_DMA32" in options),
        ("normal", True),
        ("high", "HIGHMEM" in options),
        ("movable", True),
        ("device", "ZONE_DEVICE" in options and release >= _V6_1),
    )
    return tuple(name for name, there in optional if there)


def counter_names(release: Release, options: Set[str], *, stack_bytes: int) -> frozenset[str]:
    """All names of /proc/vmstat.

    ``options`` are those that are set, built in or as a module, without CONFIG_; ``stack_bytes``
    is the size of a task's kernel stack, which decides how finely its use is counted
    (CONFIG_DEBUG_STACK_USAGE).

    Raises:
        ValueError: a release that was not compared, or a kernel without VM_EVENT_COUNTERS.

    Kernel: mm/vmstat.c, ``vmstat_text``; 5.10, 6.1, 6.12, 7.2 and 7.3.
    Ignores: the order of the names, and counters that a stable update or a vendor added.
    """
    if release not in COMPARED:
        raise ValueError(f"the counters of {release} were not compared")
    if "VM_EVENT_COUNTERS" not in options:
        raise ValueError("the counters without CONFIG_VM_EVENT_COUNTERS are not described")
    names = {f"{event}_{zone}" for event in _BY_ZONE for zone in zone_suffixes(release, options)}
    for group in _GROUPS:
        there = group.since <= release and (group.until is None or release < group.until)
        if there and all(option in options for option in group.needs):
            names.update(group.names.split())
    if release >= _V6_12 and "DEBUG_STACK_USAGE" in options:
        names.update(
            f"kstack_{step // 1024}k" for step in _STACK_STEPS_BYTES if step <= stack_bytes
        )
        if stack_bytes > _STACK_STEPS_BYTES[-1]:
            names.add("kstack_rest")
    return frozenset(names)


def fell(before: int, after: int) -> bool:
    """Whether a counter of events went down, which none does.

    Kernel: mm/vmstat.c, ``all_vm_events``: sums that CPUs add to, and which outlive a CPU that
        goes away (``vm_events_fold_cpu``); 5.10, 6.1, 6.12, 7.2 and 7.3.
    Ignores: a sum that wraps, after 2⁶⁴ (2³² on 32 bits) events.
    """
    return after < before
