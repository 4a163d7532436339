"""The tour as a book: one self-contained page in each language."""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from analysis.compare.claim import Claim
from analysis.figures.files import replace_file, svg_bytes
from analysis.report import inline_svg
from analysis.report.prose import inline_text, paragraphs, said
from analysis.tour.finding import Listing
from analysis.tour.judge import JudgedStop, JudgedTour, judge_tour, machine_words
from analysis.tour.registry import TOPICS
from analysis.tour.words import LANGUAGES, TEXTS, Language, StopWords, stop_words, topic_words
from analysis.verdict import Verdict

_ROWS_MAX = 12
"""Claims of one kind shown in full; of more that hold, the page says how many there are."""

_TONES = {"holds": "good", "fails": "bad", "unknown": "fair", "broken": "bad", "not walked": "dim"}
_PLACES = frozenset({"argv", "run directory"})
"""Details of a complaint that only concern the machine on which the tour was walked."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Group:
    """Claims of one id."""

    id: str
    sentence: Markup
    rows: Sequence[Claim]
    more: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Undrawn:
    """Stands for a figure that could not be drawn."""

    why: str


Plates = Mapping[tuple[str, str], str | Undrawn]
"""SVG by stop and exhibit."""


def write_pages(
    tour: Path,
    languages: Sequence[Language] = LANGUAGES,
    *,
    tell: Callable[[str], None] = lambda _: None,
) -> list[Path]:
    """Judges a recorded tour and writes ``tour.LANGUAGE.html`` into its directory.

    A figure that could not be drawn says so in its place, and to ``tell``.

    Raises:
        CaptureError: it is no tour.
        OSError: a page cannot be written.
    """
    judged = judge_tour(tour)
    plates = draw_plates(judged)
    for (stop, exhibit), plate in plates.items():
        if isinstance(plate, Undrawn):
            tell(f"{stop}: the figure {exhibit} could not be drawn: {plate.why}")
    pages = []
    for language in languages:
        path = tour / page_name(language)
        replace_file(path, render_tour(judged, language, plates=plates).encode("utf-8"))
        pages.append(path)
    return pages


def page_name(language: Language) -> str:
    """``tour.en.html``."""
    return f"tour.{language}.html"


def draw_plates(tour: JudgedTour) -> Plates:
    """Every figure of a tour; one drawing serves all languages."""
    drawn: dict[tuple[str, str], str | Undrawn] = {}
    for stop in tour.stops:
        for exhibit in stop.finding.exhibits if stop.finding else ():
            if isinstance(exhibit, Listing):
                continue
            key = stop.name, exhibit.id
            try:
                drawn[key] = svg_bytes(exhibit.draw()).decode("utf-8")
            except Exception as error:  # noqa: BLE001 - one figure must not cost the page
                drawn[key] = Undrawn(why=f"{type(error).__name__}: {error}")
    return drawn


def render_tour(
    tour: JudgedTour,
    language: Language,
    *,
    plates: Plates,
) -> str:
    """The page as text: no scripts, nothing loaded from elsewhere."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("analysis.report", "."),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    ui = page_words(language)
    words = stop_words(language)
    environment.filters |= {
        "prose": lambda text: paragraphs(text, language),
        "line": lambda text: inline_text(text, language),
        "said": lambda value: said(value, ui["nothing"]),
    }
    known = {stop.name: stop for stop in tour.stops}
    order = [name for judges in TOPICS.values() for name in judges if name in known]
    stops = [_stop(known[name], words.get(name), language, plates, order, ui) for name in order]
    chapters = []
    for topic in TOPICS:
        own = [stop for stop in stops if stop["topic"] == topic]
        if own:
            chapters.append(
                {"topic": topic, "words": topic_words(language, topic).chapter, "stops": own}
            )
    return environment.get_template("tour.html").render(
        ui=ui,
        chapters=chapters,
        result=_result(tour, ui),
        tone="bad" if tour.exit_code else "good",
        made=max((stop.made for stop in tour.stops), default=""),
        others=[
            {"href": page_name(other), "lang": page_words(other)["language"], "text": ui["other"]}
            for other in LANGUAGES
            if other != language
        ],
    )


def page_words(language: Language) -> dict[str, str]:
    """The page's own words in a language."""
    text = (TEXTS / language / "page.toml").read_text(encoding="utf-8")
    return {key: str(value) for key, value in tomllib.loads(text).items()}


