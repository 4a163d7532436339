"""The guest's programs build everywhere, the same each time, and are written in one style."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from harness.image.programs import PROGRAMS
from harness.kernel.elf import MACHINE, parse_elf
from tests.guest_programs import GUEST, compile_guest

PT_INTERP = 3


@pytest.mark.parametrize(
    ("compiler", "arch"),
    [("gcc", None), ("aarch64-linux-gnu-gcc", "arm64"), ("i686-linux-gnu-gcc", "i386")],
)
def test_every_program_is_static_and_for_its_machine(
    tmp_path: Path, compiler: str, arch: str | None
) -> None:
    out = compile_guest(tmp_path, compiler=compiler)
    for name in PROGRAMS:
        content = (out / name).read_bytes()
        program = parse_elf(content, name)
        assert arch is None or program.machine == MACHINE[arch]
        described = subprocess.run(
            ["readelf", "-lW", str(out / name)], capture_output=True, text=True, check=True
        )
        assert "INTERP" not in described.stdout


def test_two_builds_in_different_places_are_the_same(tmp_path: Path) -> None:
    copy = tmp_path / "elsewhere" / "guest"
    shutil.copytree(GUEST, copy)
    shutil.copy(GUEST.parent / "pyproject.toml", copy.parent)
    here = compile_guest(tmp_path / "here")
    there = tmp_path / "there"
    subprocess.run(
        ["make", "-s", "-C", str(copy), f"OUT={there}", "CC=gcc"],
        check=True,
        capture_output=True,
        timeout=300,
    )
    for name in PROGRAMS:
        assert (here / name).read_bytes() == (there / name).read_bytes(), name


def test_sources_are_formatted() -> None:
    sources = [str(path) for path in sorted(GUEST.rglob("*.[ch]"))]
    formatter = Path(sys.executable).with_name("clang-format")
    done = subprocess.run(
        [str(formatter), "--dry-run", "-Werror", *sources],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_scripts_pass_shellcheck() -> None:
    scripts = [str(path) for path in sorted((GUEST / "init").iterdir())]
    done = subprocess.run(
        ["shellcheck", "-s", "dash", *scripts], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout
