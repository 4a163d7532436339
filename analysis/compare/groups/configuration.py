"""What differs between two groups in configuration, and whether each group is of one."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Any, Literal

from analysis.bundle import diff_configs
from analysis.compare.groups.run import Configured
from analysis.errors import SelectionError

Kind = Literal["kernel", "machine", "parameter", "setup", "setting", "symbol", "other symbol"]

_EACH_BOOT = frozenset({"vm.min_free_kbytes", "vm.user_reserve_kbytes", "vm.admin_reserve_kbytes"})
"""Settings that the kernel computes at boot out of its memory: results, not configuration, unless
the setup sets them."""
_SETS = re.compile(r"/proc/sys/vm/(\w+)|\bvm[./](\w+)\s*=")
_ONLY_SETS = re.compile(
    r'echo [\w.,+ -]+ > /proc/sys/vm/(\w+)(?: \|\| \{ echo "[^"]*" >&2; exit 1; \})?'
)
"""A line of a variant's sysctls: see ``harness.experiment.comparison.Variant``."""
_SHOWN = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class Differing:
    """One thing that two groups have otherwise."""

    kind: Kind
    name: str
    first: str
    second: str


def differences(first: Configured, second: Configured) -> list[Differing]:
    """Kernel, machine, parameters, setup, settings, then symbols, memory management's first."""
    found: list[Differing] = []
    for name, read in _KERNEL:
        if read(first) != read(second):
            found.append(
                Differing(kind="kernel", name=name, first=read(first), second=read(second))
            )
    found += _maps("machine", first.machine, second.machine)
    found += _parameters(first.parameters, second.parameters)
    results = _EACH_BOOT - _set_by(first.setup) - _set_by(second.setup)
    settings = [
        {key: value for key, value in each.settings.items() if key not in results}
        for each in (first, second)
    ]
    differing = _maps("setting", settings[0], settings[1])
    found += _setup(first.setup, second.setup, told={each.name for each in differing})
    found += differing
    if first.symbols and second.symbols:
        found += [
            Differing(
                kind="symbol" if each.group == "memory" else "other symbol",
                name=each.symbol,
                first=each.values[0] or "n",
                second=each.values[1] or "n",
            )
            for each in diff_configs(first.symbols, second.symbols)
        ]
    return found


def check_alike(name: str, runs: Sequence[Configured]) -> None:
    """Raises SelectionError when the runs of one group are not of one configuration and plan."""
    base = runs[0]
    for run in runs[1:]:
        if run.plan != base.plan:
            raise SelectionError(
                f"the runs of {name} have different plans: {plan_difference(base, run)}",
                fix="compare runs of one experiment, made by one version of it",
            )
        odd = [each for each in differences(base, run) if each.kind != "other symbol"]
        if odd:
            raise SelectionError(
                f"the runs of {name} are not of one configuration: {odd[0].kind} {odd[0].name} is "
                f"{odd[0].first or 'absent'} in one and {odd[0].second or 'absent'} in another",
                fix="give each configuration a group of its own: A=PATH,PATH B=PATH,PATH",
            )


def check_comparable(names: Sequence[str], groups: Sequence[Configured]) -> None:
    """Raises SelectionError when groups cannot be held against each other."""
    for name, group in zip(names[1:], groups[1:], strict=True):
        if group.plan != groups[0].plan:
            raise SelectionError(
                f"{names[0]} and {name} ran different plans: {plan_difference(groups[0], group)}",
                fix="compare runs of one experiment: `mmscope sweep` makes such",
            )
        if group.arch != groups[0].arch:
            raise SelectionError(
                f"{names[0]} ran on {groups[0].arch} and {name} on {group.arch}: what differs "
                f"between them is the machine, not the configuration",
                fix="compare kernels of one architecture",
            )


def plan_difference(first: Configured, second: Configured) -> str:
    """The first place where two plans differ."""
    return _first_difference("", first.plan, second.plan)


def _first_difference(path: str, first: Any, second: Any) -> str:
    if isinstance(first, Mapping) and isinstance(second, Mapping):
        for key in sorted(first.keys() | second.keys()):
            if first.get(key) != second.get(key):
                return _first_difference(f"{path}.{key}", first.get(key), second.get(key))
    if isinstance(first, list) and isinstance(second, list) and len(first) == len(second):
        for number, (one, other) in enumerate(zip(first, second, strict=True)):
            if one != other:
                return _first_difference(f"{path}[{number}]", one, other)
    texts = [repr(value) for value in (first, second)]
    shown = [text if len(text) < _SHOWN else f"{text[: _SHOWN - 1]}…" for text in texts]
    return f"{path.lstrip('.') or 'plan'} is {shown[0]} and {shown[1]}"


_KERNEL: tuple[tuple[str, Callable[[Configured], str]], ...] = (
    ("release", lambda run: run.release),
    ("version", lambda run: run.version),
)


def _maps(kind: Kind, first: Mapping[str, str], second: Mapping[str, str]) -> list[Differing]:
    return [
        Differing(kind=kind, name=key, first=first.get(key, ""), second=second.get(key, ""))
        for key in sorted(first.keys() | second.keys())
        if first.get(key) != second.get(key)
    ]


def _parameters(first: Sequence[str], second: Sequence[str]) -> list[Differing]:
    return _given("parameter", first, second)


def _setup(first: Sequence[str], second: Sequence[str], told: Set[str]) -> list[Differing]:
    """Lines of one only, but for those that do no more than set what ``told`` has; where there are
    none, that they are run in another order."""
    found = _given("setup", first, second)
    if found:
        only_sets = [_ONLY_SETS.fullmatch(each.name) for each in found]
        found = [
            each
            for each, match in zip(found, only_sets, strict=True)
            if match is None or f"vm.{match[1]}" not in told
        ]
    elif first != second:
        found = [
            Differing(kind="setup", name="order", first="; ".join(first), second="; ".join(second))
        ]
    return found


def _set_by(setup: Sequence[str]) -> frozenset[str]:
    """``vm.min_free_kbytes``, …: what shell lines set."""
    return frozenset(
        f"vm.{found[1] or found[2]}" for line in setup for found in _SETS.finditer(line)
    )


def _given(kind: Kind, first: Sequence[str], second: Sequence[str]) -> list[Differing]:
    only_first = [word for word in first if word not in second]
    only_second = [word for word in second if word not in first]
    return [Differing(kind=kind, name=word, first="given", second="") for word in only_first] + [
        Differing(kind=kind, name=word, first="", second="given") for word in only_second
    ]
