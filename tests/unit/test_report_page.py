"""The page: complete, self-contained, and honest about how the run ended."""

from __future__ import annotations

import re
from collections.abc import Mapping
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from analysis.figures.facts import FigureFacts
from analysis.figures.files import FigureFiles
from analysis.figures.gallery import DrawnPlate, draw_gallery
from analysis.report import inline_svg
from analysis.report.cost import sampling_cost
from analysis.report.page import (
    ReportContext,
    number_text,
    render_report,
    size_text,
    status_text,
    write_report,
)
from tests.synthetic_tables import UMA, Shape, make_tables

HOSTILE = "<script>alert('x')</script> & \"quotes\""
MANIFEST: dict[str, Any] = {
    "name": "boot-numa-x86_64",
    "created": "2026-01-01T12:00:00Z",
    "mmscope": "0.1.0",
    "argv": ["mmscope", "run", "boot-numa"],
    "outcome": {"kind": "completed", "message": "", "fix": None, "exit_code": 0},
    "seed": 7,
    "kernel": {
        "name": "bookworm",
        "release": "6.1.0-37-amd64",
        "arch": "x86_64",
        "package": "linux-image-6.1.0-37-amd64",
        "version": "6.1.140-1",
        "sha256": {"linux-image.deb": "ab" * 32},
    },
    "image": {
        "initramfs_sha256": "cd" * 32,
        "root_sha256": "ef" * 32,
        "packages": {"procps": "2:4.0.2-3"},
        "modules": ["virtio_console"],
    },
    "machine": {
        "arch": "x86_64",
        "accel": "tcg",
        "cpu_model": "Nehalem",
        "cpus": 2,
        "nodes": [
            {"node": 0, "size_bytes": 1 << 30, "cpus": [0, 1]},
            {"node": 1, "size_bytes": 0, "cpus": []},
        ],
        "memory_bytes": 1 << 30,
        "distances": {"0,1": 20},
        "cmdline": "console=ttyS0",
        "qemu": "QEMU emulator version 7.2",
        "qemu_argv": ["qemu-system-x86_64", "-machine", "q35"],
    },
    "phases": [
        {
            "name": "anon", "workload": "stress-ng", "argv": [], "node": 1,
            "params": {"vm-bytes": "300M", "steps": ["take:24:5", "drop:1"]}, "status": 137,
            "outcome": "oom-killed", "wall_s": 3.25,
        },
        {
            "name": "idle", "workload": "idle", "argv": [], "node": None, "params": {},
            "status": None, "outcome": "running", "wall_s": None,
        },
    ],
    "timings_s": {"boot": 3.1},
    "files": {"samples.mms": {"size_bytes": 1536, "sha256": "12" * 32}},
}  # fmt: skip


def claim(name: str, verdict: str, **fields: object) -> dict[str, object]:
    return {
        "id": name, "scope": {"node": 0, "zone": "DMA32"}, "predicted": 12, "observed": 12,
        "unit": "pages", "verdict": verdict, "why": "",
    } | fields  # fmt: skip


CLAIMS = [
    claim("watermark_low", "holds", predicted=1234567, observed=1234567),
    claim("free_pages", "holds"),
    claim("watermark_low", "fails", observed=13, why="one page off"),
    claim("extfrag_index", "unknown", predicted=None, why="CONFIG_COMPACTION is not known"),
]


def context(
    claims: list[dict[str, object]] | None = None,
    manifest: Mapping[str, Any] | None = MANIFEST,
    **fields: Any,
) -> ReportContext:
    check = {
        "source": "runs/boot-numa", "kernel": "6.1.0-37-amd64", "summary": {},
        "claims": CLAIMS if claims is None else claims,
    }  # fmt: skip
    return ReportContext(title="boot-numa", check=check, manifest=manifest, **fields)


