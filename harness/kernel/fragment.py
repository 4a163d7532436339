"""Fragments of a kernel configuration, and what a configuration asks for when they are joined.

A fragment is written like a ``.config``: ``CONFIG_X=value``, and ``CONFIG_X=n`` or ``# CONFIG_X is
not set`` for a symbol that is to be off. Lines of their own that begin with ``#`` give the reason.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.errors import InfrastructureError

FRAGMENTS_DIRECTORY = Path(__file__).parents[2] / "kernel-configs" / "fragments"

_ASSIGNED = re.compile(r"CONFIG_(\w+)=(y|m|n|-?\d+|0x[0-9a-fA-F]+|\"(?:[^\"\\]|\\.)*\")")
_UNSET = re.compile(r"# CONFIG_(\w+) is not set")


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One symbol that a fragment sets."""

    symbol: str
    """Without its ``CONFIG_``."""
    value: str
    """As a .config has it, with the quotes of a string; ``n`` for a symbol that is to be off."""
    where: str
    """``fragment:line``."""

    @property
    def line(self) -> str:
        """The line that Kconfig reads."""
        if self.value == "n":
            return f"# CONFIG_{self.symbol} is not set"
        return f"CONFIG_{self.symbol}={self.value}"


def parse_fragment(text: str, source: str) -> list[Request]:
    """The symbols that a fragment sets, in its order.

    Raises:
        InfrastructureError: a line is no assignment, or a symbol is set twice.
    """
    requests: dict[str, Request] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        stripped = line.strip()
        match = _ASSIGNED.fullmatch(stripped) or _UNSET.fullmatch(stripped)
        where = f"{source}:{number}"
        if match is None:
            if stripped and not stripped.startswith("#"):
                raise InfrastructureError(
                    f"{where}: not a line of a kernel configuration: {line!r}",
                    fix="write CONFIG_SYMBOL=value, one a line, and remarks on lines of their own",
                )
            continue
        value = match[2] if match.re is _ASSIGNED else "n"
        request = Request(symbol=match[1], value=value, where=where)
        if (earlier := requests.get(request.symbol)) is not None:
            raise InfrastructureError(
                f"{where}: CONFIG_{request.symbol} is set a second time ({earlier.where})",
                fix="remove one of the two",
            )
        requests[request.symbol] = request
    return list(requests.values())


def join(fragments: Iterable[Sequence[Request]]) -> list[Request]:
    """What the fragments ask for together; of two that set one symbol the later wins.

    The members of a choice are not known here: a fragment that takes another member than an
    earlier one is expected to switch that one off, which Kconfig does by itself.
    """
    joined: dict[str, Request] = {}
    for fragment in fragments:
        for request in fragment:
            joined.pop(request.symbol, None)
            joined[request.symbol] = request
    return list(joined.values())


def render_requests(requests: Iterable[Request]) -> str:
    """The text for Kconfig."""
    return "".join(f"{request.line}\n" for request in requests)


def fragment_paths(names: Iterable[str], arch: str, *directories: Path) -> list[Path]:
    """The files of fragments: ``NAME.config``, and after it ``NAME.ARCH.config`` if there is one.

    Of several directories (none: ours), the first that has a fragment of the name counts.

    Raises:
        InfrastructureError: a fragment has no file for this architecture at all.
    """
    paths = []
    places = directories or (FRAGMENTS_DIRECTORY,)
    for name in names:
        for directory in places:
            both = (directory / f"{name}.config", directory / f"{name}.{arch}.config")
            if found := [path for path in both if path.is_file()]:
                paths += found
                break
        else:
            raise InfrastructureError(
                f"there is no fragment {name!r} for {arch} in {' or '.join(map(str, places))}",
                fix=f"write {places[0] / f'{name}.config'}, or correct the name in the catalogue",
            )
    return paths


def read_fragments(paths: Iterable[Path]) -> list[Request]:
    """What the files ask for together."""
    return join(parse_fragment(path.read_text(encoding="utf-8"), path.name) for path in paths)


def holds(request: Request, config: Mapping[str, str]) -> bool:
    """Whether a final configuration (``parse_kconfig``) has what was asked for."""
    wanted = request.value.strip('"')
    return config.get(f"CONFIG_{request.symbol}", "n") == wanted
