"""Every claim holds on a consistent run, and one changed number makes it fail."""

from __future__ import annotations

import json
from dataclasses import replace

import pandas as pd
import pytest

from analysis.compare.buddy import asked_claims, stimulus_table
from analysis.compare.claim import Claim, Verdict, check_to_json, summary
from analysis.compare.evaluate import evaluate
from analysis.compare.facts import Facts
from analysis.compare.steps import zone_steps
from analysis.errors import ParseError
from tests.compare_run import FACTS, NORMAL_AFTER_TAKE, Run, make_run


def claims_of(run: Run, facts: Facts = FACTS) -> list[Claim]:
    return evaluate(run.tables(), facts)


def failing(run: Run, facts: Facts = FACTS) -> set[str]:
    return {claim.id for claim in claims_of(run, facts) if claim.verdict is Verdict.FAILS}


def test_a_consistent_run_holds() -> None:
    claims = claims_of(make_run())
    assert {claim.verdict for claim in claims} == {Verdict.HOLDS}
    assert {claim.id for claim in claims} == {
        "watermark_min_rounds", "watermark_low_rounds", "watermark_high_rounds", "free_pages",
        "unusable_index", "extfrag_index", "buddy_split", "buddy_coalesce",
    }  # fmt: skip
    # 9 watermarks, 2 zones, 2 indexes x 2 zones x 11 orders, 2 steps x (11 orders + 1 zone)
    assert len(claims) == 9 + 2 + 44 + 24


def test_json_has_every_claim_and_every_verdict() -> None:
    claims = claims_of(make_run())
    text = json.loads(json.dumps(check_to_json("runs/1", "6.1", claims)))
    assert text["summary"] == {"holds": len(claims), "fails": 0, "unknown": 0}
    assert set(text["claims"][0]) == {
        "id", "scope", "predicted", "observed", "unit", "verdict", "why",
    }  # fmt: skip
    assert summary([]) == {"holds": 0, "fails": 0, "unknown": 0}


@pytest.mark.parametrize("kind", ["min", "low", "high"])
def test_a_watermark_off_by_one_fails(kind: str) -> None:
    run = make_run()
    run.change("zoneinfo", 1, round=4, node=1, zone="Normal", field=kind)
    assert failing(run) == {f"watermark_{kind}_rounds"}


def test_a_managed_page_count_that_moves_a_watermark_fails() -> None:
    run = make_run()
    run.change("zoneinfo", 5000, node=0, zone="DMA32", field="managed")
    assert {"watermark_min_rounds", "watermark_low_rounds", "watermark_high_rounds"} <= failing(run)


def test_boost_is_taken_off() -> None:
    run = make_run()
    for kind in ("boost", "min", "low", "high"):
        run.change("zoneinfo", 512, round=7, node=1, zone="Normal", field=kind)
    assert failing(run) == set()


def test_boost_that_a_release_does_not_print_is_unknown() -> None:
    run = make_run()
    run.zoneinfo = [row for row in run.zoneinfo if row[3] != "boost"]
    for kind in ("min", "low", "high"):
        run.change("zoneinfo", 512, round=7, node=1, zone="Normal", field=kind)
    claims = claims_of(run, replace(FACTS, kernel="5.10.0-30-amd64"))
    unknown = [claim for claim in claims if claim.verdict is Verdict.UNKNOWN]
    assert {claim.id for claim in unknown} == {
        "watermark_min_rounds", "watermark_low_rounds", "watermark_high_rounds",
    }  # fmt: skip
    assert "prints no boost" in unknown[0].why


def test_watermarks_before_the_settled_mark_do_not_count() -> None:
    run = make_run()
    run.change("zoneinfo", 1, round=0, node=1, zone="Normal", field="min")
    assert failing(run) == set()


def test_watermarks_of_a_run_that_never_settled_are_unknown_when_they_differ() -> None:
    run = make_run()
    run.marks = [row for row in run.marks if row[1] != "settle/end"]
    run.change("zoneinfo", 1, node=1, zone="Normal", field="min")
    (claim,) = [claim for claim in claims_of(run) if claim.verdict is not Verdict.HOLDS]
    assert (claim.id, claim.verdict, claim.predicted, claim.observed) == (
        "watermark_min_rounds", Verdict.UNKNOWN, 532, 533,
    )  # fmt: skip


