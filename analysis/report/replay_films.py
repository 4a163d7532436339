"""Films of a replayed run: figures of every window, and the page that winds through them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from analysis.bundle import Bundle
from analysis.errors import BundleError
from analysis.figures.replay_gallery import draw_film
from analysis.replay.film import Film, film_window
from analysis.replay.outcome import RunOutcome, WindowOutcome
from analysis.replay.predicted_states import ModelStates, predicted_states
from analysis.replay.window import Window, open_replay_window
from analysis.report.replay_page import PAGE_NAME, ReplayPage, Unfilmed
from analysis.verdict import Verdict


def film_run(
    bundle: Bundle,
    outcome: RunOutcome,
    *,
    model: ModelStates | None = predicted_states,
    stage: Callable[[str], None] = lambda _: None,
) -> Path:
    """Writes figures/replay-* and replay.html of the windows in ``outcome``; the page's path.

    Loads that were run once more are filmed only when nothing else was replayed. The model is
    asked where exact replay holds: of a trace that is wrong it could tell nothing.

    Raises:
        OSError: the run's directory cannot be written.
    """
    page = ReplayPage(title=bundle.path.resolve().name)
    records = {record.name: record for record in bundle.windows}
    for one in _filmed(outcome):
        name = one.result.window.name
        stage(f"figures of window {name}")
        window = open_replay_window(bundle, records[name])
        asked = model if one.result.verdict is Verdict.HOLDS else None
        try:
            film = _film(window, asked)
        except BundleError as error:
            page.unfilmed.append(Unfilmed(window=name, why=error.message))
            continue
        draw_film(film, bundle.path / "figures")
        page.add(film, verdict=one.result.verdict.value, why=one.result.why)
    path = bundle.path / PAGE_NAME
    page.write(path)
    return path


def _filmed(outcome: RunOutcome) -> Iterator[WindowOutcome]:
    first = [one for one in outcome.windows if one.result.window.again_of is None]
    yield from first or outcome.windows


def _film(window: Window, model: ModelStates | None) -> Film:
    """With the model where it can be asked, else without."""
    if model is not None:
        try:
            return film_window(window, model=model)
        except BundleError:
            pass
    return film_window(window)
