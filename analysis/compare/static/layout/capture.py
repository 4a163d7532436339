"""What every layout claim asks of a capture, and why one cannot be made."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from analysis.capture.snapshot import Snapshot
from analysis.errors import MissingInputError
from analysis.model.layout import memory_model
from analysis.model.layout.eras_layout import LayoutEra, layout_eras_of
from analysis.model.layout.pfn import Span
from analysis.procfs import boot_layout
from analysis.procfs.boot_layout import BootLayout
from analysis.procfs.dmesg import Dmesg
from analysis.procfs.dmesg import parse as parse_dmesg

MEMORY_ROOT = "sys/devices/system/memory/"
FOUR_GIB = 1 << 32


class LayoutUnknownError(Exception):
    """The layout cannot be computed from what the capture has; the text says why."""


class LayoutInputError(LayoutUnknownError):
    """As that, since an input is not in the capture, or the kernel shows no such thing."""


@dataclass(slots=True)
class Way:
    """The steps from inputs to a prediction, a line each, as they are taken."""

    steps: list[str] = field(default_factory=list)

    def say(self, text: str) -> None:
        """Add a step."""
        self.steps.append(text)


def eras(snapshot: Snapshot) -> tuple[LayoutEra, ...]:
    """The layout rules that may be in force in the kernel of a capture, each once.

    What the kernel says of holes shows whether it has the later rule, whatever its release.
    """
    found: dict[LayoutEra, None] = {}
    for release in snapshot.releases:
        found.update(dict.fromkeys(layout_eras_of(release)))
    if snapshot.has("dmesg"):
        said = boot(snapshot)
        if said.unavailable or said.zeroed_holes:
            follow = bool(said.unavailable)
            return tuple({replace(era, holes_follow_memory=follow): None for era in found})
    return tuple(found)


def boot(snapshot: Snapshot) -> BootLayout:
    """What the kernel said while it booted; nothing where the messages end before it is all said.

    Raises:
        MissingInputError: the capture has no messages.
    """
    return snapshot.parsed("dmesg", _read_boot)


def _read_boot(text: str, *, source: str) -> BootLayout:
    log = parse_dmesg(text, source=source)
    return boot_layout.read(log if log.tells_layout else Dmesg(messages=()))


def options(snapshot: Snapshot) -> frozenset[str]:
    """The options that are built in.

    Raises:
        MissingInputError: the capture has no configuration.
    """
    return frozenset(name for name, value in snapshot.config.values.items() if value == "y")


def model_of(snapshot: Snapshot) -> str:
    """The memory model of the configuration.

    Raises:
        MissingInputError: the capture has no configuration, or none that names one.
    """
    try:
        return memory_model.memory_model(options(snapshot))
    except ValueError:
        raise MissingInputError("the memory model in config (cut short?)") from None


def hexes(spans: Sequence[Span]) -> str:
    """Ranges of bytes as a reader knows them from dmesg."""
    return ", ".join(f"{span.start:#x}-{span.end - 1:#x}" for span in spans)
