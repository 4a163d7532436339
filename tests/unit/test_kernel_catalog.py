from __future__ import annotations

from pathlib import Path

import pytest

from harness.errors import InfrastructureError, UsageError
from harness.kernel.catalog import KernelSpec, known_suites, list_cached, parse_spec

SUITES = ("bookworm", "bookworm-backports", "sid")


def _parse(spec: str | None, arch: str = "x86_64") -> KernelSpec:
    return parse_spec(spec, arch, host_suite="forky", suites=SUITES, cached=())


@pytest.mark.parametrize(
    ("spec", "arch", "suite", "package", "name"),
    [
        (None, "x86_64", "forky", "linux-image-amd64", "forky"),
        (None, "arm64", "forky", "linux-image-arm64", "forky"),
        ("sid", "arm64", "sid", "linux-image-arm64", "sid"),
        ("bookworm/rt-amd64", "x86_64", "bookworm", "linux-image-rt-amd64", "bookworm/rt-amd64"),
        ("bookworm/amd64", "x86_64", "bookworm", "linux-image-amd64", "bookworm"),
        ("forky", "x86_64", "forky", "linux-image-amd64", "forky"),
    ],
)
def test_what_a_spec_means(
    spec: str | None, arch: str, suite: str, package: str, name: str
) -> None:
    parsed = _parse(spec, arch)
    assert (parsed.suite, parsed.package, parsed.name) == (suite, package, name)


def test_the_catalog_file_is_read() -> None:
    suites = known_suites()
    assert {"bookworm", "bookworm-backports", "trixie", "sid"} <= set(suites)


@pytest.mark.parametrize("text", ["", "suites = 1", "[suites", "[other]"])
def test_a_broken_catalog_is_named(tmp_path: Path, text: str) -> None:
    path = tmp_path / "catalog.toml"
    path.write_text(text)
    with pytest.raises(InfrastructureError, match=r"catalog\.toml"):
        known_suites(path)


@pytest.mark.parametrize("spec", ["bookworm/", "bookworm/A", "bookworm/a b", "bookworm/../x"])
def test_odd_flavours(spec: str) -> None:
    with pytest.raises(UsageError, match="not a kernel flavour"):
        _parse(spec)


def test_an_empty_cache(tmp_path: Path) -> None:
    assert list_cached(tmp_path) == []
    with pytest.raises(UsageError, match="mips"):
        list_cached(tmp_path, "mips")
