"""The judges of slab allocators, caches, kmalloc and vmalloc, on evidence of real kernels and on
evidence that was altered."""

from __future__ import annotations

import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from analysis.errors import MissingInputError, ParseError
from analysis.model.release import Release
from analysis.tour import slab_caches, slab_kmalloc
from analysis.tour.evidence import open_stop
from analysis.tour.finding import Finding, Plate
from analysis.tour.registry import JUDGES
from analysis.tour.slab_load import load_results, size_claims, slabinfo_rows
from analysis.tour.slab_placement import Placement
from analysis.tour.slab_requests import Step, parse_requests, steps
from analysis.verdict import Verdict

FIXTURES = Path(__file__).parents[1] / "fixtures" / "tour"
STOPS = (
    *("slab/slub", "slab/slab", "slab/slob", "slab/same-load", "slab/kmem-cache", "slab/kmalloc"),
    "vmalloc/areas",
)

_ADDRESS = r"^(805 \w+ cache mm_700 700 700 \w+)\w "


def judged(stop: str, path: Path) -> Finding:
    return JUDGES[stop](open_stop(stop, path))


def kept(stop: str) -> Path:
    return FIXTURES / stop.replace("/", "-")


def altered(stop: str, tmp_path: Path, file: str, old: str, new: str) -> Finding:
    """What the judge makes of the evidence after the first ``old`` (a regular expression) in a
    file became ``new``."""
    path = tmp_path / "stop"
    shutil.copytree(kept(stop), path)
    text = (path / file).read_text()
    changed, times = re.subn(old, new, text, count=1, flags=re.MULTILINE)
    assert times == 1
    assert changed != text
    (path / file).write_text(changed)
    return judged(stop, path)


def failing(finding: Finding) -> set[str]:
    return {claim.id for claim in finding.claims if claim.verdict is Verdict.FAILS}


@pytest.mark.parametrize("stop", STOPS)
def test_everything_holds_on_a_real_kernel(stop: str) -> None:
    finding = judged(stop, kept(stop))
    held = [claim for claim in finding.claims if claim.verdict is Verdict.HOLDS]
    assert len(held) == len(finding.claims)
    assert all(claim.working for claim in held)


@pytest.mark.parametrize("stop", STOPS)
def test_the_figures_can_be_drawn(stop: str) -> None:
    for exhibit in judged(stop, kept(stop)).exhibits:
        if isinstance(exhibit, Plate):
            assert exhibit.draw().axes


@pytest.mark.parametrize(
    ("stop", "file", "old", "new", "told"),
    [
        # one object a few bytes further on
        ("slab/slub", "main/objects.txt", _ADDRESS, r"\g<1>4 ", {"addresses"}),
        ("slab/slub", "main/slabinfo.txt", r" 55 +0$", " 56      0", {"slabs"}),
        ("slab/slub", "main/slabinfo.txt", r" 704   11 ", " 704   10 ", {"geometry"}),
        ("slab/slub", "main/capture/slab_sysfs", "96/slab_size:96", "96/slab_size:104", {"rules"}),
        ("slab/slab", "main/objects.txt", _ADDRESS, r"\g<1>4 ", {"addresses"}),
        ("slab/slob", "main/objects.txt", _ADDRESS, r"\g<1>4 ", {"addresses"}),
        # an object that lies in a page of its own
        ("slab/same-load", "slob/objects.txt", r"^(\d+ live cache mm_700 700 700 ffff8880)\w{8} ",
         r"\g<1>00123000 ", {"memory"}),
        ("slab/kmem-cache", "main/phase_scatter.txt", "partial 78", "partial 77", {"lists"}),
        ("slab/kmem-cache", "main/phase_shrink.txt", "constructed 1596", "constructed 1600",
         {"constructed"}),
        ("slab/kmem-cache", "main/caches.txt", "mm_again :0000072", "mm_again :0000068",
         {"merging"}),
        ("slab/kmem-cache", "main/caches.txt", "mm_line slab_size 64", "mm_line slab_size 48",
         {"layout"}),
        ("slab/kmem-cache", "main/destroy.txt", "kernel/slab/mm_line", "kernel/slab/mm_demo",
         {"destroyed", "kept"}),
        ("slab/kmem-cache", "main/destroy.txt", "mm_demo destroyed\n", "", {"destroyed"}),
        ("slab/kmem-cache", "main/destroy.txt", "^mm_demo destroyed$",
         "mm_line destroyed\nmm_demo destroyed", {"kept"}),
        ("slab/kmalloc", "main/dump.txt", "slab kmalloc-96", "slab kmalloc-128", {"served"}),
        ("slab/kmalloc", "main/objects.txt", "^(20 .*) 131072 ", r"\1 102400 ", {"served"}),
        ("vmalloc/areas", "main/walk.txt", r"slab\] pages=5 ", "slab] pages=6 ", {"listed"}),
        # the last listing of objects
        ("vmalloc/areas", "main/walk.txt", r"(?s)^(.*\n1 live vmalloc - 4096 4096 \w+)000 ",
         r"\g<1>800 ", {"placed", "listed"}),
        ("vmalloc/areas", "main/frames.txt", r"^(1) \d+$", r"\1", {"frames"}),
        ("vmalloc/areas", "newest/walk.txt", r"^(VmallocUsed: +\d+)(\d) kB$", r"\g<1>0\2 kB",
         {"used"}),
    ],
)  # fmt: skip
def test_altered_evidence_fails(
    stop: str, file: str, old: str, new: str, told: set[str], tmp_path: Path
) -> None:
    assert told <= failing(altered(stop, tmp_path, file, old, new))


