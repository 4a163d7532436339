"""Why a symbol did not come out as it was asked for: every reason that Kconfig can have."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.errors import BuildError
from harness.kernel.fragment import Request
from harness.kernel.kconfig_source import conjuncts, evaluate, read_tree
from harness.kernel.survival import check_survival, explain

_TOP = """\
mainmenu "Linux"
source "arch/$(SRCARCH)/Kconfig"
source "mm/Kconfig"

config EXPERT
\tbool "Experts"
\thelp
\t  config NOT_A_SYMBOL is a line of help.

\t  if this were read, all below would hang on it

menuconfig NET
\tbool "Networking"

if NET
source "net/Kconfig"
endif # NET
"""
_MM = """\
choice
\tprompt "Allocator"
\tdepends on MMU
config SLAB
\tbool "SLAB"
config SLUB
\tbool "SLUB"
config SLOB
\tdepends on EXPERT
\tbool "SLOB"
endchoice

config COMPACTION
\tbool "Compaction"
\tselect MIGRATION
config MIGRATION
\tbool "Migration" if EXPERT
\tdefault y
config FLATMEM
\tdef_bool y
\tdepends on \\
\t\t!SPARSEMEM
config NODES_SHIFT
\tint "Nodes" # a number
\trange 1 10
config DEEP
\tbool "Deep"
\tdepends on NUMA && (PCI || ACPI) && \\
\t\tEXPERT
"""
_NET = 'config PACKET\n\ttristate "Packets"\n'
_X86 = 'config MMU\n\tdef_bool y\nconfig X86_ONLY\n\tbool "x"\n'


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for name, text in {
        "Kconfig": _TOP,
        "mm/Kconfig": _MM,
        "net/Kconfig": _NET,
        "arch/x86/Kconfig": _X86,
        "arch/arm64/Kconfig": 'config ARM_ONLY\n\tbool "a"\n',
    }.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def _why(tree: Path, symbol: str, value: str, **config: str) -> str:
    final = {f"CONFIG_{name}": each for name, each in {"MMU": "y", **config}.items()}
    request = Request(symbol=symbol, value=value, where="x:1")
    return explain(request, final, read_tree(tree, "x86_64"))


def test_only_the_architectures_own_files_count(tree: Path) -> None:
    definitions = read_tree(tree, "x86_64").definitions
    assert "X86_ONLY" in definitions
    assert "ARM_ONLY" not in definitions
    assert "NOT_A_SYMBOL" not in definitions
    assert "ARM_ONLY" in read_tree(tree, "arm64").definitions


@pytest.mark.parametrize(
    ("symbol", "value", "config", "why"),
    [
        ("NOSUCH", "y", {}, "this source has no symbol NOSUCH for the architecture"),
        (
            "COMPACTON",
            "y",
            {},
            "this source has no symbol COMPACTON for the architecture (is COMPACTION meant?)",
        ),
        ("ARM_ONLY", "y", {}, "this source has no symbol ARM_ONLY for the architecture"),
        ("PACKET", "y", {}, "it depends on NET (NET is n) [net/Kconfig:1]"),
        ("SLOB", "y", {"SLUB": "y"}, "it depends on EXPERT (EXPERT is n) [mm/Kconfig:8]"),
        ("SLAB", "y", {"SLUB": "y"}, "the choice that it belongs to has SLUB"),
        ("SLAB", "y", {"MMU": "n"}, "it depends on MMU (MMU is n) [mm/Kconfig:4]"),
        ("MIGRATION", "n", {"COMPACTION": "y", "MIGRATION": "y"}, "selected by COMPACTION"),
        (
            "MIGRATION",
            "n",
            {"MIGRATION": "y"},
            "it can be unset only where EXPERT holds [mm/Kconfig:16]",
        ),
        (
            "FLATMEM",
            "n",
            {"FLATMEM": "y"},
            "no fragment can unset it: it is on by default [mm/Kconfig:19]",
        ),
        (
            "FLATMEM",
            "y",
            {"SPARSEMEM": "y"},
            "it depends on !SPARSEMEM (SPARSEMEM is y) [mm/Kconfig:19]",
        ),
        ("FLATMEM", "y", {}, "no fragment can set it: other symbols decide [mm/Kconfig:19]"),
        ("MIGRATION", "y", {}, "it can be set only where EXPERT holds [mm/Kconfig:16]"),
        (
            "NODES_SHIFT",
            "11",
            {"NODES_SHIFT": "10"},
            "the value was not taken (is it of its type and range?) [mm/Kconfig:23]",
        ),
        (
            "DEEP",
            "y",
            {"NUMA": "y"},
            "it depends on (PCI || ACPI) (does not hold); EXPERT (EXPERT is n) [mm/Kconfig:26]",
        ),
    ],
)
def test_reasons(tree: Path, symbol: str, value: str, config: dict[str, str], why: str) -> None:
    assert _why(tree, symbol, value, **config) == why


def test_all_that_was_lost_is_listed(tree: Path) -> None:
    requests = [
        Request(symbol="NET", value="y", where="guest.config:1"),
        Request(symbol="NOSUCH", value="y", where="guest.config:2"),
        Request(symbol="SLAB", value="y", where="slab.config:1"),
        Request(symbol="NEVER", value="n", where="slab.config:2"),
    ]
    final = {"CONFIG_NET": "y", "CONFIG_MMU": "y", "CONFIG_SLUB": "y", "CONFIG_SLAB": "n"}
    with pytest.raises(BuildError, match="3 of the 4 symbols") as caught:
        check_survival(requests, final, read_tree(tree, "x86_64"), "slab (6.1, x86_64)")
    assert caught.value.details["lost"].splitlines() == [
        (
            "CONFIG_NOSUCH=y (guest.config:2) came out n: "
            "this source has no symbol NOSUCH for the architecture"
        ),
        "CONFIG_SLAB=y (slab.config:1) came out n: the choice that it belongs to has SLUB",
        ("CONFIG_NEVER=n (slab.config:2): this source has no symbol NEVER for the architecture"),
    ]
    check_survival(requests[:1], final, read_tree(tree, "x86_64"), "x")


def test_a_directory_without_kconfig(tmp_path: Path) -> None:
    with pytest.raises(BuildError, match="no Kconfig"):
        read_tree(tmp_path, "x86_64")


@pytest.mark.parametrize(
    ("expression", "holds"),
    [
        ("A", True),
        ("!A", False),
        ("A && B", False),
        ("A || B", True),
        ("(B || A) && !B", True),
        ("M", True),
        ("M=m", True),
        ("A != n", True),
        ('S = "x y"', True),
        ("$(cc-option,-x)", None),
        ("A && $(cc-option,-x)", None),
        ("B && $(cc-option,-x)", False),
        ("A || $(cc-option,-x)", True),
        ("N > 3", None),
        ("A &&", None),
    ],
)
def test_expressions(expression: str, holds: bool | None) -> None:
    config = {"CONFIG_A": "y", "CONFIG_M": "m", "CONFIG_S": "x y", "CONFIG_N": "5"}
    assert evaluate(expression, config) is holds


def test_parts_of_an_expression() -> None:
    assert conjuncts("A && (B || C) && !D") == ["A", "(B || C)", "!D"]
    assert conjuncts("A || B && C") == ["A || B && C"]
