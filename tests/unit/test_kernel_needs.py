"""What guests need of a kernel."""

from __future__ import annotations

import pytest

from harness.errors import UsageError
from harness.image.modules import WANTED
from harness.kernel.fragment import fragment_paths, read_fragments
from harness.kernel.kconfig import parse_kconfig
from harness.kernel.needs import (
    GUEST_MODULES,
    NEEDS,
    check_guest,
    guest_modules,
    module_symbols,
    unmet_needs,
)
from tests.made_own_kernel import config_text


def _config(arch: str = "x86_64", **changed: str) -> dict[str, str]:
    return parse_kconfig(config_text(arch, **changed), "test")


def test_every_module_that_a_guest_loads_is_known() -> None:
    assert set(GUEST_MODULES) == set(WANTED)
    assert {"virtio_mem", "zram"} <= module_symbols().keys()


@pytest.mark.parametrize("arch", ["x86_64", "arm64"])
def test_our_own_fragment_asks_for_all_of_it(arch: str) -> None:
    """What builds a guest's kernel and what is demanded of one are two lists: held together."""
    asked = {
        request.symbol: request.value
        for request in read_fragments(fragment_paths(["guest"], arch))
        if request.value != "n"
    }
    implied = {"TRACING"}  # of ENABLE_DEFAULT_TRACERS
    needed = {need.symbol for need in NEEDS if arch in need.arches}
    assert needed - asked.keys() == implied


@pytest.mark.parametrize("arch", ["x86_64", "arm64", "i386"])
def test_nothing_is_missing_of_a_whole_configuration(arch: str) -> None:
    assert unmet_needs(_config(arch), arch) == []
    check_guest(_config(arch), arch, "6.1.9")


@pytest.mark.parametrize("need", NEEDS, ids=lambda need: need.symbol)
def test_each_is_missed(need: object) -> None:
    found = next(each for each in NEEDS if each is need)
    arch = found.arches[0]
    assert unmet_needs(_config(arch, **{found.symbol: "n"}), arch) == [found]
    as_module = unmet_needs(_config(arch, **{found.symbol: "m"}), arch)
    assert as_module == ([] if found.module else [found])


def test_all_that_is_missing_is_named_at_once() -> None:
    with pytest.raises(UsageError) as caught:
        check_guest(_config(PCI="n", DEVTMPFS="n"), "x86_64", "6.1.9")
    assert "without CONFIG_DEVTMPFS, CONFIG_PCI" in caught.value.message
    assert caught.value.details.keys() == {"CONFIG_DEVTMPFS", "CONFIG_PCI"}


def test_a_kernel_without_a_network_boots_without_its_modules() -> None:
    config = _config(VIRTIO_NET="n", PACKET="n")
    assert unmet_needs(config, "x86_64") == []
    assert guest_modules(WANTED, config) == ("virtio_pci", "virtio_console", "virtio_blk", "erofs")
    assert guest_modules(WANTED, _config(VIRTIO_NET="m")) == WANTED
