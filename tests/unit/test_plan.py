"""Experiment files: what comes with mmscope is sound, and what is wrong is named."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from harness.errors import UsageError
from harness.experiment.plan import Plan, known_plans, load_plan
from harness.workload.command import Command
from harness.workload.forks import Forks
from harness.workload.load import SingleLoad, Together
from harness.workload.mechanism import Placement

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


TRACED = """
name = "mine"
[machine]
nodes = ["512M", "256M"]
swap = "64M"
[[phases]]
name = "first"
load = { workload = "slabchurn", objects = 10 }
[[phases]]
name = "anon"
traced = true
again = true
limit = true
load = { workload = "thrash", bytes = "50%" }
[[phases]]
name = "forks"
traced = true
groups = ["numa"]
each_node = true
load = { workload = "forks", processes = 2, bytes = "4M" }
"""


def plan_of(text: str, directory: Path) -> Plan:
    path = directory / "mine.toml"
    path.write_text(text)
    return load_plan(str(path))


def test_again_follows_the_window_that_it_repeats(tmp_path: Path) -> None:
    steps = list(plan_of(TRACED, tmp_path).steps())
    assert [(step.name, step.again_of) for step in steps] == [
        ("first", None),
        ("anon", None),
        ("anon-again", "anon"),
        ("forks-node0", None),
        ("forks-node1", None),
    ]
    assert steps[1].argv(3, None, marks=False) == steps[2].argv(3, None, marks=False)


def test_groups_of_probes_add_up(tmp_path: Path) -> None:
    plan = plan_of(TRACED, tmp_path)
    groups = {step.name: plan.groups_of(step) for step in plan.steps()}
    assert groups["anon"] == ("exact", "predict", "limit")
    assert groups["forks-node1"] == ("exact", "predict", "numa")
    assert plan.groups == ("exact", "predict", "limit", "numa")


def test_a_load_without_a_sampler_sets_no_marks(tmp_path: Path) -> None:
    step = next(plan_of(TRACED, tmp_path).steps())
    assert "--label" in step.argv(1, None)
    assert "--label" not in step.argv(1, None, marks=False)


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ("traced = true\nagain = true\n", "again = true\n", "limit says how a phase is traced"),
        ("traced = true\ngroups", "groups", "groups says how a phase is traced"),
        ('["numa"]', '["all"]', "phases.2.groups.0"),
        ('swap = "64M"', 'swap = "64Q"', "machine.swap"),
        ("[[phases]]", "[trace]\nbuffer_kb = 1\n[[phases]]", "trace.buffer_kb"),
        ("[[phases]]", "[trace]\nsnapshot = false\n[[phases]]", "again needs trace.snapshot"),
        ("[[phases]]", "[trace]\nproc_sampler = true\n[[phases]]", "trace.snapshot = false"),
        ('"50%"', '"150%"', "thrash.bytes"),
        ('name = "first"', 'name = "anon-again"', "two phases are called 'anon-again'"),
        ("each_node = true", "repeat = 0", "repeat"),
        ("each_node = true", 'arch = ["riscv64"]', "phases.2.arch"),
    ],
)
def test_a_fault_of_tracing_is_named(old: str, new: str, complaint: str, tmp_path: Path) -> None:
    assert old in TRACED
    with pytest.raises(UsageError) as caught:
        plan_of(TRACED.replace(old, new, 1), tmp_path)
    assert complaint in caught.value.render()


def test_swap_needs_a_disk(tmp_path: Path) -> None:
    text = TRACED.replace('swap = "64M"\n', "").replace("again = true", "swap = true")
    with pytest.raises(UsageError) as caught:
        plan_of(text, tmp_path)
    assert "'anon': the machine has no swap disk" in caught.value.render()


def test_windows_come_after_what_is_sampled(tmp_path: Path) -> None:
    first = TRACED[TRACED.index("[[phases]]") : TRACED.index('[[phases]]\nname = "anon"')]
    text = TRACED.replace(first, "") + first
    with pytest.raises(UsageError) as caught:
        plan_of(text, tmp_path)
    assert "'first': the /proc sampler ends where the windows begin" in caught.value.render()
    sampled = text.replace("again = true\n", "").replace(
        "[[phases]]", "[trace]\nsnapshot = false\nproc_sampler = true\n[[phases]]", 1
    )
    assert [step.name for step in plan_of(sampled, tmp_path).steps()][-1] == "first"


def test_a_phase_can_be_for_one_architecture() -> None:
    plan = load_plan("replay-uma1")
    only_arm64 = {s.name for s in plan.steps("arm64")} - {s.name for s in plan.steps("x86_64")}
    assert only_arm64 == {"contig"}


def test_i386_guests_run_what_is_not_traced() -> None:
    plain = load_plan("boot-uma")
    plain.check_arch("i386")
    assert [s.name for s in plain.steps("i386")] == [s.name for s in plain.steps("x86_64")]
    traced = load_plan("replay-smoke")
    traced.check_arch("arm64")
    with pytest.raises(UsageError, match="'anon' is traced, which i386 guests cannot be"):
        traced.check_arch("i386")


def test_a_base_gives_what_is_not_said(tmp_path: Path) -> None:
    plan = load_plan("replay-numa2")
    base = load_plan("replay-uma1")
    assert plan.phases == base.phases
    assert (len(plan.machine.nodes), plan.machine.cpus) == (2, 2)
    assert plan.machine.swap == base.machine.swap
    for wrong in ("nothing", "replay-numa2"):
        with pytest.raises(UsageError, match=f"{wrong}' is no experiment to build on"):
            plan_of(f'base = "{wrong}"\n', tmp_path)


def test_jobs_at_once_have_seeds_of_their_own() -> None:
    loads: list[SingleLoad] = [
        Forks(processes=1, bytes="1M"),
        Command(command=["sh", "-c", "it's"]),
        Forks(processes=1, bytes="1M"),
    ]
    shell = Together(loads=loads).argv(Placement(label=None, seed=5))
    assert shell[:2] == ["/run/mmscope/bin/busybox", "sh"]
    assert "--seed 5 " in shell[3]
    assert "--seed 7 " in shell[3]
    assert shell[3].count(" & jobs=") == 3


@pytest.mark.parametrize(("statuses", "worst"), [((0, 0), 0), ((0, 3), 3), ((137, 1), 137)])
def test_jobs_at_once_end_with_the_worst_status(statuses: tuple[int, int], worst: int) -> None:
    loads: list[SingleLoad] = [Command(command=["sh", "-c", f"exit {s}"]) for s in statuses]
    argv = Together(loads=loads).argv(Placement(label=None, seed=1))
    assert subprocess.run(argv[1:], check=False, timeout=20).returncode == worst


def test_shapes_lay_the_machine_out_and_extend_it(tmp_path: Path) -> None:
    shaped = GOOD.replace("[machine]", '[machine]\nshapes = ["numa4", "zram"]\ncpus = 1')
    plan = plan_of(shaped, tmp_path)
    machine = plan.composition("arm64")
    assert [part.size_bytes >> 20 for part in plan.nodes()] == [512, 256, 0, 1024]
    assert sum(len(part.cpus) for part in machine.nodes) == 4, "the layout is the shape's"
    assert machine.modules == ("zram",)
    more = plan.with_shapes(["hot-dimm"])
    assert more.composition("x86_64").shapes == ("numa4", "zram", "hot-dimm")
    with pytest.raises(UsageError, match="'hot-dimm' is not possible on arm64"):
        more.composition("arm64")
    assert [step.name for step in more.steps()] == [step.name for step in plan.steps()]


def test_a_swap_disk_of_a_shape_is_the_plans(tmp_path: Path) -> None:
    plan = plan_of(GOOD.replace("[machine]", '[machine]\nshapes = ["swap"]'), tmp_path)
    assert plan.swap_bytes == 512 << 20
    assert len(plan.nodes()) == 2


@pytest.mark.parametrize(
    ("shapes", "complaint"),
    [('["numa2", "numa4"]', "'numa2' and 'numa4'"), ('["numa22"]', "no shape is called 'numa22'")],
)
def test_shapes_that_cannot_be_are_named_with_the_file(
    shapes: str, complaint: str, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=complaint) as caught:
        plan_of(GOOD.replace("[machine]", f"[machine]\nshapes = {shapes}"), tmp_path)
    assert "mine.toml" in caught.value.message
    assert caught.value.fix


def test_a_phase_must_fit_the_machine_with_its_shapes(tmp_path: Path) -> None:
    text = GOOD.replace('"0"', '"512M"').replace('name = "null"', 'name = "null"\nnode = 1')
    plan = plan_of(text, tmp_path)
    assert plan.with_shapes(["numa2"]).nodes()[1].size_bytes
    with pytest.raises(UsageError, match=r"cannot run on the shapes memoryless: .*no memory"):
        plan.with_shapes(["memoryless"])
