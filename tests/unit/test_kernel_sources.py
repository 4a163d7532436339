from __future__ import annotations

from pathlib import Path

import pytest

from harness.errors import InfrastructureError, MissingToolError, UsageError
from harness.kernel.sources import (
    Host,
    Source,
    find_keyring,
    parse_deb822,
    parse_one_line,
    parse_os_release,
    read_host,
    render_sources,
    select_sources,
)
from tests.made_packages import HOST_SOURCES, make_host


def _selected(suite: str, host: Host, mirror: str | None = None) -> list[tuple[str, str, bool]]:
    return [(s.uri, s.suite, s.required) for s in select_sources(suite, host, mirror=mirror)]


def test_one_line_sources_with_options() -> None:
    text = (
        "# deb http://no.example/debian bookworm main\n"
        "deb-src http://mirror.example/debian bookworm main\n"
        "deb [ arch=amd64 signed-by=/usr/share/keyrings/Debian-archive-keyring.gpg trusted=yes ]"
        " http://mirror.example/debian bookworm main contrib # note\n"
        "deb [enabled=no] http://off.example/debian bookworm main\n"
    )
    (entry,) = parse_one_line(text, "sources.list")
    assert entry.uris == ("http://mirror.example/debian",)
    assert entry.suites == ("bookworm",)
    assert entry.components == ("main", "contrib")
    assert entry.signed_by == "/usr/share/keyrings/Debian-archive-keyring.gpg"


def test_a_broken_line_is_named() -> None:
    with pytest.raises(InfrastructureError, match=r"sources\.list:2: .*'deb foo'"):
        parse_one_line("\ndeb foo\n", "sources.list")


def test_deb822_stanzas_that_are_off_or_for_sources_are_passed_over() -> None:
    text = (
        "Enabled: no\nTypes: deb\nURIs: http://off.example/debian\nSuites: bookworm\n"
        "Components: main\n\n"
        "Types: deb-src\nURIs: http://src.example/debian\nSuites: bookworm\nComponents: main\n\n"
        "# a comment\nTypes: deb deb-src\nURIs: http://a.example/debian http://b.example/debian\n"
        "Suites: bookworm bookworm-updates\nComponents: main\n"
    )
    (entry,) = parse_deb822(text)
    assert entry.uris == ("http://a.example/debian", "http://b.example/debian")
    assert entry.suites == ("bookworm", "bookworm-updates")


def test_os_release_quotes() -> None:
    assert parse_os_release('A="b c"\n\nD=e\n') == {"A": "b c", "D": "e"}


def test_the_hosts_own_suite_has_updates_and_security(tmp_path: Path) -> None:
    host = read_host(make_host(tmp_path))
    assert host.suite == "bookworm"
    assert _selected("bookworm", host) == [
        ("http://mirror.example/debian", "bookworm", True),
        ("http://mirror.example/debian", "bookworm-updates", False),
        ("http://mirror.example/debian-security", "bookworm-security", False),
    ]


def test_another_suite_comes_from_the_hosts_mirror(tmp_path: Path) -> None:
    host = read_host(make_host(tmp_path))
    assert ("http://mirror.example/debian-security", "trixie-security", False) in _selected(
        "trixie", host
    )
    assert _selected("sid", host) == [("http://mirror.example/debian", "sid", True)]
    assert _selected("bookworm-backports", host) == [
        ("http://mirror.example/debian", "bookworm-backports", True)
    ]


def test_third_parties_are_not_taken_for_debian(tmp_path: Path) -> None:
    foreign = (
        "Types: deb\nURIs: http://tool.example/apt\nSuites: bookworm\nComponents: main\n"
        "Signed-By: /usr/share/keyrings/tool.gpg\n\n"
        "Types: deb\nURIs: http://other.example/repo\nSuites: bookworm\nComponents: main\n\n"
        "Types: deb\nURIs: http://code.example/stable\nSuites: cloud-sdk-bookworm\n"
        "Components: main\n\n"
    )
    host = read_host(make_host(tmp_path, sources=foreign + HOST_SOURCES))
    assert {uri for uri, _, _ in _selected("bookworm", host)} == {
        "http://mirror.example/debian",
        "http://mirror.example/debian-security",
    }


def test_a_host_that_follows_sid(tmp_path: Path) -> None:
    root = make_host(
        tmp_path,
        os_release="ID=debian\nVERSION_CODENAME=forky\n",
        sources="Types: deb\nURIs: http://m.example/debian\nSuites: sid\nComponents: main\n",
    )
    assert read_host(root).suite == "sid"


def test_a_host_named_by_alias_serves_its_codename(tmp_path: Path) -> None:
    root = make_host(
        tmp_path,
        sources="Types: deb\nURIs: http://m.example/debian\nSuites: stable\nComponents: main\n",
    )
    host = read_host(root)
    assert _selected("bookworm", host)[0] == ("http://m.example/debian", "bookworm", True)


def test_a_foreign_host_needs_a_mirror(tmp_path: Path) -> None:
    root = make_host(
        tmp_path,
        os_release="ID=ubuntu\nVERSION_CODENAME=noble\n",
        sources="Types: deb\nURIs: http://m.example/ubuntu\nSuites: noble\nComponents: main\n",
    )
    host = read_host(root)
    assert host.suite == "bookworm"
    with pytest.raises(UsageError) as caught:
        select_sources("bookworm", host)
    assert "MMSCOPE_MIRROR" in (caught.value.fix or "")
    assert _selected("trixie", host, "http://m.example/debian") == [
        ("http://m.example/debian", "trixie", True),
        ("http://m.example/debian", "trixie-updates", False),
    ]


def test_a_missing_os_release_is_not_debian(tmp_path: Path) -> None:
    assert read_host(tmp_path) == Host(codename=None, entries=())


def test_every_source_names_its_keyring() -> None:
    sources = [Source(uri="http://m.example/debian", suite=s, required=True) for s in ("a", "b")]
    text = render_sources(sources, debian_arch="arm64", keyring=Path("/k.gpg"))
    assert text.count("Signed-By: /k.gpg\n") == 2
    assert text.count("Architectures: arm64\n") == 2
    assert "rusted" not in text


def test_the_keyring(tmp_path: Path) -> None:
    with pytest.raises(MissingToolError) as caught:
        find_keyring({}, directory=tmp_path)
    assert caught.value.fix == "apt-get install debian-archive-keyring"
    with pytest.raises(MissingToolError, match="MMSCOPE_KEYRING"):
        find_keyring({"MMSCOPE_KEYRING": str(tmp_path / "none")}, directory=tmp_path)
    keyring = tmp_path / "debian-archive-keyring.gpg"
    keyring.touch()
    assert find_keyring({}, directory=tmp_path) == keyring
