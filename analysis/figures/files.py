"""A figure as files: SVG with text as text, and PNG; the same figure gives the same bytes."""

from __future__ import annotations

import io
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

from matplotlib.figure import Figure

from analysis.figures import style


@dataclass(frozen=True, slots=True, kw_only=True)
class FigureFiles:
    svg: Path
    png: Path


def save_figure(figure: Figure, directory: Path, name: str) -> FigureFiles:
    """Writes ``name.svg`` and ``name.png``, each whole or not at all.

    Raises:
        OSError: the directory cannot be written.
    """
    directory.mkdir(parents=True, exist_ok=True)
    files = FigureFiles(svg=directory / f"{name}.svg", png=directory / f"{name}.png")
    replace_file(files.svg, svg_bytes(figure))
    replace_file(files.png, png_bytes(figure))
    return files


def svg_bytes(figure: Figure) -> bytes:
    """The figure as SVG without date and creator."""
    with style.applied():
        out = io.BytesIO()
        figure.savefig(out, format="svg", metadata={"Date": None, "Creator": None})
    return out.getvalue()


def png_bytes(figure: Figure) -> bytes:
    """The figure as PNG without the software's name."""
    with style.applied():
        out = io.BytesIO()
        figure.savefig(out, format="png", metadata={"Software": None})
    return out.getvalue()


def replace_file(path: Path, content: bytes) -> None:
    """Puts ``content`` at ``path``; readers see the old or the new file, never a part.

    Raises:
        OSError: it could not be written; what was there is still there.
    """
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    temporary = Path(name)
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(content)
        temporary.chmod(0o644)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
