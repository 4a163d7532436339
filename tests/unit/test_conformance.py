"""Every rule on every stored capture: none fails, few are unknown, and each can fail."""

from __future__ import annotations

import dataclasses
import importlib
import io
import pkgutil
from collections import Counter
from collections.abc import Mapping
from functools import cache
from pathlib import Path

import pytest
from rich.console import Console

import tests.mutations
from analysis.capture.snapshot import Snapshot
from analysis.capture.source import Source, captures_in
from analysis.compare.conformance import Conformance, Result, conformance
from analysis.compare.rule import Rule
from analysis.compare.static.registry import PARTS, RULES
from analysis.errors import CaptureError
from analysis.report.conformance import (
    BEGIN,
    END,
    archives_in,
    complaints,
    details,
    embed,
    summary_table,
    terminal_table,
)
from analysis.verdict import Verdict
from tests.mutations.mutation import Mutation
from tests.recorded_run import FIXTURES

CAPTURES = FIXTURES / "captures"
ROOT = Path(__file__).parents[2]


def mutations() -> dict[str, Mutation]:
    found: dict[str, Mutation] = {}
    for module in pkgutil.iter_modules(tests.mutations.__path__, "tests.mutations."):
        of_part: Mapping[str, Mutation] = getattr(
            importlib.import_module(module.name), "MUTATIONS", {}
        )
        assert found.keys().isdisjoint(of_part), f"{module.name}: a rule has two mutations"
        found.update(of_part)
    return found


MUTATIONS = mutations()
TRIES = 4
KERNELS = 3


@cache
def sources() -> dict[str, Source]:
    return {
        f"{archive.name}/{name}": source
        for archive in archives_in(CAPTURES)
        for name, source in captures_in(archive).items()
    }


@pytest.fixture(scope="module")
def found() -> Conformance:
    return conformance(archives_in(CAPTURES), jobs=2)


@pytest.mark.timeout(600)
def test_no_claim_fails_and_no_rule_is_undone(found: Conformance) -> None:
    assert found.captures() >= 60
    assert complaints(found) == []


def test_every_rule_is_judged_somewhere(found: Conformance) -> None:
    never = [rule for rule in found.rules if found.count([rule])[0] == 0]
    assert never == []


def test_the_tables_are_the_current_ones(found: Conformance) -> None:
    """After a change: make conformance."""
    assert f"{BEGIN}\n{summary_table(found)}{END}" in (ROOT / "README.md").read_text()
    assert (ROOT / "docs" / "conformance.md").read_text() == details(found)


def test_every_rule_has_a_mutation() -> None:
    assert {rule.id for rule in RULES} == MUTATIONS.keys()


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.id)
def test_a_changed_field_makes_the_rule_fail(rule: Rule) -> None:
    """On captures on which the rule holds; of each kernel a few, until it failed on three."""
    mutation = MUTATIONS[rule.id]
    tries: Counter[str] = Counter()
    failed: set[str] = set()
    for name, source in sources().items():
        kernel = name.partition("/")[0]
        text = source.text(mutation.file)
        if kernel in failed or tries[kernel] == TRIES or text is None:
            continue
        changed = mutation.apply(text)
        if changed is None or verdicts(rule, source) != {Verdict.HOLDS}:
            continue
        tries[kernel] += 1
        if Verdict.FAILS in verdicts(rule, with_text(source, mutation.file, changed)):
            failed.add(kernel)
            if len(failed) == KERNELS:
                return
    assert failed, f"{mutation.pattern} in {mutation.file} was changed {tries.total()} times"


def verdicts(rule: Rule, source: Source) -> set[Verdict]:
    """Without the unknown ones."""
    return {claim.verdict for claim in rule.claims(Snapshot(source))} - {Verdict.UNKNOWN}


def with_text(source: Source, name: str, text: str) -> Source:
    place = source.find(name) or name
    content = text.encode("utf-8", "surrogateescape")
    return dataclasses.replace(source, files={**source.files, place: content.__bytes__})


def result(rule: str, *, holds: int = 0, fails: int = 0, unknown: int = 0) -> Result:
    return Result(
        rule=rule,
        kernel="6.1.0",
        capture=f"c{holds}{unknown}",
        count=(holds, fails, unknown),
        lacking=False,
        failing=(),
        reasons=(("no reason", unknown),) if unknown else (),
    )


def test_a_rule_unknown_too_often_is_not_done() -> None:
    some = Conformance(results=(result("a", holds=1), result("a", unknown=2)))
    assert some.undone() == {"a": 0.5}
    assert "not done: a is unknown on 50%" in complaints(some)[0]
    assert Conformance(results=(result("a", holds=1, unknown=9),)).undone() == {}


def test_the_terminal_shows_series_of_kernels() -> None:
    shown = io.StringIO()
    console = Console(width=120, file=shown)
    rule = RULES[0].id
    both = [
        dataclasses.replace(result(rule, holds=n), kernel=kernel)
        for n, kernel in ((20, "6.1.0-1-amd64"), (4, "6.1.0-1-arm64"), (300, "6.12.3"))
    ]
    console.print(terminal_table(Conformance(results=tuple(both))))
    text = shown.getvalue()
    assert "24/0/0" in text
    assert "300/0/0" in text
    assert "324/0/0" in text
    assert "2 captures" in text


def test_marks_of_the_table(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n")
    embed(page, "new\n")
    assert page.read_text() == f"before\n{BEGIN}\nnew\n{END}\nafter\n"
    page.write_text(f"{BEGIN}\n")
    with pytest.raises(CaptureError, match="lacks the line"):
        embed(page, "new\n")


def test_parts_are_named() -> None:
    assert sum(map(len, PARTS.values())) == len(RULES)
