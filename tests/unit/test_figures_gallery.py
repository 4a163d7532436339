"""Every figure on every kind of machine: drawn, readable, and the same each time."""

from __future__ import annotations

import itertools
import subprocess
import sys
from pathlib import Path
from typing import Any
from unittest import mock

import matplotlib as mpl
import pytest
from matplotlib.backend_bases import RendererBase
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.transforms import Bbox

from analysis.figures.facts import FigureFacts
from analysis.figures.files import png_bytes, svg_bytes
from analysis.figures.gallery import GALLERY, Plate, draw_gallery
from tests.synthetic_tables import NUMA2, NUMA4, UMA, Shape, make_tables

FACTS = FigureFacts(kernel="6.1.0-37-amd64", arch="x86_64", page_size_bytes=4096)
EVERYTHING = frozenset(
    {
        "buddyinfo", "zoneinfo", "fragindex", "vmstat", "pressure", "kthreads", "stimulus",
        "marks", "rounds",
    }
)  # fmt: skip
SHAPES = {
    "one node, three rounds": Shape(zones=UMA, rounds=3),
    "two nodes": Shape(zones=NUMA2, rounds=60),
    "four nodes, killed, no PSI, no kcompactd, no debugfs": Shape(
        zones=NUMA4,
        rounds=60,
        kcompactd=False,
        killed=True,
        off_blocks=2,
        missing=frozenset({"pressure", "fragindex"}),
    ),
    "nothing but the rounds": Shape(zones=UMA, rounds=5, missing=EVERYTHING - {"rounds"}),
    "nothing at all": Shape(zones=UMA, rounds=5, missing=EVERYTHING),
}
PLATES = pytest.mark.parametrize("plate", GALLERY, ids=lambda plate: plate.name)


def visible_texts(figure: Figure) -> list[tuple[str, Bbox]]:
    """Every text that is really drawn, with the pixels it covers."""
    found: list[tuple[str, Bbox]] = []
    draw = Text.draw

    def record(text: Text, renderer: RendererBase) -> None:
        extent = text.get_window_extent(renderer)
        if text.get_visible() and text.get_text().strip():
            found.append((text.get_text(), extent))
        draw(text, renderer)

    with mock.patch.object(Text, "draw", record):
        figure.canvas.draw()
    return found


@PLATES
@pytest.mark.parametrize("name", SHAPES)
def test_text_is_neither_cut_off_nor_written_over_other_text(plate: Plate, name: str) -> None:
    figure = plate.draw(make_tables(SHAPES[name]), FACTS)
    texts = visible_texts(figure)
    assert texts
    page = figure.bbox
    for text, box in texts:
        assert box.x0 >= page.x0 - 1, f"{text!r} is cut off on the left"
        assert box.x1 <= page.x1 + 1, f"{text!r} is cut off on the right"
        assert box.y0 >= page.y0 - 1, f"{text!r} is cut off below"
        assert box.y1 <= page.y1 + 1, f"{text!r} is cut off above"
    for (one, a), (other, b) in itertools.combinations(texts, 2):
        width = min(a.x1, b.x1) - max(a.x0, b.x0)
        height = min(a.y1, b.y1) - max(a.y0, b.y0)
        assert width <= 1.5 or height <= 3, f"{one!r} is written over {other!r}"


@PLATES
def test_same_tables_give_the_same_bytes(plate: Plate) -> None:
    shape = Shape(zones=NUMA2, rounds=12)
    first, second = (plate.draw(make_tables(shape), FACTS) for _ in range(2))
    assert svg_bytes(first) == svg_bytes(second)
    assert png_bytes(first) == png_bytes(second)


@PLATES
def test_svg_says_no_date_and_keeps_text_as_text(plate: Plate) -> None:
    svg = svg_bytes(plate.draw(make_tables(Shape(zones=UMA, rounds=4)), FACTS)).decode()
    assert "dc:date" not in svg
    assert "Linux 6.1.0-37-amd64 on x86_64" in svg


@PLATES
def test_a_missing_source_is_named_in_the_figure(plate: Plate) -> None:
    figure = plate.draw({}, FACTS)
    said = " ".join(text for text, _ in visible_texts(figure))
    assert " no " in f" {said}"


def settings() -> dict[Any, object]:
    # Reading "backend" would choose one, and load pyplot for it.
    return {name: mpl.rcParams[name] for name in mpl.rcParams if name != "backend"}


def test_drawing_leaves_matplotlib_as_it_was() -> None:
    before = settings()
    for plate in GALLERY:
        plate.draw(make_tables(Shape(zones=UMA, rounds=3)), FACTS)
    assert settings() == before


def test_drawing_needs_no_pyplot() -> None:
    program = (
        "import sys; from tests.unit.test_figures_gallery import *\n"
        "png_bytes(GALLERY[0].draw(make_tables(SHAPES['two nodes']), FACTS))\n"
        "sys.exit('matplotlib.pyplot' in sys.modules)"
    )
    root = Path(__file__).parents[2]
    subprocess.run([sys.executable, "-c", program], cwd=root, check=True, timeout=60)


def test_the_gallery_writes_each_figure_twice_and_nothing_else(tmp_path: Path) -> None:
    drawn = draw_gallery(make_tables(Shape(zones=UMA, rounds=4)), FACTS, tmp_path / "figures")
    names = {f"{plate.name}.{kind}" for plate in drawn for kind in ("svg", "png")}
    assert {path.name for path in (tmp_path / "figures").iterdir()} == names
    assert [plate.name for plate in drawn] == [plate.name for plate in GALLERY]
    assert all(plate.files.png.read_bytes().startswith(b"\x89PNG") for plate in drawn)
    assert all(plate.finding for plate in drawn)


def test_a_thousand_rounds_are_drawn() -> None:
    tables = make_tables(Shape(zones=UMA, rounds=1000))
    for plate in GALLERY:
        assert png_bytes(plate.draw(tables, FACTS)).startswith(b"\x89PNG")
