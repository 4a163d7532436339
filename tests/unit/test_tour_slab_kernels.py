"""The judges of slab allocators, kmalloc and vmalloc on kernels other than the stops' own."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from analysis.errors import MissingInputError
from analysis.model.release import Release
from analysis.tour import slab_caches, slab_kmalloc
from analysis.tour.evidence import open_stop
from analysis.tour.finding import Finding
from analysis.tour.registry import JUDGES
from analysis.tour.slab_load import load_results, size_claims, slabinfo_rows
from analysis.verdict import Verdict
from tests.tour_evidence import FIXTURES, failing
from tests.tour_evidence import judged as judged_changed


def judged(stop: str, path: Path) -> Finding:
    return JUDGES[stop](open_stop(stop, path))


def kept(stop: str) -> Path:
    return FIXTURES / stop.replace("/", "-")


def test_a_counter_that_cpus_keep_shares_of_is_told_only_where_they_handed_them_in(
    tmp_path: Path,
) -> None:
    finding = judged_changed(
        "vmalloc/areas", tmp_path, ("newest/walk.txt", "^== /proc/sys/vm/stat_refresh\n", "")
    )
    used = [claim for claim in finding.claims if claim.id == "used"]
    assert [claim.verdict for claim in used] == [Verdict.HOLDS] * 3 + [Verdict.UNKNOWN] * 3


def test_hashed_addresses_are_not_taken_for_addresses(tmp_path: Path) -> None:
    """As 5.10 lists them, which has no no_hash_pointers."""
    path = Path(shutil.copytree(kept("vmalloc/areas"), tmp_path / "stop"))
    walk = path / "main/walk.txt"
    lines = walk.read_text()
    walk.write_text(re.sub(r"0xffff[0-9a-f]{4}([0-9a-f]{8})", r"0x00000000\1", lines))
    finding = judged("vmalloc/areas", path)
    assert not failing(finding)
    unknown = [claim.id for claim in finding.claims if claim.verdict is Verdict.UNKNOWN]
    assert unknown == ["placed", "listed", "waiting"]
    assert [exhibit.id for exhibit in finding.exhibits] == ["vmallocinfo"]


def test_a_copy_of_a_kmalloc_cache_serves_as_well(tmp_path: Path) -> None:
    path = changed(
        "slab-kmalloc",
        tmp_path,
        "main/dump.txt",
        "slab kmalloc-96 ",
        "slab kmalloc-rnd-07-96 ",
    )
    assert failing(judged("slab/kmalloc", path)) == {"served"}
    with (path / "main/capture/config").open("a") as config:
        config.write("CONFIG_RANDOM_KMALLOC_CACHES=y\n")
    assert not failing(judged("slab/kmalloc", path))


def test_before_5_13_the_size_that_is_usable_tells_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = Path(shutil.copytree(kept("slab/kmalloc"), tmp_path / "stop"))
    (path / "main/dump.txt").write_text("")
    with pytest.raises(MissingInputError, match="mem_dump_obj"):
        judged("slab/kmalloc", path)
    monkeypatch.setattr(slab_kmalloc, "_TELLS", Release(99, 0))
    finding = judged("slab/kmalloc", path)
    assert {claim.verdict for claim in finding.claims} == {Verdict.HOLDS}
    assert finding.claims[0].predicted == "8 bytes"


def size_verdicts(path: Path) -> dict[str, Verdict]:
    """The verdicts on the claims about the one size that the evidence is of."""
    boot = open_stop("slab/slub", path).boot()
    (result,) = load_results(boot)
    rows = slabinfo_rows(boot.text("slabinfo"))
    return {claim.id: claim.verdict for claim in size_claims(result, rows[result.name])}


def changed(directory: str, tmp_path: Path, file: str, old: str, new: str) -> Path:
    path = Path(shutil.copytree(FIXTURES / directory, tmp_path / "stop"))
    text = (path / file).read_text()
    assert old in text
    (path / file).write_text(text.replace(old, new))
    return path


SHEAVES = "slab-slub-sheaves"
"""A stock 7.2: sheaves, and new slabs whose lists are shuffled."""
NOT_TOLD = dict.fromkeys(("slabs", "blocks", "addresses"), Verdict.UNKNOWN)


def test_shuffled_slabs_under_sheaves_are_followed() -> None:
    (result,) = load_results(open_stop("slab/slub", FIXTURES / SHEAVES).boot())
    # 56 slabs whose first address says where they are, 10 more of the slab that shows the circle
    assert result.placement is not None
    assert (result.placement.told, result.placement.right) == (634, 634)
    assert set(size_verdicts(FIXTURES / SHEAVES).values()) == {Verdict.HOLDS}


def test_a_shuffled_object_elsewhere_in_its_slab_fails(tmp_path: Path) -> None:
    path = Path(shutil.copytree(FIXTURES / SHEAVES, tmp_path / "stop"))
    objects = path / "main/objects.txt"
    lines = [line.split() for line in objects.read_text().splitlines()]
    at = 400
    other = next(
        number
        for number in range(at + 1, len(lines))
        if lines[number][8] == lines[at][8] and lines[number][6] != lines[at][6]
    )
    lines[at][6], lines[other][6] = lines[other][6], lines[at][6]
    objects.write_text("".join(" ".join(line) + "\n" for line in lines))
    assert size_verdicts(path)["addresses"] is Verdict.FAILS


def test_shuffled_slabs_where_none_is_expected_fail(tmp_path: Path) -> None:
    path = changed(
        SHEAVES,
        tmp_path,
        "main/capture/config",
        "CONFIG_SLAB_FREELIST_RANDOM=y",
        "# CONFIG_SLAB_FREELIST_RANDOM is not set",
    )
    assert size_verdicts(path)["addresses"] is Verdict.FAILS


def test_addresses_are_unknown_where_no_slab_was_handed_out_whole(tmp_path: Path) -> None:
    path = changed(SHEAVES, tmp_path, "main/commands.json", "alloc mm_700 600", "alloc mm_700 6")
    commands = path / "main/commands.json"
    commands.write_text(
        commands.read_text().replace("; free mm_700 forward 3 0; alloc mm_700 100", "")
    )
    objects = path / "main/objects.txt"
    few = objects.read_text().splitlines(keepends=True)[:7]
    objects.write_text("".join(few).replace("freed", "live"))
    assert size_verdicts(path)["addresses"] is Verdict.UNKNOWN


def test_slabs_are_not_told_on_a_release_that_was_not_compared(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(slab_caches, "FOLLOWED", ())
    assert size_verdicts(FIXTURES / SHEAVES) == {"geometry": Verdict.HOLDS} | NOT_TOLD


def test_slabs_are_not_told_where_cpus_keep_none(tmp_path: Path) -> None:
    path = changed(
        SHEAVES,
        tmp_path,
        "main/capture/config",
        "# CONFIG_SLUB_TINY is not set",
        "CONFIG_SLUB_TINY=y",
    )
    assert NOT_TOLD.items() <= size_verdicts(path).items()
    path = changed(
        "slab-slub",
        tmp_path / "older",
        "main/capture/config",
        "CONFIG_SLUB_CPU_PARTIAL=y",
        "# CONFIG_SLUB_CPU_PARTIAL is not set",
    )
    assert NOT_TOLD.items() <= size_verdicts(path).items()


def test_objects_that_are_checked_take_more(tmp_path: Path) -> None:
    """As 6.1 shows the cache with CONFIG_SLUB_DEBUG_ON; where objects lie is not told."""
    path = changed(
        "slab-slub",
        tmp_path,
        "main/capture/config",
        "# CONFIG_SLUB_DEBUG_ON is not set",
        "CONFIG_SLUB_DEBUG_ON=y\nCONFIG_STACKDEPOT=y",
    )
    slabinfo = path / "main/slabinfo.txt"
    slabinfo.write_text(slabinfo.read_text().replace(" 704   11 ", " 792   10 "))
    assert size_verdicts(path) == {"geometry": Verdict.HOLDS} | NOT_TOLD
    cmdline = path / "main/capture/proc/cmdline"
    cmdline.write_text(cmdline.read_text().rstrip() + " slub_debug=F\n")
    with pytest.raises(MissingInputError, match="slub_debug decides"):
        size_verdicts(path)


def test_a_checked_object_lies_behind_a_red_zone(tmp_path: Path) -> None:
    finding = judged_changed(
        "slab/kmalloc",
        tmp_path,
        (
            "main/dump.txt",
            "(kmalloc-64 start .*) pointer offset 0",
            r"\1 data offset 8 pointer offset 0",
        ),
    )
    assert not failing(finding)


def test_shuffled_slabs_of_slab_are_not_told(tmp_path: Path) -> None:
    path = changed(
        "slab-slab",
        tmp_path,
        "main/capture/config",
        "# CONFIG_SLAB_FREELIST_RANDOM is not set",
        "CONFIG_SLAB_FREELIST_RANDOM=y",
    )
    found = size_verdicts(path)
    assert found.pop("addresses") is Verdict.UNKNOWN
    assert set(found.values()) == {Verdict.HOLDS}


def test_the_end_of_caches_is_judged_where_slub_is_not_followed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(slab_caches, "FOLLOWED", ())
    claims = judged("slab/kmem-cache", kept("slab/kmem-cache")).claims
    ends = {claim.id: claim.verdict for claim in claims if claim.id in ("destroyed", "kept")}
    assert ends == {"destroyed": Verdict.HOLDS, "kept": Verdict.HOLDS}
    assert Verdict.UNKNOWN in {claim.verdict for claim in claims if claim.id == "lists"}
