"""What a release that was not compared may do in several ways is told where they agree."""

from __future__ import annotations

from analysis.compare.claim import Claim, Verdict
from analysis.tour.every_era import in_every_era
from analysis.tour.traced import equal

SHOWN = 7


def judged(*eras: list[Claim]) -> list[tuple[str, dict[str, object], Verdict]]:
    claims = in_every_era(range(len(eras)), lambda era: eras[era], "6.18.3")
    return [(claim.id, dict(claim.scope), claim.verdict) for claim in claims]


def claim(name: str, predicted: int, *, working: str = "", **scope: int) -> Claim:
    return equal(name, predicted, SHOWN, "pages", scope=scope, working=(working,) * bool(working))


def test_a_single_era_tells_all() -> None:
    assert judged([claim("a", 7), claim("b", 8)]) == [
        ("a", {}, Verdict.HOLDS),
        ("b", {}, Verdict.FAILS),
    ]


def test_what_eras_agree_on_is_told() -> None:
    same = [claim("a", 7, zone=1), claim("a", 8, zone=2)]
    assert judged(same, same) == [
        ("a", {"zone": 1}, Verdict.HOLDS),
        ("a", {"zone": 2}, Verdict.FAILS),
    ]


def test_working_is_kept_where_it_is_the_same() -> None:
    both = [claim("a", 7, working="7 by both")]
    assert in_every_era((1, 2), lambda _: both, "6.18.3")[0].working == ("7 by both",)
    apart = {era: [claim("a", 7, working=f"by {era}")] for era in (1, 2)}
    (only,) = in_every_era((1, 2), lambda era: apart[era], "6.18.3")
    assert (only.verdict, only.working) == (Verdict.HOLDS, ())


def test_what_they_differ_in_is_left_open_claim_by_claim() -> None:
    first = [claim("a", 7, zone=1), claim("a", 8, zone=2), claim("a", 5, zone=3)]
    second = [claim("a", 6, zone=1), claim("a", 8, zone=2), claim("a", 6, zone=3)]
    assert judged(first, second) == [
        ("a", {"zone": 1}, Verdict.UNKNOWN),
        ("a", {"zone": 2}, Verdict.FAILS),
        ("a", {"zone": 3}, Verdict.FAILS),  # neither 5 nor 6 was shown
    ]


def test_where_scopes_differ_all_of_an_id_is_left_open_unless_each_fails() -> None:
    assert judged([claim("a", 7, times=2)], [claim("a", 7, times=1), claim("a", 6, times=1)]) == [
        ("a", {}, Verdict.UNKNOWN)
    ]
    assert judged([claim("a", 5, times=2)], [claim("a", 7, times=1), claim("a", 6, times=1)]) == [
        ("a", {"times": 2}, Verdict.FAILS)
    ]


def test_a_claim_that_only_some_eras_make_is_not_lost() -> None:
    assert judged([claim("a", 7)], [claim("a", 7), claim("b", 8)]) == [
        ("a", {}, Verdict.HOLDS),
        ("b", {}, Verdict.UNKNOWN),
    ]
