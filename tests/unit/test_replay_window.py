"""Replay of windows on disk: what is said of sound ones, and of every way to be unsound."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from analysis.bundle import MemorySample, open_bundle
from analysis.compare.windows import window_claims
from analysis.errors import BundleError
from analysis.replay.outcome import Prediction, RunOutcome, replay_run
from analysis.verdict import Verdict
from harness.record.rundir import RunDirectory
from harness.record.trace import read_trace_record
from tests.made_window import (
    MadeEvent,
    MadeKernel,
    write_run,
    write_window,
)

RELEASE = "6.1.0-1-amd64"


def history(kernel: MadeKernel) -> None:
    """Allocations and frees of several orders, more than a sub-buffer of them."""
    for round_number in range(6):
        pages = [kernel.allocate(number % 4) for number in range(30)]
        for pfn in pages[round_number % 2 :: 2]:
            if pfn is not None:
                kernel.free(pfn, bypass=pfn % 3 == 0)
        kernel.isolate()
        kernel.drain(3)
        kernel.put_back()
        for pfn in list(kernel.held)[:20]:
            kernel.free(pfn)


def make(
    path: Path,
    *,
    events: Callable[[list[MadeEvent]], list[MadeEvent]] = lambda events: events,
    samples: Callable[[list[MemorySample]], Sequence[MemorySample]] = lambda samples: samples,
    release: str = RELEASE,
    names: Sequence[str] = ("w",),
    **window: Any,
) -> Path:
    """A run with windows of one history; the hooks spoil what is written."""
    records = []
    for name in names:
        kernel = MadeKernel()
        kernel.allocate(2)
        taken = [kernel.sample(f"{name}/begin")]
        history(kernel)
        taken.append(kernel.sample(f"{name}/end"))
        again_of = name.removesuffix("-again") if name.endswith("-again") else None
        written = samples(taken)
        records.append(
            write_window(path, name, events(kernel.events), written, again_of=again_of, **window)
        )
    write_run(path, records, release=release)
    return path


def replayed(path: Path) -> RunOutcome:
    return replay_run(open_bundle(path))


def test_a_sound_window_holds(tmp_path: Path) -> None:
    outcome = replayed(make(tmp_path))

    (window,) = outcome.windows
    assert window.result.verdict is Verdict.HOLDS, window.result.why
    shown = window.to_json()
    assert list(shown) == [
        "name",
        "arch",
        "events",
        "lost",
        "pages_differing",
        "blocks_differing",
        "unexplained",
        "pfn_match_pct",
        "ambiguous",
        "lists_in_order",
        "unusable_index_error",
        "noise_floor",
        "null_error",
        "verdict",
        "why",
        "kernel",
        "cpus",
        "nodes",
        "prediction",
    ]
    assert shown["prediction"] is None
    assert shown["events"]
    assert shown["lost"] == 0
    assert (shown["pages_differing"], shown["blocks_differing"], shown["unexplained"]) == (0, 0, 0)
    assert shown["pfn_match_pct"] is None
    assert shown["unusable_index_error"] == 0
    assert shown["null_error"]
    assert shown["noise_floor"] is None
    assert (shown["kernel"], shown["cpus"], shown["nodes"]) == (RELEASE, 1, 1)
    assert outcome.events_per_s
    assert not outcome.fails
    json.dumps(outcome.to_json())


def test_claims_cover_every_zone_and_order(tmp_path: Path) -> None:
    outcome = replayed(make(tmp_path))

    claims = window_claims(one.result for one in outcome.windows)

    assert {claim.id for claim in claims} == {"replay_pages", "replay_nr_free", "replay_events"}
    assert all(claim.verdict is Verdict.HOLDS for claim in claims)
    counts = [claim for claim in claims if claim.id == "replay_nr_free"]
    assert [claim.scope["order"] for claim in counts] == list(range(7))
    assert counts[0].scope == {"window": "w", "node": 0, "zone": "Normal", "order": 0}
    assert all(claim.predicted == claim.observed for claim in counts)


def test_samples_in_between_are_named_in_the_scope(tmp_path: Path) -> None:
    kernel = MadeKernel()
    samples = [kernel.sample("w/begin")]
    for moment in ("1", "2", "end"):
        kernel.allocate(3)
        samples.append(kernel.sample(f"w/{moment}"))
    samples[2].blocks["pfn"][0] -= 16  # the pages that were taken lie free there
    record = write_window(tmp_path, "w", kernel.events, samples)
    write_run(tmp_path, [record], release=RELEASE)

    claims = window_claims(one.result for one in replayed(tmp_path).windows)

    pages = [claim for claim in claims if claim.id == "replay_pages"]
    assert [claim.scope.get("sample") for claim in pages] == ["w/1", "w/2", None]
    assert [claim.verdict for claim in pages] == [Verdict.HOLDS, Verdict.FAILS, Verdict.HOLDS]
    counts = [claim for claim in claims if claim.id == "replay_nr_free"]
    assert len(counts) == 7
    assert "sample" not in counts[0].scope


def test_a_window_that_ran_again_gives_the_noise_floor(tmp_path: Path) -> None:
    outcome = replayed(make(tmp_path, names=("w", "w-again")))

    assert [one.noise_floor for one in outcome.windows] == [0.0, 0.0]
    assert replay_run(open_bundle(tmp_path), only=["w"]).windows[0].noise_floor == 0.0


def test_a_prediction_is_shown_beside(tmp_path: Path) -> None:
    bundle = open_bundle(make(tmp_path))

    def predict(window: Any) -> Prediction:
        assert window.stream is not None
        wrong = np.zeros((1, 7), np.int64)
        return Prediction(pfn_match_pct=99.5, ambiguous=3, lists_in_order=False, nr_free=wrong)

    shown = replay_run(bundle, predict=predict).windows[0].to_json()

    assert (shown["pfn_match_pct"], shown["ambiguous"], shown["lists_in_order"]) == (99.5, 3, False)
    assert shown["unusable_index_error"] == 1.0
    assert shown["verdict"] == "holds"


def _lying_zone(samples: list[MemorySample]) -> list[MemorySample]:
    samples[1].blocks["pfn"][0] += 1
    return samples


def _unsound(samples: list[MemorySample]) -> list[MemorySample]:
    samples[1].meta.update(sound=False, problems=["scan and lists differ"])
    return samples


def _uncut(samples: list[MemorySample]) -> list[MemorySample]:
    samples[0].meta["trace_counter"] = None
    return samples


def _swapped(samples: list[MemorySample]) -> list[MemorySample]:
    return samples[::-1]


def _grown(samples: list[MemorySample]) -> list[MemorySample]:
    samples[1].zones["present_pages"] += 1
    return samples


def _overlap(samples: list[MemorySample]) -> list[MemorySample]:
    samples[1].blocks["order"][:] = 6
    return samples


@pytest.mark.parametrize(
    ("hooks", "why"),
    [
        ({"samples": lambda samples: samples[:1]}, "it has 1 memory samples"),
        ({"samples": _unsound}, "w/end is not sound: scan and lists differ"),
        ({"samples": _uncut}, "w/begin does not say where it cuts the trace"),
        ({"samples": _swapped}, "not in the order of the trace"),
        ({"samples": _grown}, "zones changed between w/begin and w/end"),
        ({"samples": _lying_zone}, "a free block that is not aligned"),
        ({"samples": _overlap}, "w/end: it holds"),
        ({"lost": 7}, "7 events were lost"),
        ({"missed": 2}, "probe free_one_page missed 2 hits"),
        ({"without_probes": ["free_one_page"]}, "probe free_one_page is missing"),
        (
            {"without_probes": ["isolate_free_page", "isolate_free_page_return"]},
            "probe isolate_free_page is missing",
        ),
        ({"release": "5.4.0-1-amd64"}, "the rules of kernel '5.4.0-1-amd64' are not known"),
        ({"release": "next"}, "the rules of kernel 'next' are not known"),
    ],
)
def test_a_doubtful_window_is_unknown(tmp_path: Path, hooks: dict[str, Any], why: str) -> None:
    outcome = replayed(make(tmp_path, **hooks))

    (window,) = outcome.windows
    assert window.result.verdict is Verdict.UNKNOWN
    assert why in window.result.why
    claims = window_claims([window.result])
    assert claims
    assert {claim.verdict for claim in claims} == {Verdict.UNKNOWN}
    assert all(why in claim.why for claim in claims)


def test_a_window_that_was_taken_again_says_where(tmp_path: Path) -> None:
    run = RunDirectory(make(tmp_path, missed=2))
    manifest = run.read_manifest()
    trace = read_trace_record(run.path / manifest.windows[0].trace)
    assert trace.lost == 2 * len(trace.probes) > 0
    manifest.windows[0].retaken_as = "w-retaken"
    run.write_manifest(manifest)
    (window,) = replayed(tmp_path).windows
    assert window.result.doubts[-1] == "the window was taken again: see w-retaken"


def _cut_page(path: Path, run: RunDirectory) -> None:
    content = path.read_bytes()
    assert len(content) > 8192, "the history fills more than two sub-buffers"
    path.write_bytes(content[:4096] + content[8192:])


def _flip(path: Path, run: RunDirectory) -> None:
    content = bytearray(path.read_bytes())
    content[300] ^= 0xFF
    path.write_bytes(bytes(content))


def _remove(path: Path, run: RunDirectory) -> None:
    path.unlink()


@pytest.mark.parametrize(
    ("name", "spoil", "why"),
    [
        ("trace/w/cpu0.ring", _cut_page, "trace/w/cpu0.ring: "),
        ("trace/w/cpu0.ring", _flip, "trace/w/cpu0.ring: sha256 is"),
        ("trace/w/cpu0.ring", _remove, "trace/w/cpu0.ring"),
        ("trace/w/trace.json", _flip, "not a trace record"),
        ("trace/formats/kmem/mm_page_free/format", _flip, "trace/formats/kmem/mm_page_free"),
        ("memory/w-1.npz", _flip, "not a memory sample"),
        ("memory/w-0.npz", _remove, "a memory sample cannot be read"),
    ],
)
@pytest.mark.parametrize("digests", [True, False], ids=["digests", "no digests"])
def test_a_spoiled_file_never_holds(
    tmp_path: Path,
    name: str,
    spoil: Callable[[Path, RunDirectory], None],
    why: str,
    digests: bool,
) -> None:
    run = RunDirectory(make(tmp_path))
    spoil(tmp_path / name, run)
    if not digests:
        run.write_manifest(run.read_manifest().model_copy(update={"files": {}}))

    (window,) = replayed(tmp_path).windows

    assert window.result.verdict is not Verdict.HOLDS
    assert window.result.why
    if digests:
        assert window.result.verdict is Verdict.UNKNOWN
        assert why in "; ".join(window.result.doubts)


def test_an_event_of_another_page_fails(tmp_path: Path) -> None:
    def other_page(events: list[MadeEvent]) -> list[MadeEvent]:
        at = next(
            at
            for at, event in enumerate(events)
            if at > 20 and event.name == "kmem/mm_page_alloc_zone_locked"
        )
        pfn = events[at].values[0] ^ 64
        events[at] = dataclasses.replace(events[at], values=(pfn, *events[at].values[1:]))
        return events

    outcome = replayed(make(tmp_path, events=other_page))

    assert outcome.fails
    (window,) = outcome.windows
    assert "unexplained" in window.result.why
    assert "allocated free: mm_page_alloc of page" in window.result.why
    claims = window_claims([window.result])
    assert any(
        claim.id == "replay_events" and claim.verdict is Verdict.FAILS and claim.why
        for claim in claims
    )


def test_samples_that_were_let_go_do_not_stop_other_windows(tmp_path: Path) -> None:
    make(tmp_path, names=("first", "second"))
    shutil.rmtree(tmp_path / "trace" / "first")

    first, second = replayed(tmp_path).windows

    assert first.result.verdict is Verdict.UNKNOWN
    assert second.result.verdict is Verdict.HOLDS


def test_a_window_of_another_name_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="no window is called 'x'"):
        replay_run(open_bundle(make(tmp_path)), only=["x"])
