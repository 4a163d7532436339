"""A table of replayed runs, one line each, in Markdown: what the README shows.

``python -m analysis.report.replay_table RUN…`` prints it from the ``replay.json`` of each run.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from analysis.errors import BundleError

_HEAD = (
    "| kernel | machine | windows | events | lost | pages off | requests | exact pfn "
    "| worst window | ambiguous | given | lists in order |\n"
    "|---|---|---|---|---|---|---|---|---|---|---|---|"
)


def read_replay(path: Path) -> Mapping[str, Any]:
    """A run's ``replay.json``.

    Raises:
        BundleError: there is none, or it is none.
    """
    try:
        found = json.loads((path / "replay.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BundleError(f"{path}: {error}", fix=f"mmscope replay {path}") from None
    if not isinstance(found, dict) or not found.get("windows"):
        raise BundleError(f"{path}/replay.json: no windows", fix=f"mmscope replay {path}")
    return found


def table(replays: Iterable[Mapping[str, Any]]) -> str:
    """Markdown, a line for each run."""
    return "\n".join([_HEAD, *(_line(replay["windows"]) for replay in replays)])


def _line(windows: Sequence[Mapping[str, Any]]) -> str:
    first = windows[0]
    held = sum(window["verdict"] == "holds" for window in windows)
    predicted = [window for window in windows if window.get("prediction")]
    asked = sum(window["prediction"]["requests"] for window in predicted)
    exact = sum(window["prediction"]["exact"] for window in predicted)
    ambiguous = sum(window["ambiguous"] for window in predicted)
    unjudged = ambiguous + sum(window["prediction"]["turned"] for window in predicted)
    given = sum(window["prediction"]["given"] for window in predicted)
    worst = min(predicted, key=lambda window: float(window["pfn_match_pct"]), default=None)
    ordered = sum(bool(window["lists_in_order"]) for window in predicted)
    share = 100.0 * exact / (asked - unjudged) if asked > unjudged else 100.0
    cells = (
        first["kernel"],
        f"{first['arch']}, {_some(first['cpus'], 'CPU')}, {_some(first['nodes'], 'node')}",
        f"{held} of {len(windows)} exact",
        f"{_sum(windows, 'events'):,}",
        f"{_sum(windows, 'lost'):,}",
        f"{_sum(windows, 'pages_differing'):,}",
        f"{asked:,}",
        _percent(share),
        f"{worst['name']} {_percent(worst['pfn_match_pct'])}" if worst else "-",
        f"{ambiguous:,}",
        f"{given:,}",
        f"{ordered} of {len(predicted)}",
    )
    return "| " + " | ".join(cells) + " |"


def _sum(windows: Sequence[Mapping[str, Any]], name: str) -> int:
    return sum(window[name] or 0 for window in windows)


def _some(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def _percent(share: float) -> str:
    """Never rounded up to a hundred."""
    return "100 %" if share == 100.0 else f"{int(share * 1000) / 1000:.3f} %"


def main() -> None:
    """Prints the table of the runs named on the command line."""
    sys.stdout.write(table(read_replay(Path(path)) for path in sys.argv[1:]) + "\n")


if __name__ == "__main__":
    main()
