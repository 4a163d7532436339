"""The whole way from a name to a kernel, with an archive in memory in place of apt."""

from __future__ import annotations

import errno
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

import harness.kernel.fetch as fetch_module
from harness.errors import (
    DiskFullError,
    FetchError,
    GoneError,
    InfrastructureError,
    MissingToolError,
    NetworkError,
    UsageError,
    VerificationError,
)
from harness.kernel.apt import AptRoot, open_root, run_apt
from harness.kernel.catalog import list_cached
from harness.kernel.fetch import obtain
from harness.kernel.kconfig import max_nodes, read_kconfig
from harness.kernel.package import Kernel, load_kernel
from tests.made_packages import FakeArchive, kernel_files, make_arm64_image, make_deb, make_host

RELEASE = "6.1.0-50-amd64"
IMAGE = f"linux-image-{RELEASE}"
NO_NETWORK = "Err:1 x InRelease\n  Could not resolve 'm.example'\n"
NO_KEY = "E: the public key is not available: NO_PUBKEY 6ED0E7B82643E131\n"


@pytest.fixture
def archive(tmp_path: Path) -> FakeArchive:
    """A suite with one kernel of the old layout behind its meta package."""
    pool = tmp_path / "pool"
    archive = FakeArchive()
    archive.add(
        make_deb(pool, "linux-image-amd64", "6.1.176-1", "amd64", {}), f"{IMAGE} (= 6.1.176-1)"
    )
    archive.add(
        make_deb(pool, IMAGE, "6.1.176-1", "amd64", kernel_files(RELEASE)),
        "kmod, linux-base (>= 4.3~), initramfs-tools (>= 0.120) | linux-initramfs-tool",
    )
    return archive


@pytest.fixture
def world(tmp_path: Path) -> dict[str, str]:
    """The environment and host that ``get`` works in."""
    make_host(tmp_path / "host")
    keyring = tmp_path / "keyring.gpg"
    keyring.touch()
    return {"MMSCOPE_CACHE": str(tmp_path / "cache"), "MMSCOPE_KEYRING": str(keyring)}


class Getter:
    """``obtain`` in the world of one test, with a clock that the test moves."""

    def __init__(self, world: dict[str, str], host: Path, archive: FakeArchive) -> None:
        self.world, self.host, self.archive = world, host, archive
        self.now_s = 1e9
        self.notes: list[str] = []

    @property
    def cache(self) -> Path:
        return Path(self.world["MMSCOPE_CACHE"])

    def __call__(self, spec: str | None = None, arch: str = "x86_64") -> Kernel:
        self.notes = []
        self.archive.calls.clear()
        return obtain(
            spec,
            arch,
            progress=self.notes.append,
            environment=self.world,
            host_root=self.host,
            run=self.archive,
            clock=lambda: self.now_s,
        )


@pytest.fixture
def get(tmp_path: Path, world: dict[str, str], archive: FakeArchive) -> Getter:
    return Getter(world, tmp_path / "host", archive)


def test_the_default_kernel_is_the_hosts_newest(get: Getter, archive: FakeArchive) -> None:
    kernel = get()
    assert (kernel.name, kernel.release, kernel.arch) == ("bookworm", RELEASE, "x86_64")
    assert (kernel.package, kernel.version) == (IMAGE, "6.1.176-1")
    assert kernel.boot_image.name == "vmlinux"
    assert kernel.boot_image.read_bytes().startswith(b"\x7fELF")
    assert (kernel.modules_directory / "kernel/fs/erofs.ko").is_file()
    assert max_nodes(read_kconfig(kernel.config_path)) == 64
    assert list(kernel.sha256) == [f"{IMAGE}_6.1.176-1_amd64.deb"]
    assert load_kernel(kernel.directory) == kernel
    assert list_cached(get.cache) == [kernel]


def test_a_second_time_needs_no_apt(get: Getter, archive: FakeArchive) -> None:
    first = get()
    assert get() == first
    assert archive.calls == []
    assert get(RELEASE) == first
    assert archive.calls == []


def test_a_day_later_the_suite_is_asked_again(get: Getter, archive: FakeArchive) -> None:
    first = get()
    get.now_s += 90000
    assert get() == first
    assert archive.count("show") > 0
    assert archive.count("download") == 0


