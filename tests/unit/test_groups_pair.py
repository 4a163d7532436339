"""What is said of measures in two groups, and the sentences made of it."""

from __future__ import annotations

import random

import pytest

from analysis.compare.groups.conclusion import conclusion
from analysis.compare.groups.measure import Measure, Measured
from analysis.compare.groups.pair import ALPHA, Compared, Finding, compare_pair
from analysis.compare.groups.wording import amount, certainty, change

SLAB = Measure(
    id="slab", subject="slab", title="memory in slabs", moment="held", unit="kB", floor=128.0
)
TIME = Measure(
    id="time", subject="time", title="wall time", moment="load", unit="s", floor=0.2,
    multiplied=True,
)  # fmt: skip
BOOT = Measure(
    id="boot", subject="boot", title="memory lost", moment="after boot", unit="kB", floor=128.0,
    settled=True,
)  # fmt: skip
STALLS = Measure(
    id="stalls", subject="stalls", title="direct reclaims", moment="whole run", unit="events",
    floor=3.0,
)  # fmt: skip
PHASE = Measure(
    id="stalls@load", subject="stalls", title="direct reclaims", moment="load", unit="events",
    floor=3.0, detail=True,
)  # fmt: skip


def group(*rows: dict[Measure, float]) -> list[Measured]:
    return [Measured(values=row) for row in rows]


def runs(measure: Measure, *values: float) -> list[Measured]:
    return group(*({measure: value} for value in values))


def only(first: list[Measured], second: list[Measured], pairs: int = 1) -> Compared:
    (found,) = compare_pair(("a", first), ("b", second), pairs=pairs).headlines
    return found


def test_a_difference_beyond_noise_and_floor_differs() -> None:
    found = only(runs(SLAB, 5000, 5010, 4990, 5005, 5000), runs(SLAB, 6000, 6010, 6020, 5990, 6000))
    assert found.finding is Finding.DIFFERS
    assert found.difference == pytest.approx(1003)
    assert found.difference_interval is not None
    assert found.difference_interval[0] < found.difference < found.difference_interval[1]
    assert found.ratio_interval is not None
    assert found.ratio_interval[0] < 1.2006 < found.ratio_interval[1]
    assert found.hedges_g is not None
    assert found.hedges_g > 50
    assert (amount(found.first_mean, "kB"), change(found)) == ("4.88 MiB", "+20.1 %")


def test_one_that_does_not_matter_is_little() -> None:
    found = only(runs(SLAB, *[50_000] * 5), runs(SLAB, *[50_140] * 5))
    assert found.finding is Finding.SMALL
    counted = only(runs(STALLS, 0, 0, 0, 0, 0), runs(STALLS, 1, 1, 1, 1, 1))
    assert counted.finding is Finding.SMALL, "one event is less than matters"


def test_what_lies_within_the_spread_is_noise() -> None:
    found = only(runs(SLAB, 5000, 7000, 4000, 6000, 5500), runs(SLAB, 6000, 4500, 7000, 5200, 6500))
    assert found.finding is Finding.NOISE
    assert found.noise is not None
    assert abs(found.difference) < found.noise


def test_what_boot_settles_needs_no_test() -> None:
    found = only(runs(BOOT, 1000, 1000), runs(BOOT, 3000, 3000))
    assert (found.finding, certainty(found)) == (Finding.DIFFERS, "exact")
    again = only(runs(BOOT, 1000, 1000), runs(BOOT, 1000, 1000))
    assert again.finding is Finding.SAME
    varying = only(runs(BOOT, 1000, 1004), runs(BOOT, 3000, 3000))
    assert varying.finding is Finding.UNDECIDED, "it was not settled after all"


def test_times_are_tested_by_their_logarithm() -> None:
    """A busy host multiplies times: one slow run must not hide that all are slower."""
    fast, slow = (1.5, 2.0, 2.5, 3.0, 4.0), (4.5, 6.0, 9.0, 15.0, 40.0)
    assert only(runs(TIME, *fast), runs(TIME, *slow)).finding is Finding.DIFFERS
    noise = random.Random(4)
    linear = Measure(id="linear", subject="time", title="t", moment="m", unit="s", floor=0.2)
    others = [
        Measure(id=f"n{n}", subject="time", title=f"n{n}", moment="m", unit="s", floor=0.2,
                multiplied=n % 2 == 0)
        for n in range(30)
    ]  # fmt: skip
    first = [
        {TIME: fast[n], linear: fast[n]} | {each: noise.uniform(2, 4) for each in others}
        for n in range(5)
    ]
    second = [
        {TIME: slow[n], linear: slow[n]} | {each: noise.uniform(2, 4) for each in others}
        for n in range(5)
    ]
    found = {
        each.measure.id: each.p or 1.0
        for each in compare_pair(("a", group(*first)), ("b", group(*second))).headlines
    }
    assert found["time"] < found["linear"]


def test_noise_is_told_by_logarithms_only_where_both_groups_are() -> None:
    first, second = (2.0, 30.0, 2.5, 3.0, 4.0), (0.0, 3.0, 2.5, 3.5, 5.0)
    found = only(runs(TIME, *first), runs(TIME, *second))
    plain = Measure(id="t", subject="time", title="t", moment="m", unit="s", floor=0.2)
    assert found.noise == only(runs(plain, *first), runs(plain, *second)).noise
    wide = only(runs(TIME, 2e-3, 30.0, 1e-3, 3.0, 40.0), runs(TIME, 0.0, 1e-3, 25.0, 3.5, 5.0))
    assert wide.noise is not None
    assert wide.noise < 100


