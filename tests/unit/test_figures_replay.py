"""What the figures of replayed windows draw, held against the films they were drawn from."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.figures import (
    page_colors,
    replay_blocks,
    replay_frames,
    replay_overview,
    replay_unusable,
    style,
)
from analysis.figures.files import png_bytes, svg_bytes
from analysis.figures.replay_gallery import REPLAY_FIGURES, draw_film
from analysis.replay.film import Film
from analysis.replay.page_use import FREE, PageUse
from analysis.replay.unusable import unusable_milli
from tests.made_film import made_film, spoiled
from tests.made_window import FIRST_PFN, PAGEBLOCK_ORDER, PAGES

PNG_MAGIC = b"\x89PNG"


@pytest.fixture(scope="module")
def film() -> Film:
    return made_film()


def headline(figure: Figure) -> str:
    return figure.texts[0].get_text().replace("\n", " ")


def titled(figure: Figure, title: str, loc: Literal["left", "right"] = "left") -> Axes:
    (found,) = [axes for axes in figure.axes if axes.get_title(loc) == title]
    return found


def points(axes: Axes, number: int) -> list[tuple[float, float]]:
    line = axes.lines[number]
    x, y = np.asarray(line.get_xdata(), float), np.asarray(line.get_ydata(), float)
    return list(zip(x.tolist(), y.tolist(), strict=True))


def test_blocks_are_drawn_as_the_film_has_them(film: Film) -> None:
    figure = replay_blocks.draw(film)

    assert headline(figure) == (
        f"w: the model has the kernel's free blocks in {10 * film.orders} of {10 * film.orders} "
        "counts at 10 moments"
    )
    for order in range(film.orders):
        axes = titled(figure, f"order {order}" if order else "node 0 Normal: order 0")
        assert points(axes, 0) == list(
            zip(film.curve_operations.tolist(), film.curve[:, 0, order].tolist(), strict=True)
        )
        assert points(axes, 1) == [
            (moment.operations, moment.nr_free[0, order]) for moment in film.moments
        ]


def test_a_wrong_count_is_drawn_and_told(film: Film) -> None:
    end = film.moments[-1]
    assert end.model_nr_free is not None
    wrong = end.model_nr_free.copy()
    wrong[0, 2] += 7
    spoilt = dataclasses.replace(
        film, moments=(*film.moments[:-1], dataclasses.replace(end, model_nr_free=wrong))
    )

    figure = replay_blocks.draw(spoilt)

    total = 10 * film.orders
    assert f"in {total - 1} of {total} counts" in headline(figure)
    assert points(titled(figure, "order 2"), 1)[-1][1] == end.nr_free[0, 2] + 7
    unusable = headline(replay_unusable.draw(spoilt))
    off = np.abs(unusable_milli(wrong) - unusable_milli(end.nr_free)).max() / 1000
    assert f"off by {off:.3f} at most" in unusable


def test_the_index_of_kernel_model_and_null_model(film: Film) -> None:
    figure = replay_unusable.draw(film)

    for order in (4, PAGEBLOCK_ORDER):
        axes = titled(figure, f"node 0 Normal: order {order}")
        kernel = unusable_milli(film.curve)[:, 0, order] / 1000
        assert [y for _, y in points(axes, 0)] == kernel.tolist()
        null = unusable_milli(film.moments[0].nr_free)[0, order] / 1000
        assert [y for _, y in points(axes, 1)] == [null, null]
        assert [y for _, y in points(axes, 2)] == [
            unusable_milli(moment.nr_free)[0, order] / 1000 for moment in film.moments
        ]
    assert "is the kernel's at all 10 moments" in headline(figure)


def test_every_page_is_a_dot_of_its_colour(film: Film) -> None:
    figure = replay_frames.draw(film)

    assert f"0 of {PAGES} pages differ" in headline(figure)
    kernel = titled(figure, "node 0 Normal, the end: kernel")
    shown = np.asarray(kernel.images[0].get_array())
    assert shown.shape == (PAGES >> PAGEBLOCK_ORDER, 1 << PAGEBLOCK_ORDER, 3)
    colors = {swatch.code: swatch.color for swatch in page_colors.legend(film.orders)}
    for page, dot in zip(film.moments[-1].kernel.tolist(), shown.reshape(-1, 3), strict=True):
        assert "#" + bytes(dot.tolist()).hex() == colors[page]
    labels = [label.get_text() for label in kernel.get_yticklabels()]
    assert labels[0] == f"{FIRST_PFN:#x}"


def test_the_middle_map_is_of_the_moment_with_most_changes(film: Film) -> None:
    shown = replay_frames.shown_moments(film)

    changed = [(moment.kernel != film.moments[0].kernel).sum() for moment in film.moments[1:-1]]
    assert shown[-1] is film.moments[-1]
    assert (shown[0].kernel != film.moments[0].kernel).sum() == max(changed)


def test_differing_pages_are_ringed_and_counted(film: Film) -> None:
    pages = [3, 40, 300]
    figure = replay_frames.draw(spoiled(film, pages))

    assert headline(figure) == (
        f"w: 3 of {PAGES} pages differ between kernel and model at the end; at most 3, the end"
    )
    model = titled(figure, f"3 of {PAGES} pages differ", "right")
    width = 1 << PAGEBLOCK_ORDER
    expected = [(float(page % width), float(page // width)) for page in pages]
    for ring in (0, 1):
        assert points(model, ring) == expected


def test_close_pages_share_a_ring() -> None:
    places = np.array([0, 1, 7, 8, 33, 3 * 32, 4 * 32, 500], np.int64)
    assert sorted(replay_frames.ringed(places, 32).tolist()) == [0, 8, 4 * 32, 500]


def test_the_overview_is_of_one_moment(film: Film) -> None:
    figure = replay_overview.draw(film)

    moment = replay_frames.shown_moments(film)[0]
    kernel, model = figure.axes[:2]
    for axes in (kernel, model):
        shown = np.asarray(axes.images[0].get_array()).reshape(-1, 3)
        assert np.array_equal(shown, page_colors.paint(moment.kernel, film.orders))
    assert model.get_title("right") == f"0 of {PAGES} pages differ"
    for order in replay_overview.shown_orders(film)[1:]:
        axes = titled(figure, f"order {order}")
        assert points(axes, 1) == [(m.operations, m.nr_free[0, order]) for m in film.moments]
        assert {x for x, _ in points(axes, 2)} == {moment.operations}
    assert f"each of {PAGES} pages as the kernel has it, at all 10 moments" in headline(figure)
    wrong = replay_overview.draw(spoiled(film, [3, 40], number=2))
    assert "never has more than 2 otherwise" in headline(wrong)


def test_a_window_without_prediction_shows_the_kernel_alone() -> None:
    film = made_film(predicted=False)
    blocks, frames = replay_blocks.draw(film), replay_frames.draw(film)

    assert "the model did not predict this window" in blocks.texts[1].get_text()
    assert len(titled(blocks, "order 3").lines) == 1
    assert not [axes for axes in frames.axes if axes.get_title() == "model"]
    assert "every page" in headline(frames)
    assert len(titled(replay_unusable.draw(film), "node 0 Normal: order 4").lines) == 2


def test_a_window_in_which_nothing_moves_says_so(film: Film) -> None:
    still = dataclasses.replace(film, moments=(film.moments[0], film.moments[0]))
    for module in REPLAY_FIGURES:
        (axes,) = module.draw(still).axes
        assert axes.texts[0].get_text().startswith("no ")


def test_rows_begin_at_pageblocks() -> None:
    codes = np.arange(1, 11, dtype=np.uint8)
    rows = page_colors.rows_of(codes, first_pfn=6, pageblock_order=2)
    assert rows.tolist() == [[0, 0, 1, 2], [3, 4, 5, 6], [7, 8, 9, 10]]
    wide = page_colors.rows_of(np.ones(8192, np.uint8), first_pfn=8192, pageblock_order=13)
    assert wide.shape == (16, page_colors.ROW_PAGES)


@pytest.mark.parametrize("orders", [1, 7, 11, 14])
def test_no_two_things_have_one_colour(orders: int) -> None:
    colors = [swatch.color for swatch in page_colors.legend(orders)]
    assert len(set(colors)) == len(colors) == orders + len(PageUse)
    assert page_colors.legend(orders)[0].code == FREE + orders - 1


def test_figures_are_written_the_same_each_time(film: Film, tmp_path: Path) -> None:
    files = draw_film(film, tmp_path)

    assert sorted(path.name for path in tmp_path.iterdir()) == [
        f"replay-w-{name}.{kind}"
        for name in ("blocks", "frames", "overview", "unusable")
        for kind in ("png", "svg")
    ]
    again = replay_frames.draw(film)
    assert files["frames"].svg.read_bytes() == svg_bytes(again)
    assert files["frames"].png.read_bytes() == png_bytes(again)
    assert files["frames"].png.read_bytes().startswith(PNG_MAGIC)


def test_the_map_has_a_dot_for_each_page(film: Film) -> None:
    figure = replay_frames.draw(film)
    kernel = titled(figure, "node 0 Normal, the end: kernel")
    assert round(style.width_in(kernel) * figure.dpi) == 2 * page_colors.ROW_PAGES
