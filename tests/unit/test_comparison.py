"""Comparisons as files: what they hold, and what is refused."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from harness.errors import UsageError
from harness.experiment.comparison import load_comparison
from harness.experiment.plan import known_comparisons, known_plans, load_plan
from harness.kernel.own import NO_FILES, OwnFiles
from harness.units import parse_size_bytes

SOUND = """
name = "mine"
description = "Mine"
question = "Is it?"
[machine]
nodes = ["256M"]
append = ["quiet"]
[[variants]]
name = "a"
[[variants]]
name = "b"
append = ["page_alloc.shuffle=1"]
sysctls = { "vm.swappiness" = 10 }
machine = { cpus = 2 }
[[phases]]
name = "null"
load = { workload = "pktring", steps = ["idle"] }
"""


def write(tmp_path: Path, text: str) -> str:
    path = tmp_path / "mine.toml"
    path.write_text(text)
    return str(path)


@pytest.mark.parametrize("name", known_comparisons())
def test_those_that_come_with_mmscope_are_fair(name: str) -> None:
    found = load_comparison(name)
    assert found.name == name
    assert found.repeat >= 5
    assert len(found.variants) >= 2
    plans = [found.plan_of(variant, 1) for variant in found.variants]
    memory = {sum(parse_size_bytes(size) for size in plan.machine.nodes) for plan in plans}
    assert len(memory) == 1, "the machines are equally large"
    assert len({str(plan.phases) for plan in plans}) == 1
    assert [plan.phases[0].name for plan in plans] == ["null"] * len(plans)
    assert [plan.phases[-1].name for plan in plans] == ["after"] * len(plans)
    assert len({variant.arch for variant in found.variants}) == 1


def test_comparisons_and_experiments_are_kept_apart() -> None:
    assert not set(known_comparisons()) & set(known_plans())
    assert {"slub-slab-slob", "numa-on-off", "page-size-4-16-64k", "watermark-boost"} <= set(
        known_comparisons()
    )
    with pytest.raises(UsageError) as raised:
        load_plan("slub-slab-slob")
    assert "mmscope sweep slub-slab-slob" in str(raised.value.fix)
    with pytest.raises(UsageError, match="not a comparison"):
        load_comparison("boot-uma")


def test_a_variant_changes_only_what_it_says(tmp_path: Path) -> None:
    found = load_comparison(write(tmp_path, SOUND))
    plain, other = (found.plan_of(variant, 3) for variant in found.variants)
    assert plain.seed == other.seed == 3
    assert plain.machine.append == ["quiet"]
    assert other.machine.append == ["quiet", "page_alloc.shuffle=1"]
    assert (plain.machine.cpus, other.machine.cpus) == (None, 2)
    assert plain.setup == []
    assert "echo 10 > /proc/sys/vm/swappiness" in other.setup[0]


def test_a_kernel_of_ones_own_has_files_of_its_own(tmp_path: Path) -> None:
    own = 'name = "a"\nkernel = "./vmlinux"\nmodules = "~/m"\nconfig = "/c"'
    first, second = load_comparison(write(tmp_path, SOUND.replace('name = "a"', own, 1))).variants
    assert first.files == OwnFiles(modules=Path.home() / "m", config=Path("/c"))
    assert second.files == NO_FILES


def test_the_order_is_drawn_by_repeat_and_stays() -> None:
    found = load_comparison("kernel-5.10-to-newest")
    order = found.order(8)
    assert order[:25] == found.order(5), "more repeats come after those that are there"
    assert Counter(name for _, name in order) == {each.name: 8 for each in found.variants}
    firsts = {tuple(name for repeat, name in order if repeat == turn) for turn in range(1, 9)}
    assert len(firsts) > 3, "not always the same order"


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('name = "b"', 'name = "a"', "two variants are called 'a'"),
        ('"vm.swappiness" = 10', '"swappiness" = 10', "write it as vm.swappiness"),
        ('"vm.swappiness" = 10', '"vm.swappiness" = "1; reboot"', "not a value"),
        ("cpus = 2", "cpus = 2, discs = 1", "discs"),
        ('steps = ["idle"]', 'steps = ["sleep"]', "steps"),
        ('question = "Is it?"', "", "question"),
        ('name = "a"', 'name = "a"\nkernels = "b"', "kernels"),
        (
            'name = "a"',
            'name = "a"\nmodules = "/m"',
            "modules goes with a kernel given by its path",
        ),
        (
            'name = "a"',
            'name = "a"\nkernel = "bookworm"\nconfig = "/c"',
            "config goes with a kernel given by its path",
        ),
        ("[[variants]]", "[[variants", "mine.toml"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, old: str, new: str, said: str) -> None:
    with pytest.raises(UsageError) as raised:
        load_comparison(write(tmp_path, SOUND.replace(old, new, 1)))
    assert "mine.toml" in raised.value.render()
    assert said in raised.value.render()


def test_unknown_names_are_told_with_those_there_are() -> None:
    with pytest.raises(UsageError) as raised:
        load_comparison("slub-slab")
    assert "slub-slab-slob" in str(raised.value.fix)
    with pytest.raises(UsageError) as raised:
        load_comparison("slub-slab-slob").variant("slup")
    assert "slub, slab, slob" in str(raised.value.fix)
