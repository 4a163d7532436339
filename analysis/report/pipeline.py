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

from analysis.bundle import Bundle, open_bundle
from analysis.compare.buddy import stimulus_table
from analysis.compare.claim import check_to_json
from analysis.compare.evaluate import evaluate
from analysis.compare.facts import Facts, facts_from_texts
from analysis.figures.facts import FigureFacts
from analysis.figures.files import replace_file
from analysis.figures.gallery import draw_gallery
from analysis.report.cost import sampling_cost
from analysis.report.page import ReportContext, write_report
from analysis.tables import build_tables, write_tables


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluated:
    """A run held against the model."""

    bundle: Bundle
    facts: Facts
    tables: Mapping[str, pd.DataFrame]
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
    """Opens a run, builds its tables and evaluates every claim; writes nothing.

    Raises:
        BundleError, ParseError, RecordError: the run cannot be read.
    """
    bundle = open_bundle(path)
    tables = build_tables(bundle)
    facts = facts_from_texts(
        bundle.texts(),
        page_size_bytes=int(bundle.hello["page_size"]),
        phase_nodes=phase_nodes(bundle),
    )
    claims = evaluate(tables, facts)
    return Evaluated(
        bundle=bundle,
        facts=facts,
        tables=tables,
        check=check_to_json(str(path), facts.kernel, claims),
    )


def phase_nodes(bundle: Bundle) -> dict[str, int]:
    """Phase → the NUMA node its workload was bound to."""
    return {phase.name: phase.node for phase in bundle.manifest.phases if phase.node is not None}


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
        page_size_bytes=run.facts.page_size_bytes or int(run.bundle.hello["page_size"]),
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
        cost=sampling_cost(run.tables, stream_bytes=(path / "samples.mms").stat().st_size),
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
