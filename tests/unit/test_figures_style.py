"""Colours of writing on colours."""

from __future__ import annotations

import pytest

from analysis.figures import style


@pytest.mark.parametrize("color", [style.BLUE, style.GREEN, style.VERMILION, style.PURPLE, "black"])
def test_writing_is_light_on_saturated_colours(color: str) -> None:
    assert style.ink_on(color) == style.PAPER


@pytest.mark.parametrize("color", [style.SKY, style.ORANGE, style.FAINT, "white"])
def test_writing_is_dark_on_light_ones(color: str) -> None:
    assert style.ink_on(color) == style.INK


def test_orders_turn_from_dark_to_light_once() -> None:
    inks = [style.ink_on(color) for color in style.order_colors(11)]
    assert inks == sorted(inks, key=[style.PAPER, style.INK].index)
    assert {inks[0], inks[-1]} == {style.PAPER, style.INK}
