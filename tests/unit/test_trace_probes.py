"""The table of probes, and finding their functions among a kernel's symbols."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from harness.errors import UsageError
from harness.sampling.trace.events import EVENTS
from harness.sampling.trace.probes import ALWAYS, GROUPS, PROBES, Place, Probe
from harness.sampling.trace.symbols import (
    PlannedProbe,
    functions_of,
    parse_release,
    parse_symbols,
    plan_probes,
    probes_of,
)

KALLSYMS = Path(__file__).parents[1] / "fixtures" / "kallsyms"
RELEASES = sorted(path.stem for path in KALLSYMS.glob("*.txt"))


def plan(*places: Place, symbols: str, release: tuple[int, int] = (6, 1)) -> PlannedProbe:
    probe = Probe(name="it", group="exact", why="", places=places)
    text = "".join(f"ffffffff81000000 t {symbol}\n" for symbol in symbols.split())
    return plan_probes([probe], parse_symbols(text), release)[0]


def test_names_are_sound_and_unique() -> None:
    names = [probe.name for probe in PROBES]
    assert len(set(names)) == len(names)
    assert all(re.fullmatch(r"[a-z_]{3,63}", name) for name in names)
    assert {probe.group for probe in PROBES} == set(GROUPS)
    assert set(ALWAYS) < set(GROUPS)
    assert len(set(EVENTS)) == len(EVENTS)
    assert all(re.fullmatch(r"[a-z_]+/[a-z_]+", event) for event in EVENTS)


@pytest.mark.parametrize("probe", PROBES, ids=lambda probe: probe.name)
def test_arguments_are_such_as_the_kernel_takes(probe: Probe) -> None:
    source = r"\$retval" if probe.returns else r"\$arg[1-6]"
    for place in probe.places:
        words = place.arguments.split()
        assert all(re.fullmatch(rf"[a-z_]+={source}:[usx](8|16|32|64)", word) for word in words)
        names = [word.partition("=")[0] for word in words]
        assert len(set(names)) == len(names)


@pytest.mark.parametrize("probe", PROBES, ids=lambda probe: probe.name)
def test_a_field_means_the_same_in_every_release(probe: Probe) -> None:
    """Types may not change from release to release: readers know a field by its name."""
    types: dict[str, str] = {}
    for place in probe.places:
        for word in place.arguments.split():
            name, _, rest = word.partition("=")
            assert types.setdefault(name, rest.partition(":")[2]) == rest.partition(":")[2]


@pytest.mark.parametrize("release", RELEASES)
def test_stock_kernels_have_what_exact_replay_needs(release: str) -> None:
    symbols = parse_symbols((KALLSYMS / f"{release}.txt").read_text())
    planned = {
        probe.name: probe
        for probe in plan_probes(probes_of(("exact",)), symbols, parse_release(release))
    }
    absent = {name for name, probe in planned.items() if probe.symbol is None}
    if parse_release(release) < (6, 10):
        assert absent == {"split_large_buddy", "move_freepages_block_isolate"}
        assert planned["free_one_page"].symbol == "free_one_page.constprop.0"
    else:
        assert absent == {"split_free_page"}


def test_the_first_place_that_is_there_is_taken() -> None:
    places = Place(function="new"), Place(function="old", arguments="x=$arg1:u32")
    assert plan(*places, symbols="new old").symbol == "new"
    found = plan(*places, symbols="old older")
    assert (found.symbol, found.function) == ("old", "old")
    assert found.definition == "p:mmscope/it old x=$arg1:u32"


def test_a_place_counts_in_its_releases_only() -> None:
    places = (
        Place(function="f", arguments="a=$arg1:u8", before=(6, 10)),
        Place(function="f", arguments="b=$arg1:u8", since=(6, 10)),
    )
    assert "a=" in plan(*places, symbols="f", release=(6, 9)).definition
    assert "b=" in plan(*places, symbols="f", release=(6, 10)).definition
    assert "b=" in plan(*places, symbols="f", release=(7, 0)).definition


def test_what_a_kernel_lacks_is_planned_without_a_symbol() -> None:
    found = plan(Place(function="new", since=(7, 0)), Place(function="old"), symbols="new oldest")
    assert (found.symbol, found.function, found.definition) == (None, "old", "")


@pytest.mark.parametrize(
    ("symbols", "clones", "found"),
    [
        ("f.constprop.0", ("constprop",), "f.constprop.0"),
        ("f f.constprop.0", ("constprop",), "f"),
        ("f.constprop.0", (), None),
        ("f.isra.0", ("constprop",), None),
        ("f.constprop.0.isra.0", ("constprop", "isra"), "f.constprop.0.isra.0"),
        ("f.constprop.0.isra.0", ("constprop",), None),
        ("f.constprop.0 f.constprop.1", ("constprop",), None),
        ("f.constprop.0 f.constprop.0.cold", ("constprop",), "f.constprop.0"),
        ("f.cold ff.constprop.0", ("constprop",), None),
    ],
)
def test_copies_made_by_the_compiler(
    symbols: str, clones: tuple[str, ...], found: str | None
) -> None:
    assert plan(Place(function="f", clones=clones), symbols=symbols).symbol == found


def test_a_copy_with_other_arguments_is_a_place_of_its_own() -> None:
    place = Place(function="f", clones=("constprop",), plain=False)
    assert plan(place, symbols="f").symbol is None
    assert plan(place, symbols="f f.constprop.0").symbol == "f.constprop.0"


def test_return_probes() -> None:
    probe = Probe(
        name="out",
        group="exact",
        why="",
        places=(Place(function="f", arguments="got=$retval:u64"),),
        returns=True,
    )
    planned = plan_probes([probe], frozenset({"f"}), (6, 1))
    assert planned[0].definition == "r:mmscope/out f got=$retval:u64"


def test_symbols_of_modules_data_and_namesakes_are_no_places() -> None:
    text = (
        "ffffffff81000000 t local\n"
        "ffffffff81000010 T global\n"
        "ffffffff81000020 W weak\n"
        "ffffffff81000030 D data\n"
        "ffffffff81000040 t twice\n"
        "ffffffff81000050 t twice\n"
        "ffffffffc0000000 t loaded\t[module]\n"
    )
    assert parse_symbols(text) == {"local", "global", "weak"}


def test_functions_to_look_up_are_all_places() -> None:
    assert functions_of(probes_of(("numa",))) == [
        "__alloc_frozen_pages_noprof",
        "__alloc_pages",
        "__alloc_pages_noprof",
    ]


@pytest.mark.parametrize(
    ("text", "release"),
    [
        ("6.1.0-56-amd64", (6, 1)),
        ("7.3-rc7-amd64", (7, 3)),
        ("7.3-amd64", (7, 3)),
        ("6.12.95+deb12-arm64", (6, 12)),
    ],
)
def test_releases(text: str, release: tuple[int, int]) -> None:
    assert parse_release(text) == release


def test_bad_names_are_refused() -> None:
    with pytest.raises(UsageError, match="no group of probes is called 'exakt'"):
        probes_of(("exakt",))
    with pytest.raises(UsageError, match="release 'mainline'"):
        parse_release("mainline")
