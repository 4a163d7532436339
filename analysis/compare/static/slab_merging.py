"""Rules about merged caches: who shares a directory of /sys/kernel/slab, and how it is named."""

from __future__ import annotations

from collections.abc import Iterator

from analysis.capture.snapshot import Snapshot
from analysis.compare.claim import Claim
from analysis.compare.rule import Rule, exact, one_of
from analysis.compare.static import slab_inputs as inputs
from analysis.model.slab.merging import merging_on, reason_alone, stays_alone, unique_id

_SHARED, _ALONE = "an id", "its name"
_SHOWN = ("reclaim_account", "cache_dma", "sanity_checks")
_HIDDEN = frozenset("AD")
"""Letters of flags that no attribute shows: accounted to cgroups, of the DMA32 zone."""


def _slab_merge(snapshot: Snapshot) -> Iterator[Claim]:
    inputs.require(snapshot, "SLUB")
    words = tuple(word for word, _ in snapshot.cmdline.words)
    default = inputs.option(snapshot, "SLAB_MERGE_DEFAULT")
    rules = [
        (
            era,
            merging_on(words, era, by_default=default),
            inputs.option(snapshot, era.memcg_option),
        )
        for era in inputs.eras(snapshot)
    ]
    ends = {snapshot.releases[0], snapshot.releases[-1]}
    for name, attributes, _ in inputs.caches(snapshot):
        flags = inputs.flags(attributes, name)
        asks = {answer for release in ends for answer in stays_alone(name, release)}
        reasons: set[str | None] = set()
        for era, on, accounting in rules:
            reason = reason_alone(
                name,
                flags,
                era=era,
                usersize=inputs.number(attributes, name, "usersize") or 0,
                failslab=attributes.get("failslab", "0") == "1",
                accounting=accounting,
            )
            for asked in asks:
                reasons.add("merging is off" if not on else "it asks for it" if asked else reason)
        yield one_of(
            "slab_merge",
            {"cache": name},
            options=(_SHARED if reason is None else _ALONE for reason in reasons),
            observed=_SHARED if name.startswith(":") else _ALONE,
            unit="directory's name",
            undecided="whether the cache stays alone is not known of this release",
            working=[f"kept alone: {reason or 'nothing asks for that'}" for reason in reasons],
        )


def _slab_id(snapshot: Snapshot) -> Iterator[Claim]:
    inputs.require(snapshot, "SLUB")
    for name, attributes, values in inputs.caches(snapshot, "slab_size"):
        if not name.startswith(":"):
            continue
        letters, dash, size = name[1:].rpartition("-")
        shown = "".join(letter for letter in letters if letter not in _HIDDEN)
        predicted = unique_id(values["slab_size"], inputs.flags(attributes, name))
        yield exact(
            "slab_id",
            {"cache": name},
            predicted=predicted,
            observed=f":{shown}{dash if shown else ''}{size}",
            unit="id without the flags that no attribute shows",
            working=(
                *(f"{flag} {attributes.get(flag)}" for flag in _SHOWN),
                f"slab_size {values['slab_size']}",
            ),
        )


RULES: tuple[Rule, ...] = (
    Rule(
        id="slab_merge",
        says=(
            "A cache may be merged with others of its size and flags, and its directory then has "
            "an id for a name, unless it has debugging, RCU readers, a constructor, a part that "
            "may be copied to user space, or asks to stay alone, or merging is off."
        ),
        inputs=("slab_sysfs", "config", "proc/cmdline"),
        observed="slab_sysfs: the directories' names",
        model=(reason_alone, stays_alone, merging_on),
        judge=_slab_merge,
    ),
    Rule(
        id="slab_id",
        says=(
            "The id of caches that may be merged is made of the flags that such caches must share "
            "(d: of the DMA zone, a: reclaimable, F: checked, A: accounted) and the size; two "
            "caches that would have the same id are one. A and D stand for flags that no attribute "
            "shows and are left out."
        ),
        inputs=("slab_sysfs",),
        observed="slab_sysfs: the directories' names",
        model=(unique_id,),
        judge=_slab_id,
    ),
)
