"""Where each probe lands on the stock kernels, line by line as written to kprobe_events.

After a deliberate change run ``pytest tests/golden --update-golden`` and read the diff.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.sampling.trace.probes import GROUPS
from harness.sampling.trace.symbols import parse_release, parse_symbols, plan_probes, probes_of

HERE = Path(__file__).parent
KALLSYMS = HERE.parent / "fixtures" / "kallsyms"
RELEASES = sorted(path.stem for path in KALLSYMS.glob("*.txt"))


def test_every_kernel_that_is_supported_is_here() -> None:
    assert len(RELEASES) == 8
    assert {parse_release(name) for name in RELEASES} == {(6, 1), (6, 12), (7, 2), (7, 3)}


@pytest.mark.parametrize("release", RELEASES)
def test_probes_are_as_recorded(release: str, request: pytest.FixtureRequest) -> None:
    symbols = parse_symbols((KALLSYMS / f"{release}.txt").read_text())
    planned = plan_probes(probes_of(GROUPS), symbols, parse_release(release))
    lines = [probe.definition or f"{probe.name}: no {probe.function}" for probe in planned]
    text = "\n".join(lines) + "\n"
    path = HERE / f"trace-probes-{release}.txt"
    if request.config.getoption("--update-golden"):
        path.write_text(text)
    assert text == path.read_text()
