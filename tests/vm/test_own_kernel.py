"""A kernel given by the path of its image, as a person types it."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.cli.prepare import Prepared
from tests.vm.conftest import Mmscope

pytestmark = [pytest.mark.vm, pytest.mark.timeout(300)]


def test_an_image_its_configuration_and_its_modules(
    mmscope: Mmscope, prepared: Callable[[str], Prepared], tmp_path: Path
) -> None:
    """A stock arm64 kernel as somebody's own; that it is arm64 nobody says but the image."""
    stock = prepared("arm64").kernel
    image = tmp_path / "kernel" / "Image"
    image.parent.mkdir()
    shutil.copyfile(stock.boot_image, image)
    asked = ["--kernel", str(image), "--node", "256M", "--cpus", "1", "--command", "uname -rm"]
    done = mmscope("boot", *asked)
    assert done.returncode == 2
    assert "its configuration is not known" in done.stderr
    shutil.copyfile(stock.config_path, image.parent / f"config-{stock.release}")
    done = mmscope("boot", *asked)
    assert done.returncode == 2
    assert "its modules are needed, and were not found" in done.stderr
    done = mmscope("boot", "--keep", *asked, "--modules", str(stock.modules_directory))
    assert (done.returncode, done.stdout) == (0, f"{stock.release} aarch64\n"), done.stderr
    (run,) = (tmp_path / "runs").iterdir()
    record = json.loads((run / "manifest.json").read_text())["kernel"]
    assert (record["name"], record["package"], record["release"]) == ("Image", "own", stock.release)
    assert record["sha256"]["Image"] == hashlib.sha256(image.read_bytes()).hexdigest()
    assert record["sha256"].keys() == {"Image", "config", "modules"}


def test_an_image_of_another_architecture(
    mmscope: Mmscope, prepared: Callable[[str], Prepared]
) -> None:
    image = prepared("arm64").kernel.boot_image
    done = mmscope("boot", "--arch", "x86_64", "--kernel", str(image), "--command", "true")
    assert done.returncode == 2
    assert "it is a kernel for arm64, not for x86_64" in done.stderr
    assert "add --arch arm64" in done.stderr
