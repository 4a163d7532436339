"""One run of a group, read: what it was configured to be, its tables, and its measures."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from analysis.bundle import Bundle, open_bundle
from analysis.compare.facts import Tables
from analysis.compare.groups.measure import Measured
from analysis.compare.groups.moment import Calendar, calendar
from analysis.errors import AnalysisError, BundleError
from analysis.procfs import kconfig
from analysis.tables import build_tables

_SYSCTLS = "proc/sys/vm/"
_MOVING = frozenset({"stat_refresh", "compact_memory", "drop_caches"})
"""Files below proc/sys/vm that are no settings."""
_THP = "sys/kernel/mm/transparent_hugepage/"


@dataclass(frozen=True, slots=True, kw_only=True)
class Configured:
    """What a run's kernel and machine were configured to be."""

    release: str
    version: str
    arch: str
    accel: str
    symbols: Mapping[str, str]
    """CONFIG_NAME → value; empty: the run has no configuration."""
    parameters: tuple[str, ...]
    """Words of the command line."""
    settings: Mapping[str, str]
    """``vm.swappiness`` → its value; files below sys/ by their path."""
    machine: Mapping[str, str]
    setup: tuple[str, ...]
    """Shell lines that ran in the guest before the first phase, a variant's among them."""
    plan: Mapping[str, object]
    """What was run and how it was watched: phases, sampling and trace."""
    image: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """A run with all that is compared of it."""

    path: Path
    seed: int
    configured: Configured
    bundle: Bundle
    tables: Tables
    calendar: Calendar
    page_bytes: int
    damage: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasuredRun:
    """A run's configuration and numbers, its tables let go."""

    path: Path
    seed: int
    configured: Configured
    measured: Measured
    series: pd.DataFrame
    """Over time: see ``analysis.compare.groups.series``."""
    damage: tuple[str, ...]


def read_run(path: Path) -> Run:
    """Reads a run directory.

    Raises:
        BundleError: it is no run directory, was not recorded by the /proc sampler, or did not end
            in order, so that its numbers are not those of a whole run.
        ParseError, RecordError: what it recorded is damaged.
    """
    bundle = open_bundle(path)
    if not bundle.complete_rounds:
        raise BundleError(
            f"{path}: the run has no samples of /proc, so there is nothing to compare",
            fix="compare runs whose phases are not all traced",
        )
    if not bundle.finished or bundle.ending.kind.value not in ("completed", "oom-killed"):
        raise BundleError(
            f"{path}: not a whole run: {_why(bundle)}",
            fix="leave it out, or run it again: `mmscope sweep` does so for its own",
        )
    tables = build_tables(bundle)
    moments = calendar(tables)
    assert moments is not None, "there are complete rounds"
    return Run(
        path=path,
        seed=bundle.manifest.seed,
        configured=_configured(bundle),
        bundle=bundle,
        tables=tables,
        calendar=moments,
        page_bytes=int(bundle.hello.get("page_size", 4096)),
        damage=tuple(f"{item.file}: {item.message}" for item in bundle.damage),
    )


def workload_reports(run: Run) -> dict[str, dict[str, float]]:
    """Phase → the numbers that its loads printed, of several at once added up."""
    reports: dict[str, dict[str, float]] = {}
    for number, phase in enumerate(run.bundle.manifest.phases, start=1):
        path = run.path / "workloads" / f"{number:02d}-{phase.name}.stdout"
        try:
            lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
        except OSError:
            continue
        numbers = reports.setdefault(phase.name, {})
        for line in lines:
            try:
                report = json.loads(line)
            except ValueError:
                continue
            if isinstance(report, dict):
                for key, value in report.items():
                    if isinstance(value, int | float) and not isinstance(value, bool):
                        numbers[key] = numbers.get(key, 0.0) + value
    return reports


def _why(bundle: Bundle) -> str:
    if bundle.ending.message:
        return f"{bundle.ending.kind.value}: {bundle.ending.message}"
    if not bundle.finished:
        return bundle.damage[0].message if bundle.damage else "the sampler did not end in order"
    return bundle.ending.kind.value


def _configured(bundle: Bundle) -> Configured:
    manifest = bundle.manifest
    machine = manifest.machine
    kernel = manifest.kernel
    texts = bundle.texts()
    settings = {
        f"vm.{path.removeprefix(_SYSCTLS)}": text.strip()
        for path, text in texts.items()
        if path.startswith(_SYSCTLS) and path.removeprefix(_SYSCTLS) not in _MOVING
    }
    settings |= {path: text.strip() for path, text in texts.items() if path.startswith(_THP)}
    plan = {
        key: value
        for key, value in manifest.experiment.items()
        if key in ("sampling", "phases", "trace")
    }
    described: dict[str, str] = {}
    if machine is not None:
        sizes = [str(node.size_bytes >> 20) + "M" for node in machine.nodes]
        described = {
            "memory": f"{machine.memory_bytes >> 20}M",
            "nodes": " ".join(sizes) or "1, without a NUMA description",
            "cpus": str(machine.cpus),
            "cpu model": machine.cpu_model,
            "accelerator": accelerator(machine.qemu_argv, machine.accel),
            "QEMU": machine.qemu,
        }
    return Configured(
        release=kernel.release if kernel else "unknown",
        version=kernel.version if kernel else "unknown",
        arch=machine.arch if machine else "unknown",
        accel=machine.accel if machine else "unknown",
        symbols=_symbols(texts.get("config")),
        parameters=tuple(texts.get("proc/cmdline", "").split()),
        settings=settings,
        machine=described,
        setup=_lines(manifest.experiment.get("setup")),
        plan=plan,
        image=manifest.image.root_sha256 if manifest.image else "",
    )


def accelerator(argv: Sequence[str], accel: str) -> str:
    """``tcg``, ``kvm``, or ``tcg,thread=single`` where the CPUs took turns."""
    return argv[argv.index("-accel") + 1] if "-accel" in argv else accel


def _lines(value: object) -> tuple[str, ...]:
    return tuple(str(line) for line in value) if isinstance(value, list | tuple) else ()


def _symbols(text: str | None) -> dict[str, str]:
    if text is None:
        return {}
    try:
        parsed = kconfig.parse(text)
    except AnalysisError:
        return {}
    return {f"CONFIG_{name}": value for name, value in parsed.values.items()}