def test_details_too_small_in_both_groups_are_left_out() -> None:
    crossing, tiny = (
        Measure(id=f"cache_{name}", subject="slab", title=name, moment="m", unit="kB", floor=64.0,
                least=128.0, detail=True)
        for name in ("crossing", "tiny")
    )  # fmt: skip
    first = [{SLAB: 5000.0 + n, crossing: 100.0 + n, tiny: 90.0} for n in range(5)]
    second = [{SLAB: 6000.0 + n, crossing: 200.0 + n, tiny: 100.0} for n in range(5)]
    details = compare_pair(("a", group(*first)), ("b", group(*second))).details
    assert [(each.measure, each.finding) for each in details] == [(crossing, Finding.DIFFERS)]


def test_a_run_says_why_it_cannot_name_what_another_has() -> None:
    cache = Measure(id="cache_x", subject="slab", title="x", moment="m", unit="kB", floor=64.0)
    mute = [Measured(values={}, lacking={"cache_": "SLOB keeps no account"}) for _ in range(2)]
    assert only(runs(cache, 1, 2), mute).why == "SLOB keeps no account"
    assert only(runs(SLAB, 1, 2), mute).why == "another run has no such thing"


def test_details_are_looked_into_only_where_a_headline_differs() -> None:
    calm = [{STALLS: float(n % 2), PHASE: float(n)} for n in range(5)]
    wild = [{STALLS: 50.0 + n % 2, PHASE: 40.0 + n} for n in range(5)]
    apart = [{STALLS: float(n % 2), PHASE: 40.0 + n} for n in range(5)]
    looked = compare_pair(("a", group(*calm)), ("b", group(*wild)))
    assert looked.details_tested
    assert looked.details[0].finding is Finding.DIFFERS
    left = compare_pair(("a", group(*calm)), ("b", group(*apart)))
    assert not left.details_tested
    assert left.details[0].finding is Finding.NOISE
    assert left.details[0].p is None


def test_more_pairs_ask_for_more() -> None:
    first, second = runs(SLAB, 1, 2, 3, 4, 5), runs(SLAB, 901, 902, 903, 904, 905)
    one, four, many = (only(first, second, pairs) for pairs in (1, 4, 7))
    assert one.p is not None
    assert four.p is not None
    assert four.p == pytest.approx(4 * one.p)
    assert four.p <= ALPHA
    assert many.finding is Finding.UNDECIDED


def test_unknown_keeps_its_reason() -> None:
    known = runs(SLAB, 1, 2)
    mute = [Measured(values={}, unknown={SLAB: "SLOB keeps no account"}) for _ in range(2)]
    found = only(known, mute)
    assert (found.finding, found.why) == (Finding.UNKNOWN, "SLOB keeps no account")
    gone = only(known, [Measured(values={}), Measured(values={})])
    assert gone.why == "another run has no such thing"


def test_the_most_important_comes_first_and_the_quiet_is_told() -> None:
    first = [{STALLS: float(n % 2), SLAB: 5000.0 + n, TIME: 2.0 + n / 10} for n in range(5)]
    second = [{STALLS: 90.0 + n, SLAB: 5400.0 + n, TIME: 2.0 + n / 9} for n in range(5)]
    told = conclusion(compare_pair(("old", group(*first)), ("new", group(*second))))
    assert told[0] == "new against old: 2 of 3 measures differ beyond the noise."
    assert told[1].startswith("Allocation stalls, old → new: direct reclaims")
    assert told[2].startswith("Kernel objects, old → new: memory in slabs, held 4.88 MiB")
    assert "time (1 measure)" in told[3]
    same = conclusion(compare_pair(("old", group(*first)), ("new", group(*first))))
    assert "no difference" in same[0]
    few = conclusion(compare_pair(("old", group(*first[:2])), ("new", group(*second[:2]))))
    assert "run each 4 times" in few[0]


def test_what_went_both_ways_is_told_both_ways() -> None:
    moments = [
        Measure(id=f"s{n}", subject="slab", title="slabs", moment=f"m{n}", unit="kB", floor=128.0)
        for n in range(4)
    ]
    grown = {moments[0]: 9000.0, moments[1]: 8000.0, moments[2]: 4000.0, moments[3]: 5000.0}
    first = [dict.fromkeys(moments, 5000.0 + n) for n in range(5)]
    second = [{each: grown[each] + n for each in moments} for n in range(5)]
    told = conclusion(compare_pair(("a", group(*first)), ("b", group(*second))))
    assert "slabs, m0 4.88 MiB → 8.79 MiB" in told[1]
    assert "slabs, m2 4.88 MiB → 4,002 KiB" in told[1]
    assert "m1" not in told[1]
    assert "and 1 more" in told[1]


@pytest.mark.parametrize(
    ("value", "unit", "sign", "said"),
    [
        (512.0, "kB", False, "512 KiB"),
        (4096.0, "kB", False, "4 MiB"),
        (-20.5, "kB", True, "\N{MINUS SIGN}20.5 KiB"),
        (1600.0, "ms", False, "1.6 s"),
        (12.34, "%", False, "12.3 %"),
        (12.34, "%", True, "+12.3 points"),
        (214_000.0, "pages", False, "214k pages"),
        (81_468.4, "pages", False, "81,468 pages"),
    ],
)
def test_amounts(value: float, unit: str, sign: bool, said: str) -> None:
    assert amount(value, unit, sign=sign) == said
