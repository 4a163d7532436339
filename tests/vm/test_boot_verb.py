"""``mmscope boot`` as a person types it, and what it says when it cannot."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from tests.conftest import qemu_pids
from tests.vm.conftest import ARCHES, Mmscope

pytestmark = [pytest.mark.vm, pytest.mark.timeout(300)]


@pytest.mark.parametrize("arch", ARCHES)
def test_a_command_answers_and_gives_its_status(arch: str, mmscope: Mmscope) -> None:
    done = mmscope("boot", "--arch", arch, "--command", "cat /proc/buddyinfo; exit 5")
    assert done.returncode == 5, done.stderr
    assert done.stdout.startswith("Node 0, zone")


def test_an_i386_guest_has_high_memory(mmscope: Mmscope) -> None:
    """One boot stands for the architecture: PAE, and memory that is not always mapped."""
    done = mmscope("boot", "--arch", "i386", "--command", "uname -rm; cat /proc/buddyinfo")
    assert done.returncode == 0, done.stderr
    release, *zones = done.stdout.splitlines()
    assert release.endswith("-686-pae i686")
    assert [line.split()[3] for line in zones] == ["DMA", "Normal", "HighMem"]


def test_four_nodes_one_without_memory(mmscope: Mmscope, tmp_path: Path) -> None:
    done = mmscope(
        *("boot", "--arch", "arm64", "--node", "256M", "--node", "128M", "--node", "0"),
        *("--node", "192M", "--distance", "0,3=42", "--cpus", "5", "--append", "quiet"),
        *(
            "--command",
            "cat /sys/devices/system/node/node0/distance; numactl -H; cat /proc/cmdline",
        ),
    )
    assert done.returncode == 0, done.stderr
    distances, *lines = done.stdout.splitlines()
    assert distances.split() == ["10", "20", "20", "42"]
    assert "node 2 size: 0 MB" in lines
    assert "node 2 cpus: 2 3" in lines
    assert lines[-1].endswith(" quiet")
    assert not (tmp_path / "runs").exists(), "a boot that went well keeps no directory"


def test_a_shell_reads_standard_input(mmscope: Mmscope) -> None:
    done = mmscope("boot", "--shell", input="echo from $(uname -n)\nexit 4\n")
    assert (done.returncode, done.stdout) == (4, "from mmscope\n"), done.stderr


def test_keep_leaves_the_logs(mmscope: Mmscope, tmp_path: Path) -> None:
    done = mmscope("boot", "--keep", "--command", "true")
    assert done.returncode == 0, done.stderr
    (run,) = (tmp_path / "runs").iterdir()
    assert "Linux version" in (run / "console.log").read_text(errors="replace")


@pytest.mark.parametrize(
    ("arguments", "code", "complaint"),
    [
        (["--command", "true", "--arch", "mips"], 2, "unknown architecture 'mips'"),
        (["--command", "true", "--kernel", "hamm"], 2, "hamm"),
        (["--command", "true", "--node", "100000K"], 2, "not a multiple of 2M"),
        (["--command", "true", "--node", "much"], 2, "'much' is not a size"),
        (["--command", "true", "--node", "2T"], 2, "more than the emulated CPU"),
        (["--command", "true", "--distance", "0,1=20"], 2, "--distance"),
        (
            ["--command", "true", "--arch", "i386", *["--node", "512M"] * 2],
            2,
            "built without CONFIG_NUMA: 2 nodes asked",
        ),
        (["--command", "true", "--cpus", "1000"], 2, "--cpus 1000"),
        (["--command", "true", "--accel", "xen"], 2, "unknown accelerator 'xen'"),
        (
            ["--command", "true", "--node", "128M", "--cpus", "2", *["--node", "2M"] * 130],
            2,
            "QEMU takes 128 nodes",
        ),
        (["--shell", "--command", "true"], 2, "either --shell or --command"),
        ([], 2, "either --shell or --command"),
        (["--no-such-option"], 2, "no-such-option"),
    ],
)
def test_bad_input_is_named(
    arguments: list[str], code: int, complaint: str, mmscope: Mmscope, tmp_path: Path
) -> None:
    done = mmscope("boot", *arguments)
    assert done.returncode == code, done.stderr
    assert complaint in done.stderr
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("arch", ARCHES)
def test_a_panic_at_boot_is_a_guest_failure(arch: str, mmscope: Mmscope, tmp_path: Path) -> None:
    done = mmscope("boot", "--arch", arch, "--append", "rdinit=/nonexistent", "--command", "true")
    assert done.returncode == 4, done.stderr
    assert "kernel panic in the guest while booting" in done.stderr
    assert "Unable to mount root fs" in done.stderr
    (run,) = (tmp_path / "runs").iterdir()
    assert '"panicked"' in (run / "manifest.json").read_text()
    assert qemu_pids() == set()


def test_an_unwritable_place_is_named(mmscope: Mmscope, tmp_path: Path) -> None:
    (tmp_path / "runs").write_text("a file where a directory should be")
    done = mmscope("boot", "--command", "true")
    assert done.returncode == 3
    assert str(tmp_path / "runs") in done.stderr


def test_without_qemu_the_package_is_named(mmscope: Mmscope) -> None:
    done = mmscope(
        "boot", "--command", "true", env={**os.environ, "MMSCOPE_QEMU_X86_64": "no-qemu-here"}
    )
    assert done.returncode == 3
    assert "apt-get install qemu-system-x86" in done.stderr


def test_the_doctor_tells_what_kvm_is_worth(mmscope: Mmscope) -> None:
    done = mmscope("doctor", "--json", "--again")
    assert done.returncode == 0, done.stdout + done.stderr
    findings = {finding["what"]: finding for finding in json.loads(done.stdout)}
    assert findings["qemu x86_64"]["state"] == "ok"
    assert findings["qemu arm64"]["state"] == "ok"
    assert findings["kvm"]["detail"]
    # Whatever was found, a guest boots with the accelerator that is chosen from it.
    assert mmscope("boot", "--accel", "auto", "--command", "true").returncode == 0


def test_the_doctor_names_the_package_of_a_missing_tool(mmscope: Mmscope) -> None:
    done = mmscope("doctor", env={**os.environ, "MMSCOPE_QEMU_ARM64": "no-qemu-here"})
    assert done.returncode == 3
    assert "apt-get install qemu-system-arm" in done.stdout
