"""What the allocator could do otherwise: rules to change for a counterfactual, as data.

``Policy()`` is the kernel as it is. The model's rules ask the policy of their zone at the few
places where one may differ; ``analysis.model.allocator.counterfactual`` changes the state once,
where a policy would have had an effect since boot.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from enum import Enum

from analysis.model.freelist import Migratetype


class Steal(Enum):
    """How much of a pageblock a fallback takes when it borrows less than a pageblock."""

    KERNEL = "kernel"
    """As the release decides, by order, type and what else the pageblock holds."""
    NEVER = "never"
    """Only the smallest sufficient block; the pageblock stays its owner's."""
    ALWAYS = "always"
    """All free blocks of the pageblock, which changes its type."""


class Placement(Enum):
    """To which end of its list a freed block comes."""

    KERNEL = "kernel"
    """The head, or the tail when it is likely to merge soon (``buddy_merge_likely``)."""
    HEAD = "head"
    TAIL = "tail"


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """Rules of a counterfactual; what is not named stays as the kernel has it."""

    pcp: bool = True
    """False: per-cpu lists keep nothing. Kernel: mm/page_alloc.c, ``zone_pcp_disable``."""
    pcp_batch: int | None = None
    """Pages that a per-cpu list fetches or gives back at a time (``pcp->batch``)."""
    pcp_high: int | None = None
    """Pages at which a CPU's lists of a zone overflow (``pcp->high``; from 6.7 on also
    ``high_min`` and ``high_max``, as vm.percpu_pagelist_high_fraction sets them)."""
    mobility: bool = True
    """False: unmovable, movable and reclaimable pages share one list.

    Kernel: ``page_group_by_mobility_disabled`` in mm/page_alloc.c and include/linux/gfp.h."""
    fallback_reversed: bool = False
    """The types to borrow from are asked in the opposite order."""
    steal: Steal = Steal.KERNEL
    placement: Placement = Placement.KERNEL
    shuffle_seed: int | None = None
    """Not None: lists of the largest order are shuffled, and stay so (``page_alloc.shuffle``)."""
    nofragment: bool = True
    """False: no first attempt that avoids mixing types in a pageblock (ALLOC_NOFRAGMENT)."""
    boost: bool = True
    """False: fallbacks do not raise the watermarks (vm.watermark_boost_factor = 0)."""

    def grouped(self, migratetype: Migratetype) -> Migratetype:
        """The type whose list a type's pages are on."""
        if self.mobility or not migratetype.mergeable:
            return migratetype
        return Migratetype.UNMOVABLE


KERNEL = Policy()
"""Nothing differs."""

SEED = 1
"""Of ``shuffle=on``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Option:
    """One thing that can be asked: its values as a user writes them."""

    name: str
    values: str
    meaning: str
    apply: Callable[[Policy, str], Policy]
    """Raises ValueError for a value that is none."""


def _pages(field: str, least: int) -> Callable[[Policy, str], Policy]:
    def apply(policy: Policy, value: str) -> Policy:
        if not (value.isascii() and value.isdecimal() and int(value) >= least):
            raise ValueError(value)
        return replace(policy, **{field: int(value)})  # type: ignore[arg-type]

    return apply


def _one_of(field: str, values: dict[str, object]) -> Callable[[Policy, str], Policy]:
    def apply(policy: Policy, value: str) -> Policy:
        if value not in values:
            raise ValueError(value)
        return replace(policy, **{field: values[value]})  # type: ignore[arg-type]

    return apply


def _shuffle(policy: Policy, value: str) -> Policy:
    word, _, seed = value.partition(":")
    if word != "on" or (":" in value and not (seed.isascii() and seed.isdecimal())):
        raise ValueError(value)
    return replace(policy, shuffle_seed=int(seed) if seed else SEED)


OPTIONS: tuple[Option, ...] = (
    Option(
        name="pcp", values="off", meaning="no per-cpu lists", apply=_one_of("pcp", {"off": False})
    ),
    Option(
        name="pcp_batch",
        values="N",
        meaning="per-cpu lists fetch and give back N pages at a time (N at least 1)",
        apply=_pages("pcp_batch", 1),
    ),
    Option(
        name="pcp_high",
        values="N",
        meaning="a CPU's lists of a zone overflow at N pages (N at least 1)",
        apply=_pages("pcp_high", 1),
    ),
    Option(
        name="mobility",
        values="off",
        meaning="one free list for unmovable, movable and reclaimable pages",
        apply=_one_of("mobility", {"off": False}),
    ),
    Option(
        name="fallback",
        values="reversed",
        meaning="types to borrow from are asked in the opposite order",
        apply=_one_of("fallback_reversed", {"reversed": True}),
    ),
    Option(
        name="steal",
        values="never|always",
        meaning="a fallback takes the rest of the pageblock never, or always",
        apply=_one_of("steal", {"never": Steal.NEVER, "always": Steal.ALWAYS}),
    ),
    Option(
        name="freed",
        values="head|tail",
        meaning="freed blocks come to this end of their list, likely to merge or not",
        apply=_one_of("placement", {"head": Placement.HEAD, "tail": Placement.TAIL}),
    ),
    Option(
        name="shuffle",
        values="on|on:SEED",
        meaning=f"the page_alloc.shuffle parameter; SEED is {SEED} unless given",
        apply=_shuffle,
    ),
    Option(
        name="nofragment",
        values="off",
        meaning="no attempt that avoids mixing types (ALLOC_NOFRAGMENT)",
        apply=_one_of("nofragment", {"off": False}),
    ),
    Option(
        name="boost",
        values="off",
        meaning="vm.watermark_boost_factor=0",
        apply=_one_of("boost", {"off": False}),
    ),
)


def parse_policy(texts: Sequence[str]) -> Policy:
    """The policy of ``name=value`` texts, all together.

    Raises:
        ValueError: a name or value that is none, or a name twice; the message lists the choices.
    """
    by_name = {option.name: option for option in OPTIONS}
    policy, seen = KERNEL, set[str]()
    for text in texts:
        name, equals, value = text.strip().partition("=")
        option = by_name.get(name)
        if option is None or not equals:
            raise ValueError(f"{text!r} is none of: {choices()}")
        if name in seen:
            raise ValueError(f"{name} is given twice")
        seen.add(name)
        try:
            policy = option.apply(policy, value)
        except ValueError:
            raise ValueError(
                f"{text!r}: {name} may be {option.values} ({option.meaning})"
            ) from None
    if "pcp" in seen and seen & {"pcp_batch", "pcp_high"}:
        raise ValueError("pcp=off leaves no per-cpu lists for pcp_batch or pcp_high")
    if "shuffle" in seen and "freed" in seen:
        raise ValueError("shuffle and freed both say where a freed block comes to")
    return policy


def choices() -> str:
    """Every option on one line."""
    return ", ".join(f"{option.name}={option.values}" for option in OPTIONS)
