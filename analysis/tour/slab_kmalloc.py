"""kmalloc: which cache serves a request, how much of it may be used, and what goes to pages."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from analysis.capture.snapshot import Snapshot
from analysis.compare.claim import Claim
from analysis.compare.rule import exact
from analysis.compare.static.slab import inputs
from analysis.errors import MissingInputError
from analysis.model.release import Release
from analysis.model.slab.kmalloc import kmalloc_kind, kmalloc_sizes, serving_size, short_name
from analysis.model.slab.slub_order import page_order
from analysis.tour.evidence import BootEvidence
from analysis.tour.slab_caches import era_of
from analysis.tour.slab_requests import Request, parse_requests

_DUMPED = re.compile(r"mmscope_slab: request (\d+) at [0-9a-f]+: (.*)$", re.MULTILINE)
_OBJECT = re.compile(r" ?slab (\S+) start \S+(?: data offset \d+)? pointer offset 0 size (\d+)")
"""Where slabs are checked, an object's bytes begin behind a red zone."""
_TELLS = Release(5, 13)
"""The first release that says of which cache an object is."""
_COPIES = ("RANDOM_KMALLOC", "KMALLOC_PARTITION")
_COPY = re.compile(r"^kmalloc-(?:rnd|part)-\d\d-")


def kmalloc_claims(boot: BootEvidence) -> Iterator[Claim]:
    """A claim for each request.

    Raises:
        MissingInputError, ParseError: the evidence lacks something.
    """
    snapshot = boot.snapshot()
    dumped = {int(number): words for number, words in _DUMPED.findall(boot.text("dump"))}
    requests = parse_requests(boot.text("objects"))
    commands = boot.json("commands")
    if len(requests) != len(commands):
        raise MissingInputError(f"{len(commands)} requests, not {len(requests)}")
    if not dumped and snapshot.release >= _TELLS:
        raise MissingInputError("the kernel's words about objects (mem_dump_obj)")
    for request, command in zip(requests, commands, strict=True):
        _, _, size, kind = command.split()
        name, told, working = _told(snapshot, int(size), kind)
        seen = (
            _seen(request, dumped, snapshot)
            if dumped
            else _seen_unnamed(request, snapshot.page_size_bytes, in_cache=bool(name))
        )
        yield exact(
            "served",
            {"bytes": int(size), "kind": kind},
            predicted=f"{name}, {told}" if name and dumped else told,
            observed=seen,
            unit="",
            working=working,
        )


def _told(snapshot: Snapshot, size: int, kind: str) -> tuple[str, str, tuple[str, ...]]:
    """The cache, empty where it is none; what it gives; and why."""
    era = era_of(snapshot)
    page = snapshot.page_size_bytes
    sizes = kmalloc_sizes(inputs.alignment(snapshot, era), page_size=page)
    served = serving_size(size, sizes)
    if served is None:
        order = page_order(size, page)
        why = f"{size} bytes are more than {sizes[-1]}, the largest cache"
        return "", _pages(order, page << order), (why, f"order {order} holds {page << order} bytes")
    name = kmalloc_kind(
        era,
        dma=kind == "dma",
        account=kind == "account",
        reclaim=kind == "reclaim",
        zone_dma=inputs.option(snapshot, "ZONE_DMA"),
        accounting=inputs.option(snapshot, era.memcg_option)
        and "nokmem" not in ",".join(snapshot.cmdline.all("cgroup.memory")),
    )
    smaller = max((other for other in sizes if other < served), default=0)
    why = f"the smallest cache that holds {size} bytes: {served}; the one before has {smaller}"
    return f"{name}{short_name(served, era)}", f"{served} bytes", (why, f"{kind}: {name}")


def _seen(request: Request, dumped: Mapping[int, str], snapshot: Snapshot) -> str:
    words = dumped.get(request.number)
    if words is None:
        raise MissingInputError(f"the kernel's words about request {request.number}")
    match = _OBJECT.match(words)
    if match is None:
        return _seen_unnamed(request, snapshot.page_size_bytes, in_cache=False)
    name = match[1]
    if any(inputs.option(snapshot, f"{copies}_CACHES") for copies in _COPIES):
        # which copy, a random number and the address of the call decide
        name = _COPY.sub("kmalloc-", name)
    return f"{name}, {request.usable} bytes"


def _seen_unnamed(request: Request, page_size: int, *, in_cache: bool) -> str:
    if in_cache:
        return f"{request.usable} bytes"
    if request.pfn % (1 << request.order) or request.address % page_size:
        return f"pages at pfn {request.pfn}, {request.usable} bytes"
    return _pages(request.order, request.usable)


def _pages(order: int, usable: int) -> str:
    return f"pages of order {order}, {usable} bytes"
