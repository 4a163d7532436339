from __future__ import annotations

from pathlib import Path

import pytest

from harness.errors import BuildError, MissingToolError, UsageError
from harness.image.programs import (
    PROGRAMS,
    Programs,
    build_programs,
    choose_compiler,
)
from harness.kernel.package import host_arch

MAKEFILE = f"""\
all:
	for p in {" ".join(PROGRAMS)}; do $(CC) -o $(OUT)/$$p main.c || exit 1; done
"""
ARCH = host_arch() or "x86_64"


@pytest.fixture
def guest(tmp_path: Path) -> Path:
    """A guest directory of one trivial source."""
    guest = tmp_path / "guest"
    guest.mkdir()
    (guest / "Makefile").write_text(MAKEFILE)
    (guest / "main.c").write_text("int main(void) { return 0; }\n")
    return guest


def _build(guest: Path, cache: Path, notes: list[str] | None = None) -> Programs:
    told = notes if notes is not None else []
    return build_programs(ARCH, cache=cache, progress=told.append, guest=guest)


def test_programs_are_built_once(guest: Path, tmp_path: Path) -> None:
    notes: list[str] = []
    first = _build(guest, tmp_path / "cache", notes)
    assert sorted(path.name for path in first.directory.iterdir()) == sorted(PROGRAMS)
    assert _build(guest, tmp_path / "cache", notes) == first
    assert len(notes) == 1


def test_a_changed_source_is_built_again(guest: Path, tmp_path: Path) -> None:
    first = _build(guest, tmp_path / "cache")
    (guest / "main.c").write_text("int main(void) { return 1; }\n")
    assert _build(guest, tmp_path / "cache").key != first.key


def test_the_compilers_words_are_in_the_error(guest: Path, tmp_path: Path) -> None:
    (guest / "main.c").write_text("int main(void) { return nothing; }\n")
    with pytest.raises(BuildError) as caught:
        _build(guest, tmp_path / "cache")
    assert "nothing" in caught.value.details["output"]
    assert not list((tmp_path / "cache/programs").glob("[!.]*"))


def test_a_program_that_was_not_made(guest: Path, tmp_path: Path) -> None:
    (guest / "Makefile").write_text("all:\n\ttrue\n")
    with pytest.raises(BuildError, match="made no mmscope-agent"):
        _build(guest, tmp_path / "cache")


def test_a_program_of_the_wrong_kind(guest: Path, tmp_path: Path) -> None:
    (guest / "Makefile").write_text(MAKEFILE.replace("$(CC) -o", "echo >"))
    with pytest.raises(BuildError, match=f"mmscope-agent, but not for {ARCH}"):
        _build(guest, tmp_path / "cache")


@pytest.mark.parametrize(
    ("arch", "host", "packages"),
    [
        ("x86_64", "x86_64", "gcc libc6-dev"),
        ("arm64", "arm64", "gcc libc6-dev"),
        ("arm64", "x86_64", "gcc-aarch64-linux-gnu libc6-dev-arm64-cross"),
        ("i386", "x86_64", "gcc-i686-linux-gnu libc6-dev-i386-cross"),
        ("x86_64", None, "gcc-x86-64-linux-gnu libc6-dev-amd64-cross"),
    ],
)
def test_a_missing_compiler_names_its_packages(
    tmp_path: Path, arch: str, host: str | None, packages: str
) -> None:
    with pytest.raises(MissingToolError) as caught:
        choose_compiler(arch, host=host, path=str(tmp_path))
    assert caught.value.fix == f"apt-get install {packages}"


def test_an_unknown_architecture() -> None:
    with pytest.raises(UsageError, match="mips"):
        choose_compiler("mips", host="x86_64")


def test_host_architectures() -> None:
    assert [host_arch(name) for name in ("aarch64", "x86_64", "i686", "riscv64")] == [
        "arm64",
        "x86_64",
        "i386",
        None,
    ]