class Page(HTMLParser):
    """Checks that tags are balanced; collects ids, links, tags and text."""

    VOID = frozenset({"meta", "img", "br", "hr", "link", "input"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.ids: list[str] = []
        self.references: list[str] = []
        self.text = ""
        self.feed(text)
        self.close()
        assert not self.open, f"not closed: {self.open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if tag not in self.VOID:
            self.open.append(tag)
        for name, value in attrs:
            if name == "id" and value:
                self.ids.append(value)
            if name in ("href", "src", "xlink:href") and value:
                self.references.append(value)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in self.VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag
        if tag in ("td", "th", "dt", "dd", "b"):
            self.text += " "

    def handle_data(self, data: str) -> None:
        if self.open[-1:] not in (["style"], ["title"]):
            self.text += data


@pytest.fixture(scope="module")
def figures(tmp_path_factory: pytest.TempPathFactory) -> list[DrawnPlate]:
    facts = FigureFacts(kernel="6.1.0-37-amd64", arch="x86_64", page_size_bytes=4096)
    tables = make_tables(Shape(zones=UMA, rounds=20))
    return draw_gallery(tables, facts, tmp_path_factory.mktemp("figures"))


def test_every_claim_is_on_the_page() -> None:
    page = Page(render_report(context()))
    assert page.tags.count("tr") >= len(CLAIMS)
    for text in (
        "1,234,567",
        "one page off",
        "CONFIG_COMPACTION is not known",
        "node 0 · zone DMA32",
    ):
        assert text in page.text
    many = [claim("unusable_index", "holds", predicted=i, observed=i) for i in range(500, 900)]
    text = Page(render_report(context(many))).text
    assert all(str(i) in text for i in range(500, 900))


def test_verdicts_are_counted_and_failures_come_first() -> None:
    text = Page(render_report(context())).text
    assert "contradicts the model in 1 of 4 claims" in text
    assert text.index("Failing: 1") < text.index("Unknown: 1") < text.index("All families")
    flat = " ".join(text.split())
    assert "2 hold:" in flat
    assert "watermark_low low lies a gap above min" in flat


@pytest.mark.parametrize(
    ("claims", "said"),
    [
        ([], "No claim was checked"),
        ([claim("free_pages", "holds")], "every claim that could be decided"),
        ([claim("free_pages", "unknown", why="no zoneinfo")], "None of the 1 claims could be"),
    ],
)
def test_the_summary_says_what_the_counts_mean(claims: list[dict[str, object]], said: str) -> None:
    assert said in Page(render_report(context(claims))).text


def test_hostile_text_stays_text(figures: list[DrawnPlate]) -> None:
    claims = [claim(HOSTILE, "fails", why=HOSTILE, scope={"zone": HOSTILE}, unit=HOSTILE)]
    phase = MANIFEST["phases"][0] | {"name": HOSTILE, "outcome": HOSTILE, "params": {"a": HOSTILE}}
    manifest = MANIFEST | {"phases": [phase], "argv": [HOSTILE]}
    html = render_report(context(claims, manifest, damage=[HOSTILE], figures=figures))
    assert "<script" not in html
    assert "script" not in Page(html).tags
    assert html.count("&lt;script&gt;") >= 8


def test_the_page_loads_nothing(figures: list[DrawnPlate]) -> None:
    html = render_report(context(figures=figures))
    page = Page(html)
    assert all(target.startswith(("#", "data:image/png;base64,")) for target in page.references)
    assert not {"script", "link", "iframe", "object"} & set(page.tags)
    assert "@import" not in html
    assert all(target.startswith("#") for target in re.findall(r"url\(([^)]*)\)", html))


def test_ids_are_unique_and_references_lead_somewhere(figures: list[DrawnPlate]) -> None:
    html = render_report(context(figures=figures))
    page = Page(html)
    assert len(page.ids) == len(set(page.ids))
    inner = {target[1:] for target in page.references if target.startswith("#")}
    inner |= set(re.findall(r"url\(#([^)]*)\)", html))
    assert inner <= set(page.ids)


def test_each_figure_is_named_explained_and_described(figures: list[DrawnPlate]) -> None:
    html = render_report(context(figures=figures))
    text = Page(html).text
    assert html.count('role="img"') == len(figures)
    for plate in figures:
        assert plate.title in text
        assert plate.reading in text
        assert plate.reading.count(". ") == 1, "two sentences on how to read it"
    assert html.count("aria-label=") >= len(figures)


def test_a_figure_too_large_for_inline_svg_becomes_a_png(
    figures: list[DrawnPlate], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inline_svg, "MAX_SVG_BYTES", 10)
    plate = figures[0]
    body = str(inline_svg.embed(plate.files, prefix="p", description=HOSTILE))
    assert body.startswith('<img src="data:image/png;base64,iVBOR')
    assert "<script" not in body


def test_inline_svg_keeps_references_together(tmp_path: Path) -> None:
    svg = tmp_path / "a.svg"
    svg.write_text(
        '<?xml version="1.0"?>\n<!DOCTYPE svg>\n<svg width="9pt" height="9pt" viewBox="0 0 9 9">'
        '<style type="text/css">*{a:b}</style><defs><path id="m1"/></defs>'
        '<use xlink:href="#m1" clip-path="url(#p2)"/><text>id="m1"</text></svg>'
    )
    files = FigureFiles(svg=svg, png=tmp_path / "a.png")
    body = str(inline_svg.embed(files, prefix="x", description="d"))
    assert '<path id="x-m1"/>' in body
    assert '<use xlink:href="#x-m1" clip-path="url(#x-p2)"/>' in body
    assert '<text>id="m1"</text>' in body
    assert "<style" not in body
    assert "width=" not in body


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("killed", "The run was killed"),
        ("interrupted", "The run was interrupted"),
        ("panicked", "The guest's kernel crashed"),
        ("timed-out", "The guest stopped making progress"),
        ("of a new kind", "The run ended as 'of a new kind'"),
    ],
)
def test_a_run_that_did_not_end_in_order_is_flagged(kind: str, said: str) -> None:
    ending = {"kind": kind, "message": "pid 41 is gone", "fix": "run it again", "exit_code": 3}
    html = render_report(context(ending=ending))
    assert 'class="banner bad"' in html
    text = Page(html).text
    for part in (said, "pid 41 is gone", "run it again", "recorded until then"):
        assert part in text
    assert text.index(said) < text.index("Verdict", text.index(said))


