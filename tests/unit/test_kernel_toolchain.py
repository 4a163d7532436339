from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from harness.errors import MissingToolError
from harness.kernel.toolchain import check_for_config, find_toolchain


@pytest.fixture
def which(tmp_path: Path) -> Callable[[str], str | None]:
    return lambda name: None if name in {"flex", "aarch64-linux-gnu-gcc"} else f"/usr/bin/{name}"


def test_everything_that_is_missing_is_named_at_once(
    which: Callable[[str], str | None],
) -> None:
    with pytest.raises(MissingToolError, match="flex, aarch64-linux-gnu-gcc must") as caught:
        find_toolchain("arm64", which=which, machine="x86_64")
    assert caught.value.fix == (
        "apt-get install --no-install-recommends flex gcc-aarch64-linux-gnu"
    )


def test_a_module_needs_no_more_than_a_compiler(which: Callable[[str], str | None]) -> None:
    with pytest.raises(MissingToolError, match="for arm64, aarch64-linux-gnu-gcc must"):
        find_toolchain("arm64", modules_only=True, which=which, machine="x86_64")


def test_no_cross_compiler_is_asked_for_at_home(which: Callable[[str], str | None]) -> None:
    with pytest.raises(MissingToolError, match="flex must be installed"):
        find_toolchain("arm64", which=which, machine="aarch64")


def test_the_hosts_own_compiler(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "gcc").write_text("#!/bin/sh\necho 'gcc (Test) 1.2.3'\necho more\n")
    (tmp_path / "gcc").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    tools = find_toolchain("x86_64", which=lambda name: name, machine="x86_64")
    assert (tools.prefix, tools.version) == ("", "gcc (Test) 1.2.3")
    assert tools.make_variables == ("ARCH=x86_64",)


@pytest.mark.parametrize(
    ("symbol", "package"),
    [
        ("OBJTOOL", "libelf-dev"),
        ("STACK_VALIDATION", "libelf-dev"),
        ("MODULE_SIG", "libssl-dev"),
        ("DEBUG_INFO_BTF", "dwarves"),
    ],
)
def test_what_a_configuration_needs(symbol: str, package: str) -> None:
    config = {f"CONFIG_{symbol}": "y"}
    with pytest.raises(MissingToolError, match="cannot be built without") as caught:
        check_for_config(config, which=lambda name: None, has_header=lambda name: False)
    assert caught.value.fix == f"apt-get install --no-install-recommends {package}"
    check_for_config(config, which=lambda name: name, has_header=lambda name: True)
    check_for_config({}, which=lambda name: None, has_header=lambda name: False)
