"""For any record, and for any cut through a text."""

from __future__ import annotations

import contextlib
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from analysis.errors import ParseError
from analysis.procfs import (
    buddyinfo,
    fragindex,
    meminfo,
    pagetypeinfo,
    pressure,
    slabinfo,
    task,
    vmstat,
    zoneinfo,
)
from analysis.procfs.scan import SlotReader
from tests.recorded_run import FIXTURES

ROUND = FIXTURES / "6.1-x86_64-3nodes" / "round0"
SYNTHETIC = FIXTURES / "synthetic"

counts = st.integers(0, 2**64 - 1)
nodes = st.integers(0, 1023)
words = st.from_regex(r"[A-Za-z_][A-Za-z0-9_()/-]{0,15}", fullmatch=True)
zones = st.from_regex(r"[A-Z][A-Za-z0-9]{1,9}", fullmatch=True)
places = st.tuples(nodes, zones)


@st.composite
def rows_of(
    draw: st.DrawFn, value: st.SearchStrategy[int]
) -> list[tuple[int, str, tuple[int, ...]]]:
    orders = draw(st.integers(1, 14))
    found = draw(st.lists(places, min_size=1, max_size=6, unique=True))
    return [(*place, tuple(draw(st.tuples(*[value] * orders)))) for place in found]


@given(rows_of(counts))
def test_buddyinfo(drawn: list[tuple[int, str, tuple[int, ...]]]) -> None:
    rows = tuple(buddyinfo.BuddyRow(node=n, zone=z, free_blocks=v) for n, z, v in drawn)
    assert buddyinfo.parse(buddyinfo.render(rows)) == rows


@given(rows_of(st.integers(-1_000_000, 1_000_000)))
def test_fragindex(drawn: list[tuple[int, str, tuple[int, ...]]]) -> None:
    rows = tuple(fragindex.FragRow(node=n, zone=z, values_milli=v) for n, z, v in drawn)
    assert fragindex.parse(fragindex.render(rows)) == rows


@st.composite
def pagetypeinfos(draw: st.DrawFn) -> pagetypeinfo.Pagetypeinfo:
    types = draw(st.lists(zones, min_size=1, max_size=6, unique=True))
    orders = draw(st.integers(1, 14))
    # The kernel goes node by node.
    found = sorted(draw(st.lists(places, min_size=1, max_size=4, unique=True)))
    cells = st.tuples(*[st.tuples(counts, st.booleans())] * orders)
    free = []
    for node, zone in found:
        for migratetype in types:
            row = draw(cells)
            free.append(
                pagetypeinfo.FreeRow(
                    node=node,
                    zone=zone,
                    migratetype=migratetype,
                    free_blocks=tuple(count for count, _ in row),
                    is_bound=tuple(bound for _, bound in row),
                )
            )
    blocks, mixed = (
        tuple(
            pagetypeinfo.BlockRow(
                node=node, zone=zone, blocks={kind: draw(counts) for kind in types}
            )
            for node, zone in found
            if wanted
        )
        for wanted in (True, draw(st.booleans()))
    )
    return pagetypeinfo.Pagetypeinfo(
        pageblock_order=draw(st.integers(0, 13)),
        pages_per_block=draw(st.integers(1, 8192)),
        free=tuple(free),
        blocks=blocks,
        mixed=mixed,
    )


@given(pagetypeinfos())
def test_pagetypeinfo(page: pagetypeinfo.Pagetypeinfo) -> None:
    assert pagetypeinfo.parse(pagetypeinfo.render(page)) == page


@st.composite
def zoneinfos(draw: st.DrawFn) -> zoneinfo.Zoneinfo:
    fields = st.lists(words, max_size=5, unique=True)
    node_stats = {}
    found = []
    for node, name in sorted(draw(st.lists(places, min_size=1, max_size=5, unique=True))):
        populated = draw(st.booleans())
        pages = {"free": draw(counts), "min": draw(counts)}
        pages["present"] = draw(st.integers(1, 2**40)) if populated else 0
        cpus = draw(st.lists(st.integers(0, 300), max_size=3, unique=True)) if populated else []
        own = {*pages, "start_pfn", "node_unreclaimable"}
        counters = [n for n in draw(fields) if n not in own] if populated else []
        found.append(
            zoneinfo.Zone(
                node=node,
                zone=name,
                pages=pages,
                protection=draw(st.lists(counts, min_size=1, max_size=6).map(tuple)),
                counters={counter: draw(counts) for counter in counters},
                cpus=tuple(
                    zoneinfo.ZoneCpu(
                        cpu=cpu, fields={"count": draw(counts), "vm stats threshold": draw(counts)}
                    )
                    for cpu in cpus
                ),
                tail={"node_unreclaimable": 0, "start_pfn": draw(counts)} if populated else {},
            )
        )
        if populated and node not in node_stats:
            node_stats[node] = {n: draw(counts) for n in draw(fields)}
    return zoneinfo.Zoneinfo(zones=tuple(found), node_stats=node_stats)


@given(zoneinfos())
def test_zoneinfo(info: zoneinfo.Zoneinfo) -> None:
    assert zoneinfo.parse(zoneinfo.render(info)) == info


@given(st.dictionaries(words, counts, min_size=1))
def test_vmstat(values: dict[str, int]) -> None:
    counters = vmstat.Counters(values=values)
    assert vmstat.parse(vmstat.render(counters)) == counters


