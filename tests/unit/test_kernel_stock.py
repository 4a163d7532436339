"""The stock kernels that the catalogue names."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.errors import InfrastructureError
from harness.kernel.catalog import CATALOG_PATH, known_suites
from harness.kernel.stock import stock_kernels


def test_the_zoo_of_the_catalogue() -> None:
    zoo = stock_kernels()
    assert len({(spec.name, spec.arch) for spec in zoo}) == len(zoo)
    assert {spec.suite for spec in zoo} <= set(known_suites())
    named = {(spec.arch, spec.name) for spec in zoo}
    for suite in ("bullseye", "bookworm", "bookworm-backports", "sid"):
        assert {("x86_64", suite), ("arm64", suite), ("x86_64", f"{suite}/rt-amd64")} <= named
    assert {("i386", "bookworm"), ("i386", "bookworm/686")} <= named
    assert ("arm64", "bookworm-backports/arm64-16k") in named


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ('[suites.sid]\nzoo.vax = ["vax"]', "suites.sid.zoo: unknown architecture 'vax'"),
        ('[suites.sid]\nzoo.arm64 = "arm64"', "suites.sid.zoo.arm64 must be a list of flavours"),
        ("[suites.sid]\nzoo = 1", "not a kernel catalog"),
        ("suites = [", "not a kernel catalog"),
    ],
)
def test_what_has_no_meaning_is_named(tmp_path: Path, text: str, complaint: str) -> None:
    path = tmp_path / "catalog.toml"
    path.write_text(text)
    with pytest.raises(InfrastructureError) as caught:
        stock_kernels(path)
    assert complaint in caught.value.message
    assert str(path) in caught.value.message


def test_a_suite_need_not_name_any(tmp_path: Path) -> None:
    path = tmp_path / "catalog.toml"
    path.write_text("[suites.trixie]\nlinux = '6.12'\n")
    assert stock_kernels(path) == []


def test_the_readme_has_the_same_zoo() -> None:
    text = (CATALOG_PATH.parent / "README.md").read_text()
    table = text.partition("| suite | Linux | ")[2].partition("\n\n")[0].splitlines()
    arches = [cell.strip() for cell in table[0].split("|") if cell.strip()]
    told = {
        (cells[0], arch, flavour)
        for cells in ([cell.strip() for cell in line.split("|")[1:-1]] for line in table[2:])
        for arch, flavours in zip(arches, cells[2:], strict=True)
        for flavour in flavours.split(", ")
        if flavour
    }
    assert told == {(spec.suite, spec.arch, spec.flavour) for spec in stock_kernels()}
