"""Words of the tour, written with a little markup, as HTML; numbers as they are read."""

from __future__ import annotations

import re

from markupsafe import Markup, escape

from analysis.compare.claim import Number
from analysis.tour.words import Language

_CODE = re.compile(r"`([^`]+)`")
_STRESSED = re.compile(r"\*([^*\s][^*]*)\*")
_BREAK = re.compile(r"\s*\n\s*")
_WIDE = re.compile(r"[\u2e80-\u9fff\uf900-\ufaff\uff00-\uffef]")


def inline_text(text: str, language: Language) -> Markup:
    """One paragraph: lines joined, what stands between backticks set as code,
    between asterisks stressed."""
    joined = _BREAK.sub(lambda found: _joint(text, found, language), text.strip())
    parts = _CODE.split(joined)
    return Markup("").join(
        Markup("<code>{}</code>").format(part) if place % 2 else _stressed(part)
        for place, part in enumerate(parts)
    )


def _stressed(text: str) -> Markup:
    parts = _STRESSED.split(text)
    return Markup("").join(
        Markup("<em>{}</em>").format(part) if place % 2 else escape(part)
        for place, part in enumerate(parts)
    )


def paragraphs(text: str, language: Language) -> Markup:
    """Paragraphs, which an empty line parts."""
    return Markup("\n").join(
        Markup("<p>{}</p>").format(inline_text(part, language))
        for part in re.split(r"\n\s*\n", text.strip())
    )


def _joint(text: str, found: re.Match[str], language: Language) -> str:
    """A line's end: a space, but not between Chinese characters."""
    around = text.strip()[max(0, found.start() - 1) : found.end() + 1]
    if language == "zh" and around and _WIDE.match(around[0]) and _WIDE.match(around[-1]):
        return ""
    return " "


def said(value: Number | None, nothing: str) -> str:
    """A number with its thousands apart, a text as it is."""
    if value is None:
        return nothing
    if isinstance(value, bool | str):
        return str(value)
    if isinstance(value, int):
        return f"{value:,}".replace(",", "\u202f") if abs(value) >= 10_000 else str(value)
    return f"{value:.6g}"
