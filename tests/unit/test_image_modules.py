from __future__ import annotations

import lzma
from collections.abc import Mapping
from pathlib import Path

import pytest
import zstandard

from harness.errors import BuildError
from harness.image.modules import ModuleTree, load_order, parse_modinfo
from tests.made_packages import make_elf, make_module


def _tree(
    directory: Path,
    modules: Mapping[str, bytes],
    *,
    builtin: str = "",
    builtin_modinfo: bytes = b"",
) -> ModuleTree:
    for path, content in modules.items():
        file = directory / "kernel" / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
    (directory / "modules.builtin").write_text(builtin)
    if builtin_modinfo:
        (directory / "modules.builtin.modinfo").write_bytes(builtin_modinfo)
    return ModuleTree(directory)


def _names(tree: ModuleTree, *wanted: str) -> list[str]:
    return [module.name for module in tree.closure(wanted)]


def test_dependencies_load_first_in_every_packing(tmp_path: Path) -> None:
    top = make_module("top", depends="mid-dle,low")
    tree = _tree(
        tmp_path,
        {
            "a/top.ko": top,
            "b/mid-dle.ko.xz": lzma.compress(make_module("mid_dle", depends="low")),
            "c/low.ko.zst": zstandard.ZstdCompressor().compress(make_module("low")),
        },
    )
    modules = tree.closure(["top"])
    assert load_order(modules) == "low.ko\nmid-dle.ko\ntop.ko\n"
    assert modules[-1].content == top
    assert modules[0].content == make_module("low")


def test_a_module_loads_once_and_builtins_do_not(tmp_path: Path) -> None:
    tree = _tree(
        tmp_path,
        {
            "one.ko": make_module("one", depends="shared,virtio"),
            "two.ko": make_module("two", depends="shared"),
            "shared.ko": make_module("shared"),
        },
        builtin="kernel/drivers/virtio/virtio.ko\nkernel/net/packet/af-packet.ko\n",
    )
    assert _names(tree, "two", "one", "af_packet") == ["shared", "two", "one"]


def test_soft_dependencies(tmp_path: Path) -> None:
    tree = _tree(
        tmp_path,
        {
            "fs.ko": make_module("fs", extra=["softdep=pre: crc32c absent post: late"]),
            "late.ko": make_module("late"),
            "crypto/crc32c-fast.ko": make_module("crc32c_fast", extra=["alias=crc32c"]),
            "crypto/crc32c_generic.ko": make_module("crc32c_generic", extra=["alias=crc32c"]),
            "drivers/odd.ko": make_module("odd", extra=["alias=absent"]),
        },
    )
    assert _names(tree, "fs") == ["crc32c_generic", "fs", "late"]


def test_an_algorithm_that_is_built_in_needs_no_module(tmp_path: Path) -> None:
    tree = _tree(
        tmp_path,
        {
            "fs.ko": make_module("fs", extra=["softdep=pre: crc32c"]),
            "crypto/fast.ko": make_module("fast", extra=["alias=crc32c"]),
        },
        builtin_modinfo=b"crc32c_generic.alias=crc32c\0crc32c_generic.license=GPL\0",
    )
    assert _names(tree, "fs") == ["fs"]


def test_soft_dependencies_may_form_a_circle(tmp_path: Path) -> None:
    tree = _tree(
        tmp_path,
        {
            "a.ko": make_module("a", extra=["softdep=pre: b"]),
            "b.ko": make_module("b", depends="a"),
        },
    )
    with pytest.raises(BuildError, match="a → b → a"):
        _names(tree, "a")
    assert _names(tree, "b") == ["a", "b"]


def test_a_module_that_is_nowhere_is_named(tmp_path: Path) -> None:
    tree = _tree(tmp_path, {"a.ko": make_module("a", depends="gone")})
    with pytest.raises(BuildError, match="module virtio_blk is neither"):
        _names(tree, "virtio_blk")
    with pytest.raises(BuildError, match="module gone, which a needs, is neither"):
        _names(tree, "a")


def test_modules_that_need_each_other(tmp_path: Path) -> None:
    tree = _tree(
        tmp_path,
        {"a.ko": make_module("a", depends="b"), "b.ko": make_module("b", depends="a")},
    )
    with pytest.raises(BuildError, match="a → b → a"):
        _names(tree, "a")


@pytest.mark.parametrize(
    ("name", "content", "text"),
    [
        ("a.ko", b"no elf", "not an ELF file"),
        ("a.ko", make_elf(), "no .modinfo"),
        ("a.ko.xz", b"no xz", "damaged module"),
        ("a.ko.zst", b"no zstd", "damaged module"),
        ("a.ko", make_elf(62, {".modinfo": b"license\0"}), "damaged .modinfo"),
    ],
)
def test_a_damaged_module_is_named(tmp_path: Path, name: str, content: bytes, text: str) -> None:
    with pytest.raises(BuildError, match=text) as caught:
        _names(_tree(tmp_path, {name: content}), "a")
    assert "a.ko" in caught.value.message


def test_a_directory_that_is_no_module_tree(tmp_path: Path) -> None:
    with pytest.raises(BuildError, match=r"modules\.builtin"):
        ModuleTree(tmp_path)


def test_modinfo_without_a_name_takes_the_files() -> None:
    info = parse_modinfo(b"license=GPL\0softdep=post: x-y\0weakdep=z\0", "old-one.ko.xz")
    assert (info.name, info.depends, info.before, info.after) == ("old_one", (), (), ("x_y",))
