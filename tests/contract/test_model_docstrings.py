"""Every public rule of the model names the kernel source it describes and what it ignores."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import re
import statistics
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import analysis.model
from analysis.compare.rule import Rule
from analysis.compare.static.registry import RULES
from analysis.report.explain import sections

MACHINERY = {
    "analysis.model.allocator.counterfactual": "says how the model departs from the kernel",
    "analysis.model.allocator.policy": "says how the model departs from the kernel",
    "analysis.model.compiled.layout": "how the compiled engine lays out its words",
    "analysis.model.compiled.pack": "how the compiled engine lays out its words",
    "analysis.model.compiled.sources": "which sources the compiled engine was compiled from",
    "analysis.model.compiled.view": "reads the compiled engine's words",
    "analysis.model.release": "reads a release's text",
}
"""Modules that hold no rule of the kernel, and what they hold instead."""

Function = Callable[..., object]
MEDIAN_LINES = 200
"""STYLE.md: one subject a file, as drgn's helpers do it (median 135 lines); nothing above 300
without a reason."""


def public_functions() -> Iterator[tuple[str, Function]]:
    for found in pkgutil.walk_packages(analysis.model.__path__, "analysis.model."):
        if found.name in MACHINERY:
            continue
        module = importlib.import_module(found.name)
        for name, value in vars(module).items():
            ours = inspect.isfunction(value) and value.__module__ == found.name
            if ours and not name.startswith("_"):
                yield f"{found.name}.{name}", value


FUNCTIONS = dict(public_functions())


def test_machinery_is_there() -> None:
    for name in MACHINERY:
        importlib.import_module(name)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_rule_names_its_source_and_its_limits(name: str) -> None:
    said = sections(FUNCTIONS[name])
    assert said["summary"], f"{name}: what it gives"
    assert said.get("Kernel"), f"{name}: Kernel: file and function"
    assert said.get("Ignores"), f"{name}: Ignores: what it leaves out, or 'nothing known'"


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.id)
def test_a_claim_is_explained(rule: Rule) -> None:
    assert len(rule.says) > 60, "a reader who does not know the rule learns it here"
    assert rule.says.endswith(".")
    assert rule.inputs
    for names in rule.inputs:
        for name in names.split(" | "):
            assert re.fullmatch(r"[\w./*-]+", name), f"{name!r}: a canonical name"
    assert rule.observed
    assert rule.model, "the functions that predict"
    for function in rule.model:
        assert function.__module__.startswith("analysis.model."), function


def test_rules_have_ids_of_their_own() -> None:
    ids = [rule.id for rule in RULES]
    assert len(set(ids)) == len(ids)


def test_modules_of_the_model_are_short() -> None:
    root = Path(analysis.model.__file__).parent
    lines = [len(path.read_text().splitlines()) for path in root.rglob("*.py")]
    assert statistics.median(length for length in lines if length > 3) <= MEDIAN_LINES
