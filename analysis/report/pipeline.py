"""From a run directory to tables, claims, figures and the page: one way, offline, repeatable."""

from __future__ import annotations

import json
import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
import pandas as pd

from analysis.bundle import Bundle, RecordError, open_bundle
from analysis.capture.snapshot import Snapshot
from analysis.capture.source import run_source
from analysis.compare.buddy import stimulus_table
from analysis.compare.claim import check_to_json
from analysis.compare.evaluate import evaluate
from analysis.compare.facts import Facts, facts_from_texts
from analysis.compare.rule import claims_of
from analysis.compare.static.registry import RULES
from analysis.compare.windows import window_claims
from analysis.errors import AnalysisError
from analysis.figures.facts import FigureFacts
from analysis.figures.files import replace_file
from analysis.figures.gallery import draw_gallery
from analysis.replay.outcome import RunOutcome, replay_run
from analysis.report.cost import sampling_cost
from analysis.report.page import ReportContext, write_report
from analysis.tables import build_tables, write_tables

_UNKNOWN_PAGE_BYTES = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluated:
    """A run held against the model."""

    bundle: Bundle
    facts: Facts
    tables: Mapping[str, pd.DataFrame]
    replays: RunOutcome | None
    """Its traced windows, replayed; None: it has none."""
    check: dict[str, Any]
    """The JSON of ``mmscope check``."""

    @property
    def damage(self) -> tuple[str, ...]:
        """What of the run is not as it was recorded, a line each."""
        return tuple(f"{item.file}: {item.message}" for item in self.bundle.damage)


@dataclass(frozen=True, slots=True, kw_only=True)
class Analysed:
    """A run with everything that analysis makes of it."""

    check: dict[str, Any]
    damage: Sequence[str]
    report_path: Path


def evaluate_run(path: Path) -> Evaluated:
    """Opens a run, builds its tables, replays its windows, evaluates every claim; writes nothing.

    Raises:
        BundleError, ParseError, RecordError: the run cannot be read.
    """
    bundle = open_bundle(path)
    tables = build_tables(bundle)
    facts = facts_from_texts(
        bundle.texts(),
        page_size_bytes=_page_size_bytes(bundle),
        phase_nodes=phase_nodes(bundle),
    )
    claims = evaluate(tables, facts)
    if bundle.complete_rounds:
        claims += claims_of(RULES, Snapshot(run_source(bundle)))
    replays = replay_run(bundle) if bundle.windows else None
    if replays is not None:
        claims += window_claims(one.result for one in replays.windows)
    return Evaluated(
        bundle=bundle,
        facts=facts,
        tables=tables,
        replays=replays,
        check=check_to_json(str(path), facts.kernel, claims),
    )


def _page_size_bytes(bundle: Bundle) -> int | None:
    """As the agent said, or as the first readable memory sample has it."""
    if "page_size" in bundle.hello:
        return int(bundle.hello["page_size"])
    for window in bundle.windows:
        for name in window.samples:
            try:
                return int(bundle.memory_sample(name).meta["page_size_bytes"])
            except (AnalysisError, RecordError):
                continue
    return None


def phase_nodes(bundle: Bundle) -> dict[str, int]:
    """Phase → the NUMA node its workload was bound to."""
    return {phase.name: phase.node for phase in bundle.manifest.phases if phase.node is not None}


def _stream_bytes(path: Path) -> int | None:
    """Size of the stream of /proc samples; None: the run has none."""
    stream = path / "samples.mms"
    return stream.stat().st_size if stream.is_file() else None


def analyse(path: Path, *, stage: Callable[[str], None] = lambda _: None) -> Analysed:
    """Everything: tables/, claims.json, figures/ and report.html in the run directory.

    Raises:
        BundleError, ParseError, RecordError: the run cannot be read.
        OSError: its directory cannot be written.
    """
    stage("tables and claims")
    run = evaluate_run(path)
    write_tables(dict(run.tables), path / "tables")
    replace_file(path / "claims.json", (json.dumps(run.check, indent=1) + "\n").encode())
    stage("figures")
    machine = run.bundle.manifest.machine
    figure_facts = FigureFacts(
        kernel=run.facts.kernel,
        arch=machine.arch if machine else "unknown architecture",
        page_size_bytes=run.facts.page_size_bytes or _UNKNOWN_PAGE_BYTES,
        clock_tick_hz=int(run.bundle.hello.get("clock_tick", 100)),
    )
    drawn = {**run.tables, "stimulus": stimulus_table(run.tables, run.facts)}
    figures = draw_gallery(drawn, figure_facts, path / "figures")
    stage("report")
    manifest = run.bundle.manifest
    context = ReportContext(
        title=path.name,
        check=run.check,
        manifest=manifest.model_dump(mode="json"),
        ending=run.bundle.ending.model_dump(mode="json"),
        figures=figures,
        cost=sampling_cost(run.tables, stream_bytes=_stream_bytes(path)),
        damage=run.damage,
        versions={
            "mmscope": manifest.mmscope,
            "Python": platform.python_version(),
            "pandas": pd.__version__,
            "matplotlib": matplotlib.__version__,
        },
    )
    report_path = path / "report.html"
    write_report(context, report_path)
    return Analysed(check=run.check, damage=run.damage, report_path=report_path)
