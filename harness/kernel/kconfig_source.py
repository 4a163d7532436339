"""The Kconfig files of a source tree: which symbols there are, and what each depends on.

Only as much of the language is read as it takes to say why a symbol did not come out as it was
asked for; ``make`` decides, this explains.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from harness.errors import BuildError

SRCARCH: Mapping[str, str] = {"x86_64": "x86", "i386": "x86", "arm64": "arm64", "m68k": "m68k"}
"""Our name of an architecture → its directory in the source."""

_SYMBOL = re.compile(r"(?:menu)?config\s+(\w+)$")
_TYPED = re.compile(r"(?:bool|tristate|string|int|hex)(?:\s+(?P<prompt>\".*))?$")
_PROMPT = re.compile(r"prompt\s+(?P<prompt>\".*)$")
_CONDITION = re.compile(r"\sif\s+(?P<condition>[^\"]+)$")
_SOURCE = re.compile(r"(?P<kind>o?r?source)\s+\"?(?P<path>[^\"\s]+)\"?$")
_SELECT = re.compile(r"(?:select|imply)\s+(\w+)(?:\s+if\s+(.*))?$")
_TOKEN = re.compile(r"\s*(\(|\)|&&|\|\||!=|=|!|<=|>=|<|>|\"[^\"]*\"|'[^']*'|\$\([^()]*\)|[\w.-]+)")


@dataclass(slots=True, kw_only=True)
class Definition:
    """One place that defines a symbol (or a choice)."""

    symbol: str
    where: str
    depends: list[str]
    """Expressions that must all hold, the enclosing menus' and ifs' first."""
    prompt: str | None = None
    """The condition under which a person is asked; None if never."""
    choice: int | None = None
    """Number of the choice that it is a member of."""


@dataclass(slots=True, kw_only=True)
class KconfigTree:
    """All definitions, and who selects whom."""

    definitions: dict[str, list[Definition]] = field(default_factory=dict)
    selects: dict[str, list[tuple[str, str | None]]] = field(default_factory=dict)
    """Selected symbol → (selecting symbol, condition)."""

    def choice_of(self, number: int) -> list[str]:
        """The members of a choice."""
        return [
            symbol
            for symbol, definitions in self.definitions.items()
            if any(definition.choice == number for definition in definitions)
        ]


def read_tree(root: Path, arch: str) -> KconfigTree:
    """Read ``Kconfig`` below ``root`` and everything that it sources for ``arch``.

    Raises:
        BuildError: the top file is not there.
    """
    if not (root / "Kconfig").is_file():
        raise BuildError(f"{root} has no Kconfig: not the source of a kernel")
    tree = KconfigTree()
    _Reader(root, SRCARCH[arch], tree).read("Kconfig", [], None)
    return tree


class _Reader:
    def __init__(self, root: Path, srcarch: str, tree: KconfigTree) -> None:
        self._root, self._srcarch, self._tree = root, srcarch, tree
        self._choices = 0

    def read(self, name: str, outer: list[str], choice: int | None) -> None:
        """One file, inside of blocks whose conditions are ``outer``."""
        path = self._root / name
        if not path.is_file():
            return
        # What is open: the conditions of each block and the choice that it belongs to.
        blocks: list[tuple[list[str], int | None]] = [(list(outer), choice)]
        current: Definition | None = None
        helping: int | None = None
        for number, line, indent in _lines(path):
            if helping is not None:
                # A help text lasts as long as it is indented like its first line, or deeper.
                if helping == 0:
                    helping = indent
                if indent >= helping and indent > 0:
                    continue
                helping = None
            if line in {"help", "---help---"}:
                helping = 0
                continue
            conditions, inside = blocks[-1]
            if match := _SYMBOL.match(line):
                current = Definition(
                    symbol=match[1],
                    where=f"{name}:{number}",
                    depends=list(conditions),
                    choice=inside,
                )
                self._tree.definitions.setdefault(match[1], []).append(current)
            elif line.startswith("if "):
                blocks.append(([*conditions, line[3:].strip()], inside))
                current = None
            elif line.startswith(("menu ", "menu\t")):
                blocks.append((list(conditions), inside))
                current = None
            elif line == "choice" or line.startswith("choice "):
                self._choices += 1
                blocks.append((list(conditions), self._choices))
                current = None
            elif line.startswith(("endif", "endmenu", "endchoice")):
                if len(blocks) > 1:
                    blocks.pop()
                current = None
            elif match := _SOURCE.match(line):
                self._source(match["path"], match["kind"], name, conditions, inside)
                current = None
            elif line.startswith("comment "):
                current = Definition(symbol="", where="", depends=[])
            elif line.startswith("depends on "):
                expression = line.removeprefix("depends on ").strip()
                (current.depends if current is not None else conditions).append(expression)
            elif current is not None and current.symbol:
                self._attribute(current, line)

    def _attribute(self, current: Definition, line: str) -> None:
        if match := _SELECT.match(line):
            self._tree.selects.setdefault(match[1], []).append((current.symbol, match[2]))
        elif (match := _TYPED.match(line) or _PROMPT.match(line)) and match["prompt"]:
            condition = _CONDITION.search(match["prompt"])
            current.prompt = condition["condition"].strip() if condition else "y"

    def _source(
        self, path: str, kind: str, name: str, conditions: list[str], choice: int | None
    ) -> None:
        path = path.replace("$(SRCARCH)", self._srcarch).replace("$SRCARCH", self._srcarch)
        if "$" in path:
            return
        base = Path(name).parent if kind in {"rsource", "orsource"} else Path()
        found = sorted(self._root.glob(str(base / path))) if "*" in path else []
        names = [str(each.relative_to(self._root)) for each in found] or [str(base / path)]
        for each in names:
            self.read(each, conditions, choice)


def _lines(path: Path) -> Iterator[tuple[int, str, int]]:
    """Number, text and indent of each line that says something; continued lines are joined."""
    pending, start, indent = "", 0, 0
    for number, raw in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        expanded = raw.expandtabs()
        if not pending:
            start, indent = number, len(expanded) - len(expanded.lstrip())
        text = f"{pending} {expanded.strip()}".strip()
        if text.endswith("\\"):
            pending = text[:-1].strip()
            continue
        pending = ""
        bare = re.sub(r"(?:^|\s)#(?!\").*$", "", text).strip() if "#" in text else text
        if bare:
            yield start, bare, indent


def conjuncts(expression: str) -> list[str]:
    """The parts of an expression that must all hold: ``A && (B || C)`` → ``A``, ``B || C``."""
    parts, depth, start = [], 0, 0
    for match in re.finditer(r"\(|\)|&&|\|\|", expression):
        if match[0] == "(":
            depth += 1
        elif match[0] == ")":
            depth -= 1
        elif depth == 0 and match[0] == "||":
            return [expression.strip()]
        elif depth == 0:
            parts.append(expression[start : match.start()])
            start = match.end()
    parts.append(expression[start:])
    return [part.strip() for part in parts if part.strip()]


def evaluate(expression: str, config: Mapping[str, str]) -> bool | None:
    """Whether an expression holds in a configuration; None where it asks the compiler."""
    try:
        tokens = [match[1] for match in _TOKEN.finditer(expression)]
        value, rest = _either(tokens, config)
    except IndexError:
        return None
    return value if not rest else None


def _either(tokens: list[str], config: Mapping[str, str]) -> tuple[bool | None, list[str]]:
    value, tokens = _both(tokens, config)
    while tokens and tokens[0] == "||":
        other, tokens = _both(tokens[1:], config)
        value = True if True in (value, other) else (None if None in (value, other) else False)
    return value, tokens


def _both(tokens: list[str], config: Mapping[str, str]) -> tuple[bool | None, list[str]]:
    value, tokens = _term(tokens, config)
    while tokens and tokens[0] == "&&":
        other, tokens = _term(tokens[1:], config)
        value = False if False in (value, other) else (None if None in (value, other) else True)
    return value, tokens


def _term(tokens: list[str], config: Mapping[str, str]) -> tuple[bool | None, list[str]]:
    head, tokens = tokens[0], tokens[1:]
    if head == "!":
        value, tokens = _term(tokens, config)
        return (None if value is None else not value), tokens
    if head == "(":
        value, tokens = _either(tokens, config)
        return value, tokens[1:]
    if tokens and tokens[0] in {"=", "!="}:
        equal = _value(head, config) == _value(tokens[1], config)
        return equal is (tokens[0] == "="), tokens[2:]
    if tokens and tokens[0] in {"<", ">", "<=", ">="}:
        return None, tokens[2:]
    if head.startswith("$"):
        return None, tokens
    return _value(head, config) in {"y", "m"}, tokens


def _value(word: str, config: Mapping[str, str]) -> str:
    if word[0] in "\"'":
        return word[1:-1]
    if word in {"y", "m", "n"} or word.isdigit():
        return word
    return config.get(f"CONFIG_{word}", "n")
