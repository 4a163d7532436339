"""replay.html: what it holds is what the films hold, and it loads nothing."""

from __future__ import annotations

import base64
import json
import re
import zlib
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from analysis.replay.film import Film
from analysis.report.replay_page import ReplayPage, Unfilmed, film_data, pack_changes, render
from harness.cli.app import app
from tests.made_film import made_film, spoiled
from tests.made_window import FIRST_PFN, PAGES, MadeKernel, write_run, write_window

run = CliRunner()


@pytest.fixture(scope="module")
def film() -> Film:
    return spoiled(made_film(), [7, 200], number=3)


def embedded(text: str) -> list[dict[str, Any]]:
    """The films in a page."""
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', text, re.DOTALL)
    assert found is not None
    data: list[dict[str, Any]] = json.loads(found[1])
    return data


def unpacked(text: str, pages: int) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    """Frames as the page's script makes them: running sums of bytes."""
    raw = np.frombuffer(zlib.decompress(base64.b64decode(text)), np.uint8)
    return np.cumsum(raw.reshape(-1, pages), axis=0, dtype=np.uint8)


def test_the_page_holds_every_state(film: Film) -> None:
    page = ReplayPage(title="a run")
    page.add(film, verdict="holds")

    (shown,) = embedded(render(page))

    kernel = unpacked(shown["frames"], shown["pages"])
    wrong = unpacked(shown["model"], shown["pages"])
    assert len(kernel) == len(wrong) == len(film.moments) == len(shown["moments"])
    for moment, data, frame, bits in zip(
        film.moments, shown["moments"], kernel, wrong, strict=True
    ):
        assert moment.model is not None
        assert moment.model_nr_free is not None
        assert np.array_equal(frame, moment.kernel)
        assert np.array_equal(frame ^ bits, moment.model)
        assert data["kernel"] == moment.nr_free.tolist()
        assert data["model"] == moment.model_nr_free.tolist()
        assert data["operations"] == moment.operations
        assert data["sample"] == moment.sample
    assert [moment["differing"] for moment in shown["moments"]] == [
        [2 if number == 3 else 0] for number in range(len(film.moments))
    ]
    assert shown["curve"]["operations"] == film.curve_operations.tolist()
    assert shown["curve"]["blocks"] == film.curve.tolist()
    assert shown["zones"] == [
        {"label": "node 0 Normal", "startPfn": FIRST_PFN, "pages": PAGES, "touched": True}
    ]


def test_changes_survive_packing() -> None:
    rng = np.random.default_rng(5)
    frames = [rng.integers(0, 256, 100).astype(np.uint8) for _ in range(7)]
    before = [frame.copy() for frame in frames]
    assert np.array_equal(unpacked(pack_changes(frames), 100), np.stack(before))
    assert np.array_equal(np.stack(frames), np.stack(before)), "packing changed the frames"


def test_without_a_model_nothing_is_said_of_it() -> None:
    data = film_data(made_film(predicted=False))
    assert data["predicted"] is False
    assert {moment["model"] for moment in data["moments"]} == {None}
    assert not unpacked(data["model"], data["pages"]).any()


class References(HTMLParser):
    """Everything that a browser would load."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        names = {"src", "href", "srcset", "data", "poster", "action"}
        self.found += [f"{tag} {name}={value}" for name, value in attrs if name in names]
        if tag in ("link", "iframe", "object", "embed", "base"):
            self.found.append(tag)


def test_nothing_is_loaded_from_elsewhere(film: Film) -> None:
    page = ReplayPage(title="a run")
    page.add(film, verdict="holds")
    text = render(page)

    references = References()
    references.feed(text)
    assert references.found == []
    without_names = text.replace("http://www.w3.org/2000/svg", "")
    for forbidden in ("http:", "https:", "url(", "@import", "import(", "fetch(", "XMLHttp"):
        assert forbidden not in without_names


def test_names_cannot_break_out_of_the_page(film: Film) -> None:
    page = ReplayPage(title="</title><script>alert(1)</script>")
    page.add(film, verdict="fails", why="</script><script>alert(2)</script>")
    page.unfilmed.append(Unfilmed(window="<b>", why="<i>"))
    text = render(page)

    assert "<script>alert" not in text
    assert "<b>" not in text.split("<main")[0]
    assert "<i>" not in text
    assert embedded(text)[0]["why"] == "</script><script>alert(2)</script>"


def test_a_page_without_films_says_why() -> None:
    page = ReplayPage(title="a run", unfilmed=[Unfilmed(window="anon", why="its trace is gone")])
    text = render(page)
    assert "No window could be filmed" in text
    assert "anon: its trace is gone" in text
    assert 'id="data"' not in text


def made_run(path: Path, *, lost: int = 0) -> Path:
    kernel = MadeKernel()
    begin = kernel.sample("w/begin")
    pages = [kernel.allocate(number % 3) for number in range(30)]
    for pfn in pages[::2]:
        assert pfn is not None
        kernel.free(pfn)
    samples = [begin, kernel.sample("w/end")]
    records = [
        write_window(path, "w", kernel.events, samples, lost=lost),
        write_window(path, "again", kernel.events, samples, again_of="w"),
    ]
    write_run(path, records, release=kernel.release)
    return path


def test_replay_writes_figures_and_the_page(tmp_path: Path) -> None:
    done = run.invoke(app, ["replay", str(made_run(tmp_path / "run"))])

    assert done.exit_code == 0, done.output
    page = tmp_path / "run" / "replay.html"
    assert str(page) in done.stdout.replace("\n", "")
    (shown,) = embedded(page.read_text())
    assert (shown["name"], shown["verdict"], shown["predicted"]) == ("w", "holds", False)
    assert sorted(path.name for path in (tmp_path / "run" / "figures").iterdir()) == [
        f"replay-w-{name}.{kind}"
        for name in ("blocks", "frames", "overview", "unusable")
        for kind in ("png", "svg")
    ]


def test_replay_without_figures_writes_its_numbers_alone(tmp_path: Path) -> None:
    path = made_run(tmp_path / "run")
    before = set(path.rglob("*"))

    done = run.invoke(app, ["replay", str(path), "--no-figures", "--json"])

    assert done.exit_code == 0, done.output
    assert len(json.loads(done.stdout)["windows"]) == 2
    assert set(path.rglob("*")) - before == {path / "replay.json"}
    assert json.loads((path / "replay.json").read_text()) == json.loads(done.stdout)


def test_a_window_with_doubts_is_filmed_and_says_so(tmp_path: Path) -> None:
    path = made_run(tmp_path / "run", lost=3)

    done = run.invoke(app, ["replay", str(path), "--window", "w", "--json"])

    assert done.exit_code == 0, done.output
    (shown,) = embedded((path / "replay.html").read_text())
    assert shown["verdict"] == "unknown"
    assert "3 events were lost" in shown["why"]
