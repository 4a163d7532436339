"""``make bench``: every measurement as a table; ``python -m tests.bench NAME`` for one."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

from rich.console import Console
from rich.table import Table


def main() -> None:
    """Runs the benches named on the command line, or all."""
    here = Path(__file__).parent
    known = sorted(path.stem.removeprefix("bench_") for path in here.glob("bench_*.py"))
    wanted = sys.argv[1:] or known
    for name in wanted:
        if name not in known:
            sys.exit(f"no bench is called {name!r}; there are: {', '.join(known)}")
    for name in wanted:
        rows = importlib.import_module(f"tests.bench.bench_{name}").run()
        table = Table(title=name, title_justify="left")
        table.add_column("what")
        table.add_column("value", justify="right")
        table.add_column("unit")
        for what, value, unit in rows:
            table.add_row(what, f"{value:.3g}" if value < 1000 else f"{value:,.0f}", unit)
        Console().print(table)


if __name__ == "__main__":
    main()