def test_an_empty_movable_zone_differs_between_releases() -> None:
    assert failing(make_run(), replace(FACTS, kernel="6.12.5")) == {
        "watermark_min_rounds", "watermark_low_rounds", "watermark_high_rounds",
    }  # fmt: skip
    between = claims_of(make_run(), replace(FACTS, kernel="6.5.0"))
    unknown = {claim.scope["zone"] for claim in between if claim.verdict is Verdict.UNKNOWN}
    assert unknown == {"Movable"}


def test_missing_facts_make_watermarks_unknown() -> None:
    for facts in (replace(FACTS, sysctl={}), replace(FACTS, page_size_bytes=None)):
        claims = [claim for claim in claims_of(make_run(), facts) if "watermark" in claim.id]
        assert {claim.verdict for claim in claims} == {Verdict.UNKNOWN}
        assert all("lacks" in claim.why for claim in claims)


@pytest.mark.parametrize("index", ["unusable", "extfrag"])
def test_an_index_off_by_a_thousandth_fails(index: str) -> None:
    run = make_run()
    run.change("fragindex", 1, round=3, index=index, node=1, zone="Normal", order=7)
    (claim,) = [claim for claim in claims_of(run) if claim.verdict is Verdict.FAILS]
    assert claim.id == f"{index}_index"
    assert claim.scope == {"node": 1, "zone": "Normal", "order": 7, "rounds": 8}
    assert "round 3, 3000000 to 3000500 ns" in claim.why


def test_a_zone_that_moves_in_every_round_makes_its_indexes_unknown() -> None:
    run = make_run()
    run.change("buddyinfo", 1, bracket="after", node=0, zone="DMA32", order=0)
    unknown = [claim for claim in claims_of(run) if claim.verdict is Verdict.UNKNOWN]
    assert {claim.id for claim in unknown} == {"unusable_index", "extfrag_index"}
    assert len(unknown) == 22


def test_a_free_block_too_many_fails() -> None:
    run = make_run()
    run.change("buddyinfo", 1, round=0, node=1, zone="Normal", order=9)
    assert {"free_pages", "unusable_index"} <= failing(run)


def test_free_pages_may_drift_by_what_the_processors_hold() -> None:
    # The counter is 7 above the lists; two processors may hold (613 - 491) / 2 pages each.
    for by, fails in ((115, False), (116, True), (-129, False), (-130, True)):
        run = make_run()
        run.change("zoneinfo", by, round=3, node=0, zone="DMA32", field="free")
        assert (failing(run) == {"free_pages"}) is fails, by


def test_free_pages_of_a_moving_zone_are_unknown_beyond_the_envelope() -> None:
    run = make_run()
    run.change("buddyinfo", 1, bracket="after", node=0, zone="DMA32", order=0)
    run.change("zoneinfo", 1000, node=0, zone="DMA32", field="free")
    (claim,) = [claim for claim in claims_of(run) if claim.id == "free_pages" and claim.why]
    assert claim.verdict is Verdict.UNKNOWN
    assert "moved in all 8 rounds" in claim.why


@pytest.mark.parametrize(("number", "claim_id"), [(6, "buddy_split"), (7, "buddy_coalesce")])
def test_a_block_too_many_after_a_step_fails(number: int, claim_id: str) -> None:
    for order in range(5, 11):
        run = make_run()
        run.change("buddyinfo", 1, round=number, node=1, zone="Normal", order=order)
        found = [
            claim
            for claim in claims_of(run)
            if claim.verdict is Verdict.FAILS and claim.id.startswith("buddy")
        ]
        assert [(claim.id, claim.scope["order"]) for claim in found] == [(claim_id, order)]


def test_a_block_too_many_before_the_first_step_fails_afterwards() -> None:
    run = make_run()
    run.change("buddyinfo", 1, round=5, node=1, zone="Normal", order=8)
    run.change("pagetypeinfo", 1, node=1, zone="Normal", migratetype="Movable", order=8)
    assert {"buddy_split", "buddy_coalesce"} <= failing(run)


