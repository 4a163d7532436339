"""Stops on another kernel than their own."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.cli.tour_kernel import OtherKernel, other_kernel, tours_of
from harness.errors import UsageError
from harness.kernel.own import OwnFiles
from harness.kernel.package import Kernel
from harness.tour.registry import STOPS
from harness.tour.stop import Stop

BY_NAME = {stop.name: stop for stop in STOPS}


def moved(name: str, kernel: str = "trixie", arch: str = "x86_64") -> Stop:
    found = BY_NAME[name].on_kernel(kernel, arch)
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("name", "labels"),
    [
        ("zones/normal", ["main"]),
        ("zones/movable", ["movablecore", "hot-dimm"]),
        ("reclaim/kswapd", ["main"]),
        ("reclaim/oom", ["main"]),
        ("slab/kmem-cache", ["main"]),
        ("buddy/coalescing", ["main", "cma"]),
    ],
)
def test_each_machine_of_a_stop_is_booted_once(name: str, labels: list[str]) -> None:
    stop = moved(name)
    assert [boot.label for boot in stop.boots] == labels
    assert {(boot.kernel, boot.arch) for boot in stop.boots} == {("trixie", "x86_64")}
    own = {boot.label: boot for boot in BY_NAME[name].boots}
    for boot in stop.boots:
        there = own[boot.label]
        assert (boot.gather, boot.nodes, boot.shapes) == (there.gather, there.nodes, there.shapes)


def test_what_was_walked_on_another_kernel_is_not_done_on_this() -> None:
    assert moved("zones/normal").digest() != BY_NAME["zones/normal"].digest()
    assert moved("zones/normal", "bookworm").digest() == BY_NAME["zones/normal"].digest()
    assert moved("zones/normal", arch="arm64").digest() != moved("zones/normal").digest()


def kernel(tmp_path: Path, *symbols: str, arch: str = "x86_64") -> Kernel:
    config = tmp_path / "config"
    config.write_text("".join(f"CONFIG_{symbol}=y\n" for symbol in symbols))
    return Kernel(
        name="linux",
        release="6.18.1",
        arch=arch,
        package="own",
        version="#1",
        directory=tmp_path / "6.18.1_0123",
        boot_image=tmp_path / "bzImage",
        modules_directory=tmp_path,
        config_path=config,
        sha256={},
    )


def test_stops_that_contrast_kernels_are_left_out_unless_named(tmp_path: Path) -> None:
    other = OtherKernel(kernel="trixie", arch="x86_64")
    chosen = [BY_NAME["nodes/uma"], BY_NAME["zones/normal"]]
    there, left_out = other.move(chosen, ["nodes"], kernel(tmp_path))
    assert [stop.name for stop in there] == ["zones/normal"]
    assert left_out == ["nodes/uma: it contrasts kernels (uma, bookworm)"]
    with pytest.raises(UsageError, match="it contrasts kernels") as caught:
        other.move(chosen, ["nodes/uma"], kernel(tmp_path))
    assert "nodes/uma cannot be walked on 6.18.1 (x86_64)" in caught.value.message


@pytest.mark.parametrize(
    ("name", "symbols", "why"),
    [
        ("zones/highmem", ["ZONE_DMA"], "the kernel is built without CONFIG_HIGHMEM"),
        ("memory_models/sparsemem", [], "the kernel is built without CONFIG_SPARSEMEM"),
        (
            "memory_models/sparsemem",
            ["SPARSEMEM", "SPARSEMEM_VMEMMAP"],
            "the kernel has CONFIG_SPARSEMEM_VMEMMAP",
        ),
        ("memory_models/sparsemem", ["SPARSEMEM"], ""),
        ("slab/slob", ["SLUB"], "the kernel is built without CONFIG_SLOB"),
        ("reclaim/direct", [], ""),
    ],
)
def test_what_a_kernel_has_not_got_is_not_looked_for(
    tmp_path: Path, name: str, symbols: list[str], why: str
) -> None:
    other = OtherKernel(kernel="trixie", arch="x86_64")
    there, left_out = other.move([BY_NAME[name]], [], kernel(tmp_path, *symbols))
    assert left_out == ([f"{name}: {why}"] if why else [])
    assert [stop.name for stop in there] == ([] if why else [name])


def test_a_machine_that_cannot_be_is_left_out_alone(tmp_path: Path) -> None:
    arm64 = OtherKernel(kernel="trixie", arch="arm64")
    (stop,), left_out = arm64.move(
        [BY_NAME["zones/movable"]], ["zones/movable"], kernel(tmp_path, arch="arm64")
    )
    assert [boot.label for boot in stop.boots] == ["movablecore"]
    (line,) = left_out
    assert "zones/movable, its machine hot-dimm: shape 'hot-dimm' is not possible on arm64" in line
    needed = kernel(tmp_path, "ZONE_DEVICE", arch="arm64")
    with pytest.raises(UsageError, match=r"zones/device cannot be walked on .* 'pmem'"):
        arm64.move([BY_NAME["zones/device"]], ["zones/device"], needed)


def test_each_build_has_tours_of_its_own(tmp_path: Path) -> None:
    assert tours_of(kernel(tmp_path), Path("tours")) == Path("tours/on-x86_64-6.18.1_0123")


def test_the_options_ask_for_the_same_again() -> None:
    asked = OtherKernel(
        kernel="./vmlinux",
        arch="arm64",
        files=OwnFiles(modules=Path("m"), config=Path("c")),
    )
    words = asked.options()
    given = dict(zip(words[::2], words[1::2], strict=True))
    assert asked == other_kernel(
        given["--kernel"],
        given["--arch"],
        Path(given["--modules"]),
        Path(given["--config"]),
    )


def test_an_architecture_alone_means_the_kernel_that_stops_have() -> None:
    assert other_kernel(None, "arm64", None, None) == OtherKernel(kernel="bookworm", arch="arm64")
    assert other_kernel(None, None, None, None) is None
