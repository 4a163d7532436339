"""The memory map and the nodes against what the kernel printed of them."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator

from analysis.capture.snapshot import Snapshot
from analysis.compare.claim import Claim, Number
from analysis.compare.rule import Rule, exact, unknown
from analysis.compare.static.layout.capture import (
    LayoutInputError,
    LayoutUnknownError,
    boot,
)
from analysis.compare.static.layout.inputs import placement
from analysis.compare.static.layout.judge import Predicted, Predictions, judge, per_node
from analysis.compare.static.layout.map import (
    added_memory,
    added_unknown,
    parameter_map,
    physical_tree,
    settled_map,
    user_map,
)
from analysis.errors import MissingInputError
from analysis.model.layout import (
    memory_map,
    nodes,
    numa_fake,
)
from analysis.model.layout.eras_layout import LayoutEra
from analysis.model.layout.memory_map import MapEntry
from analysis.model.layout.pfn import Span, merged

INPUTS = (
    "dmesg | sys/firmware/memmap/*/start | proc/iomem",
    "proc/cmdline",
    "config",
)


def shown_bytes(span: Span, page: int) -> str:
    return f"{span.start * page:#x}-{span.end * page - 1:#x}"


def _ram(entries: tuple[MapEntry, ...]) -> str:
    """The RAM of a map; pieces that the kernel keeps apart for its own use are joined."""
    spans = merged(Span(e.start, e.end) for e in entries if e.type == memory_map.RAM)
    return ", ".join(shown_bytes(span, 1) for span in spans)


def _memory_map(snapshot: Snapshot) -> Iterator[Claim]:
    rule_id = "memory_map"
    if snapshot.arch not in ("x86_64", "i386"):
        yield unknown(rule_id, why="the kernel shows a firmware map on x86 only", lacking=True)
        return
    try:
        entries, steps = parameter_map(snapshot)
        shown = user_map(snapshot)
        if shown:
            yield exact(
                rule_id,
                {"map": "user-defined physical RAM map"},
                predicted=_ram(entries),
                observed=_ram(memory_map.resolved(shown)),
                unit="bytes",
                working=steps,
            )
        if not snapshot.has("proc/iomem"):
            raise MissingInputError("proc/iomem")
        entries, changes = settled_map(snapshot, entries, final=True)
        ram = [
            MapEntry(start=resource.start, end=resource.end, type=memory_map.RAM)
            for resource in physical_tree(snapshot).resources
            if resource.depth == 0 and resource.name == "System RAM"
        ]
        known = [Span(e.start, e.end) for e in entries if e.type == memory_map.RAM]
        added = added_memory(snapshot, known)
        if any(span.start <= entry.start < span.end for span in added for entry in ram):
            raise added_unknown(added)
    except LayoutUnknownError as error:
        lacking = isinstance(error, LayoutInputError)
        yield unknown(rule_id, {"map": "proc/iomem"}, why=str(error), lacking=lacking)
        return
    yield exact(
        rule_id,
        {"map": "proc/iomem"},
        predicted=_ram(entries),
        observed=_ram(tuple(ram)),
        unit="bytes",
        working=(*steps, *changes, "without the first page and the BIOS area"),
    )


def _by_node(spans: Iterable[tuple[int, Span]], page: int = 1) -> dict[Hashable, Number]:
    """Node → its ranges in bytes, one after the other; spans are in pages of that size."""
    texts: dict[int, list[str]] = {}
    for node, span in spans:
        texts.setdefault(node, []).append(shown_bytes(span, page))
    return {node: ", ".join(text) for node, text in texts.items()}


def _node_range(snapshot: Snapshot) -> Iterator[Claim]:
    page = snapshot.page_size_bytes
    said = _by_node((b.node, Span(b.start, b.end)) for b in boot(snapshot).node_ranges)
    if not said:
        raise MissingInputError("dmesg: Early memory node ranges")

    def predict(era: LayoutEra) -> Predictions:
        plan = placement(snapshot, era)
        texts = _by_node(((piece.node, piece.span) for piece in plan.ranges), page)
        return {node: Predicted(value=text, working=plan.steps) for node, text in texts.items()}

    yield from judge(
        "node_range",
        snapshot,
        predict=predict,
        observed=said,
        scope=per_node,
        unit="bytes",
        absent="none",
    )


def _initmem_range(snapshot: Snapshot) -> Iterator[Claim]:
    rule_id, page = "initmem_range", snapshot.page_size_bytes
    found = boot(snapshot)
    # To 5.10 a node without memory is printed from 0 to 0.
    said: dict[Hashable, Number] = {
        node: shown_bytes(Span(*span), 1)
        for node, span in found.node_setups.items()
        if span != (0, 1)
    }
    if not said or not found.node_ranges:  # which come before: else some may be lost
        raise MissingInputError("dmesg: Early memory node ranges, and Initmem setup node")
    if not (found.srat or found.single_node or snapshot.nodes == (0,)):
        yield unknown(rule_id, why="without SRAT nothing else says where nodes end", lacking=True)
        return

    def predict(era: LayoutEra) -> Predictions:
        plan = placement(snapshot, era)
        return {
            node: Predicted(
                value=shown_bytes(span, page),
                working=(*plan.steps, f"node {node}: from its first page to its last"),
            )
            for node, span in nodes.node_extents(plan.ranges).items()
        }

    yield from judge(
        rule_id,
        snapshot,
        predict=predict,
        observed=said,
        scope=per_node,
        unit="bytes",
        absent="none",
    )


def _fake_node(snapshot: Snapshot) -> Iterator[Claim]:
    asked = [v for v in snapshot.cmdline.all("numa") if v.startswith("fake=")]
    if not asked:
        return
    said = _by_node((b.node, Span(b.start, b.end)) for b in boot(snapshot).fake_nodes)

    def predict(era: LayoutEra) -> Predictions:
        plan = placement(snapshot, era)
        texts = _by_node(((piece.node, piece.span) for piece in plan.fake), 1)
        return {node: Predicted(value=text, working=plan.steps) for node, text in texts.items()}

    yield from judge(
        "fake_node",
        snapshot,
        predict=predict,
        observed=said,
        scope=per_node,
        unit="bytes",
        absent="none",
    )


RULES: tuple[Rule, ...] = (
    Rule(
        id="memory_map",
        says="mem=SIZE takes RAM above SIZE out of the firmware's map; memmap= adds, retypes or "
        "takes out ranges, each in the order of the command line. Where entries overlap the "
        "higher type number counts. The kernel then takes away the first page and the BIOS area; "
        "what remains as RAM is the System RAM of proc/iomem.",
        inputs=("dmesg | sys/firmware/memmap/*/start", "proc/cmdline"),
        observed="proc/iomem, System RAM; dmesg, user-defined physical RAM map",
        model=(memory_map.with_parameters, memory_map.resolved, memory_map.retyped),
        judge=_memory_map,
    ),
    Rule(
        id="node_range",
        says="Memory is the RAM of the firmware's map without the first page, the BIOS area and "
        "pages that it shares with something else. Each range belongs to the node whose SRAT "
        "range (or numa=fake= part) it lies in, and is cut at the borders. Without a NUMA "
        "description all of it is node 0.",
        inputs=INPUTS,
        observed="dmesg, Early memory node ranges",
        model=(
            memory_map.trimmed,
            memory_map.memblock_memory,
            nodes.cleaned,
            nodes.assigned,
            nodes.in_pages,
        ),
        judge=_node_range,
    ),
    Rule(
        id="initmem_range",
        says="A node is set up from the first to the last page of its memory, holes and other "
        "nodes' memory in between included. Where only this line says which node has which memory "
        "it is an input, and not judged.",
        inputs=INPUTS,
        observed="dmesg, Initmem setup node",
        model=(memory_map.memblock_memory, nodes.cleaned, nodes.assigned, nodes.node_extents),
        judge=_initmem_range,
    ),
    Rule(
        id="fake_node",
        says="numa=fake=N cuts all memory into N nodes of equal size, in turns over the physical "
        "nodes; a size with M or G asks for nodes of that size, NU for N parts of each node. "
        "Sizes are multiples of 32 MiB of memory without holes; the last node takes the rest.",
        inputs=INPUTS,
        observed="dmesg, Faking node N at",
        model=(numa_fake.fake_nodes,),
        judge=_fake_node,
    ),
)
