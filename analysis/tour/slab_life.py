"""A cache's life on SLUB, from its creation to its end: layout, merging, lists, addresses."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from analysis.capture.snapshot import Snapshot
from analysis.compare.claim import Claim
from analysis.compare.rule import exact, unknown
from analysis.compare.static.slab import inputs
from analysis.errors import MissingInputError, ParseError
from analysis.model.slab.merging import merging_on, reason_alone, unique_id
from analysis.model.slab.place import Place
from analysis.model.slab.shown import slabinfo_geometry
from analysis.model.slab.slub_cpu import SlubOnCpu
from analysis.model.slab.slub_layout import SlabFlags
from analysis.model.slab.slub_sheaves import SlubWithSheaves
from analysis.tour.evidence import BootEvidence
from analysis.tour.slab_caches import CacheModel, checked, era_of, not_followed, slub_cache
from analysis.tour.slab_placement import NO_SLAB_WHOLE, compare_in_slabs
from analysis.tour.slab_requests import (
    Request,
    Step,
    of_cache,
    parse_requests,
    steps,
)

DEMO, LINE = "mm_demo", "mm_line"
"""Caches with a constructor, so that neither is merged and has a directory of its own."""
_LINK = re.compile(r"^(mm_\w+) (:\S+)$", re.MULTILINE)
_CREATED = re.compile(r"create (mm_\w+) (\d+) (\d+) (\S+)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Creation:
    """What was asked for when a cache was made."""

    name: str
    size: int
    align: int
    words: tuple[str, ...]

    @property
    def flags(self) -> SlabFlags:
        return SlabFlags(
            hwcache_align="hwcache" in self.words,
            reclaim_account="reclaim" in self.words,
            destroy_by_rcu="rcu" in self.words,
            constructor="ctor" in self.words,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Phase:
    """The cache after one command."""

    name: str
    command: str
    told: str
    seen: str
    model: tuple[int, int, int]
    """Slabs: the CPU's and its partial ones, the node's partial ones, all."""
    constructed_told: int
    constructed_seen: int


def creations(commands: Sequence[str]) -> tuple[Creation, ...]:
    """The caches that were made."""
    return tuple(
        Creation(
            name=match[1], size=int(match[2]), align=int(match[3]), words=tuple(match[4].split(","))
        )
        for match in filter(None, map(_CREATED.fullmatch, commands))
    )


def attributes(text: str) -> Mapping[str, Mapping[str, str]]:
    """Cache → attribute → value, from lines of the three."""
    found: dict[str, dict[str, str]] = {}
    for line in text.splitlines():
        cache, name, *value = line.split(maxsplit=2)
        found.setdefault(cache, {})[name] = value[0] if value else ""
    return found


def layout_claims(boot: BootEvidence, snapshot: Snapshot) -> Iterator[Claim]:
    """What each cache's objects take, and with whom it was merged."""
    text = boot.text("caches")
    links = dict(_LINK.findall(text))
    shown = attributes("\n".join(line for line in text.splitlines() if len(line.split()) > 2))
    era = era_of(snapshot)
    merging = merging_on(
        tuple(word for word, _ in snapshot.cmdline.words),
        era,
        by_default=inputs.option(snapshot, "SLAB_MERGE_DEFAULT"),
    )
    for made in creations(boot.json("commands")):
        flags = checked(snapshot, made.flags)
        model = slub_cache(snapshot, made.size, flags, align=made.align)
        row = shown.get(made.name)
        if row is None:
            raise MissingInputError(f"the attributes of {made.name}")
        yield exact(
            "layout",
            {"cache": made.name},
            predicted=slabinfo_geometry(model.size, model.objects, model.order),
            observed=slabinfo_geometry(
                int(row["slab_size"]), int(row["objs_per_slab"]), int(row["order"])
            ),
            unit="objects in pages",
            working=(f"asked for {made.size} bytes, {', '.join(made.words)}", *model.working),
        )
        why = reason_alone(
            made.name,
            flags,
            era=era,
            usersize=0,
            failslab=inputs.option(snapshot, "FAILSLAB"),
            accounting=inputs.option(snapshot, era.memcg_option),
        )
        alone = why or ("merging is off" if not merging else None)
        target = made.name if alone else unique_id(model.size, flags)
        yield exact(
            "merging",
            {"cache": made.name},
            predicted=target,
            observed=links.get(made.name, made.name),
            unit="directory",
            working=(alone or f"mergeable: shared by all caches that come to {model.size} bytes",),
        )


