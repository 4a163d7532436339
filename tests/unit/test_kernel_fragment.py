"""Fragments: what they may say, how they are joined, and that those of the catalogue are sound."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.errors import InfrastructureError, UsageError
from harness.kernel.custom import custom_kernels
from harness.kernel.fragment import (
    Request,
    fragment_paths,
    holds,
    join,
    parse_fragment,
    read_fragments,
    render_requests,
)


def test_every_form_of_a_line() -> None:
    text = (
        "# why\nCONFIG_A=y\n\nCONFIG_B=n\n# CONFIG_C is not set\nCONFIG_D=14\n"
        'CONFIG_E="a b"\nCONFIG_F=0x1000\n'
    )
    requests = parse_fragment(text, "x.config")
    assert [(request.symbol, request.value) for request in requests] == [
        ("A", "y"),
        ("B", "n"),
        ("C", "n"),
        ("D", "14"),
        ("E", '"a b"'),
        ("F", "0x1000"),
    ]
    assert requests[1].where == "x.config:4"
    assert render_requests(requests).splitlines() == [
        "CONFIG_A=y",
        "# CONFIG_B is not set",
        "# CONFIG_C is not set",
        "CONFIG_D=14",
        'CONFIG_E="a b"',
        "CONFIG_F=0x1000",
    ]


@pytest.mark.parametrize(
    "line", ["CONFIG_A", "CONFIG_A=", "A=y", "CONFIG_A=y # why", "CONFIG_A=yes", 'CONFIG_A="x']
)
def test_a_line_without_meaning_is_named(line: str) -> None:
    with pytest.raises(InfrastructureError, match=r"x\.config:2: not a line"):
        parse_fragment(f"CONFIG_Z=y\n{line}\n", "x.config")


def test_a_symbol_set_twice_in_one_fragment() -> None:
    with pytest.raises(InfrastructureError, match=r"x\.config:2: CONFIG_A .* \(x\.config:1\)"):
        parse_fragment("CONFIG_A=y\nCONFIG_A=n\n", "x.config")


def test_the_later_fragment_wins() -> None:
    first = parse_fragment("CONFIG_A=y\nCONFIG_B=y\n", "first")
    second = parse_fragment("CONFIG_A=n\n", "second")
    joined = join([first, second])
    assert [(request.symbol, request.value, request.where) for request in joined] == [
        ("B", "y", "first:2"),
        ("A", "n", "second:1"),
    ]


@pytest.mark.parametrize(
    ("value", "final", "as_asked"),
    [
        ("y", {"CONFIG_A": "y"}, True),
        ("y", {"CONFIG_A": "m"}, False),
        ("y", {}, False),
        ("n", {}, True),
        ("n", {"CONFIG_A": "n"}, True),
        ("n", {"CONFIG_A": "y"}, False),
        ("6", {"CONFIG_A": "6"}, True),
        ("6", {"CONFIG_A": "10"}, False),
        ('"-x"', {"CONFIG_A": "-x"}, True),
    ],
)
def test_what_counts_as_survival(value: str, final: dict[str, str], as_asked: bool) -> None:
    assert holds(Request(symbol="A", value=value, where="x:1"), final) is as_asked


def test_a_fragment_may_have_a_part_for_one_architecture(tmp_path: Path) -> None:
    for name in ("a.config", "a.arm64.config", "b.arm64.config"):
        (tmp_path / name).write_text("CONFIG_A=y\n")
    names = [path.name for path in fragment_paths(["a", "b"], "arm64", tmp_path)]
    assert names == ["a.config", "a.arm64.config", "b.arm64.config"]
    with pytest.raises(InfrastructureError, match="no fragment 'b' for x86_64"):
        fragment_paths(["a", "b"], "x86_64", tmp_path)


def test_the_fragments_of_the_catalogue_can_be_read() -> None:
    kernels = custom_kernels()
    assert {"slub", "slab", "slob", "uma", "sparsemem-classic", "pages-64k"} <= kernels.keys()
    for kernel in kernels.values():
        for arch in kernel.arches:
            requests = read_fragments(fragment_paths(kernel.fragments, arch))
            values = {request.symbol: request.value for request in requests}
            assert values["DEVTMPFS"] == values["BLK_DEV_INITRD"] == "y"
            virtio = {values.get(name) for name in ("EROFS_FS", "VIRTIO_BLK", "VIRTIO_CONSOLE")}
            assert virtio == ({None} if arch == "m68k" else {"y"})
            assert ("PVH" in values) is (arch == "x86_64")
            assert sum(values.get(name) == "y" for name in ("SLAB", "SLOB", "SLUB")) == 1


def _catalogue(tmp_path: Path, entry: str) -> Path:
    path = tmp_path / "catalog.toml"
    path.write_text('[suites.bookworm]\nlinux = "6.1"\n' + entry)
    return path


_GOOD = """
[custom.tiny]
why = "to test"
suite = "bookworm"
linux = "6.1"
arches = ["x86_64"]
fragments = ["guest"]
"""


def test_an_entry(tmp_path: Path) -> None:
    (kernel,) = custom_kernels(_catalogue(tmp_path, _GOOD)).values()
    assert (kernel.name, kernel.base, kernel.fragments) == ("tiny", "allnoconfig", ("guest",))
    with pytest.raises(UsageError, match="not made for arm64") as caught:
        kernel.check_arch("arm64")
    assert caught.value.fix == "add --arch x86_64"


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("custom.tiny", "custom.bookworm", "name of a suite"),
        ("custom.tiny", 'custom."Tiny!"', "a name is of"),
        ('"6.1"', '"six"', "must be a series"),
        ('["x86_64"]', '["vax"]', "unknown architecture 'vax'"),
        ('["guest"]', "[]", "fragments must be a list"),
        ('why = "to test"', "", "why must be a text"),
        ('why = "to test"', 'why = "x"\nbase = "defconfig"', "base is allnoconfig or stock"),
        ('why = "to test"', 'why = "x"\nwhy_not = "y"', "unknown key 'why_not'"),
    ],
)
def test_an_entry_that_means_nothing(tmp_path: Path, old: str, new: str, said: str) -> None:
    with pytest.raises(InfrastructureError, match=said):
        custom_kernels(_catalogue(tmp_path, _GOOD.replace(old, new)))
