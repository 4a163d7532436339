"""Which caches SLUB merges, and the name that a merged cache's directory has."""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType

from analysis.model.eras_slab import SlabEra
from analysis.model.release import Release
from analysis.model.slab.slub_layout import SlabFlags

NEVER_MERGED = frozenset(
    {
        "kmem_cache",
        "kmem_cache_node",
        "kmemleak_object",
        "kmemleak_scan_area",
        "debug_objects_cache",
    }
)
"""Caches of the first moments, whose count of users is set below zero, and those with
SLAB_NOLEAKTRACE; 5.10 to 7.3."""
STAYS_ALONE: Mapping[str, tuple[Release, Release]] = MappingProxyType(
    {
        "kmalloc_buckets": (Release(6, 10), Release(6, 11)),
        "key_jar": (Release(6, 12), Release(7, 2)),
        "maple_node": (Release(6, 17), Release(6, 18)),
    }
)
"""Caches that ask for it (SLAB_NO_MERGE), or for sheaves of a certain capacity: the last release
compared without, the first with."""

_OWN_KMALLOC = re.compile(r"(?:kmalloc-(?:rnd-|part-|no-objext-)|memdup_user-|msg_msg-)")
_NORMAL_KMALLOC = re.compile(r"kmalloc-\d+[kM]?$")


def merging_on(parameters: tuple[str, ...], era: SlabEra, *, by_default: bool) -> bool:
    """Whether caches are merged: ``parameters`` are the names of the kernel's parameters in the
    order given, the last of slab_nomerge (slub_nomerge) and slab_merge (slub_merge) counts.

    Kernel: mm/slab_common.c, ``slab_nomerge``; 5.10 has no slab_merge. ``by_default`` is
        CONFIG_SLAB_MERGE_DEFAULT.
    Ignores: nothing known.
    """
    on = by_default
    for name in parameters:
        if name in ("slab_nomerge", "slub_nomerge"):
            on = False
        elif name in ("slab_merge", "slub_merge") and era.merge_parameter:
            on = True
    return on


def stays_alone(name: str, release: Release) -> tuple[bool, ...]:
    """Whether a cache asks to stay alone: one answer, or both where the release lies between those
    that were compared.

    Kernel: users of SLAB_NO_MERGE in 6.12, 7.2 and 7.3 whose caches other flags do not keep alone:
        mm/slab_common.c, security/keys/key.c, lib/maple_tree.c.
    Ignores: test modules, and modules that are no part of the kernel.
    """
    if name not in STAYS_ALONE:
        return (False,)
    last_without, first_with = STAYS_ALONE[name]
    if release <= last_without:
        return (False,)
    return (True,) if release >= first_with else (False, True)


def reason_alone(
    name: str, flags: SlabFlags, *, era: SlabEra, usersize: int, failslab: bool, accounting: bool
) -> str | None:
    """Why a cache is never merged with others; None where it may be.

    ``usersize``: bytes of an object that may be copied to user space; ``accounting``: kernel
    memory is accounted to cgroups by configuration.

    Kernel: mm/slab_common.c, ``slab_unmergeable`` and SLAB_NEVER_MERGE, new_kmalloc_cache();
        5.10, 6.1, 6.12, 7.2, 7.3.
    Ignores: caches that ask for it (``stays_alone``); kmalloc's normal caches where accounting is
        configured and turned off by ``cgroup.memory=nokmem`` (7.3).
    """
    reasons = (
        (flags.red_zone or flags.poison or flags.store_user or flags.trace, "debugging"),
        (flags.destroy_by_rcu, "objects stay typed until readers of RCU are done"),
        (flags.constructor, "a constructor"),
        (usersize > 0, "a part that may be copied to user space"),
        (failslab, "failures are injected"),
        (name in NEVER_MERGED, "made before merging, or traced leaks would recurse"),
        (bool(_OWN_KMALLOC.match(name)), "a kmalloc cache of its own kind"),
        (
            bool(_NORMAL_KMALLOC.match(name)) and accounting and era.kmalloc_cgroup,
            "objects that are not accounted stay apart",
        ),
    )
    return next((why for true, why in reasons if true), None)


def unique_id(size: int, flags: SlabFlags, *, dma32: bool = False, account: bool = False) -> str:
    """The directory's name of a cache that may be merged: ``:a-0000104``.

    Two such caches never share an id: whoever would have it is merged into the first.

    Kernel: mm/slub.c, ``create_unique_id``; 5.10 to 7.3.
    Ignores: nothing known.
    """
    letters = "".join(
        letter
        for letter, true in (
            ("d", flags.cache_dma),
            ("D", dma32),
            ("a", flags.reclaim_account),
            ("F", flags.sanity_checks),
            ("A", account),
        )
        if true
    )
    return f":{letters}{'-' if letters else ''}{size:07}"
