from __future__ import annotations

import json
from pathlib import Path, PurePosixPath

import pytest

from harness.errors import BuildError, InfrastructureError, MissingToolError, VerificationError
from harness.image.userland import (
    PACKAGES,
    Root,
    assemble_tree,
    build_root,
    keep_path,
    load_root,
    make_erofs,
    require_mkfs,
)
from harness.kernel.apt import AptRoot, open_root
from tests.made_packages import FakeArchive, make_deb, make_host


@pytest.fixture
def archive(tmp_path: Path) -> FakeArchive:
    """The packages of the root, nearly empty, and one that only scripts need."""
    archive = FakeArchive()
    for package in (*PACKAGES, "usr-is-merged"):
        name = "busybox" if package == "busybox-static" else package
        files: dict[str, bytes | str] = {
            f"bin/{name}": f"program {name}".encode(),
            f"usr/share/doc/{package}/copyright": b"long",
        }
        if package == "coreutils":
            files["bin/sed"] = b"a real sed"
        archive.add(make_deb(tmp_path / "pool", package, "1.0-1", "amd64", files))
    return archive


@pytest.fixture
def apt(tmp_path: Path, archive: FakeArchive) -> AptRoot:
    keyring = tmp_path / "keyring.gpg"
    keyring.touch()
    return open_root(
        "bookworm",
        "x86_64",
        cache=tmp_path / "cache",
        environment={"MMSCOPE_KEYRING": str(keyring)},
        host_root=make_host(tmp_path / "host"),
        run=archive,
    )


def _build(apt: AptRoot, tmp_path: Path) -> Root:
    return build_root(apt, cache=tmp_path / "cache", progress=lambda note: None)


def test_a_root_is_built_once(apt: AptRoot, archive: FakeArchive, tmp_path: Path) -> None:
    root = _build(apt, tmp_path)
    assert set(root.packages) == set(PACKAGES)
    assert root.packages["coreutils"] == "1.0-1"
    assert root.busybox.read_bytes() == b"program busybox"
    assert root.image.read_bytes()[1024:1028] == bytes.fromhex("e2e1f5e0")
    archive.calls.clear()
    assert _build(apt, tmp_path) == root
    assert archive.calls == []
    assert sorted(path.name for path in root.directory.iterdir()) == [
        "busybox",
        "root.erofs",
        "root.json",
    ]


def test_a_spoilt_download_builds_nothing(
    apt: AptRoot, archive: FakeArchive, tmp_path: Path
) -> None:
    archive.spoil = True
    with pytest.raises(VerificationError):
        _build(apt, tmp_path)
    assert not list((tmp_path / "cache/roots").glob("[!.]*"))


def test_a_damaged_root_is_built_again(apt: AptRoot, tmp_path: Path) -> None:
    root = _build(apt, tmp_path)
    root.image.write_bytes(b"short")
    with pytest.raises(InfrastructureError, match="damaged"):
        load_root(root.directory)
    assert _build(apt, tmp_path) == root


@pytest.mark.parametrize("change", [{"sha256": "x"}, {"packages": {}}, {"surprise": 1}])
def test_a_damaged_record(apt: AptRoot, tmp_path: Path, change: dict[str, object]) -> None:
    root = _build(apt, tmp_path)
    path = root.directory / "root.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(InfrastructureError, match="damaged"):
        load_root(root.directory)


def test_the_tree_has_what_a_guest_needs(archive: FakeArchive, tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    assemble_tree([deb for deb, _ in archive.debs.values()], tree)
    for name in ("proc", "sys", "dev", "run", "tmp", "root", "mnt", "var/log", "var/tmp"):
        assert (tree / name).is_dir()
    assert (tree / "bin").readlink() == Path("usr/bin")
    assert (tree / "bin/sh").readlink() == Path("busybox")
    assert (tree / "bin/sed").read_bytes() == b"a real sed"
    assert "root:*:0:0:root:/root:/bin/sh\n" in (tree / "etc/passwd").read_text()
    assert (tree / "etc/shells").read_text() == "/bin/sh\n"
    assert (tree / "tmp").stat().st_mode & 0o7777 == 0o1777
    assert not (tree / "usr/share/doc").exists()


def test_a_tree_without_busybox(tmp_path: Path) -> None:
    with pytest.raises(BuildError, match="busybox"):
        assemble_tree([], tmp_path)


def test_the_same_tree_gives_the_same_image(archive: FakeArchive, tmp_path: Path) -> None:
    debs = [deb for deb, _ in archive.debs.values()]
    images = []
    for name, order in (("a", debs), ("b", debs[::-1])):
        tree = tmp_path / name
        tree.mkdir(mode=0o755)
        assemble_tree(order, tree)
        make_erofs(tree, tmp_path / f"{name}.erofs")
        images.append((tmp_path / f"{name}.erofs").read_bytes())
    assert images[0] == images[1]


def test_a_tree_that_mkfs_refuses(tmp_path: Path) -> None:
    with pytest.raises(BuildError, match=r"mkfs\.erofs failed"):
        make_erofs(tmp_path / "none", tmp_path / "image")


def test_a_host_without_mkfs(
    apt: AptRoot, archive: FakeArchive, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(MissingToolError) as caught:
        require_mkfs(str(tmp_path))
    assert caught.value.fix == "apt-get install erofs-utils"
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MissingToolError, match=r"mkfs\.erofs"):
        _build(apt, tmp_path)
    assert archive.calls == []


@pytest.mark.parametrize(
    ("path", "target"),
    [
        ("bin/ls", "usr/bin/ls"),
        ("usr/share/stress-ng/example", "usr/share/stress-ng/example"),
        ("usr/share/doc/x/copyright", None),
        ("usr/share/docs", "usr/share/docs"),
        ("usr/lib/x86_64-linux-gnu/gconv/UTF-7.so", None),
        ("usr/lib/x86_64-linux-gnu/gconv", None),
        ("lib/x86_64-linux-gnu/libc.so.6", "usr/lib/x86_64-linux-gnu/libc.so.6"),
        ("var/lib/dpkg/status", None),
    ],
)
def test_what_is_kept(path: str, target: str | None) -> None:
    assert keep_path(PurePosixPath(path)) == (PurePosixPath(target) if target else None)
