"""What is known of a change from the releases on both sides of it."""

from __future__ import annotations

import pytest

from analysis.model.eras_compaction import compaction_eras_of
from analysis.model.oom import oom_eras_of
from analysis.model.release import Release, changed_since


@pytest.mark.parametrize(
    ("release", "answers"),
    [
        (Release(5, 10), (False,)),
        (Release(6, 12), (False,)),
        (Release(6, 13), (False, True)),
        (Release(7, 1), (False, True)),
        (Release(7, 2), (True,)),
        (Release(7, 3), (True,)),
    ],
)
def test_a_change_between_two_compared_releases(
    release: Release, answers: tuple[bool, ...]
) -> None:
    assert changed_since(release, Release(6, 12), Release(7, 2)) == answers
    assert [era.exact_memory for era in oom_eras_of(release)] == list(answers)
    eras = compaction_eras_of(release)
    assert len(set(eras)) == len(eras) == len(answers) ** 3
    for name in ("gap_capped", "low_mark_uncapped", "leeway_halved"):
        assert {getattr(era, name) for era in eras} == set(answers)
