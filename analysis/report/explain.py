"""``mmscope check --explain``: a rule, its inputs, the arithmetic on this capture, the source."""

from __future__ import annotations

import inspect
import re
import textwrap
from collections.abc import Callable, Iterator, Sequence

from analysis.capture.snapshot import Snapshot
from analysis.compare.claim import Claim, Number
from analysis.compare.rule import Rule
from analysis.verdict import Verdict

_WIDTH = 96
_SHOWN_CLAIMS = 16
_SECTION = re.compile(r"^(Kernel|Ignores|Raises): ?(.*)$")
_ORDER = {Verdict.FAILS: 0, Verdict.UNKNOWN: 1, Verdict.HOLDS: 2}


def explain(rule: Rule, snapshot: Snapshot) -> str:
    """The page about a rule, as plain text: what it says, where it comes from, what it gives here.

    Of many claims the first are shown, failing and unknown ones before those that hold.
    """
    lines = [rule.id, "=" * len(rule.id), "", *_wrapped(rule.says, ""), ""]
    lines.append("computed from")
    lines += [
        f"  {'have   ' if snapshot.provides(name) else 'missing'}  {name}" for name in rule.inputs
    ]
    lines += ["held against", *_wrapped(rule.observed, "        ")]
    lines += ["", "in the model"]
    for function in rule.model:
        lines += list(_model(function))
    lines += ["", f"on this kernel ({snapshot.kernel})"]
    claims = rule.claims(snapshot)
    shown = sorted(claims, key=lambda claim: _ORDER[claim.verdict])[:_SHOWN_CLAIMS]
    for claim in shown:
        lines += list(_claim(claim))
    if len(claims) > len(shown):
        lines.append(f"  … and {len(claims) - len(shown)} more: mmscope check --json")
    return "\n".join(lines) + "\n"


def sections(function: Callable[..., object]) -> dict[str, str]:
    """The docstring of a model function: ``summary``, and what ``Kernel:``, ``Ignores:`` … say."""
    found: dict[str, list[str]] = {"summary": []}
    name = "summary"
    for line in (inspect.getdoc(function) or "").splitlines():
        if match := _SECTION.match(line.strip()):
            name = match[1]
            found[name] = [match[2]]
        else:
            found[name].append(line.strip())
    return {key: " ".join(filter(None, text)).strip() for key, text in found.items()}


def _model(function: Callable[..., object]) -> Iterator[str]:
    module = inspect.getmodule(function)
    assert module is not None, "a function of analysis.model"
    yield f"  {module.__name__}.{function.__name__}"
    said = sections(function)
    yield from _wrapped(said["summary"], "    ")
    for name in ("Kernel", "Ignores"):
        if name in said:
            yield from _wrapped(f"{name}: {said[name]}", "    ", hang="      ")


def _claim(claim: Claim) -> Iterator[str]:
    where = ", ".join(f"{key} {value}" for key, value in claim.scope.items()) or "the machine"
    if claim.verdict is Verdict.HOLDS:
        yield f"  {where}: holds, {_said(claim, claim.observed)}"
    else:
        yield (
            f"  {where}: {claim.verdict.value.upper()}, the rule gives "
            f"{_said(claim, claim.predicted)}, the kernel shows {_said(claim, claim.observed)}"
        )
        yield from _wrapped(claim.why, "      ")
    for line in claim.working:
        yield from _wrapped(line, "      ", hang="        ")


def _said(claim: Claim, value: Number | None) -> str:
    """``238 pages``, ``order 3``, ``nodes: 0 1 3``."""
    if value is None:
        return "nothing"
    if claim.unit == "order":
        return f"order {value}"
    if isinstance(value, str):
        return f"{claim.unit}: {value}" if claim.unit else value
    return f"{value} {claim.unit}".rstrip()


def _wrapped(text: str, indent: str, hang: str | None = None) -> Sequence[str]:
    return textwrap.wrap(
        text,
        _WIDTH,
        initial_indent=indent,
        subsequent_indent=indent if hang is None else hang,
        break_long_words=False,
        break_on_hyphens=False,
    )
