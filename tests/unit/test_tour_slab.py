"""The judges of slab allocators, caches, kmalloc and vmalloc, on evidence of real kernels and on
evidence that was altered."""

from __future__ import annotations

import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from analysis.errors import MissingInputError, ParseError
from analysis.tour.evidence import open_stop
from analysis.tour.finding import Finding, Plate
from analysis.tour.registry import JUDGES
from analysis.tour.slab_load import load_results, size_claims
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


def test_memory_is_counted_in_pages_of_the_machine() -> None:
    boot = open_stop("slab/same-load", kept("slab/same-load")).boot("slub")
    result = next(result for result in load_results(boot) if result.model.order)
    assert result.page_bytes == result.blocks_seen * (4096 << result.model.order)
    assert replace(result, page_size_bytes=65536).page_bytes == 16 * result.page_bytes
