"""A saved figure as a piece of HTML: inline SVG, or a PNG when that is much smaller."""

from __future__ import annotations

import base64
import re

from markupsafe import Markup, escape

from analysis.figures.files import FigureFiles

MAX_SVG_BYTES = 1_500_000

_TAG = re.compile(r"<[A-Za-z][^<>]*>")
_ID = re.compile(r'(\sid=")')
_REFERENCE = re.compile(r'(url\(#|\shref="#|\sxlink:href="#)')
_ROOT = re.compile(r"<svg\b[^>]*>")
_VIEW_BOX = re.compile(r'viewBox="([^"]*)"')
_STRIPPED = re.compile(
    r"<\?xml.*?\?>|<!DOCTYPE.*?>|<!--.*?-->|<metadata>.*?</metadata>|<style\b.*?</style>", re.DOTALL
)


def embed(files: FigureFiles, *, prefix: str, description: str) -> Markup:
    """The figure for the page, its ids prefixed so that figures do not collide.

    Raises:
        OSError: the figure cannot be read.
    """
    svg = files.svg.read_text(encoding="utf-8")
    if len(svg) <= MAX_SVG_BYTES:
        return inline(svg, prefix=prefix, description=description)
    data = base64.b64encode(files.png.read_bytes()).decode("ascii")
    return Markup('<img src="data:image/png;base64,{}" alt="{}">').format(data, description)


def inline(svg: str, *, prefix: str, description: str) -> Markup:
    """An SVG document as an element of an HTML page, as wide as its frame allows."""
    view_box = _VIEW_BOX.search(svg)
    assert view_box is not None, "our figures have a viewBox"
    body = _TAG.sub(lambda tag: _prefix(tag[0], prefix), _STRIPPED.sub("", svg))
    root = (
        f'<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
        f'viewBox="{view_box[1]}" role="img" aria-label="{escape(description)}" class="plot">'
    )
    # The text is matplotlib's own output, in which every label is escaped already.
    return Markup(_ROOT.sub(lambda _: root, body, count=1).strip())  # noqa: S704


def _prefix(tag: str, prefix: str) -> str:
    tag = _ID.sub(rf"\g<1>{prefix}-", tag)
    return _REFERENCE.sub(rf"\g<1>{prefix}-", tag)
