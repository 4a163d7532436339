from __future__ import annotations

import io
import tarfile
from pathlib import Path, PurePosixPath

import pytest

from harness.errors import BuildError, MissingToolError
from harness.kernel.unpack import extract_tar, merge_usr, unpack_deb
from tests.made_packages import make_deb


def _tar(*members: tuple[str, bytes, str, bytes]) -> io.BytesIO:
    """(name, type, link target, content) of each member."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name, kind, target, content in members:
            info = tarfile.TarInfo(name)
            info.type, info.linkname, info.size, info.mode = kind, target, len(content), 0o4755
            archive.addfile(info, io.BytesIO(content))
    out.seek(0)
    return out


def test_a_package_lands_in_a_merged_usr(tmp_path: Path) -> None:
    files: dict[str, bytes | str] = {"bin/tool": b"x", "usr/share/a": b"y", "lib/l.so": "l.so.1"}
    deb = make_deb(tmp_path, "p", "1", "all", files)
    (tmp_path / "out").mkdir()
    assert unpack_deb(deb, tmp_path / "out") == 3
    assert (tmp_path / "out/usr/bin/tool").read_bytes() == b"x"
    assert (tmp_path / "out/usr/lib/l.so").readlink() == Path("l.so.1")
    assert not (tmp_path / "out/bin").exists()


@pytest.mark.parametrize("name", ["/etc/passwd", "../up", "a/../../up"])
def test_a_path_that_leads_out_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(BuildError, match="unsafe path"):
        extract_tar(_tar((name, tarfile.REGTYPE, "", b"x")), tmp_path, merge_usr, source="p.deb")


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    inside = tmp_path / "inside"
    inside.mkdir()
    stream = _tar(("a", tarfile.SYMTYPE, str(outside), b""), ("a/file", tarfile.REGTYPE, "", b"x"))
    with pytest.raises(BuildError, match="refusing to follow"):
        extract_tar(stream, inside, merge_usr, source="p.deb")
    assert list(outside.iterdir()) == []


def test_a_file_in_place_of_a_link_replaces_the_link(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    target = tmp_path / "target"
    target.write_text("untouched")
    (tmp_path / "out/a").symlink_to(target)
    extract_tar(_tar(("a", tarfile.REGTYPE, "", b"x")), tmp_path / "out", merge_usr, source="p.deb")
    assert target.read_text() == "untouched"
    assert (tmp_path / "out/a").read_bytes() == b"x"


def test_hard_links_modes_and_nodes(tmp_path: Path) -> None:
    stream = _tar(
        ("./a", tarfile.REGTYPE, "", b"x"),
        ("./b", tarfile.LNKTYPE, "./a", b""),
        ("./dev/null", tarfile.CHRTYPE, "", b""),
        ("./empty/", tarfile.DIRTYPE, "", b""),
    )
    assert extract_tar(stream, tmp_path, merge_usr, source="p.deb") == 2
    assert (tmp_path / "b").read_bytes() == b"x"
    assert (tmp_path / "a").stat().st_mode & 0o7777 == 0o755
    assert (tmp_path / "empty").is_dir()
    assert list((tmp_path / "dev").iterdir()) == []


def test_a_hard_link_to_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BuildError, match="hard link"):
        extract_tar(_tar(("b", tarfile.LNKTYPE, "a", b"")), tmp_path, merge_usr, source="p.deb")


def test_what_is_not_wanted_stays_out(tmp_path: Path) -> None:
    def only_a(path: PurePosixPath) -> PurePosixPath | None:
        return path if path.name == "a" else None

    stream = _tar(("d/a", tarfile.REGTYPE, "", b"x"), ("e/b", tarfile.REGTYPE, "", b"y"))
    assert extract_tar(stream, tmp_path, only_a, source="p.deb") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["d"]


def test_a_damaged_package(tmp_path: Path) -> None:
    deb = make_deb(tmp_path, "p", "1", "all", {"usr/a": bytes(100_000)})
    (tmp_path / "out").mkdir()
    deb.write_bytes(deb.read_bytes()[:50_000])
    with pytest.raises(BuildError, match=r"p_1_all\.deb"):
        unpack_deb(deb, tmp_path / "out")
    deb.write_bytes(b"no package at all")
    with pytest.raises(BuildError, match=r"p_1_all\.deb"):
        unpack_deb(deb, tmp_path / "out")


def test_a_host_without_dpkg(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MissingToolError, match="dpkg-deb") as caught:
        unpack_deb(tmp_path / "p.deb", tmp_path)
    assert caught.value.fix == "apt-get install dpkg"