def test_off_the_network_the_cached_kernel_serves(get: Getter, archive: FakeArchive) -> None:
    first = get()
    (get.cache / "apt/bookworm-amd64/updated.json").unlink()
    archive.fault = NO_NETWORK
    get.now_s += 90000
    assert get() == first
    assert any("note:" in note and RELEASE in note for note in get.notes)
    # For a while it does not ask again.
    assert get() == first
    assert archive.calls == []


def test_a_wrong_signature_is_never_passed_over(get: Getter, archive: FakeArchive) -> None:
    get()
    (get.cache / "apt/bookworm-amd64/updated.json").unlink()
    archive.fault = NO_KEY
    get.now_s += 90000
    with pytest.raises(VerificationError):
        get()


def test_no_network_and_nothing_cached(get: Getter, archive: FakeArchive) -> None:
    archive.fault = NO_NETWORK
    with pytest.raises(NetworkError):
        get()


def test_the_network_may_go_away_during_the_download(get: Getter, archive: FakeArchive) -> None:
    archive.fault, archive.faulty = NO_NETWORK, ("download",)
    with pytest.raises(NetworkError):
        get()
    archive.fault = None
    assert get().release == RELEASE


def test_security_may_be_missing_but_it_is_said(get: Getter, archive: FakeArchive) -> None:
    archive.fault, archive.only_with = "E: something broke\n", "bookworm-security"
    assert get().release == RELEASE
    assert any("without updates or security" in note for note in get.notes)


def test_a_truncated_download_is_refused_and_removed(get: Getter, archive: FakeArchive) -> None:
    archive.spoil = True
    with pytest.raises(VerificationError, match=IMAGE):
        get()
    assert not list((get.cache / "apt/bookworm-amd64/archives").glob("*.deb"))
    assert list_cached(get.cache) == []
    archive.spoil = False
    assert get().release == RELEASE


