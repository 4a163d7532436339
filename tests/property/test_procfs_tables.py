"""The fast way into the tables and the strict parsers agree on every text."""

from __future__ import annotations

from collections.abc import Callable

from hypothesis import given
from hypothesis import strategies as st

from analysis.bundle import Sample
from analysis.errors import ParseError
from analysis.procfs import buddyinfo, vmstat
from analysis.tables.shapes import TextGrammar, grammar_of
from analysis.tables.stencil import TextSeries

Flat = list[tuple[object, ...]]


@st.composite
def texts(draw: st.DrawFn, *heads: str) -> list[str]:
    """A sound text, then others with the same heads of lines but other numbers after them."""
    chosen = draw(st.lists(st.sampled_from(heads), min_size=1, max_size=3, unique=True))
    number = st.sampled_from(["1", "22", "22", "x"])
    numbers = st.lists(number, max_size=2).map(" ".join)
    end = st.sampled_from(["\n", "\n", "\n", " \n", ""])
    return [
        "".join(f"{head}1\n" for head in chosen),
        *(
            "".join(head + draw(numbers) + draw(end) for head in chosen)
            for _ in range(draw(st.integers(1, 5)))
        ),
    ]


def agree(name: str, strict: Callable[[str], Flat], drawn: list[str]) -> None:
    """Takes the texts one after another; an error, or the rows, must be those of ``strict``."""
    grammar = grammar_of(name)
    assert isinstance(grammar, TextGrammar)
    series = TextSeries(name, grammar)
    accepted: list[Flat] = []
    for ordinal, text in enumerate(drawn):
        sample = Sample(name=name, round=0, start_ns=0, end_ns=0, payload=text.encode())
        try:
            expected = strict(text)
        except ParseError:
            expected = []
        try:
            series.take(ordinal, sample)
        except ParseError:
            assert not expected
        else:
            assert expected
        accepted.append(expected)
    found: list[Flat] = [[] for _ in drawn]
    for batch in series.batches:
        for ordinal, numbers in zip(batch.ordinals, batch.numbers, strict=True):
            for sheet in batch.sheets:
                found[ordinal] = [
                    (*labels, int(numbers[places[0]]))
                    for labels, places in zip(sheet.labels, sheet.places, strict=True)
                ]
    assert found == accepted


@given(texts("a ", "b2 ", "b3 "))
def test_vmstat(drawn: list[str]) -> None:
    agree("vmstat", lambda text: list(vmstat.parse(text).values.items()), drawn)


@given(texts("Node 0, zone DMA ", "Node 1, zone DMA32 ", "Node 1, zone DMA3 "))
def test_buddyinfo(drawn: list[str]) -> None:
    def strict(text: str) -> Flat:
        return [
            ("before", row.node, row.zone, order, count)
            for row in buddyinfo.parse(text)
            for order, count in enumerate(row.free_blocks)
        ]

    agree("buddyinfo", strict, drawn)
