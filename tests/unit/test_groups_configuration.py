"""What is said to differ between two groups in configuration."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from analysis.compare.groups.configuration import Differing, check_alike, differences
from analysis.compare.groups.run import Configured, accelerator
from analysis.errors import SelectionError
from harness.experiment.comparison import Variant


def configured(
    settings: Mapping[str, str] | None = None, setup: tuple[str, ...] = ()
) -> Configured:
    return Configured(
        release="6.1",
        version="6.1-1",
        arch="x86_64",
        accel="tcg",
        symbols={},
        parameters=(),
        settings=settings or {},
        machine={},
        setup=setup,
        plan={},
        image="",
    )


def told(first: Configured, second: Configured) -> list[tuple[str, str, str, str]]:
    def row(each: Differing) -> tuple[str, str, str, str]:
        return each.kind, each.name, each.first, each.second

    return [row(each) for each in differences(first, second)]


def variant(**sysctls: int) -> tuple[str, ...]:
    return tuple(Variant(name="x", sysctls={f"vm.{k}": v for k, v in sysctls.items()}).setup())


def test_setup_lines_of_one_group_are_told() -> None:
    first = configured(setup=("swapoff -a", "mkdir -p /mnt"))
    second = configured(setup=("mkdir -p /mnt", "echo never > /sys/x"))
    assert told(first, second) == [
        ("setup", "swapoff -a", "given", ""),
        ("setup", "echo never > /sys/x", "", "given"),
    ]
    assert told(first, first) == []


def test_setup_in_another_order_is_told() -> None:
    first, second = configured(setup=("a", "b")), configured(setup=("b", "a"))
    assert told(first, second) == [("setup", "order", "a; b", "b; a")]


def test_runs_of_one_group_are_set_up_alike() -> None:
    with pytest.raises(SelectionError, match="setup swapoff -a is given in one and absent"):
        check_alike("mixed", [configured(setup=("swapoff -a",)), configured()])


def test_a_sysctl_of_a_variant_is_told_once() -> None:
    first = configured({"vm.swappiness": "10"}, variant(swappiness=10))
    second = configured({"vm.swappiness": "90"}, variant(swappiness=90))
    assert told(first, second) == [("setting", "vm.swappiness", "10", "90")]
    lines = variant(swappiness=10)
    without_effect = configured({"vm.swappiness": "10"}), configured({"vm.swappiness": "10"}, lines)
    assert told(*without_effect) == [("setup", lines[0], "", "given")]
    more = configured({"vm.swappiness": "10"}, ("echo 10 > /proc/sys/vm/swappiness; swapoff -a",))
    assert [row[0] for row in told(more, second)] == ["setup", "setting"]


@pytest.mark.parametrize("name", ["min_free_kbytes", "user_reserve_kbytes", "admin_reserve_kbytes"])
@pytest.mark.parametrize("with_sysctl", [False, True])
def test_what_each_boot_computes_is_told_only_where_the_plan_sets_it(
    name: str, with_sysctl: bool
) -> None:
    first = configured({f"vm.{name}": "2842"})
    computed = configured({f"vm.{name}": "2846"})
    assert told(first, computed) == []
    lines = (f"sysctl -w vm.{name}=65536",) if with_sysctl else variant(**{name: 65536})
    set_by_plan = configured({f"vm.{name}": "65536"}, lines)
    assert ("setting", f"vm.{name}", "2842", "65536") in told(first, set_by_plan)
    assert ("setting", f"vm.{name}", "65536", "2842") in told(set_by_plan, first)


def test_lowmem_reserve_ratio_is_a_setting_like_any_other() -> None:
    first = configured({"vm.lowmem_reserve_ratio": "256 256 32 0"})
    second = configured({"vm.lowmem_reserve_ratio": "256 256 0 0"})
    assert [row[1] for row in told(first, second)] == ["vm.lowmem_reserve_ratio"]


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["qemu", "-machine", "q35,accel=tcg", "-smp", "2"], "tcg"),
        (["qemu", "-machine", "q35", "-accel", "tcg"], "tcg"),
        (["qemu", "-accel", "tcg,thread=single", "-smp", "2"], "tcg,thread=single"),
    ],
)
def test_cpus_that_took_turns_are_told(argv: list[str], said: str) -> None:
    assert accelerator(argv, "tcg") == said
