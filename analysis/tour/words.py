"""The words of the tour, in each of its languages: one TOML file a topic."""

from __future__ import annotations

import functools
import tomllib
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from analysis.errors import ParseError

Language = Literal["en", "zh"]
LANGUAGES: tuple[Language, ...] = ("en", "zh")

TEXTS = Path(__file__).with_name("text")
_CHAPTER = "chapter"
_PAGE = "page"
"""The file of the page's own words."""


class StopWords(BaseModel):
    """What is said of one stop."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    title: str
    what: str
    """Paragraphs with an empty line between; `` `code` `` is set as code, ``*this*`` stressed."""
    look: str
    claims: dict[str, str] = {}
    """Claim id → what is claimed."""
    exhibits: dict[str, str] = {}
    """Exhibit id → caption."""


class Chapter(BaseModel):
    """What is said of a topic before its stops."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    title: str
    intro: str


class TopicWords(BaseModel):
    """One file."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    chapter: Chapter
    stops: dict[str, StopWords]


def parse(text: str, *, source: str = "words") -> TopicWords:
    """The words of a topic.

    Raises:
        ParseError: no TOML, or a key too many or too few.
    """
    try:
        found = tomllib.loads(text)
        stops = {name: value for name, value in found.items() if name != _CHAPTER}
        return TopicWords.model_validate({"chapter": found.get(_CHAPTER), "stops": stops})
    except tomllib.TOMLDecodeError as error:
        raise ParseError(source, 0, str(error), "TOML") from None
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise ParseError(source, 0, where, f"the words of a stop ({first['msg']})") from None


@functools.cache
def topic_words(language: Language, topic: str) -> TopicWords:
    """The words of a topic in a language.

    Raises:
        ParseError: the file is missing or wrong.
    """
    path = TEXTS / language / f"{topic}.toml"
    name = f"text/{language}/{topic}.toml"
    try:
        return parse(path.read_text(encoding="utf-8"), source=name)
    except OSError as error:
        raise ParseError(name, 0, str(error.strerror), "a file of the tour's words") from None


def stop_words(language: Language) -> Mapping[str, StopWords]:
    """The words of all stops by name."""
    found: dict[str, StopWords] = {}
    for path in sorted((TEXTS / language).glob("*.toml")):
        if path.stem != _PAGE:
            found.update(topic_words(language, path.stem).stops)
    return MappingProxyType(found)