def test_a_shuffled_order_that_changes_from_slab_to_slab_fails(tmp_path: Path) -> None:
    """Two objects of the third slab, exchanged."""
    path = tmp_path / "stop"
    shutil.copytree(kept("slab/kmem-cache"), path)
    objects = path / "main/objects.txt"
    lines = objects.read_text().splitlines()
    one, two = lines[45].split(), lines[47].split()
    one[6], two[6] = two[6], one[6]
    lines[45], lines[47] = " ".join(one), " ".join(two)
    objects.write_text("\n".join(lines) + "\n")
    assert failing(judged("slab/kmem-cache", path)) == {"addresses"}


def test_a_counter_that_cpus_keep_shares_of_is_told_only_where_they_handed_them_in(
    tmp_path: Path,
) -> None:
    finding = altered(
        "vmalloc/areas", tmp_path, "newest/walk.txt", "^== /proc/sys/vm/stat_refresh\n", ""
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


def test_objects_that_a_checker_makes_larger_are_not_told(tmp_path: Path) -> None:
    path = changed(
        SHEAVES,
        tmp_path,
        "main/capture/config",
        "# CONFIG_SLUB_DEBUG_ON is not set",
        "CONFIG_SLUB_DEBUG_ON=y",
    )
    with pytest.raises(MissingInputError, match="SLUB_DEBUG_ON"):
        size_verdicts(path)


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


def test_requests_are_numbered_without_a_gap() -> None:
    line = "0 live cache mm_a 8 8 ffff888000000000 1 1 0\n"
    assert [request.address for request in parse_requests(line)] == [0xFFFF888000000000]
    with pytest.raises(ParseError, match="without a gap"):
        parse_requests("1" + line[1:])
    with pytest.raises(ParseError, match="10 fields"):
        parse_requests("0 live cache\n")
    with pytest.raises(ParseError, match="10 fields"):
        parse_requests(line.replace("live", "gone"))


def test_commands_step_by_step() -> None:
    taken = list(steps(["create mm_a 8 0 -", "quiet; alloc mm_a 3; free mm_a backward 2 0"]))
    made = [Step(cache="mm_a", number=number, freed=False) for number in range(3)]
    assert taken == [*made, *(Step(cache="mm_a", number=n, freed=True) for n in (2, 0))]
    with pytest.raises(ValueError, match="'vmalloc 1 2' is no command about caches"):
        list(steps(["vmalloc 1 2"]))


def test_evidence_without_some_requests_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "stop"
    shutil.copytree(kept("slab/slub"), path)
    objects = path / "main/objects.txt"
    objects.write_text("".join(objects.read_text().splitlines(keepends=True)[:500]))
    with pytest.raises(MissingInputError, match="500 requests"):
        judged("slab/slub", path)


def test_rules_that_judged_nothing_do_not_hold(tmp_path: Path) -> None:
    path = tmp_path / "stop"
    shutil.copytree(kept("slab/slub"), path)
    for file in ("slab_sysfs", "proc/slabinfo"):
        (path / "main/capture" / file).unlink()
    with pytest.raises(MissingInputError, match="any rule"):
        judged("slab/slub", path)


def test_where_no_address_follows_none_is_claimed() -> None:
    """SLOB gives an object of more than a page pages of its own."""
    boot = open_stop("slab/slob", kept("slab/slob")).boot()
    (result,) = load_results(boot)
    assert [claim.id for claim in size_claims(result, None)] == ["blocks", "addresses"]
    alone = replace(result, placement=Placement(told=0, right=0, blocks=600))
    assert [claim.id for claim in size_claims(alone, None)] == ["blocks"]


def test_the_end_of_caches_is_judged_where_slub_is_not_followed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(slab_caches, "FOLLOWED", ())
    claims = judged("slab/kmem-cache", kept("slab/kmem-cache")).claims
    ends = {claim.id: claim.verdict for claim in claims if claim.id in ("destroyed", "kept")}
    assert ends == {"destroyed": Verdict.HOLDS, "kept": Verdict.HOLDS}
    assert Verdict.UNKNOWN in {claim.verdict for claim in claims if claim.id == "lists"}


def test_memory_is_counted_in_pages_of_the_machine() -> None:
    boot = open_stop("slab/same-load", kept("slab/same-load")).boot("slub")
    result = next(result for result in load_results(boot) if result.model.order)
    assert result.page_bytes == result.blocks_seen * (4096 << result.model.order)
    assert replace(result, page_size_bytes=65536).page_bytes == 16 * result.page_bytes
