"""The figures of traced windows, drawn and saved."""

from __future__ import annotations

from pathlib import Path

from analysis.figures import replay_blocks, replay_frames, replay_overview, replay_unusable
from analysis.figures.files import FigureFiles, save_figure
from analysis.replay.film import Film

REPLAY_FIGURES = (replay_overview, replay_blocks, replay_unusable, replay_frames)


def draw_film(film: Film, directory: Path) -> dict[str, FigureFiles]:
    """Draws a window's figures as ``replay-WINDOW-blocks.svg`` and so on; files by figure's name.

    Raises:
        OSError: the directory cannot be written.
    """
    return {
        module.NAME: save_figure(
            module.draw(film), directory, f"replay-{film.window}-{module.NAME}"
        )
        for module in REPLAY_FIGURES
    }
