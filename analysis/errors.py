"""Every error of the analysis, in one tree.

::

    AnalysisError
    ├── ParseError (also a ValueError)   a text is not what that kernel file prints   (exit 3)
    ├── BundleError                      a run directory cannot be used               (exit 3)
    ├── CaptureError                     a capture of /proc cannot be used            (exit 3)
    ├── MissingInputError                a capture lacks a file that a rule needs     (exit 3)
    │   └── MissingFieldError (also a KeyError)   a file lacks a field                (exit 3)
    ├── TableError                       a table cannot be written or read back       (exit 3)
    └── SelectionError                   what is asked for cannot be compared         (exit 2)

They have the shape of the harness' errors (``message``, ``fix``, ``details``, ``exit_code``,
``render()``), so that one handler in the command shows both.
"""

from __future__ import annotations

from collections.abc import Mapping

_SHOWN_CHARACTERS = 120


class AnalysisError(Exception):
    """What went wrong, what is known about it, and how to mend it."""

    exit_code = 3

    def __init__(
        self,
        message: str,
        *,
        fix: str | None = None,
        details: Mapping[str, object] | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.fix = fix
        self.details: dict[str, str] = {k: str(v) for k, v in (details or {}).items()}

    def render(self) -> str:
        """The whole error as plain text, message first and remedy last."""
        lines = [self.message]
        for name, text in self.details.items():
            if "\n" in text:
                lines.append(f"  {name}:")
                lines.extend(f"    {line}" for line in text.splitlines())
            else:
                lines.append(f"  {name}: {text}")
        if self.fix:
            lines.append(f"  fix: {self.fix}")
        return "\n".join(lines)


class ParseError(AnalysisError, ValueError):
    """A text breaks the grammar of its file.

    ``source`` names the file, ``line`` counts from 1 (0: the text as a whole), ``text`` is
    that line, ``expected`` says what should stand there, ``release`` is the kernel's, if known.
    """

    def __init__(
        self, source: str, line: int, text: str, expected: str, *, release: str | None = None
    ) -> None:
        where = f"{source}:{line}" if line else source
        kernel = f" (kernel {release})" if release else ""
        shown = text if len(text) <= _SHOWN_CHARACTERS else text[:_SHOWN_CHARACTERS] + "…"
        super().__init__(
            f"{where}: expected {expected}, found {shown!r}{kernel}",
            fix="report the line with the kernel release if the kernel really printed it",
        )
        self.source = source
        self.line = line
        self.text = text
        self.expected = expected
        self.release = release

    def at(self, source: str, release: str | None) -> ParseError:
        """The same error with a fuller name of the file and the kernel's release."""
        return ParseError(source, self.line, self.text, self.expected, release=release)


class BundleError(AnalysisError):
    """A run directory is not one, lacks what is asked of it, or is damaged beyond use."""


class CaptureError(AnalysisError):
    """A directory or archive is not a capture of /proc, or cannot be read."""


class MissingInputError(AnalysisError):
    """A capture lacks what a rule needs; ``name`` is the file, or what it should have said."""

    def __init__(self, name: str) -> None:
        super().__init__(f"the capture lacks {name}", fix="take a new one with `mmscope capture`")
        self.name = name


class MissingFieldError(MissingInputError, KeyError):
    """A file that is there lacks a field: another release prints it, or the file was cut."""


class TableError(AnalysisError):
    """A table cannot be written, read back, or is not of the declared shape."""


class SelectionError(AnalysisError):
    """What a person asked for is not there, or cannot be held against each other."""

    exit_code = 2