def phases(boot: BootEvidence, model: CacheModel) -> tuple[tuple[Phase, ...], dict[int, Place]]:
    """Each phase as told and as seen, and where the model puts every request."""
    commands = [c for c in boot.json("commands") if not _CREATED.fullmatch(c)]
    names = [name.removesuffix(".txt") for name in _phase_names(boot)]
    if len(names) != len(commands):
        raise MissingInputError(f"{len(commands)} phases, not {len(names)}")
    sim = model.allocator
    assert isinstance(sim, SlubOnCpu | SlubWithSheaves)
    places: dict[int, Place] = {}
    found = []
    for index, (name, command) in enumerate(zip(names, commands, strict=True)):
        if command.startswith("shrink"):
            sim.shrink()
        before = len(list(steps(commands[:index])))
        for step in list(steps(commands[: index + 1]))[before:]:
            _take(step, sim, places)
        pairs = (line.partition(" ") for line in boot.text(name).splitlines())
        row = {attribute: value for attribute, _, value in pairs}
        found.append(
            Phase(
                name=name.removeprefix("phase_"),
                command=command.removeprefix("quiet; "),
                told=_shown(sim.nr_slabs, sim.nr_partial, sim.nr_cpu_slabs, sim.nr_objects),
                seen=_shown(
                    _first(name, row, "slabs"),
                    _first(name, row, "partial"),
                    _first(name, row, "cpu_slabs"),
                    _first(name, row, "objects"),
                ),
                model=(sim.nr_cpu_slabs, sim.nr_partial, sim.nr_slabs),
                constructed_told=sim.made * model.objects,
                constructed_seen=_first(name, row, "constructed"),
            )
        )
    return tuple(found), places


def _phase_names(boot: BootEvidence) -> list[str]:
    commands = boot.record.get("commands", {})
    return [name for name in commands if name.startswith("phase_")]


def _take(step: Step, sim: SlubOnCpu | SlubWithSheaves, places: dict[int, Place]) -> None:
    if step.cache != DEMO:
        return
    if step.freed:
        sim.free(places[step.number])
    else:
        places[step.number] = sim.alloc()


def _shown(slabs: int, partial: int, cpu_slabs: int, objects: int) -> str:
    return f"{slabs} slabs, {partial} partial, {cpu_slabs} of the CPU, {objects} objects"


def _first(source: str, row: Mapping[str, str], name: str) -> int:
    head = row.get(name, "").partition(" ")[0]
    if not head.isdecimal():
        raise ParseError(source, 0, f"{name} {row.get(name, '')}", "a number")
    return int(head)


def address_claim(
    boot: BootEvidence, snapshot: Snapshot, model: CacheModel, places: Mapping[int, Place]
) -> Claim:
    """All addresses, whether the lists of new slabs are shuffled or not."""
    requests = of_cache(parse_requests(boot.text("objects")), DEMO)
    placement = compare_in_slabs(
        requests,
        places,
        model,
        slab_bytes=snapshot.page_size_bytes << model.order,
        shuffled=inputs.option(snapshot, "SLAB_FREELIST_RANDOM"),
    )
    if placement is None:
        return unknown("addresses", {"cache": DEMO}, why=NO_SLAB_WHOLE)
    return exact(
        "addresses",
        {"cache": DEMO},
        predicted=placement.told,
        observed=placement.right,
        unit="addresses",
        why=placement.wrong,
        working=(placement.how, f"{len(requests)} requests in {placement.blocks} slabs"),
    )


def end_claims(boot: BootEvidence) -> Iterator[Claim]:
    """What became of a cache without objects, and of one that still had one.

    The kernel is never asked about the second: the module refuses. Asked, 5.10 and 6.1 would
    complain and leave the cache in sysfs; 6.12 to 7.3 would warn, take it out of sysfs, and lose
    its memory.

    Kernel: mm/slab_common.c, ``kmem_cache_destroy``; 5.10 to 7.3.
    """
    lines = boot.text("destroy").splitlines()
    for claim, cache, told, why in (
        ("destroyed", DEMO, "destroyed, no directory", "no object was left when it was destroyed"),
        ("kept", LINE, "refused, a directory", "an object was alive, so the module refused"),
    ):
        done = "destroyed" if f"{cache} destroyed" in lines else "refused"
        there = "a" if f"/sys/kernel/slab/{cache}" in lines else "no"
        yield exact(
            claim,
            {"cache": cache},
            predicted=told,
            observed=f"{done}, {there} directory",
            unit="",
            working=(why,),
        )


def life(boot: BootEvidence) -> tuple[tuple[Claim, ...], tuple[Phase, ...], tuple[Request, ...]]:
    """All claims about a boot of the stop, its phases, and the requests."""
    snapshot = boot.snapshot()
    claims = [*layout_claims(boot, snapshot), *end_claims(boot)]
    demo = next(made for made in creations(boot.json("commands")) if made.name == DEMO)
    why = not_followed(snapshot)
    if why:
        claims += (unknown(claim, why=why) for claim in ("lists", "constructed", "addresses"))
        return tuple(claims), (), parse_requests(boot.text("objects"))
    model = slub_cache(snapshot, demo.size, demo.flags, align=demo.align)
    found, places = phases(boot, model)
    claims += (
        exact(
            "lists",
            {"phase": phase.name},
            predicted=phase.told,
            observed=phase.seen,
            unit="",
            working=(*model.working, phase.command),
        )
        for phase in found
    )
    last = found[-1]
    claims.append(
        exact(
            "constructed",
            {"cache": DEMO},
            predicted=last.constructed_told,
            observed=last.constructed_seen,
            unit="calls",
            working=(f"{model.objects} calls for each new slab, none for an object used again",),
        )
    )
    claims.append(address_claim(boot, snapshot, model, places))
    return tuple(claims), found, parse_requests(boot.text("objects"))
