"""What ``mmscope replay`` tells of a run: every window's replay, prediction and errors."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from analysis.bundle import Bundle, RecordError, WindowRecord
from analysis.errors import AnalysisError, BundleError
from analysis.memory.state import nr_free_of
from analysis.replay.exact import WindowReplay, replay_window
from analysis.replay.unusable import change_error, state_error
from analysis.replay.window import Window, open_replay_window
from analysis.verdict import Verdict


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """What a model that picks pages for itself made of a window."""

    pfn_match_pct: float | None
    """Share of the allocations for which it chose the kernel's very page."""
    ambiguous: int | None
    """Allocations that the trace cannot order, apart from misses."""
    lists_in_order: bool | None
    """At the end every free list and per-cpu list is the kernel's, in order."""
    nr_free: NDArray[np.int64] | None = None
    """Its free blocks at the end, zone by order as in the samples."""
    details: Mapping[str, object] = field(default_factory=lambda: MappingProxyType({}))
    """Whatever else it tells; values that JSON knows."""


Predict = Callable[[Window], Prediction | None]
"""Predicts an opened window; None when it cannot."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WindowOutcome:
    """All that is known of one window. Errors are of the unusable index, 0 to 1."""

    result: WindowReplay
    prediction: Prediction | None
    unusable_index_error: float | None
    """Of the prediction at the window's end, or of exact replay where nothing was predicted."""
    null_error: float | None
    """Of the null model: nothing changes."""
    noise_floor: float | None
    """Of the real kernel that ran the same load again; None: it did not."""

    def to_json(self) -> dict[str, object]:
        """The window as ``mmscope replay --json`` prints it."""
        window, replay, prediction = self.result.window, self.result.replay, self.prediction
        return {
            "name": window.name,
            "arch": window.arch,
            "events": replay.operations if replay else None,
            "lost": window.stream_lost,
            "pages_differing": replay.pages_differing if replay else None,
            "blocks_differing": replay.blocks_differing if replay else None,
            "unexplained": replay.ledger.unexplained if replay else None,
            "pfn_match_pct": prediction.pfn_match_pct if prediction else None,
            "ambiguous": prediction.ambiguous if prediction else None,
            "lists_in_order": prediction.lists_in_order if prediction else None,
            "unusable_index_error": self.unusable_index_error,
            "noise_floor": self.noise_floor,
            "null_error": self.null_error,
            "verdict": self.result.verdict.value,
            "why": self.result.why,
            "kernel": window.kernel,
            "cpus": window.cpus,
            "nodes": window.nodes,
            "prediction": dict(prediction.details) if prediction else None,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOutcome:
    """All windows of a run."""

    windows: tuple[WindowOutcome, ...]

    @property
    def events_per_s(self) -> float | None:
        """Rate of exact replay over all windows; None when none was replayed."""
        replays = [one.result.replay for one in self.windows if one.result.replay]
        spent_s = sum(replay.replay_s for replay in replays)
        return sum(replay.operations for replay in replays) / spent_s if spent_s else None

    @property
    def fails(self) -> bool:
        """Some window's verdict is that it fails."""
        return any(one.result.verdict is Verdict.FAILS for one in self.windows)

    def to_json(self) -> dict[str, object]:
        """As ``mmscope replay --json`` prints it."""
        return {
            "windows": [one.to_json() for one in self.windows],
            "events_per_s": self.events_per_s,
        }


def replay_run(
    bundle: Bundle,
    *,
    only: Sequence[str] = (),
    predict: Predict | None = None,
    stage: Callable[[str], None] = lambda _: None,
) -> RunOutcome:
    """Replays the windows of a run, or those named in ``only``.

    Events are let go after each window, so that memory holds one window's at a time.

    Raises:
        BundleError: the run has no window, or none of a name in ``only``.
    """
    names = [record.name for record in bundle.windows]
    if not names:
        raise BundleError(
            f"{bundle.path}: the run has no traced window",
            fix="run an experiment with traced phases, such as replay-smoke",
        )
    for name in only:
        if name not in names:
            raise BundleError(
                f"{bundle.path}: no window is called {name!r}",
                fix=f"choose among: {', '.join(names)}",
            )
    outcomes: list[WindowOutcome] = []
    for record in bundle.windows:
        if not only or record.name in only:
            stage(f"window {record.name}")
            outcomes.append(_outcome(bundle, record, predict))
    return RunOutcome(windows=tuple(outcomes))


def _outcome(bundle: Bundle, record: WindowRecord, predict: Predict | None) -> WindowOutcome:
    window = open_replay_window(bundle, record)
    result = replay_window(window)
    prediction = predict(window) if predict else None
    ends = _ends(bundle, record)
    error: float | None = None
    if prediction and prediction.nr_free is not None and ends:
        error = state_error(prediction.nr_free, ends[1])
    elif result.replay:
        error = state_error(result.replay.end.predicted, result.replay.end.observed)
    return WindowOutcome(
        result=dataclasses.replace(result, window=window.without_events()),
        prediction=prediction,
        unusable_index_error=error,
        null_error=state_error(*ends) if ends else None,
        noise_floor=_noise_floor(bundle, record, ends),
    )


_Ends = tuple[NDArray[np.int64], NDArray[np.int64]]


def _noise_floor(bundle: Bundle, record: WindowRecord, ends: _Ends | None) -> float | None:
    """Against the window that ran the same load, before or after."""
    for other in bundle.windows:
        if other.again_of == record.name or record.again_of == other.name:
            theirs = _ends(bundle, other)
            if ends and theirs and ends[0].shape == theirs[0].shape:
                return change_error(*ends, *theirs)
    return None


def _ends(bundle: Bundle, record: WindowRecord) -> _Ends | None:
    """Free blocks at begin and end as read; None where a sample is missing or unsound."""
    if len(record.samples) < 2:
        return None
    try:
        samples = [bundle.memory_sample(record.samples[at]) for at in (0, -1)]
        if not all(sample.sound for sample in samples):
            return None
        begin, end = map(nr_free_of, samples)
    except (AnalysisError, RecordError):
        return None
    return (begin, end) if begin.shape == end.shape else None
