from __future__ import annotations

import pytest

from harness.errors import InfrastructureError
from harness.kernel.kconfig import is_set, max_nodes, page_size_bytes, parse_kconfig

CONFIG = """\
#
# Automatically generated file; DO NOT EDIT.
#
CONFIG_NUMA=y
CONFIG_NODES_SHIFT=10
CONFIG_VIRTIO_BLK=m
# CONFIG_SLOB is not set
CONFIG_LOCALVERSION="-a \\"b\\""
CONFIG_EMPTY=""
"""


def test_every_form_of_a_value() -> None:
    config = parse_kconfig(CONFIG, "config")
    assert config["CONFIG_LOCALVERSION"] == '-a "b"'
    assert config["CONFIG_EMPTY"] == ""
    assert config["CONFIG_SLOB"] == "n"
    assert is_set(config, "CONFIG_VIRTIO_BLK")
    assert not is_set(config, "CONFIG_SLOB")
    assert not is_set(config, "CONFIG_NEVER_HEARD_OF")


def test_nodes() -> None:
    assert max_nodes(parse_kconfig(CONFIG, "config")) == 1024
    assert max_nodes({}) == 1
    assert max_nodes({"CONFIG_NODES_SHIFT": "6"}) == 1


@pytest.mark.parametrize(("kib", "size_bytes"), [(4, 4096), (16, 16384), (64, 65536)])
def test_arm64_page_size(kib: int, size_bytes: int) -> None:
    assert page_size_bytes({f"CONFIG_ARM64_{kib}K_PAGES": "y"}) == size_bytes


def test_x86_page_size() -> None:
    assert page_size_bytes({"CONFIG_X86_64": "y"}) == 4096


def test_a_line_that_is_none_is_named() -> None:
    with pytest.raises(InfrastructureError, match=r"config:2: .*'CONFIG_X'"):
        parse_kconfig("CONFIG_A=y\nCONFIG_X\n", "config")
