"""Custom kernels from a recipe to the cache, with a package, an apt and a make in their place."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

import harness.kernel.build as build_module
import harness.kernel.fetch as fetch_module
from harness.errors import (
    BuildError,
    DiskFullError,
    FetchError,
    GoneError,
    InfrastructureError,
    MissingToolError,
    NetworkError,
    UsageError,
)
from harness.kernel.build import build_kernel, find_built, gather_inputs
from harness.kernel.catalog import find_cached, list_cached
from harness.kernel.custom import CustomKernel
from harness.kernel.fetch import obtain
from harness.kernel.needs import check_guest
from harness.kernel.package import Kernel
from harness.kernel.source_tree import SourceTree, cached_source
from harness.kernel.toolchain import Toolchain
from harness.kernel.zoo import obtain_custom
from tests.made_own_kernel import config_text
from tests.made_packages import FakeArchive, make_host
from tests.made_source import FakeMake, make_source_deb

RECIPE = CustomKernel(
    name="slab",
    why="to test",
    suite="bookworm",
    linux="6.1",
    arches=("x86_64", "arm64"),
    base="allnoconfig",
    fragments=("guest", "slab"),
)
GCC = Toolchain(arch="x86_64", prefix="", version="gcc (Debian 12.2.0-14) 12.2.0")


class Builder:
    """``obtain_custom`` in the world of one test."""

    def __init__(self, top: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.host, self.fragments = top / "host", top / "fragments"
        make_host(self.host)
        (top / "keyring.gpg").touch()
        self.environment = {
            "MMSCOPE_CACHE": str(top / "cache"),
            "MMSCOPE_KEYRING": str(top / "keyring.gpg"),
            "KBUILD_OUTPUT": "/nowhere",
            "ARCH": "vax",
        }
        self.archive = FakeArchive()
        self.archive.add(make_source_deb(top / "pool"))
        self.make = FakeMake()
        self.tools = GCC
        self.notes: list[str] = []
        self.fragments.mkdir()
        self.write("guest", "# each guest has more than one CPU\nCONFIG_SMP=y\n")
        self.write("slab", "CONFIG_SLAB=y\n# CONFIG_NUMA is not set\n")
        monkeypatch.setattr(gather_inputs, "__kwdefaults__", {"fragments": self.fragments})
        # The configurations made here are of a few lines.
        monkeypatch.setattr(build_module, "check_guest", lambda *_: None)

    @property
    def cache(self) -> Path:
        return Path(self.environment["MMSCOPE_CACHE"])

    @property
    def tree(self) -> Path:
        return self.cache / "builds/x86_64/linux-source-6.1"

    def write(self, fragment: str, text: str) -> None:
        (self.fragments / f"{fragment}.config").write_text(text)

    def __call__(
        self, recipe: CustomKernel = RECIPE, arch: str = "x86_64", *, newest: bool = False
    ) -> Kernel:
        self.notes = []
        self.make.calls.clear()
        return obtain_custom(
            recipe,
            arch,
            stock_config=lambda: (
                "CONFIG_SLUB=y\nCONFIG_NUMA=y\n# a remark\n# CONFIG_SLAB is not set\n"
            ),
            progress=self.notes.append,
            environment=self.environment,
            host_root=self.host,
            run=self.archive,
            make=self.make,
            toolchain=replace(self.tools, arch=arch),
            newest=newest,
        )


@pytest.fixture
def build(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Builder:
    return Builder(tmp_path, monkeypatch)


def test_a_kernel_is_recorded_like_a_fetched_one(build: Builder) -> None:
    kernel = build()
    assert (kernel.name, kernel.release, kernel.arch) == ("slab", "6.1.192-slab", "x86_64")
    assert (kernel.package, kernel.version) == ("linux-source-6.1", "6.1.192-2")
    assert kernel.boot_image.name == "vmlinux"
    assert (kernel.modules_directory / "modules.builtin").is_file()
    assert not (kernel.modules_directory / "build").exists()
    assert kernel.config_path.read_text() == (
        'CONFIG_SMP=y\nCONFIG_SLAB=y\n# CONFIG_NUMA is not set\nCONFIG_LOCALVERSION="-slab"\n'
    )
    assert "linux-source-6.1_6.1.192-2_all.deb" in kernel.sha256
    assert list_cached(build.cache) == [kernel]
    assert find_cached(build.cache, "6.1.192-slab", "x86_64") == kernel
    record = json.loads((kernel.directory / "build.json").read_text())
    assert record["compiler"] == GCC.version
    assert record["compiled_files"] == 3
    assert record["fragments"].keys() == {"guest.config", "slab.config"}


def test_the_source_is_unpacked_once_without_what_no_kernel_needs(build: Builder) -> None:
    build()
    source = cached_source("6.1", build.cache)
    assert source is not None
    assert (source.directory / "Documentation/Kconfig").is_file()
    assert not (source.directory / "Documentation/mm/numa.rst").exists()
    assert not list((build.cache / "apt/bookworm-amd64/archives").glob("*.deb"))
    build(replace(RECIPE, name="other"))
    assert build.archive.count("download") == 1


def test_what_make_is_told(build: Builder) -> None:
    build()
    assert build.make.targets == ["allnoconfig", "modules", "modules_install"]
    compile_argv = build.make.calls[1]
    assert compile_argv[:4] == ["nice", "-n", "10", "make"]
    assert {"ARCH=x86_64", f"O={build.tree}", "bzImage", "LOCALVERSION="} <= set(compile_argv)
    environment = build.make.environments[1]
    assert environment["KBUILD_BUILD_HOST"] == "mmscope"
    assert environment["KBUILD_BUILD_TIMESTAMP"] == "Tue Nov 14 22:13:20 UTC 2023"
    assert not {"KBUILD_OUTPUT", "ARCH", "KCONFIG_ALLCONFIG"} & environment.keys()


def test_another_architecture(build: Builder) -> None:
    build.make.arch = "arm64"
    build.tools = Toolchain(arch="arm64", prefix="aarch64-linux-gnu-", version="gcc 12")
    kernel = build(arch="arm64")
    assert kernel.boot_image.name == "Image"
    assert {"ARCH=arm64", "CROSS_COMPILE=aarch64-linux-gnu-", "Image"} <= set(build.make.calls[1])


def test_a_second_time_nothing_is_done(build: Builder) -> None:
    first = build()
    build.archive.calls.clear()
    assert build() == first
    assert build.make.calls == build.archive.calls == []
    assert build(newest=True) == first
    assert build.make.calls == []


def test_another_reason_is_no_other_kernel_but_another_symbol_is(build: Builder) -> None:
    first = build()
    build.write("guest", "# another reason\nCONFIG_SMP=y\n")
    assert build() == first
    build.write("guest", "CONFIG_SMP=y\nCONFIG_OBJTOOL=n\n")
    second = build()
    assert second.directory != first.directory
    assert any("of 3 files compiled before" in note for note in build.notes)
    assert (build.tree / "mm/slab.o").is_file()


def test_another_compiler_builds_again_only_when_asked_for_the_newest(build: Builder) -> None:
    first = build()
    build.tools = replace(GCC, version="gcc 13")
    assert build() == first
    second = build(newest=True)
    assert second.directory != first.directory
    assert not any("compiled before" in note for note in build.notes), "objects of another compiler"
    assert build() == second, "the one that was built last"
    assert find_cached(build.cache, second.release, "x86_64") == second


def test_a_symbol_that_does_not_survive(build: Builder) -> None:
    build.make.drop = frozenset({"SLAB"})
    build.write("guest", "CONFIG_SMP=y\nCONFIG_NOSUCH=y\n")
    with pytest.raises(BuildError, match="1 of the 5 symbols") as caught:
        build()
    lost = caught.value.details["lost"]
    assert lost.startswith("CONFIG_SLAB=y (slab.config:1) came out n: ")
    assert "modules" not in build.make.targets
    assert list_cached(build.cache) == []


def test_a_kernel_that_could_not_be_a_guest_is_not_compiled(
    build: Builder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(build_module, "check_guest", check_guest)
    needed = [line for line in config_text().splitlines() if line.startswith("CONFIG_")]
    needed.remove("CONFIG_VIRTIO_CONSOLE=y")
    build.write("guest", "\n".join(needed) + "\n")
    build.write("slab", "CONFIG_SMP=y\n")
    with pytest.raises(UsageError, match="built without CONFIG_VIRTIO_CONSOLE"):
        build()
    assert "modules" not in build.make.targets
    build.write("slab", "CONFIG_VIRTIO_CONSOLE=y\n")
    assert build().release == "6.1.192-slab"


def test_what_the_compiler_said(build: Builder) -> None:
    build.make.said = (
        "  CC      mm/slab.o",
        "mm/slab.c:7:3: error: 'x' undeclared",
        "make[2]: *** [scripts/Makefile.build:250: mm/slab.o] Error 1",
    )
    with pytest.raises(BuildError, match=r"compiling the kernel \(slab\) failed") as caught:
        build()
    assert caught.value.details["make"].splitlines() == list(build.make.said[1:])
    assert caught.value.details["log"] == str(build.tree / "mmscope-build.log")
    build.make.said = ("mm/slab.o: fatal error: No space left on device",)
    with pytest.raises(DiskFullError):
        build()


def test_an_interrupted_build_goes_on(build: Builder) -> None:
    build.make.interrupt_after = 2
    with pytest.raises(KeyboardInterrupt):
        build()
    assert list_cached(build.cache) == []
    assert not list((build.cache / "kernels/x86_64").glob(".*.tmp"))
    build.make.interrupt_after = None
    assert build().release == "6.1.192-slab"
    assert "compiling slab; of 2 files compiled before, what still fits is used" in build.notes
    assert "compiled 1 files" in build.notes, "the two others were there"


def test_progress_says_of_about_how_many(build: Builder) -> None:
    build()
    shutil.rmtree(build.tree)
    build(replace(RECIPE, name="other"))
    assert "compiled 1 files, of at most about 3" in build.notes


def test_a_host_without_what_the_configuration_needs(build: Builder) -> None:
    build.write("guest", "CONFIG_SMP=y\nCONFIG_OBJTOOL=y\n")
    source = _unpacked(build)
    inputs = gather_inputs(RECIPE, "x86_64", base_config=str)
    with pytest.raises(MissingToolError, match=r"gelf\.h \(for objtool\)") as caught:
        build_kernel(
            inputs,
            source,
            progress=build.notes.append,
            environment=build.environment,
            make=build.make,
            toolchain=GCC,
            has_header=lambda name: False,
        )
    assert caught.value.fix == "apt-get install --no-install-recommends libelf-dev"


def _unpacked(build: Builder) -> SourceTree:
    build(replace(RECIPE, name="first", fragments=("slab",)))
    source = cached_source("6.1", build.cache)
    assert source is not None
    return source


def test_on_top_of_a_stock_configuration(build: Builder) -> None:
    kernel = build(replace(RECIPE, base="stock"))
    assert build.make.targets[0] == "olddefconfig"
    lines = kernel.config_path.read_text().splitlines()
    assert lines[:2] == ["CONFIG_SLUB=y", "# a remark"]
    assert lines[2:] == [
        "CONFIG_SMP=y",
        "CONFIG_SLAB=y",
        "# CONFIG_NUMA is not set",
        'CONFIG_LOCALVERSION="-slab"',
    ]


def test_an_architecture_that_the_recipe_does_not_name(build: Builder) -> None:
    with pytest.raises(UsageError, match="not made for i386"):
        build(arch="i386")


def test_a_fragment_that_is_not_there(build: Builder) -> None:
    with pytest.raises(InfrastructureError, match="no fragment 'gone'"):
        build(replace(RECIPE, fragments=("gone",)))


def test_a_suite_without_the_source(build: Builder) -> None:
    with pytest.raises(FetchError, match=r"bookworm has no linux-source-5\.4") as caught:
        build(replace(RECIPE, linux="5.4"))
    assert caught.value.details["it has"] == "linux-source-6.1"


def test_a_source_that_the_mirror_no_longer_has(build: Builder) -> None:
    build.archive.gone = frozenset({"linux-source-6.1"})
    with pytest.raises(GoneError, match="no longer has a file"):
        build()


@pytest.mark.parametrize(
    ("break_it", "error"),
    [
        (lambda archive: setattr(archive, "gone", frozenset({"linux-source-6.1"})), GoneError),
        (
            lambda archive: setattr(archive, "fault", "Could not resolve 'm.example'\n"),
            NetworkError,
        ),
    ],
)
def test_a_cached_source_serves_where_none_can_be_had(
    build: Builder, break_it: Callable[[FakeArchive], None], error: type[FetchError]
) -> None:
    first = build()
    newer = make_source_deb(build.host / "newer", version="6.1.200-1")
    build.archive.add(newer)
    (build.cache / "apt/bookworm-amd64/updated.json").unlink()
    break_it(build.archive)
    assert build(newest=True) == first
    assert any("using the cached source 6.1.192-2" in note for note in build.notes), error


def test_a_newer_source_is_built_when_asked_for(build: Builder) -> None:
    first = build()
    build.archive.add(make_source_deb(build.host / "newer", version="6.1.200-1"))
    assert build() == first
    second = build(newest=True)
    assert second.version == "6.1.200-1"
    inputs = gather_inputs(RECIPE, "x86_64", base_config=str)
    assert find_built(inputs, build.cache) == second


def test_every_verb_finds_it_by_its_name(build: Builder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetch_module, "known_custom", lambda environment: {"slab": RECIPE})
    first = build()
    found = obtain(
        "slab",
        "x86_64",
        progress=build.notes.append,
        environment=build.environment,
        host_root=build.host,
        run=build.archive,
    )
    assert found == first
    with pytest.raises(UsageError) as caught:
        obtain(
            "slap",
            "x86_64",
            progress=build.notes.append,
            environment=build.environment,
            host_root=build.host,
            run=build.archive,
        )
    assert caught.value.details["custom kernels"] == "slab"
