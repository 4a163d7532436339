"""The judges of the stops about reclaim, on what real kernels showed and on what none shows."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from analysis.compare.claim import Verdict
from analysis.tour.finding import Plate
from tests.tour_evidence import Change, added, failing, judged

STOPS = ("reclaim/kswapd", "reclaim/direct", "reclaim/swap", "reclaim/oom")


@pytest.mark.parametrize("stop", STOPS)
def test_what_kernels_showed_holds(stop: str, tmp_path: Path) -> None:
    finding = judged(stop, tmp_path)
    assert failing(finding) == set()
    assert all(claim.predicted is not None for claim in finding.claims)
    for exhibit in finding.exhibits:
        if isinstance(exhibit, Plate):
            assert exhibit.draw().get_axes()


CHANGES: list[tuple[str, str, Change]] = [
    ("reclaim/kswapd", "trace-whole", ("main/trace-stats.txt", r"^overrun: (\d+)$", added(1))),
    (
        "reclaim/kswapd",
        "watermark",
        ("main/files/proc/zoneinfo", r"DMA32\n(?:.*\n)*?        low +(\d+)", added(1)),
    ),
    (
        "reclaim/kswapd",
        "watermark",
        ("main/files/proc/sys/vm/watermark_scale_factor", r"^(\d+)$", added(1)),
    ),
    (
        "reclaim/kswapd",
        "wake",
        ("main/trace.txt", r'wants_kswapd: .*zone="DMA32" order=0 idx=\d free=(\d+)', added(700)),
    ),
    (
        "reclaim/kswapd",
        "sleep",
        (
            "main/trace.txt",
            r"(kswapd_sleep: nid=0\n.*free_DMA=)\d+(.*free_DMA32=)\d+",
            r"\g<1>10\g<2>10",
        ),
    ),
    ("reclaim/kswapd", "rounds", ("main/vmstat-after.txt", r"^pageoutrun (\d+)$", added(1))),
    (
        "reclaim/kswapd",
        "ends",
        ("main/vmstat-after.txt", r"^kswapd_low_wmark_hit_quickly (\d+)$", added(1)),
    ),
    ("reclaim/kswapd", "scanned", ("main/vmstat-after.txt", r"^pgscan_kswapd (\d+)$", added(1))),
    ("reclaim/kswapd", "stolen", ("main/vmstat-after.txt", r"^pgsteal_kswapd (\d+)$", added(1))),
    ("reclaim/kswapd", "stalls", ("main/vmstat-after.txt", r"^allocstall_normal (\d+)$", added(1))),
    (
        "reclaim/direct",
        "below-min",
        ("main/trace.txt", r"\A(?:.*\n)*\Z", lambda match: _more_free(match[0])),
    ),
    (
        "reclaim/direct",
        "enough",
        ("main/trace.txt", r"(direct_reclaim_end: nr_reclaimed=)\d+", r"\g<1>31"),
    ),
    (
        "reclaim/direct",
        "sum",
        ("main/trace.txt", r"direct_reclaim_end: nr_reclaimed=(\d+)", added(1)),
    ),
    ("reclaim/direct", "stolen", ("main/vmstat-after.txt", r"^pgsteal_direct (\d+)$", added(1))),
    ("reclaim/direct", "stalls", ("main/vmstat-after.txt", r"^allocstall_normal (\d+)$", added(1))),
    (
        "reclaim/swap",
        "touched",
        ("main/smaps.txt", r"^Size: +229376(?:.*\n)*?Swap: +(\d+)", added(4)),
    ),
    ("reclaim/swap", "content", ("main/content.txt", r'"wrong": (\d+)', added(1))),
    ("reclaim/swap", "written", ("main/after.txt", r"^pswpout (\d+)$", added(1))),
    ("reclaim/swap", "read", ("lru_gen/after.txt", r"^pswpin (\d+)$", added(1))),
    ("reclaim/swap", "sent", ("lru_gen/after.txt", r"^swpout_zero (\d+)$", added(1))),
    (
        "reclaim/swap",
        "slots",
        ("main/files/proc/swaps", r"(partition\s+\d+\s+)\d+", r"\g<1>4"),
    ),
    (
        "reclaim/swap",
        "overflow",
        ("main/smaps.txt", r"(^Size: +229376(?:.*\n)*?Swap: +)\d+", r"\g<1>400"),
    ),
    ("reclaim/oom", "score", ("main/scores.txt", r"^oom_score: (\d+)$", added(1))),
    ("reclaim/oom", "score", ("main/scores.txt", r"^VmRSS:\s+(\d+) kB$", added(4000))),
    ("reclaim/oom", "victim", ("main/scores.txt", r"^(oom_score_adj: )300$", r"\g<1>30")),
    ("reclaim/oom", "table", ("main/dmesg.txt", r"Killed process (\d+)", added(1))),
    ("reclaim/oom", "counter", ("newest/vmstat-after.txt", r"^oom_kill (\d+)$", added(1))),
]


@pytest.mark.parametrize(("stop", "claim", "change"), CHANGES)
def test_what_no_kernel_shows_fails(stop: str, claim: str, change: Change, tmp_path: Path) -> None:
    assert claim in failing(judged(stop, tmp_path, change))


def test_every_claim_of_the_fixtures_has_a_change_that_breaks_it(tmp_path: Path) -> None:
    broken = {(stop, claim) for stop, claim, _ in CHANGES}
    shared = {"trace-whole", "watermark", "scanned", "rounds", "ends"}
    for stop in STOPS:
        claims = {claim.id for claim in judged(stop, tmp_path / stop).claims}
        assert claims - shared <= {claim for where, claim in broken if where == stop}


def test_badness_counts_what_is_folded(tmp_path: Path) -> None:
    # As 6.12 shows a process: the exact sum in status, 24 pages more than badness takes.
    added_pages = (
        "main/scores.txt", r"\A((?s:.*?)VmRSS:\s+)(\d+) kB",
        lambda match: f"folded_rss: {int(match[2]) // 4}\n{match[1]}{int(match[2]) + 96} kB",
    )  # fmt: skip
    assert failing(judged("reclaim/oom", tmp_path, added_pages)) == set()


def test_which_count_badness_takes_is_left_open_between_compared_releases(tmp_path: Path) -> None:
    # 4,000 pages apart: both counts cannot give the score that the kernel showed
    apart = (
        "main/scores.txt", r"\A((?s:.*?)VmRSS:\s+)(\d+) kB",
        lambda match: f"folded_rss: {int(match[2]) // 4}\n{match[1]}{int(match[2]) + 16000} kB",
    )  # fmt: skip
    between = ("main/boot.json", r'^ "release": "6\.1\.0', ' "release": "6.18.0')
    finding = judged("reclaim/oom", tmp_path, apart, between)
    unknown = [claim for claim in finding.claims if claim.verdict is Verdict.UNKNOWN]
    assert failing(finding) == set()
    assert {claim.id for claim in unknown} >= {"score"}
    assert all("was not compared" in claim.why for claim in unknown)
    # the figure would show one of the two counts as if it were known
    assert not any(isinstance(exhibit, Plate) for exhibit in finding.exhibits)
    assert {claim.id for claim in finding.claims if claim.scope.get("boot") == "main"} >= {"table"}


def test_a_load_that_was_too_small_does_not_hold(tmp_path: Path) -> None:
    renamed = ("main/trace.txt", r"\A(?:.*\n)*\Z", _without_direct_reclaim)
    assert "below-min" in failing(judged("reclaim/direct", tmp_path, renamed))


def _more_free(text: str) -> str:
    return re.sub(r"(stalls: .*free_DMA32=)(\d+)", lambda m: f"{m[1]}{int(m[2]) + 300}", text)


def _without_direct_reclaim(match: re.Match[str]) -> str:
    return match[0].replace("mm_vmscan_direct_reclaim_begin", "mm_vmscan_other_begin")
