"""Rules about merged caches: who shares a directory of /sys/kernel/slab, and how it is named."""

from __future__ import annotations

from collections.abc import Iterator

from analysis.capture.snapshot import Snapshot
from analysis.compare.claim import Claim
from analysis.compare.rule import Rule, exact, unknown
from analysis.compare.static.slab import inputs
from analysis.compare.static.slab.ways import Row, claims
from analysis.errors import MissingInputError
from analysis.model.slab.merging import merging_on, reason_alone, stays_alone, unique_id

_SEVERAL = "several releases' rules or configurations are possible"
_SHARED, _ALONE = "an id", "its name"
_SHOWN = ("reclaim_account", "cache_dma", "sanity_checks")
_HIDDEN = frozenset("AD")
"""Letters of flags that no attribute shows: accounted to cgroups, of the DMA32 zone."""


def _slab_merge(snapshot: Snapshot) -> Iterator[Claim]:
    inputs.require(snapshot, "SLUB")
    sysfs = inputs.sysfs(snapshot)
    if not sysfs.aliases and any(name.startswith(":") for name in sysfs.caches):
        raise MissingInputError("the links of slab_sysfs, without which aliases pass for caches")
    yield from claims("slab_merge", _merge_rows(snapshot), undecided=_SEVERAL)
    for name in inputs.sysfs(snapshot).caches:
        if len(_asks(snapshot, name)) > 1:
            yield unknown(
                "slab_merge",
                {"cache": name},
                why=f"whether the cache asks to stay alone is not known of {snapshot.kernel}",
            )


def _asks(snapshot: Snapshot, name: str) -> set[bool]:
    ends = (snapshot.releases[0], snapshot.releases[-1])
    return {answer for release in ends for answer in stays_alone(name, release)}


def _merge_rows(snapshot: Snapshot) -> Iterator[Row]:
    words = tuple(word for word, _ in snapshot.cmdline.words)
    known = snapshot.has("config")
    ways = [
        (era, merging_on(words, era, by_default=default), accounting)
        for era in inputs.eras(snapshot)
        for default in ([snapshot.config.on("SLAB_MERGE_DEFAULT")] if known else [True, False])
        for accounting in ([snapshot.config.on(era.memcg_option)] if known else [True, False])
    ]
    for name, attributes, _ in inputs.caches(snapshot):
        asks = _asks(snapshot, name)
        if len(asks) > 1:
            continue  # no other cache tells
        reasons = [
            "merging is off"
            if not on
            else "it asks for it"
            if True in asks
            else reason_alone(
                name,
                inputs.flags(attributes, name),
                era=era,
                usersize=inputs.number(attributes, name, "usersize") or 0,
                failslab=attributes.get("failslab", "0") == "1",
                accounting=accounting,
            )
            for era, on, accounting in ways
        ]
        yield Row(
            scope={"cache": name},
            options=tuple(_SHARED if reason is None else _ALONE for reason in reasons),
            observed=_SHARED if name.startswith(":") else _ALONE,
            unit="directory's name",
            working=tuple(f"kept alone: {why or 'nothing asks for that'}" for why in reasons),
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
