"""Every stop has a judge, and says the same in every language."""

from __future__ import annotations

from pathlib import Path

import pytest

from analysis.report.tour_page import page_words
from analysis.tour.evidence import open_stop
from analysis.tour.registry import JUDGES
from analysis.tour.registry import TOPICS as JUDGED
from analysis.tour.words import LANGUAGES, Language, stop_words, topic_words
from harness.tour.registry import STOPS, TOPICS

FIXTURES = Path(__file__).parents[1] / "fixtures" / "tour"
KEPT = [stop.name for stop in STOPS if (FIXTURES / stop.directory).is_dir()]


def test_topics_are_the_same_in_harness_and_analysis() -> None:
    assert list(TOPICS) == list(JUDGED)


def test_stops_are_named_once_and_below_their_topic() -> None:
    names = [stop.name for stop in STOPS]
    assert len(set(names)) == len(names)
    for topic, stops in TOPICS.items():
        assert {stop.topic for stop in stops} <= {topic}


def test_every_stop_has_a_judge_and_every_judge_a_stop() -> None:
    assert {stop.name for stop in STOPS} == set(JUDGES)


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_stop_has_words(language: Language) -> None:
    assert set(stop_words(language)) == {stop.name for stop in STOPS}
    for topic in TOPICS:
        chapter = topic_words(language, topic).chapter
        assert chapter.title.strip()
        assert chapter.intro.strip()


@pytest.mark.parametrize("stop", [stop.name for stop in STOPS])
def test_languages_have_the_same_keys(stop: str) -> None:
    english, chinese = (stop_words(language)[stop] for language in LANGUAGES)
    assert set(english.claims) == set(chinese.claims)
    assert set(english.exhibits) == set(chinese.exhibits)
    for words in (english, chinese):
        texts = [words.title, words.what, words.look]
        texts += [*words.claims.values(), *words.exhibits.values()]
        assert all(text.strip() for text in texts)


@pytest.mark.parametrize("stop", [stop.name for stop in STOPS])
def test_the_chinese_edition_is_chinese(stop: str) -> None:
    words = stop_words("zh")[stop]
    for text in (words.what, words.look, *words.claims.values(), *words.exhibits.values()):
        assert any("\u4e00" <= letter <= "\u9fff" for letter in text), text


def test_the_page_has_the_same_words_in_every_language() -> None:
    english, chinese = (page_words(language) for language in LANGUAGES)
    assert set(english) == set(chinese)


@pytest.mark.parametrize("stop", KEPT)
def test_whatever_a_judge_gives_has_words(stop: str) -> None:
    finding = JUDGES[stop](open_stop(stop, FIXTURES / stop.replace("/", "-")))
    words = stop_words("en")[stop]
    assert {claim.id for claim in finding.claims} <= set(words.claims)
    assert {exhibit.id for exhibit in finding.exhibits} <= set(words.exhibits)
