"""Which of the symbols that were asked for did not come out so, and why."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from harness.errors import BuildError
from harness.kernel.fragment import Request, holds
from harness.kernel.kconfig_source import Definition, KconfigTree, conjuncts, evaluate

_MOST_NAMED = 4
_ALIKE = 0.85
"""How alike a symbol must be to one that is not there, to be taken for what was meant."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lost:
    """A request that the final configuration does not have."""

    request: Request
    got: str
    """The value that it has instead."""
    why: str

    def render(self) -> str:
        """One line for a person."""
        wanted = f"CONFIG_{self.request.symbol}={self.request.value}"
        return f"{wanted} ({self.request.where}) came out {self.got}: {self.why}"


def lost_requests(
    requests: Sequence[Request], config: Mapping[str, str], tree: KconfigTree
) -> list[Lost]:
    """Every request that did not survive, in the order in which they were made."""
    return [
        Lost(
            request=request,
            got=config.get(f"CONFIG_{request.symbol}", "n"),
            why=explain(request, config, tree),
        )
        for request in requests
        if not holds(request, config)
    ]


def check_survival(
    requests: Sequence[Request], config: Mapping[str, str], tree: KconfigTree, what: str
) -> None:
    """Raises BuildError that lists what was lost and by what, if anything was."""
    lost = lost_requests(requests, config, tree)
    unknown = [
        request for request in requests if request.value == "n" and not _exists(request, tree)
    ]
    lines = [each.render() for each in lost]
    lines += [
        f"CONFIG_{request.symbol}=n ({request.where}): {_unknown(request.symbol, tree)}"
        for request in unknown
    ]
    if lines:
        number = len(lines)
        raise BuildError(
            f"{what}: {number} of the {len(requests)} symbols asked for did not survive",
            details={"lost": "\n".join(lines)},
            fix="correct these lines of the fragments, and build again",
        )


def explain(request: Request, config: Mapping[str, str], tree: KconfigTree) -> str:
    """Why the configuration has another value than the request."""
    definitions = tree.definitions.get(request.symbol, [])
    if not definitions:
        return _unknown(request.symbol, tree)
    if request.value == "n":
        return _forced(request.symbol, config, tree)
    unmet = [_unmet(definition, config) for definition in definitions]
    open_ones = [
        definition for definition, missing in zip(definitions, unmet, strict=True) if not missing
    ]
    if not open_ones:
        missing = min(unmet, key=len)
        needs = "; ".join(f"{part} ({_state(part, config)})" for part in missing)
        return f"it depends on {needs} [{definitions[unmet.index(missing)].where}]"
    for definition in open_ones:
        if definition.choice is not None:
            chosen = [
                symbol
                for symbol in tree.choice_of(definition.choice)
                if config.get(f"CONFIG_{symbol}") == "y"
            ]
            if chosen and request.symbol not in chosen:
                return f"the choice that it belongs to has {', '.join(chosen)}"
    asked = [definition for definition in open_ones if definition.prompt is not None]
    if not asked:
        return f"no fragment can set it: other symbols decide [{open_ones[0].where}]"
    if not any(evaluate(definition.prompt or "y", config) is not False for definition in asked):
        return f"it can be set only where {asked[0].prompt} holds [{asked[0].where}]"
    return f"the value was not taken (is it of its type and range?) [{asked[0].where}]"


def _exists(request: Request, tree: KconfigTree) -> bool:
    return request.symbol in tree.definitions


def _unknown(symbol: str, tree: KconfigTree) -> str:
    like = difflib.get_close_matches(symbol, tree.definitions, n=1, cutoff=_ALIKE)
    meant = f" (is {like[0]} meant?)" if like else ""
    return f"this source has no symbol {symbol} for the architecture{meant}"


def _unmet(definition: Definition, config: Mapping[str, str]) -> list[str]:
    parts = [part for expression in definition.depends for part in conjuncts(expression)]
    return [part for part in dict.fromkeys(parts) if evaluate(part, config) is False]


def _forced(symbol: str, config: Mapping[str, str], tree: KconfigTree) -> str:
    """What switched on a symbol that was to be off."""
    selectors = [
        selector
        for selector, condition in tree.selects.get(symbol, [])
        if config.get(f"CONFIG_{selector}", "n") != "n"
        and (condition is None or evaluate(condition, config) is not False)
    ]
    if selectors:
        named = list(dict.fromkeys(selectors))
        more = f" and {len(named) - _MOST_NAMED} more" if len(named) > _MOST_NAMED else ""
        return f"selected by {', '.join(named[:_MOST_NAMED])}{more}"
    definition = tree.definitions[symbol][0]
    if definition.prompt is None:
        return f"no fragment can unset it: it is on by default [{definition.where}]"
    if evaluate(definition.prompt, config) is False:
        return f"it can be unset only where {definition.prompt} holds [{definition.where}]"
    return f"it is on by default [{definition.where}]"


def _state(expression: str, config: Mapping[str, str]) -> str:
    word = expression.strip("!() ")
    if not word.isidentifier():
        return "does not hold"
    return f"{word} is {config.get(f'CONFIG_{word}', 'n')}"
