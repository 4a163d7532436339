from __future__ import annotations

from pathlib import Path

import pytest

from harness.errors import InfrastructureError, UsageError
from harness.kernel.catalog import (
    KernelSpec,
    known_suites,
    list_cached,
    parse_spec,
    releases_like,
)

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
        ("bookworm", "i386", "bookworm", "linux-image-686-pae", "bookworm"),
        ("bookworm/686-pae", "i386", "bookworm", "linux-image-686-pae", "bookworm"),
        ("bookworm/686", "i386", "bookworm", "linux-image-686", "bookworm/686"),
    ],
)
def test_what_a_spec_means(
    spec: str | None, arch: str, suite: str, package: str, name: str
) -> None:
    parsed = _parse(spec, arch)
    assert (parsed.suite, parsed.package, parsed.name) == (suite, package, name)


@pytest.mark.parametrize(
    ("host", "suite"),
    [
        ("bullseye", "bullseye"),
        ("bookworm", "bookworm"),
        ("trixie", "bookworm"),
        ("sid", "bookworm"),
        ("duke", "bookworm"),
    ],
)
def test_the_last_suite_with_kernels_stands_for_later_ones(host: str, suite: str) -> None:
    """Debian has no i386 kernels after bookworm."""
    known = known_suites()
    assert parse_spec(None, "i386", host_suite=host, suites=known, cached=()).suite == suite
    assert parse_spec(None, "x86_64", host_suite=host, suites=known, cached=()).suite == host


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


@pytest.mark.parametrize(
    ("release", "like"),
    [
        ("5.10.0-46-arm64", ["5.10.0-45-arm64", "5.10.0-9-arm64"]),
        ("5.10.0-46-cloud-arm64", []),
        ("5.10.0-46-686-pae", ["5.10.0-32-686-pae"]),
        ("5.10.0-46-686", []),
        ("6.1.0-0.deb11.44-arm64", ["6.1-arm64"]),
        ("6.12.95+deb12-arm64-16k", ["6.12.94+deb12-arm64-16k"]),
        ("7.3-amd64", []),
        ("amd64", []),
    ],
)
def test_releases_of_the_same_series_and_flavour(release: str, like: list[str]) -> None:
    index = [
        *("arm64", "cloud-arm64", "686-pae", "6.1-arm64"),
        *("5.10.0-9-arm64", "5.10.0-45-arm64", "5.10.0-46-arm64", "5.10.0-45-rt-arm64"),
        *("5.10.0-32-686-pae", "6.1.0-0.deb11.44-arm64"),
        *("6.12.94+deb12-arm64-16k", "6.12.95+deb12-arm64-16k", "6.12.95+deb12-arm64"),
    ]
    assert releases_like(release, index) == like
