"""replay.html: the traced windows of a run as films that one can wind to any moment.

The page holds everything itself: numbers as JSON, pages as bytes, deflated, in base64. Of every
moment only what changed since the one before is kept, so that a film of thirty moments of 512 MiB
takes some tens of kilobytes.
"""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from analysis.figures.files import replace_file
from analysis.figures.page_colors import ROW_PAGES, legend
from analysis.replay.film import Film, Moment

PAGE_NAME = "replay.html"


@dataclass(frozen=True, slots=True, kw_only=True)
class Unfilmed:
    """A window without a film, and why."""

    window: str
    why: str


@dataclass(slots=True, kw_only=True)
class ReplayPage:
    """The page in the making; films are let go as soon as they are added."""

    title: str
    windows: list[dict[str, Any]] = field(default_factory=list)
    unfilmed: list[Unfilmed] = field(default_factory=list)

    def add(self, film: Film, *, verdict: str, why: str = "") -> None:
        """Adds a window with the verdict of its exact replay and the reasons for that."""
        self.windows.append({**film_data(film), "verdict": verdict, "why": why})

    def write(self, path: Path) -> None:
        """Writes the page, whole or not at all.

        Raises:
            OSError: the file cannot be written.
        """
        replace_file(path, render(self).encode("utf-8"))


def film_data(film: Film) -> dict[str, Any]:
    """A film as the page's script reads it; values that JSON knows."""
    geometry = film.geometry
    kernel = [moment.kernel for moment in film.moments]
    return {
        "name": film.window,
        "kernel": film.kernel,
        "arch": film.arch,
        "predicted": film.predicted,
        "firstPfn": geometry.first_pfn,
        "pages": geometry.pages,
        "rowPages": min(1 << geometry.pageblock_order, ROW_PAGES),
        "pageblockOrder": geometry.pageblock_order,
        "orders": film.orders,
        "legend": [
            {"code": swatch.code, "color": swatch.color, "label": swatch.label}
            for swatch in legend(film.orders)
        ],
        "zones": [
            {
                "label": str(zone),
                "startPfn": zone.start_pfn,
                "pages": zone.spanned_pages,
                "touched": film.touched(zone),
            }
            for zone in film.zones
        ],
        "moments": [_moment_data(film, moment) for moment in film.moments],
        "curve": {
            "operations": film.curve_operations.tolist(),
            "blocks": film.curve.tolist(),
        },
        "frames": pack_changes(kernel),
        "model": pack_changes([_wrong_bits(moment) for moment in film.moments]),
    }


def _moment_data(film: Film, moment: Moment) -> dict[str, Any]:
    model = moment.model_nr_free
    return {
        "operations": moment.operations,
        "counter": moment.counter,
        "sample": moment.sample,
        "kernel": moment.nr_free.tolist(),
        "model": None if model is None else model.tolist(),
        "differing": [film.differing(moment, zone) for zone in film.zones],
    }


def _wrong_bits(moment: Moment) -> NDArray[np.uint8]:
    """The bits in which the model's codes are not the kernel's."""
    if moment.model is None:
        return np.zeros_like(moment.kernel)
    return np.bitwise_xor(moment.model, moment.kernel)


def pack_changes(frames: Sequence[NDArray[np.uint8]]) -> str:
    """Arrays of bytes, each but the first as its difference to the one before (modulo 256)."""
    stack = np.stack(frames)
    stack[1:] -= np.stack(frames)[:-1]
    return base64.b64encode(zlib.compress(stack.tobytes(), 9)).decode("ascii")


def render(page: ReplayPage) -> str:
    """The page as text; nothing in it is loaded from elsewhere."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("analysis.report", "."),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    data = json.dumps(page.windows, separators=(",", ":")).replace("<", r"\u003c")
    return environment.get_template("replay.html").render(
        title=page.title,
        windows=page.windows,
        unfilmed=page.unfilmed,
        # In a script element only "<" could end the text, and there is none left.
        data=Markup(data),  # noqa: S704
    )