def _stop(
    stop: JudgedStop,
    words: StopWords | None,
    language: Language,
    plates: Plates,
    order: Sequence[str],
    ui: Mapping[str, str],
) -> dict[str, Any]:
    place = order.index(stop.name)
    evidence = stop.evidence.boots if stop.evidence else {}
    boots = [
        {
            "label": label,
            "release": boot.release,
            "arch": boot.arch,
            "package": _package(boot.record),
            "machine": machine_words(boot.record),
            "cmdline": boot.cmdline,
            "steps": (boot.record.get("machine") or {}).get("steps", []),
        }
        for label, boot in evidence.items()
    ]
    claims = stop.finding.claims if stop.finding else ()
    return {
        "name": stop.name,
        "topic": stop.topic,
        "anchor": anchor(stop.name),
        "title": words.title if words else stop.name,
        "words": words,
        "status": stop.status,
        "status_word": ui[stop.status],
        "tone": _TONES[stop.status],
        "counts": stop.counts,
        "seconds": stop.seconds,
        "boots": boots,
        "kernels": list(dict.fromkeys(f"{boot['release']} {boot['arch']}" for boot in boots)),
        "exhibits": _exhibits(stop, words, language, plates, ui),
        "groups": _groups(claims, words, language),
        "complaint": stop.complaint,
        "details": {k: text for k, text in stop.details.items() if k not in _PLACES},
        "fix": stop.fix,
        "previous": anchor(order[place - 1]) if place else "",
        "next": anchor(order[place + 1]) if place + 1 < len(order) else "",
    }


def anchor(name: str) -> str:
    """The id of a stop's section."""
    return name.replace("/", "-")


def _exhibits(
    stop: JudgedStop,
    words: StopWords | None,
    language: Language,
    plates: Plates,
    ui: Mapping[str, str],
) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for exhibit in stop.finding.exhibits if stop.finding else ():
        text = words.exhibits.get(exhibit.id, exhibit.id) if words else exhibit.id
        caption = inline_text(text, language)
        if isinstance(exhibit, Listing):
            lines = [
                (number in exhibit.marked, line)
                for number, line in enumerate(exhibit.text.splitlines(), start=1)
            ]
            found.append({"id": exhibit.id, "caption": caption, "lines": lines, "plate": None})
            continue
        drawn = plates[stop.name, exhibit.id]
        if isinstance(drawn, Undrawn):
            lines = [(True, ui["undrawn"].format(why=drawn.why))]
            found.append({"id": exhibit.id, "caption": caption, "lines": lines, "plate": None})
            continue
        plate = inline_svg.inline(
            drawn,
            prefix=f"{anchor(stop.name)}-{exhibit.id}",
            description=caption.striptags(),
        )
        found.append({"id": exhibit.id, "caption": caption, "lines": [], "plate": plate})
    return found


def _groups(claims: Sequence[Claim], words: StopWords | None, language: Language) -> list[_Group]:
    groups = []
    by_id: dict[str, list[Claim]] = {}
    for claim in claims:
        by_id.setdefault(claim.id, []).append(claim)
    for claim_id, rows in by_id.items():
        telling = [claim for claim in rows if claim.verdict is not Verdict.HOLDS]
        holding = [claim for claim in rows if claim.verdict is Verdict.HOLDS]
        shown = holding[: max(1, _ROWS_MAX - len(telling))]
        sentence = words.claims.get(claim_id, claim_id) if words else claim_id
        groups.append(
            _Group(
                id=claim_id,
                sentence=inline_text(sentence, language),
                rows=[*telling, *shown],
                more=len(holding) - len(shown),
            )
        )
    return groups


def _package(record: Mapping[str, Any]) -> str:
    kernel = record.get("kernel") or {}
    return " ".join(filter(None, (kernel.get("package"), kernel.get("version"))))


def _result(tour: JudgedTour, ui: Mapping[str, str]) -> str:
    counts = {
        "holds": sum(stop.status == "holds" for stop in tour.stops),
        "fails": sum(stop.status == "fails" for stop in tour.stops),
        "broken": sum(stop.status == "broken" for stop in tour.stops),
        "unwalked": sum(stop.status == "not walked" for stop in tour.stops),
        "total": len(tour.stops),
    }
    parts = [ui["result"]]
    parts += [ui[f"result_{key}"] for key in ("fails", "broken", "unwalked") if counts[key]]
    return " · ".join(part.format(**counts) for part in parts)
