"""The tour as a book: what is on the page, in each language, and what its words become."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
from matplotlib.figure import Figure

from analysis.errors import CaptureError, ParseError
from analysis.report import tour_page
from analysis.report.prose import inline_text, paragraphs, said
from analysis.report.tour_page import page_words, write_pages
from analysis.tour.evidence import StopEvidence
from analysis.tour.finding import Finding, Plate
from analysis.tour.judge import JudgedTour, judge_stop, judge_tour
from analysis.tour.registry import JUDGES
from analysis.tour.words import LANGUAGES, Language, parse, stop_words
from tests.tour_evidence import tour_of

WALKED = ["zones/dma", "nodes/numa"]


class Page(HTMLParser):
    """What of a page is checked: ids, links, languages, nesting, text."""

    VOID = frozenset({"meta", "br", "img", "path", "use", "rect"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.ids: list[str] = []
        self.links: list[str] = []
        self.tags: list[str] = []
        self.open: list[str] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if tag not in self.VOID:
            self.open.append(tag)
        for name, value in attrs:
            if name == "id":
                self.ids.append(str(value))
            if name == "href" and tag == "a":
                self.links.append(str(value))

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in self.VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag, f"</{tag}> in the wrong place"

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    tour = tour_of(WALKED, tmp_path_factory.mktemp("tour"))
    written = write_pages(tour)
    assert [path.name for path in written] == ["tour.en.html", "tour.zh.html"]
    return {path.name.split(".")[1]: path.read_text(encoding="utf-8") for path in written}


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_page_stands_by_itself(pages: dict[str, str], language: Language) -> None:
    page = Page(pages[language])
    assert page.open == []
    assert not {"script", "link", "iframe"} & set(page.tags)
    assert len(set(page.ids)) == len(page.ids)
    inner = [link[1:] for link in page.links if link.startswith("#")]
    assert set(inner) <= set(page.ids)
    other = "zh" if language == "en" else "en"
    assert [link for link in page.links if not link.startswith("#")] == [f"tour.{other}.html"]
    assert f'<html lang="{page_words(language)["language"]}">' in pages[language]


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_stop_is_told_with_its_evidence_and_its_claims(
    pages: dict[str, str], language: Language
) -> None:
    page = Page(pages[language])
    words = stop_words(language)["zones/dma"]
    for text in (words.title, words.exhibits["zoneinfo"], words.claims["zone_range"]):
        assert text in page.text
    assert "mmscope tour zones/dma" in page.text
    assert '<span class="marked">        present  3998</span>' in pages[language]
    assert "6.1.0-56-amd64" in page.text
    assert "4095 spanned - 97 without memory = 3998 present" in page.text
    assert page.tags.count("svg") == 3  # two maps and the free pages


@pytest.mark.parametrize("language", LANGUAGES)
def test_stops_that_were_not_walked_are_listed_as_such(
    pages: dict[str, str], language: Language
) -> None:
    ui = page_words(language)
    page = Page(pages[language])
    assert "zones-highmem" in page.ids
    assert ui["not walked"] in page.text
    total = len(judge_stops())
    assert ui["result"].format(holds=2, total=total) in page.text


def judge_stops() -> dict[str, object]:
    from analysis.tour.registry import JUDGES

    return dict(JUDGES)


def test_a_failing_claim_is_shown_with_its_reason(tmp_path: Path) -> None:
    tour = tour_of(["zones/dma"], tmp_path)
    zoneinfo = tour / "stops/zones-dma/main/capture/proc/zoneinfo"
    zoneinfo.write_text(zoneinfo.read_text().replace("present  3998", "present  3997"))
    judged = judge_tour(tour)
    assert judged.exit_code == 1
    (path,) = write_pages(tour, ("en",))
    text = path.read_text()
    assert "1 fail" in text
    assert "the rule gives 3998, the kernel shows 3997" in text


def test_a_stop_that_went_wrong_is_shown_with_what_helps(tmp_path: Path) -> None:
    tour = tour_of(["zones/dma", "nodes/numa"], tmp_path)
    record = tour / "stops/zones-dma/stop.json"
    told = json.loads(record.read_text())
    told |= {"complaint": "it <never> came up", "fix": "boot & again", "exit_code": 4}
    told["details"] = {"QEMU said": "no memory", "argv": "/somewhere/of/this/machine"}
    record.write_text(json.dumps(told))
    judged = judge_tour(tour)
    assert judged.exit_code == 4
    (path,) = write_pages(tour, ("en",))
    assert "it &lt;never&gt; came up" in path.read_text()
    assert "boot &amp; again" in path.read_text()
    assert "no memory" in path.read_text()
    assert "/somewhere" not in path.read_text()


def test_evidence_that_lacks_something_breaks_its_stop_alone(tmp_path: Path) -> None:
    tour = tour_of(WALKED, tmp_path)
    (tour / "stops/nodes-numa/main/zonelists.json").unlink()
    judged = {stop.name: stop for stop in judge_tour(tour, WALKED).stops}
    assert judged["nodes/numa"].status == "broken"
    assert "zonelists.json" in judged["nodes/numa"].complaint
    assert judged["zones/dma"].status == "holds"


@pytest.mark.parametrize(
    "mistake", [AssertionError("no free block"), AttributeError("'None'"), StopIteration()]
)
def test_a_mistake_of_a_judge_breaks_its_stop_alone(tmp_path: Path, mistake: Exception) -> None:
    def judge(evidence: StopEvidence) -> Finding:
        raise mistake

    tour = tour_of(["zones/dma"], tmp_path)
    stop = judge_stop("zones/dma", tour / "stops/zones-dma", judge)
    assert stop.status == "broken"
    assert f"{type(mistake).__name__}: {mistake}" in stop.complaint
    assert "in judge" in stop.details["traceback"]


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_figure_that_cannot_be_drawn_costs_only_itself(
    tmp_path: Path, language: Language, monkeypatch: pytest.MonkeyPatch
) -> None:
    def draw() -> Figure:
        raise AssertionError("nothing <to> draw")

    def judge(evidence: StopEvidence) -> Finding:
        finding = JUDGES["zones/dma"](evidence)
        first, *others = (e for e in finding.exhibits if isinstance(e, Plate))
        return Finding(claims=finding.claims, exhibits=(replace(first, draw=draw), *others))

    tour = tour_of(["zones/dma"], tmp_path)
    stop = judge_stop("zones/dma", tour / "stops/zones-dma", judge)
    whole = JudgedTour(path=tour, stops=(stop,))
    monkeypatch.setattr(tour_page, "judge_tour", lambda _: whole)
    told: list[str] = []
    (path,) = write_pages(tour, (language,), tell=told.append)
    page = Page(path.read_text(encoding="utf-8"))
    ui = page_words(language)
    (line,) = told
    assert line.startswith("zones/dma: the figure ")
    assert line.endswith("could not be drawn: AssertionError: nothing <to> draw")
    assert ui["undrawn"].format(why="AssertionError: nothing <to> draw") in page.text
    assert stop.finding is not None
    assert page.tags.count("svg") == len(stop.finding.exhibits) - 1
    assert ui["result"].format(holds=1, total=1) in page.text


def test_what_is_no_tour_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CaptureError, match="not a tour"):
        judge_tour(tmp_path)


def test_json_has_stops_claims_verdicts_and_kernels(tmp_path: Path) -> None:
    told = judge_tour(tour_of(WALKED, tmp_path), WALKED).to_json()
    stops = told["stops"]
    assert isinstance(stops, list)
    assert [stop["name"] for stop in stops] == ["nodes/numa", "zones/dma"]  # the tour's order
    assert {stop["status"] for stop in stops} == {"holds"}
    assert stops[1]["kernels"][0]["release"] == "6.1.0-56-amd64"
    assert stops[1]["claims"][0].keys() >= {"id", "predicted", "observed", "verdict"}
    json.dumps(told)


def test_words_become_html() -> None:
    assert inline_text("a `b<c` & *d e*\nf", "en") == "a <code>b&lt;c</code> &amp; <em>d e</em> f"
    assert paragraphs("one\n\ntwo", "en") == "<p>one</p>\n<p>two</p>"


def test_lines_of_chinese_are_joined_without_a_space() -> None:
    assert inline_text("内存\n管理 of\nLinux", "zh") == "内存管理 of Linux"


def test_numbers_are_set_apart_in_thousands() -> None:
    assert [said(v, "nothing") for v in (None, 999, 9999, 123456, "0x1", 0.5)] == [
        "nothing",
        "999",
        "9999",
        "123\u202f456",
        "0x1",
        "0.5",
    ]


def test_words_with_an_unknown_key_are_refused() -> None:
    text = '[chapter]\ntitle = "t"\nintro = "i"\n["a/b"]\ntitle = "t"\nwhat = "w"\nlok = "l"\n'
    with pytest.raises(ParseError, match="a/b"):
        parse(text, source="text/en/a.toml")


@pytest.mark.parametrize("language", LANGUAGES)
def test_no_mark_is_left_of_what_is_stressed(language: Language) -> None:
    for name, words in stop_words(language).items():
        texts = (words.what, words.look, *words.claims.values(), *words.exhibits.values())
        shown = "".join(str(paragraphs(text, language)) for text in texts)
        assert "*" not in re.sub(r"<code>.*?</code>", "", shown), name
