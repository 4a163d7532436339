"""What newer kernels do otherwise in reclaim and compaction, on traces made by hand."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path

import pytest

from analysis.compare.claim import Claim, Verdict
from analysis.errors import MissingInputError, ParseError
from analysis.model.watermark import Watermarks
from analysis.procfs import trace_text
from analysis.procfs.trace_text import TraceText
from analysis.tour.compaction_checks import suitable_claims
from analysis.tour.evidence import BootEvidence, open_stop
from analysis.tour.reclaim_counts import steal_claims
from analysis.tour.reclaim_direct import amount_claims
from analysis.tour.reclaim_wake import wake_claims
from analysis.tour.registry import JUDGES
from tests.tour_evidence import FIXTURES

MARKS = {(0, "DMA32"): Watermarks(min_pages=405, low_pages=506, high_pages=607, promo_pages=708)}
RESERVES = " ".join(f"reserve{zone}=0" for zone in range(5))
LEVELS = f"cma=0 min=405 low=506 high=607 boost=0 highatomic=0 {RESERVES}"
BEGIN = "mm_vmscan_direct_reclaim_begin: order={} gfp_flags=GFP_NOFS"
END = "mm_vmscan_direct_reclaim_end: nr_reclaimed={}"
SHRINK = "mm_vmscan_lru_shrink_inactive: nid=0 nr_scanned={} nr_reclaimed={}"
ISOLATE = "mm_vmscan_lru_isolate: order=9 nr_scanned=64 nr_skipped=0 nr_taken={} lru=inactive_file"
KSWAPD, DD = "kswapd0-42", "dd-101"


def state(name: str, order: int, free: int, *, whole: int = 0, more: str = "idx=2") -> str:
    """An event that notes down a zone with that many free blocks of order 9."""
    blocks = [free - 512 * whole, *[0] * 8, whole, 0]
    counts = " ".join(f"b{at}={count}" for at, count in enumerate(blocks))
    return f'{name}: (at+0x4/0x9) zone="DMA32" order={order} {more} free={free} {LEVELS} {counts}'


def traced(*events: tuple[str, str]) -> TraceText:
    lines = [f"# entries-in-buffer/entries-written: {len(events)}/{len(events)}   #P:1"]
    lines += [
        f" {task} [000] ..... {1 + at / 1000:.6f}: {what}" for at, (task, what) in enumerate(events)
    ]
    return trace_text.parse("\n".join(lines) + "\n")


def made(
    path: Path, release: str = "7.2.13", files: Mapping[str, str] | None = None
) -> BootEvidence:
    record = {"label": "main", "release": release, "arch": "x86_64"}
    kept = {
        "boot.json": json.dumps(record),
        "files/proc/sys/vm/extfrag_threshold": "500\n",
        **(files or {}),
    }
    for name, text in kept.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_text(text)
    return BootEvidence(path)


def verdicts(claims: list[Claim], wanted: str) -> list[Verdict]:
    return [claim.verdict for claim in claims if claim.id == wanted]


@pytest.mark.parametrize(
    ("free", "whole", "verdict"),
    [
        (500, 0, Verdict.HOLDS),  # at low
        (5000, 0, Verdict.HOLDS),  # no block of that size
        (1017, 1, Verdict.HOLDS),  # a block, but 1017 - 511 are not above low
        (1018, 1, Verdict.FAILS),
    ],
)
def test_who_wants_a_block_has_found_too_little_or_none(
    free: int, whole: int, verdict: Verdict, tmp_path: Path
) -> None:
    trace = traced((DD, "tick: free_DMA32=9"), (DD, state("wants_kswapd", 9, free, whole=whole)))
    assert verdicts(wake_claims(made(tmp_path), trace, MARKS), "wake-block") == [verdict]


def test_what_was_seen_before_kswapd_ran_is_not_told(tmp_path: Path) -> None:
    trace = traced(
        (DD, "tick: free_DMA32=9"),
        (KSWAPD, SHRINK.format(64, 64)),
        (DD, state("wants_kswapd", 0, 5000)),
    )
    assert verdicts(wake_claims(made(tmp_path), trace, MARKS), "wake") == [Verdict.UNKNOWN]


@pytest.mark.parametrize(
    ("release", "enabled", "verdict"),
    [
        ("7.2.13", "0x0007", Verdict.HOLDS),
        ("7.2.13", "0x0000", Verdict.FAILS),
        ("6.1.0", "0x0007", Verdict.UNKNOWN),
    ],
)
def test_generations_count_what_is_isolated(
    release: str, enabled: str, verdict: Verdict, tmp_path: Path
) -> None:
    trace = traced((KSWAPD, ISOLATE.format(61)), (KSWAPD, SHRINK.format(64, 61)))
    zero = (
        "pgscan_kswapd 0\npgsteal_kswapd 0\npgscan_direct 0\npgsteal_direct 0\nallocstall_dma 0\n"
    )
    files = {
        "vmstat-before.txt": zero,
        "vmstat-after.txt": zero.replace("_kswapd 0", "_kswapd 61"),
        "files/sys/kernel/mm/lru_gen/enabled": f"{enabled}\n",
    }
    claims = steal_claims(made(tmp_path, release, files), trace)
    assert verdicts(claims, "scanned")[0] is verdict


@pytest.mark.parametrize(
    ("order", "free", "reclaimed", "claim", "verdict"),
    [
        (0, 300, 32, "enough", Verdict.HOLDS),
        (3, 300, 31, "enough", Verdict.FAILS),
        (9, 741, 9, "ready", Verdict.HOLDS),
        (9, 740, 9, "ready", Verdict.FAILS),
        (9, 300, 512, "ready", Verdict.HOLDS),
    ],
)
def test_only_reclaim_for_large_blocks_may_leave_off(
    order: int, free: int, reclaimed: int, claim: str, verdict: Verdict, tmp_path: Path
) -> None:
    trace = traced(
        (DD, BEGIN.format(order)), (DD, state("asks", order, free)), (DD, END.format(reclaimed))
    )
    assert verdicts(amount_claims(made(tmp_path), trace), claim) == [verdict]


@pytest.mark.parametrize(
    ("free", "returned", "verdict"),
    [(741, 1, Verdict.HOLDS), (741, 0, Verdict.FAILS), (740, 1, Verdict.FAILS)],
)
def test_reclaim_that_compaction_spares_returns_one(
    free: int, returned: int, verdict: Verdict, tmp_path: Path
) -> None:
    trace = traced(
        (DD, BEGIN.format(9)), (DD, state("suits", 9, free)), (DD, END.format(returned))
    )  # fmt: skip
    assert verdicts(amount_claims(made(tmp_path), trace), "sum") == [verdict]


@pytest.mark.parametrize(
    ("release", "more", "free", "answer"),
    [
        ("6.1.0", "flags=0 idx=1", 1531, "continue"),  # 506 + 1024
        ("6.1.0", "flags=0 idx=1", 1530, "skipped"),
        ("6.12.9", "idx=1", 1531, "continue"),
        ("7.2.13", "watermark=405 idx=1", 539, "continue"),  # 405 + 32 + 101
        ("7.2.13", "watermark=405 idx=1", 538, "skipped"),
        ("7.2.13", "watermark=607 idx=1", 740, "skipped"),
    ],
)
def test_each_release_asks_its_own_question(
    release: str, more: str, free: int, answer: str, tmp_path: Path
) -> None:
    trace = traced(
        ("sh-9", state("suits", 9, free, more=more)),
        ("sh-9", f"mm_compaction_suitable: node=0 zone=DMA32    order=9 ret={answer}"),
    )
    (claim,) = suitable_claims(made(tmp_path, release), trace)
    assert (claim.verdict, claim.observed) == (Verdict.HOLDS, answer)


@pytest.mark.parametrize(
    ("free", "answer", "verdict"),
    [
        (538, "skipped", Verdict.HOLDS),  # 405 + 32 + 101, the capped gap
        (1530, "skipped", Verdict.UNKNOWN),
        (1531, "continue", Verdict.HOLDS),  # 405 + 1024 + 101 and one
        (1531, "skipped", Verdict.FAILS),
    ],
)
def test_between_compared_releases_what_both_rules_say_is_told(
    free: int, answer: str, verdict: Verdict, tmp_path: Path
) -> None:
    trace = traced(
        ("sh-9", state("suits", 9, free, more="watermark=405 idx=1")),
        ("sh-9", f"mm_compaction_suitable: node=0 zone=DMA32    order=9 ret={answer}"),
    )
    (claim,) = suitable_claims(made(tmp_path, "6.18.3"), trace)
    assert claim.verdict is verdict
    assert ("6.18.3 was not compared" in claim.why) is (verdict is Verdict.UNKNOWN)


@pytest.mark.parametrize(
    ("flags", "cma", "whole", "answer", "verdict"),
    [
        (0, 0, 2, "success", Verdict.HOLDS),
        (0, 511, 2, "success", Verdict.HOLDS),  # too few for a block of them
        (0, 1023, 2, "success", Verdict.HOLDS),  # one of the two blocks is another's
        (0, 1024, 2, "continue", Verdict.UNKNOWN),
        (0x80, 1024, 2, "success", Verdict.HOLDS),
        (0, 2400, 2, "continue", Verdict.HOLDS),  # what is left does not reach the watermark
    ],
)
def test_free_blocks_of_a_cma_area_serve_those_who_may_have_them(
    flags: int, cma: int, whole: int, answer: str, verdict: Verdict, tmp_path: Path
) -> None:
    asked = state("suits", 9, 3000, whole=whole, more=f"flags={flags} idx=1")
    trace = traced(
        ("sh-9", asked.replace("cma=0", f"cma={cma}")),
        ("sh-9", f"mm_compaction_suitable: node=0 zone=DMA32    order=9 ret={answer}"),
    )
    assert verdicts(suitable_claims(made(tmp_path, "6.1.0"), trace), "suitable") == [verdict]


@pytest.mark.parametrize(
    ("more", "error"),
    [("idx=1", MissingInputError), ("flags=3 idx=1", ParseError), ("idx=11", ParseError)],
)
def test_a_question_that_is_no_such_one_is_not_judged(
    more: str, error: type[Exception], tmp_path: Path
) -> None:
    trace = traced(
        ("sh-9", state("suits", 9, 600, more=more)),
        ("sh-9", "mm_compaction_suitable: node=0 zone=DMA32    order=9 ret=skipped"),
    )
    with pytest.raises(error):
        suitable_claims(made(tmp_path), trace)


@pytest.mark.parametrize(
    ("stop", "refused", "unknown"),
    [
        ("reclaim/kswapd", "wants_kswapd wakeup_kswapd", {"wake"}),
        ("reclaim/kswapd", "kswapd_threshold set_pgdat_percpu_threshold", {"sleep"}),
        ("reclaim/kswapd", "tick update_process_times", set()),
        ("reclaim/direct", "stalls psi_memstall_enter", {"below-min"}),
        ("compaction/direct", "suits compaction_suitable", {"suitable"}),
        ("compaction/kcompactd", "proactive compact_node", {"begin"}),
        ("compaction/kcompactd", "scored extfrag_for_order", {"begin", "end"}),
    ],
)
def test_a_refused_probe_costs_what_it_would_have_told(
    stop: str, refused: str, unknown: set[str], tmp_path: Path
) -> None:
    path = tmp_path / "stop"
    shutil.copytree(FIXTURES / stop.replace("/", "-"), path)
    (path / "main/trace-setup.txt").write_text(f"refused {refused}\n")
    trace = path / "main/trace.txt"
    lines = trace.read_text().splitlines(keepends=True)
    left = [line for line in lines if f": {refused.split()[0]}: " not in line]
    entries = len(left) - sum(line.startswith("#") for line in left)
    head = f"# entries-in-buffer/entries-written: {entries}/{entries}   #P:1\n"
    trace.write_text("".join(head if "entries-in-buffer" in line else line for line in left))
    finding = JUDGES[stop](open_stop(stop, path))
    found = {claim.id for claim in finding.claims if claim.verdict is Verdict.UNKNOWN}
    assert found == unknown
    assert not [claim for claim in finding.claims if claim.verdict is Verdict.FAILS]
    reasons = {claim.why for claim in finding.claims if claim.verdict is Verdict.UNKNOWN}
    assert all(refused.split()[1] in why for why in reasons)
    for exhibit in finding.exhibits:
        if hasattr(exhibit, "draw"):
            assert exhibit.draw().get_axes()