@given(
    st.none() | nodes,
    st.dictionaries(words, st.tuples(counts, st.sampled_from([None, "kB"])), min_size=1),
)
def test_meminfo(node: int | None, fields: dict[str, tuple[int, str | None]]) -> None:
    info = meminfo.Meminfo(
        node=node,
        values={name: value for name, (value, _) in fields.items()},
        units={name: unit for name, (_, unit) in fields.items() if unit},
    )
    assert meminfo.parse(meminfo.render(info)) == info


percents = st.integers(0, 10_000).map(lambda n: n / 100)


@given(st.dictionaries(zones, st.tuples(percents, percents, percents, counts), min_size=1))
def test_pressure(lines: dict[str, tuple[float, float, float, int]]) -> None:
    rows = tuple(
        pressure.Pressure(
            kind=kind, avg10_percent=a, avg60_percent=b, avg300_percent=c, total_us=total
        )
        for kind, (a, b, c, total) in lines.items()
    )
    assert pressure.parse(pressure.render(rows)) == rows


@st.composite
def slabinfos(draw: st.DrawFn) -> slabinfo.Slabinfo:
    names = st.from_regex(r"[a-z_]{1,9}", fullmatch=True)
    columns = draw(st.lists(names, min_size=3, max_size=9, unique=True))
    cut = draw(st.integers(1, len(columns) - 2))
    sections = (
        ("", tuple(columns[:cut])),
        ("tunables", tuple(columns[cut : cut + 1])),
        ("slabdata", tuple(columns[cut + 1 :])),
    )
    caches = draw(st.lists(st.tuples(words, st.tuples(*[counts] * len(columns))), min_size=1))
    return slabinfo.Slabinfo(
        version="2.1",
        sections=sections,
        caches=tuple(slabinfo.SlabCache(name=name, values=values) for name, values in caches),
    )


@given(slabinfos())
def test_slabinfo(info: slabinfo.Slabinfo) -> None:
    assert slabinfo.parse(slabinfo.render(info)) == info


def leaves(record: Any) -> list[tuple[object, ...]]:
    """What a record holds, flat: each value with all that names it."""
    match record:
        case dict():
            return [(key, *leaf) for key, value in record.items() for leaf in leaves(value)]
        case tuple():
            return [leaf for value in record for leaf in leaves(value)]
        case int() | float() | str() | None:
            return [(record,)]
        case _:
            return [
                (name, *leaf)
                for name in type(record).__slots__
                for leaf in leaves(getattr(record, name))
            ]


TEXTS = {
    "buddyinfo": (buddyinfo.parse, ROUND / "buddyinfo"),
    "pagetypeinfo": (pagetypeinfo.parse, ROUND / "pagetypeinfo"),
    "pagetypeinfo-bounds": (pagetypeinfo.parse, SYNTHETIC / "pagetypeinfo-bounds"),
    "zoneinfo": (zoneinfo.parse, ROUND / "zoneinfo"),
    "slabinfo": (slabinfo.parse, ROUND / "slabinfo"),
    "vmstat": (vmstat.parse, ROUND / "vmstat"),
    "meminfo": (meminfo.parse, ROUND / "node0" / "meminfo"),
    "extfrag": (fragindex.parse, SYNTHETIC / "extfrag_index-negative"),
    "pressure": (pressure.parse, ROUND / "pressure" / "memory"),
    "stat": (task.parse_stat, ROUND / "kswapd0" / "stat"),
    "schedstat": (task.parse_schedstat, ROUND / "kswapd0" / "schedstat"),
    "status": (task.parse_status, ROUND / "kswapd0" / "status"),
}


@pytest.mark.parametrize("name", TEXTS)
@given(data=st.data())
def test_a_cut_text_is_refused_or_a_part_of_the_whole(name: str, data: st.DataObject) -> None:
    """Cut anywhere: an error, or values that the whole text has too; none is zero or altered."""
    parse, path = TEXTS[name]
    text = path.read_text()
    cut = data.draw(st.integers(0, len(text) - 1))
    try:
        record = parse(text[:cut])
    except ParseError:
        return
    assert set(leaves(record)) <= set(leaves(parse(text)))


@pytest.mark.parametrize(
    "name", ["pagetypeinfo", "stat", "schedstat", "status", "pagetypeinfo-bounds"]
)
@given(data=st.data())
def test_texts_with_an_end_are_never_cut_unnoticed(name: str, data: st.DataObject) -> None:
    parse, path = TEXTS[name]
    text = path.read_text()
    first_end = len(text)
    if name.startswith("pagetypeinfo"):
        # Between nodes, and before a section that not every kernel prints, the text is whole.
        first_end = min(
            text.find("Page block order", 1), text.find("\nNumber of mixed") % len(text)
        )
    cut = data.draw(st.integers(0, first_end - 1))
    with pytest.raises(ParseError):
        parse(text[:cut])


@pytest.mark.parametrize("name", TEXTS)
@given(data=st.data())
def test_any_change_of_a_byte_is_an_error_or_a_value(name: str, data: st.DataObject) -> None:
    """No other exception ever leaves a parser."""
    parse, path = TEXTS[name]
    text = path.read_text()
    place = data.draw(st.integers(0, len(text) - 1))
    character = data.draw(st.characters(codec="utf-8"))
    with contextlib.suppress(ParseError):
        parse(text[:place] + character + text[place + 1 :])


@given(st.data())
def test_slots_are_where_the_values_are(data: st.DataObject) -> None:
    info = data.draw(zoneinfos())
    text = zoneinfo.render(info)
    runs = [int(run) for run in re.findall("[0-9]+", text)]
    slots = zoneinfo.read(SlotReader(text, "zoneinfo"))
    for zone, places_of in zip(info.zones, slots.zones, strict=True):
        assert zone.fields == {name: runs[slot] for name, slot in places_of.fields.items()}
