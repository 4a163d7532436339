"""The kernel's own text of events, rendered from decoded fields by the kernel's own recipe.

A format file ends with the C format and the C expressions by which the kernel prints the event.
Evaluating these over decoded fields must give the very text that the kernel printed of the same
event, which makes that text an oracle for every field it shows.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

LINE = re.compile(
    r"^ *(?P<comm>.+)-(?P<pid>\d+) +\[(?P<cpu>\d+)\] (?P<context>\S{5}) +(?P<counter>\d+): "
    r"(?P<text>.*)$"
)

_TOKEN = re.compile(
    r"\s*(?:(?P<number>0[xX][0-9a-fA-F]+|\d+)(?:[uUlL]*)"
    r'|(?P<string>"(?:[^"\\]|\\.)*")|(?P<char>\'.\')'
    r"|(?P<name>[A-Za-z_]\w*)|(?P<sign>->|<<|>>|<=|>=|==|!=|&&|\|\||[-+*/%&|^~!<>?:,(){}\[\]]))"
)
_LEVELS = (
    ("||",),
    ("&&",),
    ("|",),
    ("^",),
    ("&",),
    ("==", "!="),
    ("<", ">", "<=", ">="),
    ("<<", ">>"),
    ("+", "-"),
    ("*", "/", "%"),
)
_PAGE = '"page=%p '
_TYPE_WORDS = frozenset(
    (
        *("unsigned", "signed", "long", "int", "short", "char", "void", "const", "struct"),
        *("enum", "u8", "u16", "u32", "u64", "s8", "s16", "s32", "s64", "__u64", "bool"),
        *("gfp_t", "page", "isolate_mode_t", "pid_t", "size_t"),
    )
)
_PRINTF = re.compile(r"%([-0 #+]*)(\d*)(hh|h|ll|L|l|z)?([diuxXcsp%])(?:[SsF])?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Printed:
    """One line of tracefs' ``trace``."""

    pid: int
    cpu: int
    context: str
    """irqs-off, need-resched, hard or soft irq, preempt depth, migrate-disable."""
    counter: int
    text: str


def parse_trace(text: str) -> Iterator[Printed]:
    """The events of a ``trace`` file, in the order in which it has them."""
    for line in text.splitlines():
        if line.startswith("#") or not line:
            continue
        match = LINE.match(line)
        assert match is not None, line
        yield Printed(
            pid=int(match["pid"]),
            cpu=int(match["cpu"]),
            context=match["context"],
            counter=int(match["counter"]),
            text=match["text"],
        )


def context(flags: int, preempt_count: int) -> str:
    """What the kernel prints of the common fields (trace_print_lat_fmt of trace_output.c).

    The lazy kind of rescheduling (bit 1) came with 6.13; on older kernels of these architectures
    the bit is never set.
    """
    irqs = {0x01: "d", 0x81: "D", 0x80: "b"}.get(flags & 0x81, ".")
    resched = {
        0x24: "N",
        0x04: "n",
        0x20: "p",
        0x26: "B",
        0x22: "L",
        0x06: "b",
        0x02: "l",
    }.get(flags & 0x26, ".")
    kind = {0x08: "h", 0x10: "s", 0x18: "H"}.get(flags & 0x18, ".")
    depth, migrate = preempt_count & 15, preempt_count >> 4
    return (
        irqs
        + resched
        + kind
        + (f"{depth:x}" if depth else ".")
        + (f"{migrate:x}" if migrate else ".")
    )


def render(print_fmt: str, record: Mapping[str, Any]) -> str:
    """What the kernel prints behind the event's name.

    An address of a page structure at the front is left out: it is printed as a hash.
    """
    tokens = list(_tokens(print_fmt))
    assert tokens[0][0] == "string"
    if tokens[0][1].startswith(_PAGE):
        tokens[0] = ("string", '"' + tokens[0][1].removeprefix(_PAGE))
        del tokens[1 : _end_of_argument(tokens, 2)]
    parser = _Parser(tokens[1:], record)
    values = []
    while parser.accept(","):
        values.append(parser.ternary())
    assert parser.done(), print_fmt
    return _printf(_unquote(tokens[0][1]), values)


def _end_of_argument(tokens: list[tuple[str, str]], place: int) -> int:
    depth = 0
    while depth or tokens[place] != ("sign", ","):
        depth += {"(": 1, "{": 1, ")": -1, "}": -1}.get(tokens[place][1], 0)
        place += 1
    return place


def _tokens(text: str) -> Iterator[tuple[str, str]]:
    place = 0
    text = text.rstrip()
    while place < len(text):
        match = _TOKEN.match(text, place)
        assert match is not None, text[place : place + 40]
        assert match.lastgroup is not None
        yield match.lastgroup, match[match.lastgroup]
        place = match.end()


def _unquote(quoted: str) -> str:
    return quoted[1:-1].replace('\\"', '"').replace("\\n", "\n")


