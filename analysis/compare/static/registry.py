"""Every static rule, in the order in which a reader meets them."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from analysis.compare.rule import Rule

PARTS: Mapping[str, tuple[Rule, ...]] = MappingProxyType({})
"""Part of memory management → its rules."""

RULES: tuple[Rule, ...] = tuple(rule for rules in PARTS.values() for rule in rules)