def test_another_zone_must_keep_its_large_blocks() -> None:
    run = make_run()
    run.change("buddyinfo", -1, round=6, node=0, zone="DMA32", order=10)
    found = [claim for claim in claims_of(run) if claim.id == "buddy_split" and claim.why]
    assert [(claim.verdict, claim.scope["zone"]) for claim in found] == [(Verdict.FAILS, "DMA32")]


@pytest.mark.parametrize(("node", "zone"), [(1, "Normal"), (0, "DMA32")])
def test_pages_that_percpu_lists_gave_back_are_not_held_against_the_model(
    node: int, zone: str
) -> None:
    run = make_run()
    for number in (6, 7):
        run.change("buddyinfo", 1, round=number, node=node, zone=zone, order=7)
        run.change("zone_cpus", -128, round=number, node=node, zone=zone, cpu=0, field="count")
    found = [claim for claim in claims_of(run) if claim.id.startswith("buddy") and claim.why]
    assert {claim.verdict for claim in found} == {Verdict.UNKNOWN}
    assert all("gave the zone 128 pages at pktring/1/take/5/5" in claim.why for claim in found)


@pytest.mark.parametrize("percpu_pages", [0, 128])
def test_pages_that_percpu_lists_did_not_give_fail(percpu_pages: int) -> None:
    run = make_run()
    run.change("buddyinfo", 1, round=6, node=1, zone="Normal", order=7)
    where = {"round": 6, "node": 1, "zone": "Normal", "cpu": 0, "field": "count"}
    run.change("zone_cpus", percpu_pages, **where)
    assert "buddy_split" in failing(run)


def test_a_wrong_split_fails_even_while_percpu_lists_move() -> None:
    """Blocks rearranged at the same number of pages: nothing strayed, so nothing excuses it."""
    run = make_run()
    run.change("buddyinfo", 1, round=6, node=1, zone="Normal", order=8)
    run.change("buddyinfo", -4, round=6, node=1, zone="Normal", order=6)
    run.change("zone_cpus", 63, round=6, node=1, zone="Normal", cpu=0, field="count")
    assert "buddy_split" in failing(run)


def test_a_base_that_moved_is_no_base() -> None:
    run = make_run()
    run.change("pagetypeinfo", 1, node=1, zone="Normal", migratetype="Movable", order=8)
    claims = [claim for claim in claims_of(run) if claim.id == "buddy_split"]
    assert {claim.verdict for claim in claims if claim.scope["zone"] == "Normal"} == {
        Verdict.UNKNOWN
    }


def test_what_the_null_run_moves_is_not_held_against_the_model() -> None:
    run = make_run()
    run.change("buddyinfo", 1, round=3, node=1, zone="Normal", order=7)
    run.change("buddyinfo", 1, round=6, node=1, zone="Normal", order=7)
    claims = [claim for claim in claims_of(run) if claim.id == "buddy_split" and claim.why]
    assert [(claim.verdict, claim.scope.get("order")) for claim in claims] == [(Verdict.UNKNOWN, 7)]


def test_small_orders_hold_within_the_noise_floor_only() -> None:
    run = make_run()
    run.change("buddyinfo", 2, round=3, node=1, zone="Normal", order=1)
    for by, verdict in ((2, Verdict.HOLDS), (3, Verdict.UNKNOWN)):
        run.change("buddyinfo", by, round=6, node=1, zone="Normal", order=1)
        claims = [claim for claim in claims_of(run) if claim.id == "buddy_split"]
        assert [claim.verdict for claim in claims if claim.scope.get("order") == 1] == [verdict]
        run.change("buddyinfo", -by, round=6, node=1, zone="Normal", order=1)


def test_a_model_worse_than_none_fails_at_small_orders() -> None:
    run = make_run()
    run.change("pagetypeinfo", 2, node=1, zone="Normal", migratetype="Unmovable", order=4)
    run.change("buddyinfo", 2, node=1, zone="Normal", order=4)
    run.marks[5][1] = "pktring/1/take/2/4"
    run.marks[6][1] = "pktring/2/drop/1"
    found = [
        claim
        for claim in claims_of(run)
        if claim.id == "buddy_split" and claim.scope.get("order") == 4
    ]
    assert [claim.verdict for claim in found] == [Verdict.FAILS]


