"""The verbs of ``mmscope kernels`` on a cache that holds one stock and one custom kernel."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

import harness.cli.kernels as kernels_module
from harness.cli.kernels import app
from harness.errors import (
    InfrastructureError,
    MmscopeError,
    NetworkError,
    UsageError,
)
from harness.kernel.answers import Answer, write_answer
from harness.kernel.build import gather_inputs
from harness.kernel.cache import cache_root
from harness.kernel.catalog import KernelSpec, list_cached
from harness.kernel.custom import CATALOG_VARIABLE, custom_kernels, known_custom
from harness.kernel.package import Kernel, render_kernel
from tests.made_own_kernel import make_own_bzimage, make_own_vmlinux

STOCK = "CONFIG_SLUB=y\nCONFIG_NUMA=y\nCONFIG_NODES_SHIFT=10\nCONFIG_SPARSEMEM_VMEMMAP=y\n"
CUSTOM = "CONFIG_SLAB=y\n# CONFIG_NUMA is not set\nCONFIG_ZONE_DMA=y\nCONFIG_VIRTIO_BLK=y\n"


def _put(name: str, release: str, config: str, package: str) -> Kernel:
    directory = cache_root() / "kernels/x86_64" / release
    (directory / "modules").mkdir(parents=True)
    (directory / "modules/modules.builtin").touch()
    (directory / "config").write_text(config)
    (directory / "vmlinux").write_bytes(bytes(3 << 20))
    kernel = Kernel(
        name=name,
        release=release,
        arch="x86_64",
        package=package,
        version="6.1.192-2",
        directory=directory,
        boot_image=directory / "vmlinux",
        modules_directory=directory / "modules",
        config_path=directory / "config",
        sha256={"x.deb": "0"},
    )
    (directory / "kernel.json").write_text(render_kernel(kernel))
    return kernel


@pytest.fixture
def runner(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> CliRunner:
    monkeypatch.setenv("MMSCOPE_CACHE", str(tmp_path / "cache"))
    _put("bookworm", "6.1.0-56-amd64", STOCK, "linux-image-6.1.0-56-amd64")
    slab = _put("slab", "6.1.192-slab", CUSTOM, "linux-source-6.1")
    inputs = gather_inputs(custom_kernels()["slab"], "x86_64", base_config=str)
    record = {"recipe": inputs.recipe_key, "took_s": 123.4}
    (slab.directory / "build.json").write_text(json.dumps(record))
    return CliRunner()


def test_list(runner: CliRunner) -> None:
    text = runner.invoke(app, ["list"]).stdout
    stock, custom = (
        next(line for line in text.splitlines() if release in line)
        for release in ("6.1.0-56-amd64", "6.1.192-slab")
    )
    assert stock.split()[:8] == [
        *("x86_64", "6.1.0-56-amd64", "bookworm", "4K", "11", "1024", "VMEMMAP", "SLUB")
    ]
    assert custom.split() == [
        *("x86_64", "6.1.192-slab", "slab", "4K", "11", "1", "FLATMEM", "SLAB"),
        *("DMA", "Normal", "Movable", "3M", "123s", "6.1.192-2"),
    ]
    assert "2 kernels, 0.0 GiB on disk; 1 of them built here in 2 min 3 s\n" in text
    unfetched = text.partition("not fetched yet")[2].partition("not built yet")[0]
    assert "x86_64  bookworm/rt-amd64\n" in unfetched
    assert "x86_64  bookworm\n" not in unfetched
    assert "arm64   bookworm\n" in unfetched
    unbuilt = text.partition("not built yet")[2]
    assert "pages-64k" in unbuilt
    assert "x86_64  slab " not in unbuilt
    assert "arm64   uma " in unbuilt


def test_list_for_scripts(runner: CliRunner) -> None:
    rows = json.loads(runner.invoke(app, ["list", "--json", "--arch", "x86_64"]).stdout)
    cached = {row["name"]: row for row in rows if row["cached"]}
    assert cached.keys() == {"bookworm", "slab"}
    assert cached["slab"]["custom"] is True
    assert cached["slab"]["zones"] == ["DMA", "Normal", "Movable"]
    assert cached["bookworm"]["max_nodes"] == 1024
    assert {row["arch"] for row in rows} == {"x86_64"}
    assert all(row["release"] is None for row in rows if not row["cached"])


def test_an_empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MMSCOPE_CACHE", str(tmp_path / "other"))
    text = CliRunner().invoke(app, ["list"]).stdout
    assert text.startswith("no kernel is cached yet; fetch one: mmscope kernels fetch\n")
    assert "RELEASE" not in text


def test_diff(runner: CliRunner, tmp_path: Path) -> None:
    (tmp_path / "other.config").write_text(STOCK)
    path = str(tmp_path / "other.config")
    done = runner.invoke(app, ["diff", "slab", path, "--json"])
    report = json.loads(done.stdout)
    assert report["kernels"] == ["slab", path]
    assert report["differences"][0] == {
        "symbol": "CONFIG_NODES_SHIFT",
        "group": "memory",
        "values": [None, "10"],
    }
    assert report["differences"][-1]["symbol"] == "CONFIG_VIRTIO_BLK"
    table = runner.invoke(app, ["diff", "slab", path]).stdout
    assert table.startswith("memory management (6)")
    assert "alike" in runner.invoke(app, ["diff", path, path]).stdout


def test_diff_of_kernel_images(runner: CliRunner, tmp_path: Path) -> None:
    image, other = tmp_path / "vmlinux", tmp_path / "bzImage"
    image.write_bytes(make_own_vmlinux("6.1.9-mine", "CONFIG_SLUB=y\n"))
    other.write_bytes(make_own_bzimage("6.1.9-mine", "CONFIG_SLAB=y\n"))
    report = json.loads(runner.invoke(app, ["diff", str(image), str(other), "--json"]).stdout)
    assert [row["symbol"] for row in report["differences"]] == ["CONFIG_SLAB", "CONFIG_SLUB"]
    image.write_bytes(b"neither")
    error = runner.invoke(app, ["diff", str(image), str(other)]).exception
    assert isinstance(error, UsageError)
    assert "not a kernel image" in error.message


def test_diff_builds_nothing(runner: CliRunner) -> None:
    error = runner.invoke(app, ["diff", "slab", "slob"]).exception
    assert isinstance(error, UsageError)
    assert error.fix == "mmscope kernels build slob --arch x86_64"


def test_build_knows_its_names(runner: CliRunner) -> None:
    error = runner.invoke(app, ["build", "slab", "nosuch"]).exception
    assert isinstance(error, UsageError)
    assert "slob" in error.details["there are"]
    for wrong in ([], ["--all", "slab"]):
        assert isinstance(runner.invoke(app, ["build", *wrong]).exception, UsageError)
    error = runner.invoke(app, ["build", "pages-64k"]).exception
    assert isinstance(error, UsageError)
    assert error.fix == "add --arch arm64"


def test_build(runner: CliRunner, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, str, bool]] = []
    slab = next(each for each in list_cached(cache_root()) if each.name == "slab")

    def obtain(name: str, arch: str, *, newest: bool, **_: object) -> Kernel:
        asked.append((name, arch, newest))
        return slab

    monkeypatch.setattr(kernels_module, "obtain", obtain)
    monkeypatch.setattr(kernels_module, "build_image", lambda kernel, progress: None)
    done = runner.invoke(app, ["build", "slab"])
    assert done.stdout == "x86_64 6.1.192-slab (linux-source-6.1 6.1.192-2)\n"
    assert asked == [("slab", "x86_64", True)]


def test_a_kernel_goes_by_the_name_that_means_it(runner: CliRunner) -> None:
    """Where a mirror lacks the newest release an older one is the answer, under its own name."""
    older = _put("bookworm/5.10.0-32-rt-amd64", "5.10.0-32-rt-amd64", STOCK, "linux-image-rt")
    spec = KernelSpec(suite="bullseye", flavour="rt-amd64", arch="x86_64")
    write_answer(spec, cache_root(), Answer(kernel=older, t_s=0.0))
    rows = json.loads(runner.invoke(app, ["list", "--json", "--arch", "x86_64"]).stdout)
    (row,) = [row for row in rows if row["name"] == "bullseye/rt-amd64"]
    assert (row["cached"], row["release"]) == (True, "5.10.0-32-rt-amd64")


def _fake_prepare(
    monkeypatch: pytest.MonkeyPatch, failing: dict[str, MmscopeError]
) -> list[tuple[str, str | None]]:
    """``prepare`` gives the cached stock kernel, or fails for the names in ``failing``."""
    asked: list[tuple[str, str | None]] = []
    stock = next(each for each in list_cached(cache_root()) if each.name == "bookworm")

    class Prepared:
        kernel = stock

    def prepare(arch: str, name: str | None, note: object) -> type[Prepared]:
        asked.append((arch, name))
        if name in failing:
            raise failing[name]
        return Prepared

    monkeypatch.setattr(kernels_module, "prepare", prepare)
    return asked


def test_fetch_all(runner: CliRunner, monkeypatch: pytest.MonkeyPatch) -> None:
    gone = UsageError("sid has no kernel rt-amd64")
    asked = _fake_prepare(monkeypatch, {"sid/rt-amd64": gone})
    done = runner.invoke(app, ["fetch", "--all", "--arch", "x86_64"])
    assert len(asked) > 10
    assert {arch for arch, _ in asked} == {"x86_64"}
    assert asked[0] == ("x86_64", "bullseye")
    assert f"{len(asked) - 1} kernels, 0.0 GiB on disk" in done.stdout
    error = done.exception
    assert isinstance(error, InfrastructureError)
    assert error.message == f"1 of {len(asked)} kernels could not be fetched"
    assert error.details == {"sid/rt-amd64 x86_64": gone.render()}
    assert f"2/{len(asked)} bullseye/cloud-amd64 x86_64" in done.stderr


def test_fetch_all_ends_without_a_network(
    runner: CliRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = _fake_prepare(monkeypatch, {"bullseye": NetworkError("no mirror answered")})
    assert isinstance(runner.invoke(app, ["fetch", "--all"]).exception, NetworkError)
    assert len(asked) == 1


def test_fetch_by_names(runner: CliRunner, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = _fake_prepare(monkeypatch, {})
    assert runner.invoke(app, ["fetch"]).exit_code == 0
    assert runner.invoke(app, ["fetch", "sid", "bullseye", "--arch", "arm64"]).exit_code == 0
    assert asked == [("x86_64", None), ("arm64", "sid"), ("arm64", "bullseye")]
    assert isinstance(runner.invoke(app, ["fetch", "sid", "--all"]).exception, UsageError)
    assert isinstance(runner.invoke(app, ["fetch", "--all", "--arch", "x"]).exception, UsageError)


OWN = """
[custom.mine]
why = "to try"
suite = "bookworm"
linux = "6.1"
arches = ["x86_64"]
fragments = ["guest", "mine"]
"""


def test_a_catalogue_of_ones_own(
    runner: CliRunner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "fragments").mkdir()
    (tmp_path / "fragments/mine.config").write_text("CONFIG_SLUB=y\n")
    catalog = tmp_path / "mine.toml"
    catalog.write_text(OWN)
    listed = runner.invoke(app, ["list", "--catalog", str(catalog)]).stdout
    assert "x86_64  mine " in listed
    assert "x86_64  slob " in listed, "ours are still known"
    inputs = gather_inputs(
        known_custom({CATALOG_VARIABLE: str(catalog)})["mine"], "x86_64", base_config=str
    )
    assert inputs.fragments.keys() == {"guest.config", "guest.x86_64.config", "mine.config"}
    monkeypatch.setenv(CATALOG_VARIABLE, str(catalog))
    assert "mine" in runner.invoke(app, ["build", "nosuch"]).exception.details["there are"]  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        (OWN.replace("custom.mine", "custom.slab"), "'slab' is the name of a kernel of mmscope"),
        (OWN.replace("custom.mine", "custom.sid"), "'sid' is the name of a kernel of mmscope"),
        (OWN.replace('why = "to try"', ""), "custom kernel mine: why must be a text"),
        (None, "there is no catalogue"),
    ],
)
def test_a_catalogue_that_cannot_be(
    runner: CliRunner, tmp_path: Path, text: str | None, complaint: str
) -> None:
    catalog = tmp_path / "mine.toml"
    if text is not None:
        catalog.write_text(text)
    error = runner.invoke(app, ["build", "mine", "--catalog", str(catalog)]).exception
    assert isinstance(error, MmscopeError)
    assert complaint in error.message
