"""All figures of a run, in the order in which the report shows them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from matplotlib.figure import Figure

from analysis.compare.facts import Tables
from analysis.figures import (
    activity,
    free_orders,
    kthreads,
    stimulus,
    unusable,
    watermarks,
)
from analysis.figures.facts import FigureFacts
from analysis.figures.files import FigureFiles, save_figure


@dataclass(frozen=True, slots=True, kw_only=True)
class Plate:
    """One kind of figure: what it is called, how to read it, how to draw it."""

    name: str
    title: str
    reading: str
    draw: Callable[[Tables, FigureFacts], Figure]


@dataclass(frozen=True, slots=True, kw_only=True)
class DrawnPlate:
    """A figure that was drawn and saved."""

    name: str
    title: str
    reading: str
    finding: str
    """The figure's own headline."""
    files: FigureFiles


GALLERY: tuple[Plate, ...] = tuple(
    Plate(name=module.NAME, title=module.TITLE, reading=module.READING, draw=module.draw)
    for module in (stimulus, free_orders, unusable, watermarks, kthreads, activity)
)


def draw_gallery(tables: Tables, facts: FigureFacts, directory: Path) -> list[DrawnPlate]:
    """Draws every figure into ``directory``; one that lacks its source says so in its place.

    Raises:
        OSError: the directory cannot be written.
    """
    drawn: list[DrawnPlate] = []
    for plate in GALLERY:
        figure = plate.draw(tables, facts)
        files = save_figure(figure, directory, plate.name)
        finding = figure.texts[0].get_text().replace("\n", " ")
        drawn.append(
            DrawnPlate(
                name=plate.name,
                title=plate.title,
                reading=plate.reading,
                finding=finding,
                files=files,
            )
        )
    return drawn
