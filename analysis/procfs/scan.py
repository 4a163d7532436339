"""Lines and numbers of a kernel text: the ground all parsers stand on."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from analysis.errors import MissingFieldError, ParseError

NUMBER = "([0-9]{1,20})"
"""What the kernel's %lu prints, as a regular expression group: 64 bits have 20 digits at most."""

ZONE_ROW = re.compile(rf"Node +{NUMBER}, zone +([^\s,]+)(?: |$)")
"""The head of a line about one zone; node in group 1, zone in group 2."""

_NUMBER = re.compile(NUMBER)
_TOKEN = re.compile(r"\S+")
_DIGITS = re.compile("[0-9]+")


class Fields(dict[str, int]):
    """Name → number as a file prints them; who asks for one that it does not print learns which
    file that is.

    Raises:
        MissingFieldError: on ``fields[name]``; ``in`` and ``get`` work as in any mapping.
    """

    __slots__ = ("source",)

    def __init__(self, source: str) -> None:
        super().__init__()
        self.source = source

    def __missing__(self, name: str) -> int:
        raise MissingFieldError(f"{name} of {self.source}")


@dataclass(frozen=True, slots=True)
class Line:
    """One line: its number from 1, its text without the newline, its offset in the whole."""

    number: int
    text: str
    offset: int


class Reader:
    """A text cut into lines, and the only way its parsers turn digits into values.

    Labels (node, order, cpu) a parser may read as it likes; values go through ``value`` and
    ``values``, which a ``SlotReader`` answers with places instead of numbers.

    Raises:
        ParseError: the text is empty, or ends inside a line: the kernel never prints either.
    """

    def __init__(self, text: str, source: str) -> None:
        self.source = source
        if not text:
            raise ParseError(source, 0, "", "text, but the file is empty")
        pieces = text.split("\n")
        if pieces.pop() != "":
            raise ParseError(
                source, len(pieces) + 1, text[text.rfind("\n") + 1 :], "a whole line (cut short?)"
            )
        self.lines: list[Line] = []
        offset = 0
        for number, piece in enumerate(pieces, 1):
            self.lines.append(Line(number, piece, offset))
            offset += len(piece) + 1

    def __iter__(self) -> Iterator[Line]:
        return iter(self.lines)

    def value(self, line: Line, match: re.Match[str], group: int) -> int:
        """The number that ``group`` of ``match`` on ``line.text`` holds."""
        return self._number(line.offset + match.start(group), match[group])

    def values(self, line: Line, start: int) -> tuple[int, ...]:
        """All numbers from column ``start`` to the end, at least one, blanks between them."""
        numbers = []
        for token in _TOKEN.finditer(line.text, start):
            if _NUMBER.fullmatch(token[0]) is None:
                raise self.error(line, f"a number instead of {token[0]!r}")
            numbers.append(self._number(line.offset + token.start(), token[0]))
        if not numbers:
            raise self.error(line, "numbers at the end")
        return tuple(numbers)

    def error(self, line: Line, expected: str) -> ParseError:
        return ParseError(self.source, line.number, line.text, expected)

    def missing(self, expected: str) -> ParseError:
        """The error of a text that ends too early."""
        last = self.lines[-1]
        return ParseError(self.source, last.number, last.text, f"{expected} after this line")

    def _number(self, offset: int, digits: str) -> int:
        del offset
        return int(digits)


class SlotReader(Reader):
    """Answers where a value stands instead of what it is.

    A record read through this reader has, in place of each number, the index of its run of
    digits among all runs of digits in the text. So one grammar serves both to read a text and
    to learn where the next text of the same shape keeps its numbers.
    """

    def __init__(self, text: str, source: str) -> None:
        super().__init__(text, source)
        self._runs = {run.start(): index for index, run in enumerate(_DIGITS.finditer(text))}
        self._labels = dict.fromkeys(self._runs.values())

    def label_runs(self) -> list[int]:
        """Indexes of the runs of digits that were not read as values: parts of names."""
        return list(self._labels)

    def _number(self, offset: int, digits: str) -> int:
        del digits
        index = self._runs[offset]
        self._labels.pop(index, None)
        return index
