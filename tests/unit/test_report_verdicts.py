"""Claims as text, grouped and ordered."""

from __future__ import annotations

from analysis.report.verdicts import families, family_of, scope_text, value_text


def claim(name: str, verdict: str) -> dict[str, object]:
    return {
        "id": name, "scope": {}, "predicted": 1, "observed": 1, "unit": "", "verdict": verdict,
        "why": "",
    }  # fmt: skip


def test_the_family_is_what_stands_before_the_first_separator() -> None:
    assert family_of("watermark.low") == "watermark"
    assert family_of("watermark_low") == "watermark_low"
    assert family_of("slab/kmalloc-64") == "slab"
    assert family_of("/odd") == "/odd"


def test_scopes_read_like_places() -> None:
    assert scope_text({"node": 0, "zone": "DMA", "order": None}) == "node 0 · zone DMA"
    assert scope_text("the whole run") == "the whole run"
    assert scope_text({}) == ""


def test_values_are_exact() -> None:
    assert value_text(9999) == "9999"
    assert value_text(1234567) == "1,234,567"
    assert value_text(-1000) == "-1000"
    assert value_text(0.1 + 0.2) == "0.30000000000000004"
    assert value_text([1, 0, 3]) == "1 0 3"
    assert value_text({"a": 1}) == '{"a": 1}'
    assert value_text(True) == "yes"
    assert value_text(None) == value_text([]) == "\N{EN DASH}"


def test_families_with_failures_come_first_and_undecided_ones_last() -> None:
    claims = [
        claim("e", "unknown"),
        claim("b", "holds"),
        claim("a", "holds"),
        claim("d", "unknown"),
        claim("d", "holds"),
        claim("c", "fails"),
    ]
    found = families(claims, {"c": "what c says"})
    assert [family.name for family in found] == ["c", "b", "a", "d", "e"]
    assert found[0].meaning == "what c says"
    assert (found[3].count("unknown"), found[3].count("holds")) == (1, 1)
    assert [family.judged for family in found] == [True, True, True, True, False]
    assert sum(len(family.rows) for family in found) == len(claims)