def _printf(template: str, values: list[Any]) -> str:
    left = iter(values)

    def put(match: re.Match[str]) -> str:
        flags, width, length, kind = match.groups()
        if kind == "%":
            return "%"
        value = next(left)
        if kind in "sc":
            return str(f"%{flags}{width}{kind}" % value)
        bits = 64 if length in ("l", "ll", "L", "z") or kind == "p" else 32
        if length == "hh":
            bits = 8
        value &= (1 << bits) - 1
        if kind in "di":
            value -= (value >> (bits - 1)) << bits
            kind = "d"
        if kind == "p":
            flags, kind = "#", "x"
        return str(f"%{flags}{width}{'d' if kind == 'u' else kind}" % value)

    text = _PRINTF.sub(put, template)
    assert next(left, None) is None
    return text


class _Parser:
    """Evaluates the C expressions that occur in print formats."""

    def __init__(self, tokens: list[tuple[str, str]], record: Mapping[str, Any]) -> None:
        self._tokens = tokens
        self._record = record
        self._place = 0

    def done(self) -> bool:
        return self._place == len(self._tokens)

    def accept(self, sign: str) -> bool:
        if not self.done() and self._tokens[self._place] == ("sign", sign):
            self._place += 1
            return True
        return False

    def ternary(self) -> Any:
        condition = self._binary(0)
        if not self.accept("?"):
            return condition
        yes = self.ternary()
        self._expect(":")
        no = self.ternary()
        return yes if condition else no

    def _binary(self, level: int) -> Any:
        if level == len(_LEVELS):
            return self._unary()
        value = self._binary(level + 1)
        while not self.done() and self._tokens[self._place] in (
            ("sign", sign) for sign in _LEVELS[level]
        ):
            sign = self._tokens[self._place][1]
            self._place += 1
            value = _apply(sign, value, self._binary(level + 1))
        return value

    def _unary(self) -> Any:
        if self.accept("-"):
            # An unsigned value as in every print format that has one: -1UL.
            return -self._unary() & (1 << 64) - 1
        if self.accept("~"):
            return ~self._unary()
        if self.accept("!"):
            return not self._unary()
        if self._at_cast():
            while not self.accept(")"):
                self._place += 1
            return self._unary()
        return self._primary()

    def _at_cast(self) -> bool:
        if self.done() or self._tokens[self._place] != ("sign", "("):
            return False
        for kind, text in self._tokens[self._place + 1 :]:
            if (kind, text) == ("sign", ")"):
                return True
            if not (text == "*" or (kind == "name" and text in _TYPE_WORDS)):
                return False
        return False

    def _primary(self) -> Any:
        kind, text = self._tokens[self._place]
        self._place += 1
        if kind == "number":
            return int(text, 0)
        if kind == "string":
            joined = _unquote(text)
            while not self.done() and self._tokens[self._place][0] == "string":
                joined += _unquote(self._tokens[self._place][1])
                self._place += 1
            return joined
        if kind == "char":
            return text[1:-1]
        if (kind, text) == ("sign", "("):
            value = self.ternary()
            self._expect(")")
            return value
        assert kind == "name", text
        if text == "REC":
            self._expect("->")
            value = self._record[self._name()]
            if self.accept("["):
                value = value[self.ternary()]
                self._expect("]")
            return value
        if text in ("__print_flags", "__print_symbolic"):
            return self._names(flags=text == "__print_flags")
        if text == "__get_str":
            self._expect("(")
            value = self._record[self._name()]
            self._expect(")")
            return value
        raise AssertionError(f"{text} in a print format")

    def _names(self, *, flags: bool) -> str:
        self._expect("(")
        value = self.ternary()
        delimiter = ""
        if flags:
            self._expect(",")
            delimiter = self.ternary()
        table: list[tuple[int, str]] = []
        while self.accept(","):
            self._expect("{")
            mask = self.ternary()
            self._expect(",")
            table.append((mask, self.ternary()))
            self._expect("}")
        self._expect(")")
        if not flags:
            return next((name for known, name in table if known == value), hex(value))
        names = []
        for mask, name in table:
            if value & mask == mask and mask & (1 << 64) - 1:
                names.append(name)
                value &= ~mask
        return delimiter.join([*names, *([hex(value)] if value else [])])

    def _name(self) -> str:
        kind, text = self._tokens[self._place]
        assert kind == "name", text
        self._place += 1
        return text

    def _expect(self, sign: str) -> None:
        assert self.accept(sign), (sign, self._tokens[self._place : self._place + 3])


def _apply(sign: str, left: Any, right: Any) -> Any:
    match sign:
        case "||":
            return bool(left) or bool(right)
        case "&&":
            return bool(left) and bool(right)
        case "|":
            return left | right
        case "^":
            return left ^ right
        case "&":
            return left & right
        case "==":
            return left == right
        case "!=":
            return left != right
        case "<":
            return left < right
        case ">":
            return left > right
        case "<=":
            return left <= right
        case ">=":
            return left >= right
        case "<<":
            return left << right
        case ">>":
            return left >> right
        case "+":
            return left + right
        case "-":
            return left - right
        case "*":
            return left * right
        case "/":
            return left // right
    return left % right
