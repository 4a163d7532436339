"""Experiment files: what comes with mmscope is sound, and what is wrong is named."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.errors import UsageError
from harness.experiment.plan import known_plans, load_plan

GOOD = """
name = "mine"
[machine]
nodes = ["512M", "0"]
[[phases]]
name = "null"
load = { workload = "pktring", steps = ["idle"] }
"""


@pytest.mark.parametrize("name", known_plans())
def test_the_plans_that_come_along_are_sound(name: str) -> None:
    plan = load_plan(name)
    assert plan.name == name
    steps = list(plan.steps())
    assert steps[0].name == "null" or steps[0].phase.traced
    for step in plan.steps():
        assert step.argv(7, step.node), step.name


def test_each_node_leaves_out_memoryless_ones() -> None:
    names = [step.name for step in load_plan("boot-numa4").steps()]
    assert "pktring-node3" in names
    assert "pktring-node2" not in names


def test_uma_is_not_bound_to_a_node() -> None:
    assert {step.node for step in load_plan("boot-uma").steps()} == {None}


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ('"512M"', '"lots"', "machine.nodes.0"),
        ('["idle"]', '["take:0:5"]', "a step is take:BLOCKS:ORDER"),
        ('"pktring"', '"gzip"', "gzip"),
        ('name = "null"', 'name = "null"\nnode = 7', "no node 7"),
        ("[machine]", "[machine]\ncpu = 3", "machine.cpu"),
        ("[machine]", '[machine]\ndistances = ["0,9=20"]', "no node 9"),
        ('name = "mine"', 'name = "Mine!"', "name"),
        ("[[phases]]", "[[phases", "mine.toml"),
    ],
)
def test_a_fault_is_named_with_its_place(
    old: str, new: str, complaint: str, tmp_path: Path
) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(GOOD.replace(old, new))
    with pytest.raises(UsageError) as caught:
        load_plan(str(path))
    assert complaint in caught.value.render()
    assert "mine.toml" in caught.value.message


def test_phases_of_one_name_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(GOOD + GOOD[GOOD.index("[[phases]]") :])
    with pytest.raises(UsageError) as caught:
        load_plan(str(path))
    assert "two phases are called 'null'" in caught.value.render()


def test_an_unknown_name_lists_the_known() -> None:
    with pytest.raises(UsageError, match="'boot-nuna'") as caught:
        load_plan("boot-nuna")
    assert "boot-numa" in str(caught.value.fix)


@pytest.mark.parametrize(
    ("node", "complaint"), [("-1", "greater than or equal to 0"), ("1", "no memory")]
)
def test_a_phase_is_bound_to_a_node_with_memory(node: str, complaint: str, tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(GOOD.replace('name = "null"', f'name = "null"\nnode = {node}'))
    with pytest.raises(UsageError) as caught:
        load_plan(str(path))
    assert complaint in caught.value.render()
