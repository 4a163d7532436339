"""The verbs of ``mmscope kernels`` on a cache that holds one stock and one custom kernel."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

import harness.cli.kernels as kernels_module
from harness.cli.kernels import app
from harness.errors import UsageError
from harness.kernel.build import gather_inputs
from harness.kernel.cache import cache_root
from harness.kernel.catalog import list_cached
from harness.kernel.custom import custom_kernels
from harness.kernel.package import Kernel, render_kernel

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
    (slab.directory / "build.json").write_text(json.dumps({"recipe": inputs.recipe_key}))
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
        *("DMA", "Normal", "Movable", "3M", "6.1.192-2"),
    ]
    unbuilt = text.partition("not built yet")[2]
    assert "pages-64k" in unbuilt
    assert "x86_64  slab " not in unbuilt
    assert "arm64   slab " in unbuilt


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
    assert "ARCH" not in text


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


def test_diff_builds_nothing(runner: CliRunner) -> None:
    error = runner.invoke(app, ["diff", "slab", "slob"]).exception
    assert isinstance(error, UsageError)
    assert error.fix == "mmscope kernels build slob --arch x86_64"


def test_build_knows_its_names(runner: CliRunner) -> None:
    error = runner.invoke(app, ["build", "slab", "nosuch"]).exception
    assert isinstance(error, UsageError)
    assert "slob" in error.details["there are"]
    error = runner.invoke(app, ["build", "pages-64k"]).exception
    assert isinstance(error, UsageError)
    assert error.fix == "add --arch arm64"


def test_build(runner: CliRunner, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, str, bool]] = []
    slab = next(each for each in list_cached(cache_root()) if each.name == "slab")

    def obtain(name: str, arch: str, *, newest: bool, progress: object) -> Kernel:
        asked.append((name, arch, newest))
        return slab

    monkeypatch.setattr(kernels_module, "obtain", obtain)
    monkeypatch.setattr(kernels_module, "build_image", lambda kernel, progress: None)
    done = runner.invoke(app, ["build", "slab"])
    assert done.stdout == "x86_64 6.1.192-slab (linux-source-6.1 6.1.192-2)\n"
    assert asked == [("slab", "x86_64", True)]