@pytest.mark.parametrize(
    ("label", "reason"),
    [
        ("pktring/1/take/5/3", "per-cpu lists"),
        ("pktring/1/take/5/9", "per-cpu lists"),
        ("pktring/1/take/110/10", "low watermark"),
        ("pktring/1/take/5/5/7", "on which node"),
    ],
)
def test_what_the_model_cannot_tell_is_unknown(label: str, reason: str) -> None:
    run = make_run()
    run.marks[5][1] = label
    claims = [claim for claim in claims_of(run) if claim.id == "buddy_split"]
    assert {claim.verdict for claim in claims if claim.scope["zone"] == "Normal"} == {
        Verdict.UNKNOWN
    }
    assert reason in claims[-1].why


def test_the_node_that_lost_the_pages_was_asked() -> None:
    nobody_says = replace(FACTS, phase_nodes={})
    assert {claim.verdict for claim in claims_of(make_run(), nobody_says)} == {Verdict.HOLDS}
    run = make_run()
    run.marks[5][1] = "pktring/1/take/5/5/0"
    assert failing(run, nobody_says) == {"buddy_split"}
    idle = [row for row in run.buddyinfo if row[0] == 5]
    run.buddyinfo = [row for row in run.buddyinfo if row[0] != 6]
    run.buddyinfo += [[6, *row[1:]] for row in idle]
    run.marks[5][1] = "pktring/1/take/5/5"
    claims = [claim for claim in claims_of(run, nobody_says) if claim.id == "buddy_split"]
    assert all("on which node" in claim.why for claim in claims)


def test_a_bound_is_not_a_number() -> None:
    run = make_run()
    for row in run.pagetypeinfo:
        row[-1] = True
    claims = [claim for claim in claims_of(run) if claim.id == "buddy_split"]
    assert all("bound" in claim.why for claim in claims)


def test_a_label_that_cannot_be_read_is_an_error() -> None:
    run = make_run()
    run.marks[5][1] = "pktring/1/take/many"
    with pytest.raises(ParseError, match=r"mark of round 6: expected PHASE.*'pktring/1/take/many'"):
        claims_of(run)


def test_the_stimulus_table_shows_the_kernel_beside_the_model() -> None:
    table = stimulus_table(make_run().tables(), FACTS)
    asked = table[(table["zone"] == "Normal") & (table["step"] == 0)]
    assert tuple(asked["observed_blocks"]) == NORMAL_AFTER_TAKE
    assert tuple(asked["predicted_blocks"]) == NORMAL_AFTER_TAKE
    assert len(table) == 2 * 2 * 11


def test_no_tables_no_claims() -> None:
    assert evaluate({}, FACTS) == []
    empty = {name: frame.iloc[:0] for name, frame in make_run().tables().items()}
    assert evaluate(empty, FACTS) == []
    assert isinstance(stimulus_table({}, FACTS), pd.DataFrame)


def test_a_step_after_an_unknown_one_gives_its_reason() -> None:
    """Small orders are predicted from the step before; when that is unknown, so are they."""
    run = make_run()
    (step, *_) = [step for step in zone_steps(run.tables(), FACTS) if step.asked]
    lost = replace(step, null_prediction=None)
    claims = list(asked_claims(lost, None))
    assert {claim.verdict for claim in claims if claim.scope["order"] in range(5)} == {
        Verdict.UNKNOWN
    }
    assert all("the step before" in claim.why for claim in claims if claim.why)


def test_a_stray_page_excuses_no_more_than_itself() -> None:
    run = make_run()
    for number in (6, 7):
        run.change("buddyinfo", 3, round=number, node=1, zone="Normal", order=7)
        run.change("zone_cpus", -2, round=number, node=1, zone="Normal", cpu=0, field="count")
    assert {"buddy_split", "buddy_coalesce"} <= failing(run)
