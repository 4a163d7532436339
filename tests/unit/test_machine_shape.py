"""Shapes compose into one machine, and what contradicts itself is refused with both names."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest

from harness.errors import UsageError
from harness.machine.argv import Endpoints, qemu_argv
from harness.machine.shape import ARCHES, Composition, Layout, check_needs, common_arch, compose
from harness.machine.shape_catalog import find_shapes, load_shapes
from harness.machine.spec import HotMemory, KernelLimits, MachineSpec, NodeSpec, check_spec

MIB = 1 << 20
SHAPES = load_shapes()
WANTED = {
    *("uma", "uma5g", "small", "odd", "numa2", "numa4", "memoryless", "cpuless", "fake4"),
    *("movablecore", "kernelcore", "hot-dimm", "virtio-mem", "pmem", "swap", "zram", "cma"),
}


def made(*names: str, arch: str = "x86_64", **options: Any) -> Composition:
    return compose(find_shapes(names), arch=arch, **options)


def spec_of(composition: Composition, arch: str = "x86_64") -> MachineSpec:
    return MachineSpec(
        arch=arch,
        nodes=composition.nodes,
        kernel=Path("k"),
        initramfs=Path("i"),
        root=Path("r"),
        hot=composition.hot,
    )


def test_the_catalogue_has_what_it_should() -> None:
    assert set(SHAPES) >= WANTED


@pytest.mark.parametrize(
    ("name", "arch"), [(name, arch) for name in SHAPES for arch in SHAPES[name].arches]
)
def test_every_shape_alone_is_a_sound_machine(name: str, arch: str) -> None:
    composition = made(name, arch=arch)
    assert composition.shapes == (name,)
    check_spec(spec_of(composition, arch), KernelLimits(max_nodes=16))


TOO_SMALL = {"small"}
"""Machines that have no room for persistent memory."""


def excluded(one: str, other: str) -> bool:
    """Whether two shapes say different things of one: two layouts, two swaps, two splits."""
    pair = {one, other}
    both_lay_out = bool(SHAPES[one].nodes and SHAPES[other].nodes)
    return both_lay_out or pair in ({"swap", "zram"}, {"movablecore", "kernelcore"})


PAIRS = list(itertools.combinations(SHAPES, 2))
COMPOSE = [
    pair
    for pair in PAIRS
    if not excluded(*pair) and not ("pmem" in pair and TOO_SMALL.intersection(pair))
]


@pytest.mark.parametrize(("one", "other"), [pair for pair in PAIRS if excluded(*pair)])
def test_two_that_say_different_things_are_both_named(one: str, other: str) -> None:
    with pytest.raises(UsageError, match=f"{one!r} and {other!r} contradict") as caught:
        made(one, other)
    assert caught.value.fix == f"leave out either {one!r} or {other!r}"


@pytest.mark.parametrize(("one", "other"), COMPOSE)
def test_any_other_two_compose(one: str, other: str) -> None:
    composition = made(one, other)
    assert composition.shapes == (one, other)
    assert set(composition.modules) == {*SHAPES[one].modules, *SHAPES[other].modules}
    assert set(composition.append) >= {*SHAPES[one].append, *SHAPES[other].append}
    assert len(composition.hot) == len(SHAPES[one].hot) + len(SHAPES[other].hot)
    check_spec(spec_of(composition), KernelLimits(max_nodes=16))


def test_what_each_sets_is_added_to_what_came_before() -> None:
    composition = made("numa2", "pmem", "zram", "movablecore", append=("quiet",))
    assert [part.size_bytes for part in composition.nodes] == [512 * MIB] * 2
    assert composition.append == ("movablecore=256M", "memmap=128M!0x30000000", "quiet")
    assert composition.modules == ("nd_e820", "nd_pmem", "zram")
    assert composition.zram_bytes == 256 * MIB
    assert len(composition.steps()) == 2


def test_a_list_is_as_good_as_repeating_and_twice_is_once() -> None:
    assert made("numa2,zram", "numa2") == made("numa2", "zram")


@pytest.mark.parametrize(
    ("names", "options", "complaint"),
    [
        (("numa2", "numa4"), {}, "'numa2' and 'numa4' contradict"),
        (("swap", "zram"), {}, "'swap' and 'zram' contradict"),
        (("movablecore", "kernelcore"), {}, "'movablecore' and 'kernelcore' contradict"),
        (("numa2",), {"nodes": ("1G",)}, "--node and shape 'numa2'"),
        (("cpuless",), {"cpus": 3}, "--cpus 3 and shape 'cpuless'"),
        (("kernelcore",), {"append": ("movablecore=64M",)}, "--append movablecore=64M and shape"),
        (("uma",), {"distances": ("0,1=30",)}, "no node 1"),
        (("small", "pmem"), {}, "none of this machine of 192M"),
    ],
)
def test_contradictions(names: tuple[str, ...], options: dict[str, Any], complaint: str) -> None:
    with pytest.raises(UsageError, match=complaint) as caught:
        made(*names, **options)
    assert caught.value.fix


def test_options_beside_a_shape_replace_and_add() -> None:
    composition = made("numa2", cpus=4, distances=("0,1=33",), append=("movablecore=64M",))
    assert [part.cpus for part in composition.nodes] == [(0, 1), (2, 3)]
    assert composition.distances == ((0, 1, 33), (1, 0, 33))
    assert composition.append == ("movablecore=64M",)
    nearer = {(s, t): d for s, t, d in made("numa4", distances=("0,3=12",)).distances}
    assert nearer[0, 3] == nearer[3, 0] == 12
    assert nearer[0, 1] == 15


def test_a_default_layout_counts_where_no_shape_lays_out() -> None:
    default = Layout(nodes=("256M", "384M"), cpus=3, distances=("0,1=22",))
    assert made("zram", default=default).distances == ((0, 1, 22), (1, 0, 22))
    assert len(made("zram", default=default).nodes) == 2
    laid = made("memoryless", default=default)
    assert laid.nodes == (
        NodeSpec(size_bytes=512 * MIB, cpus=(0,)),
        NodeSpec(size_bytes=0, cpus=(1,)),
    )
    assert made("zram", nodes=("1G",), default=default).distances == ()


def test_persistent_memory_stays_clear_of_the_initramfs_and_below_the_hole() -> None:
    assert made("pmem").append == ("memmap=128M!0x30000000",)
    assert made("uma5g", "pmem").append == ("memmap=128M!0x70000000",)
    assert made("odd", "pmem").append == ("memmap=128M!0x10000000",)


def test_where_a_shape_is_not_possible_the_reason_is_given() -> None:
    with pytest.raises(UsageError, match=r"'hot-dimm' is not possible on arm64: .*ACPI") as caught:
        made("hot-dimm", arch="arm64")
    assert "x86_64" in str(caught.value.fix)
    with pytest.raises(UsageError, match="not possible on m68k"):
        made("numa2", arch="m68k")


def test_what_a_kernel_lacks_is_named_with_the_shape() -> None:
    composition = made("hot-dimm")
    check_needs(
        composition, {"CONFIG_MEMORY_HOTPLUG": "y", "CONFIG_ACPI_HOTPLUG_MEMORY": "y"}, "6.1"
    )
    with pytest.raises(UsageError, match=r"'hot-dimm' needs CONFIG_MEMORY_HOTPLUG.*6.1-tiny"):
        check_needs(composition, {"CONFIG_ACPI_HOTPLUG_MEMORY": "y"}, "6.1-tiny")


def test_an_unknown_name_is_guessed() -> None:
    with pytest.raises(UsageError, match="'hotdimm'") as caught:
        find_shapes(["hotdimm"])
    assert caught.value.fix == "did you mean hot-dimm?"


def test_an_architecture_that_all_have() -> None:
    assert common_arch(find_shapes(["numa2"])) == ARCHES[0]
    assert common_arch(find_shapes(["hot-dimm", "pmem"])) == "x86_64"


@pytest.mark.parametrize(
    ("part", "complaint"),
    [
        (HotMemory(by="pc-dimm", size_bytes=100 * MIB), "not a multiple of 128M"),
        (HotMemory(by="pc-dimm", size_bytes=0), "not a multiple of 128M"),
        (HotMemory(by="usb", size_bytes=128 * MIB), "cannot be added by 'usb'"),
        (HotMemory(by="pc-dimm", size_bytes=128 * MIB, node=1), "no node 1"),
    ],
)
def test_memory_that_cannot_be_added(part: HotMemory, complaint: str) -> None:
    spec = MachineSpec(
        arch="x86_64",
        nodes=(NodeSpec(size_bytes=256 * MIB, cpus=(0,)),),
        kernel=Path("k"),
        initramfs=Path("i"),
        hot=(part,),
    )
    with pytest.raises(UsageError, match=complaint) as caught:
        check_spec(spec, KernelLimits(max_nodes=4))
    assert caught.value.fix


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("[odd]\nnodes = ['1G']", "odd.why"),
        ("[odd]\nwhy = 'x'\nsizes = ['1G']", "odd.sizes"),
        ("[odd]\nwhy = 'x'\nnodes = ['lots']", "'lots' is not a size"),
        ("[odd]\nwhy = 'x'\ncpus = 2", "without nodes"),
        ("[odd]\nwhy = 'x'\narches = ['arm64']", "without a reason"),
        ("[odd", "shapes.toml"),
    ],
)
def test_a_fault_in_the_catalogue_is_named(text: str, complaint: str, tmp_path: Path) -> None:
    path = tmp_path / "shapes.toml"
    path.write_text(text)
    with pytest.raises(UsageError) as caught:
        load_shapes(path)
    assert complaint in caught.value.message
    assert "shapes.toml" in caught.value.message


def words(composition: Composition, *, restored: bool = False) -> list[str]:
    spec = spec_of(composition)
    memory = tuple(range(20, 20 + len(spec.nodes) + len(spec.hot)))
    ends = Endpoints(
        qmp=10, console=11, control=12, stream=13, trace=14, memory=memory, restored=restored
    )
    return qemu_argv(spec, ends)


def test_slots_are_there_only_where_memory_is_added() -> None:
    plain, hot = words(made("numa2")), words(made("numa2", "hot-dimm"))
    assert plain[plain.index("-m") + 1] == "1G"
    assert hot[hot.index("-m") + 1] == "size=1G,slots=1,maxmem=1280M"
    hot[hot.index("-m") + 1] = "1G"
    assert [word.replace(" memhp_default_state=offline", "") for word in hot] == plain


def test_what_was_plugged_is_there_when_a_saved_machine_goes_on() -> None:
    composition = made("uma", "hot-dimm", "virtio-mem")
    booted, restored = words(composition), words(composition, restored=True)
    devices = [word for word in booted if word.startswith(("pc-dimm", "virtio-mem-pci"))]
    assert devices == ["virtio-mem-pci,id=hot1,memdev=ram2,node=0,requested-size=0"]
    again = [word for word in restored if word.startswith(("pc-dimm", "virtio-mem-pci"))]
    assert again == [*devices, "pc-dimm,id=hot0,memdev=ram1,node=0"]
    assert "mem-path=/proc/self/fd/21," in next(word for word in restored if "id=ram1," in word)
