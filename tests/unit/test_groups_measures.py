"""What is measured of a run, against numbers worked out from its texts."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from analysis.compare.groups.measure import Measure, Measured
from analysis.compare.groups.measuring import measured_run
from analysis.compare.groups.moment import calendar
from analysis.compare.groups.run import read_run
from analysis.errors import BundleError
from harness.record.manifest import OutcomeKind
from tests.recorded_groups import BOOT_SLAB_KB, FIXTURE, write_repeat
from tests.recorded_run import FIXTURES

PAGE = 4096


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Measured:
    path = tmp_path_factory.mktemp("runs") / "run"
    write_repeat(
        path,
        seed=1,
        noise=random.Random(1),
        objects_kb=4000,
        stalls=7,
        reclaimed_pages=50,
        spread_kb=0,
    )
    return measured_run(path).measured


def value(measured: Measured, name: str) -> float:
    return next(each for measure, each in measured.values.items() if measure.id == name)


def text(name: str) -> str:
    return (FIXTURES / FIXTURE / "round0" / name).read_text()


def test_moments_are_named_alike_whatever_the_numbers_in_marks(tmp_path: Path) -> None:
    write_repeat(tmp_path / "run", seed=1, noise=random.Random(1))
    found = calendar(read_run(tmp_path / "run").tables)
    assert found is not None
    assert [(moment.name, moment.round) for moment in found.moments] == [
        ("objects: make", 1),
        ("objects: free", 2),
    ]
    assert [(span.phase, span.begin, span.end) for span in found.spans] == [("objects", 0, 2)]
    assert (found.boot, found.end) == (0, 2)


def test_slabs_at_each_moment_and_their_growth(run: Measured) -> None:
    assert value(run, "slab_kb@after boot") == BOOT_SLAB_KB
    assert value(run, "slab_kb@objects: make") == BOOT_SLAB_KB + 4000
    assert value(run, "slab_kb@objects: free") == BOOT_SLAB_KB + 1000
    assert value(run, "slab_growth_kb@run") == 4000


def test_waste_is_pages_less_objects(run: Measured) -> None:
    held = used = 0
    for line in text("slabinfo").splitlines()[2:]:
        fields = line.split()
        active, size, pages_per_slab, slabs = (int(fields[at]) for at in (1, 3, 5, 14))
        held += slabs * pages_per_slab * PAGE
        used += active * size
    assert value(run, "slab_unused_kb@at the end") == pytest.approx((held - used) / 1024)


def test_free_memory_by_the_size_of_its_blocks(run: Measured) -> None:
    total = large = 0
    for line in text("buddyinfo.after").splitlines():
        for order, count in enumerate(map(int, line.split()[4:])):
            total += count << order
            large += (count << order) * (order >= 9)
    assert value(run, "whole_2M_mib@after boot") == large * PAGE / (1 << 20)
    assert value(run, "broken_2M_percent@at the end") == pytest.approx(100 * (1 - large / total))


def test_counters_are_their_growth(run: Measured) -> None:
    assert value(run, "allocstall@whole run") == 7
    assert value(run, "allocstall@objects") == 7
    assert value(run, "pgfault@whole run") == 0


def test_pages_that_are_counted_are_given_as_memory(run: Measured) -> None:
    assert value(run, "pgsteal@whole run") == 50 * PAGE / 1024


def test_memory_lost_at_boot(run: Measured) -> None:
    total_kb = int(text("meminfo").split()[1])
    assert value(run, "lost_kb@boot") == (1 << 20) - total_kb
    present = managed = 0
    for line in text("zoneinfo").splitlines():
        words = line.split()
        if words[:1] == ["present"]:
            present += int(words[1])
        elif words[:1] == ["managed"]:
            managed += int(words[1])
    assert value(run, "unmanaged_kb@boot") == (present - managed) * PAGE / 1024
    assert value(run, "time_s@loads") == pytest.approx(10.5, abs=0.5)


def test_indices_are_those_of_the_kernel(run: Measured) -> None:
    line = next(line for line in text("unusable_index").splitlines() if "Node 2" in line)
    shown = round(float(line.split()[-1]) * 1000)
    assert value(run, "unusable_milli@at the end node=2 zone=DMA32 order=10") == shown


def test_every_measure_can_be_told_apart(run: Measured) -> None:
    names = [measure.id for measure in (*run.values, *run.unknown)]
    assert len(names) == len(set(names))
    assert all(measure.floor > 0 for measure in run.values)
    titles = [str(measure) for measure in run.values if not measure.detail]
    assert len(titles) == len(set(titles))


def test_slob_says_why_its_waste_is_unknown(tmp_path: Path) -> None:
    write_repeat(
        tmp_path / "run",
        seed=1,
        noise=random.Random(1),
        slabinfo=False,
        config="CONFIG_SLOB=y\n",
    )
    measured = measured_run(tmp_path / "run").measured
    reasons: dict[Measure, str] = dict(measured.unknown)
    waste = [why for measure, why in reasons.items() if measure.id.startswith("slab_unused")]
    assert waste
    assert all("SLOB" in why for why in waste)
    assert not any("cache=" in measure.id for measure in measured.values)


def test_every_cache_is_measured_however_small(run: Measured) -> None:
    """Which are worth telling depends on the other group as well."""
    named = {line.split()[0] for line in text("slabinfo").splitlines()[2:]}
    measured = {measure.id.partition("cache=")[2] for measure in run.values} - {""}
    assert measured == named
    held = [v for m, v in run.values.items() if m.id.startswith("cache_held_kb")]
    assert min(held) < 128 < max(held)


@pytest.mark.parametrize("outcome", [OutcomeKind.PANICKED, OutcomeKind.WORKLOAD_FAILED])
def test_a_run_that_did_not_end_well_is_refused(tmp_path: Path, outcome: OutcomeKind) -> None:
    write_repeat(tmp_path / "run", seed=1, noise=random.Random(1), outcome=outcome)
    with pytest.raises(BundleError, match="not a whole run"):
        measured_run(tmp_path / "run")
