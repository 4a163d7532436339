"""Messages that were lost, from the begin or from the end: they make rules unknown, none fails."""

from __future__ import annotations

import dataclasses
import random
from functools import cache

import pytest

from analysis.capture.snapshot import Snapshot
from analysis.capture.source import Source, captures_in
from analysis.compare.claim import Claim, Verdict
from analysis.compare.rule import BROKEN
from analysis.compare.static.registry import RULES
from analysis.procfs import dmesg
from tests.recorded_run import FIXTURES

PLACES = 12
CAPTURES = (
    "5.10.0-32-686-pae/movable-uma",
    "5.10.0-46-amd64/memblock",
    "6.1.0-56-amd64/numa2",
    "7.2.13+deb14-amd64/numa2",
    "7.2.13+deb14-arm64/movable",
)


@cache
def source_of(name: str) -> Source:
    archive, _, capture = name.partition("/")
    return captures_in(FIXTURES / "captures" / f"{archive}.tar.xz")[capture]


def with_messages(source: Source, text: str) -> Snapshot:
    found = source.find("dmesg")
    assert found is not None
    data = text.encode("utf-8", "surrogateescape")
    return Snapshot(dataclasses.replace(source, files={**source.files, found: data.__bytes__}))


def wrong(snapshot: Snapshot) -> list[Claim]:
    claims = [claim for rule in RULES for claim in rule.claims(snapshot)]
    return [c for c in claims if c.verdict is Verdict.FAILS or c.why.startswith(BROKEN)]


def lost(name: str) -> list[tuple[str, int, str]]:
    """Which side is lost, up to which character, and what is left."""
    text = source_of(name).text("dmesg")
    assert text is not None
    chance = random.Random(name)
    fronts = [chance.randrange(len(text)) for _ in range(PLACES)]
    ends = [chance.randrange(len(text)) for _ in range(PLACES)]
    # Most of the messages that rules read are in the first part.
    ends[PLACES // 2 :] = [chance.randrange(min(len(text), 9000)) for _ in ends[PLACES // 2 :]]
    return [("begin", at, text[at:]) for at in fronts] + [("end", at, text[:at]) for at in ends]


@pytest.mark.timeout(120)
@pytest.mark.parametrize("name", CAPTURES)
def test_no_rule_fails_on_what_is_left(name: str) -> None:
    for side, at, text in lost(name):
        assert wrong(with_messages(source_of(name), text)) == [], f"{side} lost at {at}"


def test_lists_are_unknown_where_the_initrd_is_not_told_of() -> None:
    source = source_of("7.2.13+deb14-amd64/numa2")
    text = source.text("dmesg")
    assert text is not None
    text = text[text.index("Freeing initrd memory") :]
    snapshot = with_messages(source, text[text.index("\n") + 1 :])
    for rule in RULES:
        if rule.id in ("pcp_high_max", "pcp_high_min", "pcp_batch", "watermark_min"):
            for claim in rule.claims(snapshot):
                assert claim.verdict is Verdict.UNKNOWN
                assert "dmesg from the" in claim.why


def test_messages_of_which_a_part_is_lost_are_left_out() -> None:
    whole = "[    0.000000] one\n[    0.100000] two\n[    0.200000] three\n"
    assert [m.text for m in dmesg.parse(whole).messages] == ["one", "two", "three"]
    assert [m.text for m in dmesg.parse(whole[5:-3]).messages] == ["two"]
    assert [m.text for m in dmesg.parse("one\ntwo").messages] == ["one", "two"]


def test_the_layout_is_told_where_the_allocator_started_or_init_ran() -> None:
    early = "[    0.0] Early memory node ranges\n"
    up = "[    0.1] SLUB: HWalign=64, Order=0-3, MinObjects=0, CPUs=1, Nodes=1\n"
    init = "[    0.9] Run /init as init process\n"
    for text, told in ((early, False), (early + up, True), (init, True), (up, True)):
        assert dmesg.parse(text).tells_layout is told