def test_a_full_disk(get: Getter, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: object, **kwargs: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(fetch_module, "unpack_deb", full)
    with pytest.raises(DiskFullError, match="no room"):
        get()
    assert not list((get.cache / "kernels/x86_64").glob(".*.tmp"))


@pytest.mark.parametrize("spec", ["nosuch", "6.1.0-1-amd64", "nosuch/amd64", ""])
def test_an_unknown_kernel_lists_what_there_is(get: Getter, spec: str) -> None:
    get()
    with pytest.raises(UsageError) as caught:
        get(spec)
    assert "bookworm-backports" in caught.value.details["suites"]
    assert caught.value.details["cached for x86_64"] == RELEASE


def test_an_unknown_flavour_lists_the_suites_flavours(get: Getter) -> None:
    with pytest.raises(UsageError, match="'nosuch'") as caught:
        get("bookworm/nosuch")
    assert caught.value.details["it has"] == f"{RELEASE}, amd64"


def test_a_suite_without_kernels_for_an_architecture(get: Getter) -> None:
    get.archive = FakeArchive()
    with pytest.raises(UsageError, match="sid has no kernel '686-pae' for i386") as caught:
        get("sid", "i386")
    assert caught.value.details["it has"] == "none"
    assert caught.value.fix == "name another suite"


def test_a_flavour_must_be_a_name(get: Getter) -> None:
    with pytest.raises(UsageError, match="not a kernel flavour"):
        get("bookworm/--option")


def test_an_unknown_architecture(get: Getter) -> None:
    with pytest.raises(UsageError, match="riscv64"):
        get(None, "riscv64")


def test_a_missing_keyring(get: Getter) -> None:
    get.world["MMSCOPE_KEYRING"] = "/nonexistent/keyring.gpg"
    with pytest.raises(MissingToolError, match="keyring"):
        get()


def test_a_release_of_the_suite_by_its_name(get: Getter) -> None:
    assert get(f"bookworm/{RELEASE}").name == f"bookworm/{RELEASE}"


def test_a_part_that_the_suite_lacks(get: Getter, archive: FakeArchive) -> None:
    del archive.debs[IMAGE]
    with pytest.raises(FetchError, match=f"lacks {IMAGE}"):
        get()


def test_a_damaged_kernel_is_fetched_again(get: Getter, archive: FakeArchive) -> None:
    kernel = get()
    kernel.boot_image.write_bytes(b"short")
    with pytest.raises(InfrastructureError, match="damaged"):
        load_kernel(kernel.directory)
    assert list_cached(get.cache) == []
    assert get() == kernel
    assert archive.count("download") == 1


@pytest.mark.parametrize("field", ["schema_version", "sha256", "release", "boot_image"])
def test_a_record_without_a_field_is_damaged(get: Getter, field: str) -> None:
    kernel = get()
    path = kernel.directory / "kernel.json"
    record = json.loads(path.read_text())
    del record[field]
    path.write_text(json.dumps(record))
    with pytest.raises(InfrastructureError, match="damaged"):
        load_kernel(kernel.directory)


STALE = "E: Failed to fetch http://m/binary-amd64/Packages.xz  File has unexpected size (1 != 2)\n"


def test_security_whose_index_is_not_the_signed_one_is_left_out(
    get: Getter, archive: FakeArchive
) -> None:
    archive.fault, archive.only_with = STALE, "bookworm-security"
    assert get().release == RELEASE
    assert any("not the one that was signed" in note for note in get.notes)


def test_a_suite_whose_index_is_not_the_signed_one_is_refused(
    get: Getter, archive: FakeArchive
) -> None:
    archive.fault = STALE
    with pytest.raises(VerificationError, match="not the one that was signed"):
        get()


def _add_release(archive: FakeArchive, pool: Path, release: str, version: str) -> str:
    package = f"linux-image-{release}"
    archive.add(make_deb(pool, package, version, "amd64", kernel_files(release)))
    return package


def test_where_the_newest_is_gone_the_newest_that_is_not_serves(
    get: Getter, archive: FakeArchive, tmp_path: Path
) -> None:
    pool = tmp_path / "older"
    gone = _add_release(archive, pool, "6.1.0-49-amd64", "6.1.175-1")
    _add_release(archive, pool, "6.1.0-9-amd64", "6.1.27-1")
    _add_release(archive, pool, "6.1.0-48-amd64", "6.1.174-1")
    _add_release(archive, pool, "6.12.0-1-amd64", "6.12.1-1")
    archive.gone = frozenset({IMAGE, gone})
    kernel = get()
    assert (kernel.name, kernel.release) == ("bookworm", "6.1.0-48-amd64")
    assert f"note: bookworm is {RELEASE}, which cannot be had; using {kernel.release}" in get.notes
    assert get() == kernel
    assert archive.calls == [], "the answer is kept as any other"


def test_of_a_release_that_is_gone_the_others_are_named(
    get: Getter, archive: FakeArchive, tmp_path: Path
) -> None:
    _add_release(archive, tmp_path / "older", "6.1.0-48-amd64", "6.1.174-1")
    archive.gone = frozenset({IMAGE})
    with pytest.raises(GoneError, match="no longer has a file") as caught:
        get(f"bookworm/{RELEASE}")
    assert caught.value.details["other releases"] == "6.1.0-48-amd64"
    assert "bookworm/6.1.0-48-amd64" in str(caught.value.fix)


def test_nothing_like_it_is_left(get: Getter, archive: FakeArchive) -> None:
    archive.gone = frozenset({IMAGE})
    with pytest.raises(GoneError) as caught:
        get()
    assert caught.value.details["other releases"] == "none"


def test_a_flavour_that_begins_with_digits_is_not_a_part(get: Getter, tmp_path: Path) -> None:
    release = "6.1.0-50-686-pae"
    pool, archive = tmp_path / "i386", FakeArchive()
    image = f"linux-image-{release}"
    meta = make_deb(pool, "linux-image-686-pae", "6.1.176-1", "i386", {})
    archive.add(meta, f"{image} (= 6.1.176-1)")
    archive.add(make_deb(pool, image, "6.1.176-1", "i386", kernel_files(release, "i386")))
    get.archive = archive
    kernel = get("bookworm", "i386")
    assert (kernel.release, kernel.package, kernel.arch) == (release, image, "i386")
    assert kernel.boot_image.name == "vmlinux"


def _split_kernel(pool: Path, release: str) -> FakeArchive:
    """The layout of 7.x for arm64: everything below /usr/lib/modules, in three packages."""
    base = f"usr/lib/modules/{release}"
    archive = FakeArchive()
    contents: dict[str, tuple[dict[str, bytes | str], str]] = {
        "linux-image-arm64": ({}, f"linux-base-arm64 (= 7.2-1), linux-image-{release} (= 7.2-1)"),
        f"linux-image-{release}": (
            {},
            ", ".join(
                [
                    "dracut | linux-initramfs-tool",
                    *(
                        f"linux-{part}-{release} (= 7.2-1)"
                        for part in ("base", "binary", "modules")
                    ),
                ]
            ),
        ),
        f"linux-binary-{release}": (
            {f"{base}/vmlinuz": make_arm64_image()},
            f"linux-base-{release} (= 7.2-1)",
        ),
        f"linux-modules-{release}": ({f"{base}/kernel/fs/erofs.ko.xz": b"x"}, ""),
        f"linux-base-{release}": (
            {
                f"{base}/config": b"CONFIG_ARM64_16K_PAGES=y\n",
                f"{base}/modules.builtin": b"",
                f"{base}/dtb/board.dtb": b"x",
                f"usr/share/doc/linux-base-{release}/copyright": b"x",
            },
            "",
        ),
    }
    for package, (files, depends) in contents.items():
        archive.add(make_deb(pool, package, "7.2-1", "arm64", files), depends)
    return archive


def test_the_split_layout(get: Getter, tmp_path: Path) -> None:
    release = "7.2+deb14-arm64"
    get.archive = _split_kernel(tmp_path / "split", release)
    kernel = get("sid", "arm64")
    assert (kernel.name, kernel.release, kernel.package) == (
        "sid",
        release,
        f"linux-image-{release}",
    )
    assert kernel.boot_image.read_bytes() == make_arm64_image()
    assert (kernel.modules_directory / "kernel/fs/erofs.ko.xz").is_file()
    assert not (kernel.modules_directory / "dtb").exists()
    assert kernel.config_path.read_text() == "CONFIG_ARM64_16K_PAGES=y\n"
    assert len(kernel.sha256) == 4


def _root(get: Getter) -> AptRoot:
    return open_root(
        "bookworm",
        "x86_64",
        cache=get.cache,
        environment=get.world,
        host_root=get.host,
        run=get.archive,
    )


def _ignore(text: str) -> None:
    pass


def test_fresh_lists_are_used_as_they_are(get: Getter, archive: FakeArchive) -> None:
    root = _root(get)
    root.refresh(_ignore)
    root.refresh(_ignore)
    assert archive.count("update") == 1
    root.refresh(_ignore, max_age_s=0)
    assert archive.count("update") == 2


def test_other_sources_make_the_lists_stale(get: Getter, archive: FakeArchive) -> None:
    root = _root(get)
    root.refresh(_ignore)
    replace(root, sources=root.sources[:1]).refresh(_ignore)
    assert archive.count("update") == 2


def test_nothing_of_the_hosts_apt_state_is_named(get: Getter) -> None:
    root = _root(get)
    root.refresh(_ignore)
    text = (root.directory / "apt.conf").read_text()
    assert 'AllowUnauthenticated "false"' in text
    assert '"true"' not in text.replace('Check-Valid-Until "true"', "")
    assert "/var/lib" not in text
    assert "/var/cache" not in text


def test_the_closure_is_described(get: Getter, archive: FakeArchive, tmp_path: Path) -> None:
    archive.add(make_deb(tmp_path / "more", "tool", "1:2.0-1", "amd64", {"usr/bin/tool": b"x"}))
    root = _root(get)
    root.refresh(_ignore)
    (deb,) = root.resolve(["tool"])
    assert (deb.version, deb.file_name) == ("1:2.0-1", "tool_1%3a2.0-1_amd64.deb")
    (path,) = root.download([deb], _ignore)
    assert path.read_bytes() == archive.debs["tool"][0].read_bytes()
    root.download([deb], _ignore)
    assert archive.count("download") == 1


def test_a_host_without_apt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MissingToolError, match="apt-get"):
        run_apt(["apt-get", "update"], tmp_path, 5.0)


def test_an_apt_that_hangs_is_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make_program: Callable[[str, str], Path]
) -> None:
    make_program("apt-get", "exec sleep 60")
    with pytest.raises(NetworkError, match=r"0\.3 s"):
        run_apt(["apt-get", "update"], tmp_path, 0.3)


def test_apt_speaks_the_language_we_read(
    tmp_path: Path, make_program: Callable[[str, str], Path]
) -> None:
    make_program("apt-get", 'echo "$LC_ALL"; echo oops >&2; exit 7')
    result = run_apt(["apt-get"], tmp_path, 5.0)
    assert (result.status, result.stdout, result.stderr) == (7, "C\n", "oops\n")


@pytest.fixture
def make_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], Path]:
    """Put a shell script in front of everything on PATH."""

    def make(name: str, text: str) -> Path:
        path = tmp_path / "bin" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(0o755)
        return path

    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin:/bin")
    return make
