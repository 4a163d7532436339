"""Stops on another kernel than their own."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.cli.tour_kernel import OtherKernel, other_kernel
from harness.errors import UsageError
from harness.kernel.own import OwnFiles
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


def test_stops_that_contrast_kernels_are_left_out_unless_named() -> None:
    other = OtherKernel(kernel="trixie", arch="x86_64")
    there, left_out = other.walked_on(STOPS, ["slab"])
    assert left_out == ["nodes/uma", "slab/same-load"]
    assert len(there) + len(left_out) == len(STOPS)
    with pytest.raises(UsageError, match="nodes/uma contrasts kernels"):
        other.walked_on(STOPS, ["nodes/uma"])


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