def test_a_completed_run_is_not_flagged() -> None:
    html = render_report(context())
    assert 'class="banner good"' in html
    assert 'class="banner bad"' not in html


def test_damage_is_flagged() -> None:
    text = Page(render_report(context(damage=["samples.mms: damaged at byte 8123"]))).text
    assert "The record is damaged" in text
    assert "samples.mms: damaged at byte 8123" in text


def test_machine_phases_and_files_are_told() -> None:
    text = " ".join(Page(render_report(context())).text.split())
    for part in (
        "6.1.0-37-amd64 (linux-image-6.1.0-37-amd64 6.1.140-1, x86_64)",
        "node 0: 1 GiB, CPUs 0, 1; node 1: no memory, no CPU",
        "137 (signal 9)",
        "never ended",
        "vm-bytes=300M, steps=take:24:5 drop:1",
        "samples.mms 1.5 KiB",
        "12" * 32,
        "QEMU emulator version 7.2",
    ):
        assert part in text


def test_a_bare_manifest_and_none_at_all_make_a_page() -> None:
    bare = MANIFEST | {
        "kernel": None, "image": None, "machine": None, "phases": [], "files": {}, "timings_s": {},
    }  # fmt: skip
    assert "No phase was started" in Page(render_report(context(manifest=bare))).text
    assert "Verdict" in Page(render_report(context(manifest=None))).text


def test_the_cost_of_watching_is_told() -> None:
    tables = make_tables(Shape(zones=UMA, rounds=100))
    cost = sampling_cost(tables, stream_bytes=4_096_000)
    text = " ".join(Page(render_report(context(cost=cost))).text.split())
    assert "of phase null" in text
    assert "40 KiB a round" in text
    assert "no sampling round is recorded" in Page(render_report(context(cost=None))).text


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        ({"id": "a", "scope": {}}, "no field 'verdict'"),
        (claim("a", "perhaps"), "expected one of fails, unknown, holds"),
    ],
)
def test_what_is_not_a_claim_is_refused(bad: dict[str, object], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        render_report(context([bad]))


def test_the_page_is_written_whole(tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    path.write_text("old")
    with pytest.raises(ValueError, match="verdict"):
        write_report(context([claim("a", "perhaps")]), path)
    assert path.read_text() == "old"
    write_report(context(), path)
    assert path.read_text(encoding="utf-8") == render_report(context())
    assert [entry.name for entry in tmp_path.iterdir()] == ["report.html"]


def test_numbers_in_words() -> None:
    assert [size_text(n) for n in (0, 1023, 1536, 1 << 30, 5 << 40)] == [
        "0 B", "1023 B", "1.5 KiB", "1 GiB", "5 TiB",
    ]  # fmt: skip
    assert [status_text(n) for n in (0, 2, 137, None)] == [
        "0", "2", "137 (signal 9)", "never ended",
    ]  # fmt: skip
    assert number_text(1234.5, "ms") == "1,234 ms"
    assert number_text(0.01234) == "0.0123"
