"""Which pages a sample's flags call movable, before and after drivers' pages got a type."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from analysis.bundle import MemorySample
from analysis.memory.frames import movable_by_driver, on_lru
from tests.made_window import MadeKernel, made_sample

SLAB, OFFLINE, ZSMALLOC = 0xF5000000, 0xF1000000, 0xF6000000


def sample(bits: dict[str, int]) -> MemorySample:
    made = made_sample(MadeKernel(), "window/begin", 1)
    return replace(
        made,
        meta={**made.meta, "page_flag_bits": bits},
        frame_flags=np.array([0x20, 0x00, 0x08, 0x08, 0x08, 0x00], np.uint32),
        frame_type=np.array([0, SLAB, SLAB, OFFLINE, ZSMALLOC, ZSMALLOC], np.uint32),
        frame_mapping=np.array([0, 2, 2, 0, 0, 1], np.uint8),
    )


def test_the_lru_bit_is_where_the_kernel_says() -> None:
    assert on_lru(sample({"lru": 5})).tolist() == [True] + 5 * [False]


def test_before_pages_had_types_the_mapping_says_it_of_any_page() -> None:
    found = movable_by_driver(sample({"lru": 5})).tolist()
    assert found == [False, True, True, False, False, False]


def test_later_only_pages_of_two_types_are_asked() -> None:
    found = movable_by_driver(sample({"lru": 5, "movable_ops": 3})).tolist()
    assert found == [False, False, False, True, True, False]
