"""Laws of the per-cpu lists' sizes, whatever the zone."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from analysis.model.pcp_sizes import (
    high_from_batch,
    high_limits,
    pageset_batch,
    sharing_cpus,
    sizes_by_fraction,
    zone_batchsize,
    zone_highsize,
)
from analysis.model.stat_threshold import LARGEST, normal_threshold

pages = st.integers(0, 1 << 34)
page_sizes = st.sampled_from([4096, 16384, 65536])
cpu_counts = st.integers(1, 8192)


@given(managed=pages, more=pages, page_size=page_sizes)
def test_a_batch_is_a_power_of_two_less_one_and_grows(
    managed: int, more: int, page_size: int
) -> None:
    batch = zone_batchsize(managed, page_size)
    assert batch & (batch + 1) == 0
    assert batch <= zone_batchsize(managed + more, page_size)
    assert batch * page_size < 256 * 1024
    assert pageset_batch(batch) >= 1


@given(managed=pages)
def test_the_same_memory_has_the_same_batch_in_bytes_at_most(managed: int) -> None:
    small, large = zone_batchsize(managed, 4096), zone_batchsize(managed // 4, 16384)
    assert large <= small


@given(managed=pages, low=pages, cpus=cpu_counts, fraction=st.sampled_from([0, 8, 16, 100]))
def test_limits(managed: int, low: int, cpus: int, fraction: int) -> None:
    batch = pageset_batch(zone_batchsize(managed, 4096))
    high_min, high_max = high_limits(managed, low, batch, cpus, fraction=fraction)
    assert min(high_min, high_max) >= 4 * batch
    assert (high_max - 4 * batch) * cpus <= managed // 8
    if fraction:
        assert high_min == high_max
    elif low <= managed // 8:
        assert high_min <= high_max


@given(total=pages, batch=st.integers(1, 63), cpus=cpu_counts)
def test_more_cpus_hold_less_each(total: int, batch: int, cpus: int) -> None:
    assert zone_highsize(total, batch, cpus + 1) <= zone_highsize(total, batch, cpus)
    assert zone_highsize(total, batch, cpus) <= zone_highsize(total + cpus, batch, cpus)


@given(node=st.integers(0, 64), others=st.integers(0, 64))
def test_somebody_shares_every_zone(node: int, others: int) -> None:
    online = max(1, node + others)
    assert 1 <= sharing_cpus(node, online) <= online


@given(managed=pages, fraction=st.integers(8, 10_000), page_size=page_sizes)
def test_a_fraction_before_5_14(managed: int, fraction: int, page_size: int) -> None:
    high, batch = sizes_by_fraction(managed, fraction, page_size)
    assert high * fraction <= managed
    assert 1 <= batch <= 8 * 16
    assert batch <= max(1, high)


@given(managed=pages, page_size=page_sizes)
def test_high_before_5_14_is_a_multiple_of_the_batch(managed: int, page_size: int) -> None:
    batch = zone_batchsize(managed, page_size)
    assert high_from_batch(batch) == 6 * batch


@given(managed=pages, more=pages, cpus=cpu_counts, shift=st.sampled_from([12, 14, 16]))
def test_the_threshold_grows_with_zone_and_cpus(
    managed: int, more: int, cpus: int, shift: int
) -> None:
    threshold = normal_threshold(managed, cpus, shift)
    assert 2 <= threshold <= LARGEST
    assert threshold <= normal_threshold(managed + more, cpus, shift)
    assert threshold <= normal_threshold(managed, cpus + 1, shift)
