"""What the stops about SLAB, SLUB and SLOB, and caches of our own show."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import TYPE_CHECKING

from analysis.compare.claim import Claim, Scope
from analysis.compare.rule import exact, unknown
from analysis.compare.static.slab import inputs
from analysis.compare.static.slab.rules import RULES
from analysis.errors import MissingInputError
from analysis.tour.evidence import BootEvidence, StopEvidence
from analysis.tour.finding import Exhibit, Finding, Listing, Plate
from analysis.tour.slab_kmalloc import kmalloc_claims
from analysis.tour.slab_life import DEMO, Phase, life
from analysis.tour.slab_load import SizeResult, load_results, size_claims, slabinfo_rows
from analysis.tour.slab_requests import Request, of_cache
from analysis.verdict import Verdict

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_DRAWN = "mm_200"
"""The cache whose pages are drawn."""
_SIZES_SHOWN = 24


def _judge_allocator(evidence: StopEvidence) -> Finding:
    boot = evidence.boot()
    results = list(load_results(boot))
    kind = inputs.allocator(boot.snapshot())
    rows = slabinfo_rows(boot.text("slabinfo"))
    claims = [
        claim
        for result in results
        for claim in size_claims(result, None if kind == "SLOB" else rows[result.name])
    ]
    exhibits: list[Exhibit] = []
    if kind == "SLOB":
        claims.append(_no_slabinfo(boot))
    else:
        claims.append(_static(boot))
        exhibits.append(_table(boot, "slabinfo"))
    if not results:
        raise MissingInputError("a cache of ours that was filled")
    drawn = next((result for result in results if result.name == _DRAWN), results[0])
    exhibits += [_addresses(drawn.requests), Plate(id="pages", draw=_pages_drawer(kind, drawn))]
    return Finding(claims=tuple(claims), exhibits=tuple(exhibits))


def _static(boot: BootEvidence) -> Claim:
    """All rules about slab caches, judged on the capture that was taken after the load."""
    claims = [claim for rule in RULES for claim in rule.claims(boot.snapshot())]
    judged = [claim for claim in claims if claim.verdict is not Verdict.UNKNOWN]
    if not judged:
        raise MissingInputError("what any rule about slab caches could be judged by")
    wrong = [claim for claim in judged if claim.verdict is Verdict.FAILS]
    return exact(
        "rules",
        {},
        predicted=len(judged),
        observed=len(judged) - len(wrong),
        unit="claims of mmscope check about slab caches",
        why="".join(f"{claim.id} {dict(claim.scope)}: {claim.why}; " for claim in wrong[:3]),
        working=tuple(
            f"{rule.id}: {count} claims"
            for rule in RULES
            if (count := sum(claim.id == rule.id for claim in judged))
        ),
    )


def _no_slabinfo(boot: BootEvidence) -> Claim:
    return exact(
        "unseen",
        {},
        predicted="no slabinfo",
        observed="slabinfo" if boot.snapshot().has("proc/slabinfo") else "no slabinfo",
        unit="",
        working=("SLOB has one heap, and nothing to show by cache",),
    )


def _table(boot: BootEvidence, name: str) -> Listing:
    return Listing(id=name, text=boot.text(name).rstrip())


def _addresses(requests: Sequence[Request]) -> Listing:
    """The first requests of a cache, and the first that came after some were freed."""
    freed = [index for index, request in enumerate(requests) if not request.live]
    shown = [*range(8), *range(len(requests) - 100, len(requests) - 94)]
    lines = []
    for index in shown:
        request = requests[index]
        state = "live" if request.live else "freed"
        lines.append(
            f"{request.number} {state} {request.name} {request.size} {request.address:x} "
            f"{request.pfn}"
        )
    marked = tuple(line for line, index in enumerate(shown, 1) if index in freed)
    return Listing(id="objects", text="\n".join(lines), marked=marked)


def _pages_drawer(kind: str, result: SizeResult) -> Callable[[], Figure]:
    def draw() -> Figure:
        from analysis.figures.tour_slab import draw_pages

        model = result.model
        return draw_pages(
            f"{kind} {result.name}: {model.size} B, {model.objects}/{1 << model.order}",
            [(request.address, request.live, request.head_pfn) for request in result.requests],
            size=model.size,
            block_bytes=result.block_bytes,
        )

    return draw


def _judge_same_load(evidence: StopEvidence) -> Finding:
    by_kind: dict[str, list[SizeResult]] = {}
    claims: list[Claim] = []
    for boot in evidence.boots.values():
        kind = inputs.allocator(boot.snapshot())
        by_kind[kind] = list(load_results(boot))
        for result in by_kind[kind]:
            claims += _memory(kind, result)
    exhibits = (Plate(id="memory", draw=_memory_drawer(by_kind)),)
    return Finding(claims=tuple(claims), exhibits=exhibits)


def _memory(kind: str, result: SizeResult) -> Iterator[Claim]:
    pages = 1 << result.model.order
    scope: Scope = {"allocator": kind, "bytes": result.size}
    if result.not_followed:
        yield unknown("memory", scope, why=result.not_followed)
        return
    yield exact(
        "memory",
        scope,
        predicted=result.blocks_told * pages,
        observed=result.blocks_seen * pages,
        unit=f"pages for {result.live} objects",
        working=(
            *result.model.working,
            f"{result.blocks_told} blocks of {pages} pages",
            f"{result.waste:.1%} of them hold no object",
        ),
    )


def _memory_drawer(by_kind: Mapping[str, Sequence[SizeResult]]) -> Callable[[], Figure]:
    def draw() -> Figure:
        from analysis.figures.tour_slab import draw_memory

        return draw_memory(
            {
                kind: {result.size: result.page_bytes / result.live for result in results}
                for kind, results in by_kind.items()
            }
        )

    return draw


def _judge_kmem_cache(evidence: StopEvidence) -> Finding:
    claims: list[Claim] = []
    exhibits: tuple[Exhibit, ...] = ()
    for label, boot in evidence.boots.items():
        found, phases, requests = life(boot)
        claims += (_in_boot(claim, boot) for claim in found)
        if label == "main":
            demo = of_cache(requests, DEMO)
            exhibits = (
                _attributes(boot),
                Plate(id="lists", draw=_lists_drawer(phases)),
                Plate(id="order", draw=_order_drawer(demo)),
            )
    return Finding(claims=tuple(claims), exhibits=exhibits)


def _attributes(boot: BootEvidence) -> Listing:
    lines = boot.text("phase_scatter").splitlines()
    telling = ("slabs", "objects", "partial", "cpu_slabs", "slabs_cpu_partial", "constructed")
    marked = tuple(
        number for number, line in enumerate(lines, 1) if line.partition(" ")[0] in telling
    )
    return Listing(id="attributes", text="\n".join(lines[:_SIZES_SHOWN]), marked=marked)


def _lists_drawer(phases: Sequence[Phase]) -> Callable[[], Figure]:
    def draw() -> Figure:
        from analysis.figures.tour_slab import draw_lists

        return draw_lists([(phase.command, *phase.model) for phase in phases])

    return draw


def _order_drawer(requests: Sequence[Request]) -> Callable[[], Figure]:
    def draw() -> Figure:
        from analysis.figures.tour_slab import draw_order

        return draw_order([request.address for request in requests[:100]])

    return draw


def _judge_kmalloc(evidence: StopEvidence) -> Finding:
    claims = tuple(
        _in_boot(claim, boot) for boot in evidence.boots.values() for claim in kmalloc_claims(boot)
    )
    lines = evidence.boot().text("dump").splitlines()
    wanted = [line for line in lines if "mmscope_slab: request" in line][:_SIZES_SHOWN]
    marked = tuple(number for number, line in enumerate(wanted, 1) if "non-slab" in line)
    # a kernel before 5.13 says nothing
    listings = (Listing(id="dump", text="\n".join(wanted), marked=marked),) if wanted else ()
    return Finding(claims=claims, exhibits=listings)


def _in_boot(claim: Claim, boot: BootEvidence) -> Claim:
    return replace(claim, scope={"kernel": boot.release, **claim.scope})


JUDGES: Mapping[str, Callable[[StopEvidence], Finding]] = MappingProxyType(
    {
        "slab/slub": _judge_allocator,
        "slab/slab": _judge_allocator,
        "slab/slob": _judge_allocator,
        "slab/same-load": _judge_same_load,
        "slab/kmem-cache": _judge_kmem_cache,
        "slab/kmalloc": _judge_kmalloc,
    }
)
