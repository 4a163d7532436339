"""Headers and modules of kernels: what is fetched, what is refused, what is kept."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from harness.errors import BuildError, GoneError, MissingToolError, NetworkError, UsageError
from harness.kernel.external_module import MODULE_NAME, ExternalModule, build_module
from harness.kernel.headers import Headers, obtain_headers
from harness.kernel.package import Kernel
from harness.kernel.source_tree import RECORD_NAME as SOURCE_RECORD
from harness.kernel.toolchain import Toolchain, find_toolchain
from tests.made_packages import FakeArchive, make_deb, make_elf, make_host

RELEASE = "6.1.0-56-amd64"
COMMON = "linux-headers-6.1.0-56-common"
FLAVOUR = f"linux-headers-{RELEASE}"
NO_NETWORK = "Err:1 x InRelease\n  Could not resolve 'm.example'\n"
TOOLS = Toolchain(arch="x86_64", prefix="", version="gcc 12")


def _flavour(pool: Path) -> Path:
    files: dict[str, bytes | str] = {
        f"usr/src/{FLAVOUR}/Module.symvers": b"0x0 printk vmlinux EXPORT_SYMBOL\n",
        f"usr/src/{FLAVOUR}/scripts": "../../lib/linux-kbuild-6.1/scripts",
        f"usr/share/doc/{FLAVOUR}/copyright": b"x",
    }
    return make_deb(pool, FLAVOUR, "6.1.192-2", "amd64", files)


@pytest.fixture
def archive(tmp_path: Path) -> FakeArchive:
    pool = tmp_path / "pool"
    archive = FakeArchive()
    archive.add(
        _flavour(pool),
        f"{COMMON} (= 6.1.192-2), linux-kbuild-6.1 (>= 6.1.192-2), linux-compiler-gcc-12-x86",
    )
    archive.add(
        make_deb(pool, COMMON, "6.1.192-2", "all", {f"usr/src/{COMMON}/Makefile": b"all:\n"})
    )
    program = make_elf() + b"GLIBC_2.999\0"
    kbuild = {"usr/lib/linux-kbuild-6.1/scripts/mod/modpost": program}
    deb = make_deb(pool, "linux-kbuild-6.1", "6.1.192-2", "amd64", dict(kbuild))
    archive.add(deb)
    libc = {
        "usr/lib/x86_64-linux-gnu/libc.so.6": b"libc",
        "usr/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2": b"loader",
        "usr/share/doc/libc6/copyright": b"x",
    }
    archive.add(make_deb(pool, "libc6", "2.99-1", "amd64", dict(libc)))
    return archive


@pytest.fixture
def kernel(tmp_path: Path) -> Kernel:
    directory = tmp_path / "kernel"
    directory.mkdir()
    config = directory / "config"
    config.write_text("CONFIG_MODULES=y\nCONFIG_DEBUG_FS=y\n")
    return Kernel(
        name="bookworm",
        release=RELEASE,
        arch="x86_64",
        package=f"linux-image-{RELEASE}",
        version="6.1.192-2",
        directory=directory,
        boot_image=directory / "vmlinux",
        modules_directory=directory / "modules",
        config_path=config,
        sha256={"a.deb": "0" * 64},
    )


Get = Callable[[Kernel], Headers]


@pytest.fixture
def world(tmp_path: Path) -> dict[str, str]:
    make_host(tmp_path / "host")
    keyring = tmp_path / "keyring.gpg"
    keyring.touch()
    return {"MMSCOPE_CACHE": str(tmp_path / "cache"), "MMSCOPE_KEYRING": str(keyring)}


@pytest.fixture
def get(tmp_path: Path, world: dict[str, str], archive: FakeArchive) -> Get:
    def get(kernel: Kernel) -> Headers:
        return obtain_headers(
            kernel,
            progress=lambda _: None,
            environment=world,
            host_root=tmp_path / "host",
            run=archive,
        )

    return get


def test_three_packages_make_the_headers_of_a_stock_kernel(
    get: Get, kernel: Kernel, archive: FakeArchive
) -> None:
    headers = get(kernel)
    assert headers.source.name == COMMON
    assert headers.build.name == FLAVOUR
    assert (headers.build / "Module.symvers").is_file()
    assert (headers.build / "scripts/mod/modpost").is_file()
    archive.calls.clear()
    assert get(kernel) == headers
    assert not archive.calls


def test_programs_for_a_newer_c_library_bring_theirs(get: Get, kernel: Kernel) -> None:
    program = get(kernel).build / "scripts/mod/modpost"
    script = program.read_text()
    assert script.startswith("#!/bin/sh\n")
    assert "ld-linux-x86-64.so.2" in script
    libc = next(part for part in script.split('"') if part.endswith("ld-linux-x86-64.so.2"))
    assert (program.parent.resolve() / libc.removeprefix("$here/")).read_bytes() == b"loader"
    assert (program.parent / ".modpost.real").read_bytes().endswith(b"GLIBC_2.999\0")


def test_headers_that_the_suite_no_longer_has(
    get: Get, kernel: Kernel, archive: FakeArchive
) -> None:
    other = replace(kernel, release="6.1.0-47-amd64")
    with pytest.raises(GoneError, match=r"bookworm has no linux-headers-6\.1\.0-47-amd64") as told:
        get(other)
    assert FLAVOUR in told.value.details["it has"]
    archive.gone = frozenset({COMMON})
    with pytest.raises(GoneError) as gone:
        get(kernel)
    assert gone.value.details["wanted for"] == f"modules for {RELEASE}"


def test_off_the_network(get: Get, kernel: Kernel, archive: FakeArchive) -> None:
    archive.fault = NO_NETWORK
    with pytest.raises(NetworkError):
        get(kernel)


def test_a_kernel_of_ones_own_has_no_headers(get: Get, kernel: Kernel) -> None:
    with pytest.raises(BuildError, match="no headers came with it"):
        get(replace(kernel, name="mine", package="mine"))


def test_a_custom_kernel_brings_its_own(get: Get, kernel: Kernel, world: dict[str, str]) -> None:
    custom = replace(kernel, name="slub", package="linux-source-6.1")
    (kernel.directory / "build.json").write_text(json.dumps({"source": "s_1_all.deb"}))
    with pytest.raises(BuildError, match="without keeping what modules need"):
        get(custom)
    build = kernel.directory / "module-build"
    build.mkdir()
    (build / "Module.symvers").touch()
    with pytest.raises(BuildError, match="not in the cache any more") as told:
        get(custom)
    assert told.value.fix is not None
    assert "mmscope kernels build slub" in told.value.fix
    tree = Path(world["MMSCOPE_CACHE"]) / "sources" / "linux-source-6.1_1"
    tree.mkdir(parents=True)
    (tree / "Makefile").touch()
    record = {
        "package": "linux-source-6.1",
        "version": "1",
        "sha256": "0",
        "file_name": "s_1_all.deb",
    }
    (tree / SOURCE_RECORD).write_text(json.dumps(record))
    assert get(custom) == Headers(source=tree, build=build)


class FakeMake:
    """Builds an object of nothing, or complains."""

    def __init__(self, complaint: str = "") -> None:
        self.complaint = complaint
        self.calls: list[list[str]] = []

    def __call__(
        self,
        argv: Sequence[str],
        *,
        environment: Mapping[str, str],
        log: Path,
        on_line: Callable[[str], None],
    ) -> int:
        self.calls.append(list(argv))
        assert "KCFLAGS_OF_MINE" not in environment
        if self.complaint:
            on_line(self.complaint)
            return 2
        scratch = next(word for word in argv if word.startswith("M=")).removeprefix("M=")
        assert (Path(scratch) / "Kbuild").is_file()
        built = str(Path(scratch) / f"{MODULE_NAME}.ko")
        subprocess.run(["gcc", "-c", "-x", "c", "-o", built, "/dev/null"], check=True)
        return 0


def _build(kernel: Kernel, world: dict[str, str], tmp_path: Path, make: FakeMake) -> ExternalModule:
    return build_module(
        kernel,
        progress=lambda _: None,
        environment=world,
        make=make,
        toolchain=TOOLS,
        headers=Headers(source=tmp_path / "source", build=tmp_path / "build"),
    )


def test_a_module_is_built_once(kernel: Kernel, world: dict[str, str], tmp_path: Path) -> None:
    make = FakeMake()
    module = _build(kernel, world, tmp_path, make)
    assert module.path.read_bytes()[:4] == b"\x7fELF"
    assert _build(kernel, world, tmp_path, make) == module
    (argv,) = make.calls
    assert f"O={tmp_path / 'build'}" in argv
    newer = replace(kernel, sha256={"a.deb": "1" * 64})
    assert _build(newer, world, tmp_path, make).path != module.path
    assert len(make.calls) == 2


def test_what_the_compiler_says_is_told(
    kernel: Kernel, world: dict[str, str], tmp_path: Path
) -> None:
    make = FakeMake("mmscope_slab.c:1:1: error: unknown type name 'u32'")
    with pytest.raises(BuildError, match="building mmscope_slab failed") as told:
        _build(kernel, world, tmp_path, make)
    assert "unknown type name" in told.value.details["make"]


@pytest.mark.parametrize(
    ("config", "told"),
    [
        ("CONFIG_DEBUG_FS=y\n", "loads no modules"),
        ("CONFIG_MODULES=y\n", "no debugfs"),
        ("CONFIG_MODULES=y\nCONFIG_DEBUG_FS=y\nCONFIG_MODULE_SIG_FORCE=y\n", "signed modules only"),
    ],
)
def test_kernels_that_would_not_load_it(
    config: str, told: str, kernel: Kernel, world: dict[str, str], tmp_path: Path
) -> None:
    kernel.config_path.write_text(config)
    with pytest.raises(UsageError, match=told):
        _build(kernel, world, tmp_path, FakeMake())


def test_other_architectures_are_refused(
    kernel: Kernel, world: dict[str, str], tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match="not built for i386"):
        _build(replace(kernel, arch="i386"), world, tmp_path, FakeMake())


def test_a_missing_compiler_names_its_package(kernel: Kernel) -> None:
    def which(name: str) -> str | None:
        return None if name.startswith("aarch64") else f"/bin/{name}"

    with pytest.raises(MissingToolError) as told:
        find_toolchain("arm64", which=which, machine="x86_64")
    assert told.value.fix is not None
    assert "gcc-aarch64-linux-gnu" in told.value.fix
