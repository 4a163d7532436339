"""What a comparison found, in sentences made from its numbers, most important first."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import groupby

from analysis.compare.groups.measure import SUBJECTS, Subject
from analysis.compare.groups.pair import ALPHA, Compared, Finding, Pair
from analysis.compare.groups.significance import repeats_needed
from analysis.compare.groups.wording import amount, change

_PER_SUBJECT = 4
"""Measures named of a subject; the others are counted."""
_DETAILS = 4
_REASONS = 3


def conclusion(pair: Pair, pairs: int = 1) -> list[str]:
    """Sentences: what differs by subject, what does not, and what nobody can say."""
    differing = pair.found(Finding.DIFFERS)
    sentences = [_verdict(pair, differing, pairs)]
    ranked = sorted(_by_subject(differing).items(), key=lambda item: -importance(item[1][0]))
    sentences += [_subject(pair, subject, found) for subject, found in ranked]
    sentences += _details(pair)
    sentences += _caches(pair)
    sentences += _not_differing(pair)
    sentences += _unknown(pair)
    return sentences


def _verdict(pair: Pair, differing: Sequence[Compared], pairs: int) -> str:
    decided = [each for each in pair.headlines if each.finding is not Finding.UNKNOWN]
    names = f"{pair.second} against {pair.first}"
    if min(pair.sizes) < 2:
        return (
            f"{names}: with one run in a group nothing can be said about noise, so no difference "
            f"is told from it; run each configuration {repeats_needed(ALPHA / pairs)} times."
        )
    if pair.least_p > ALPHA:
        settled = f" Settled at boot: {len(differing)} measures differ." if differing else ""
        return (
            f"{names}: {pair.sizes[0]} and {pair.sizes[1]} runs are too few for any difference to "
            f"stand out from noise among {len(decided)} measures (the smallest p is "
            f"{pair.least_p:.2g}); run each {repeats_needed(ALPHA / pairs)} times.{settled}"
        )
    if not differing and not pair.found(Finding.SMALL):
        return (
            f"{names}: no difference. None of {len(decided)} measures differs by more than repeats "
            f"of one configuration do."
        )
    if not differing:
        return (
            f"{names}: no difference that matters among {len(decided)} measures; "
            f"{len(pair.found(Finding.SMALL))} differ beyond the noise by less than a hundredth or "
            f"than their unit's worth."
        )
    return f"{names}: {len(differing)} of {len(decided)} measures differ beyond the noise."


def _by_subject(found: Sequence[Compared]) -> dict[Subject, list[Compared]]:
    ordered = sorted(found, key=lambda each: (each.measure.subject, -importance(each)))
    return {
        subject: list(group)
        for subject, group in groupby(ordered, key=lambda each: each.measure.subject)
    }


def importance(each: Compared) -> float:
    """How large a difference is among others: weight by octaves of the ratio, at most ten, and by
    how many times the least that matters, as a logarithm."""
    octaves = 10.0
    if each.first_mean > 0 and each.second_mean > 0:
        octaves = min(10.0, abs(math.log2(each.second_mean / each.first_mean)))
    times = math.log2(1 + abs(each.difference) / each.measure.floor)
    return each.measure.weight * times * (0.25 + octaves)


def _subject(pair: Pair, subject: Subject, found: Sequence[Compared]) -> str:
    told = [_told(each) for each in _varied(found)[:_PER_SUBJECT]]
    rest = len(found) - len(told)
    more = f"; and {rest} more" if rest > 0 else ""
    title = SUBJECTS[subject]
    return f"{title[0].upper()}{title[1:]}, {pair.first} → {pair.second}: {'; '.join(told)}{more}."


def _varied(found: Sequence[Compared]) -> list[Compared]:
    """In the same order, two moments of each thing at most: where it also went the other way, the
    second is the foremost of those."""
    by_title: dict[str, list[Compared]] = {}
    for each in found:
        by_title.setdefault(each.measure.title, []).append(each)
    chosen = []
    for first, *rest in by_title.values():
        other = [each for each in rest if (each.difference > 0) != (first.difference > 0)]
        chosen += [first, *(other or rest)[:1]]
    return [each for each in found if any(each is one for one in chosen)]


def _told(each: Compared) -> str:
    interval = ""
    if each.constant:
        interval = ", in every run"
    elif each.difference_interval is not None:
        low, high = each.difference_interval
        interval = f", 95 % interval of the difference {amount(low, each.measure.unit, sign=True)}"
        interval += f" to {amount(high, each.measure.unit, sign=True)}"
    return (
        f"{each.measure} {amount(each.first_mean, each.measure.unit)} → "
        f"{amount(each.second_mean, each.measure.unit)} ({change(each)}{interval})"
    )


def _details(pair: Pair) -> list[str]:
    """The phases and moments in which most differs, where headlines do."""
    found = [
        each
        for each in pair.details
        if each.finding is Finding.DIFFERS
        and each.measure.subject != "time"
        and " cache=" not in each.measure.id
        and " node=" not in each.measure.id
    ]
    if not found:
        return []
    found.sort(key=lambda each: -importance(each))
    told = [
        f"{each.measure} {amount(each.first_mean, each.measure.unit)} → "
        f"{amount(each.second_mean, each.measure.unit)}"
        for each in _varied(found)[:_DETAILS]
    ]
    more = len(found) - len(told)
    return [f"Phase by phase: {'; '.join(told)}{f'; and {more} more' if more > 0 else ''}."]


def _caches(pair: Pair) -> list[str]:
    """The caches that differ most, where slabs differ at all."""
    caches = [
        each
        for each in pair.details
        if each.finding is Finding.DIFFERS and "cache_held_kb" in each.measure.id
    ]
    if not caches:
        return []
    caches.sort(key=lambda each: -abs(each.difference))
    told = [
        f"{each.measure.title.removeprefix('slabs of ')} "
        f"{amount(each.first_mean, 'kB')} → {amount(each.second_mean, 'kB')}"
        for each in caches[:_PER_SUBJECT]
    ]
    return [f"By cache, most held: {'; '.join(told)}."]


def _not_differing(pair: Pair) -> list[str]:
    """Subjects without a finding, and how small a difference would have been seen."""
    sentences = []
    differing = {each.measure.subject for each in pair.found(Finding.DIFFERS)}
    quiet = [
        each
        for each in pair.headlines
        if each.finding in (Finding.NOISE, Finding.SAME) and each.measure.subject not in differing
    ]
    told = []
    for subject, group in _by_subject(quiet).items():
        told.append(f"{SUBJECTS[subject]} ({len(group)} measure{'s' * (len(group) > 1)})")
    if told and pair.least_p <= ALPHA:
        sentences.append(f"Inside the noise or the same throughout: {', '.join(sorted(told))}.")
    times = [
        each
        for each in pair.headlines
        if each.measure.id == "time_s@loads" and each.finding is Finding.NOISE
    ]
    sentences += [
        f"The wall time of the loads varies by {each.noise / each.first_mean:.0%} from repeats "
        f"alone; a smaller difference could not be seen."
        for each in times
        if each.noise is not None and each.first_mean
    ]
    return sentences


def _unknown(pair: Pair) -> list[str]:
    unknown = [each for each in pair.headlines if each.finding is Finding.UNKNOWN]
    reasons: dict[str, list[str]] = {}
    for each in unknown:
        titles = reasons.setdefault(each.why, [])
        if each.measure.title not in titles:
            titles.append(each.measure.title)
    told = [f"{', '.join(titles)} ({why})" for why, titles in list(reasons.items())[:_REASONS]]
    more = len(reasons) - len(told)
    if not told:
        return []
    return [f"Unknown: {'; '.join(told)}{f'; and for {more} more reasons' if more > 0 else ''}."]
