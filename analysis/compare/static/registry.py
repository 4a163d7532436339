"""Every static rule, in the order in which a reader meets them."""

from __future__ import annotations

from analysis.compare.rule import Rule

RULES: tuple[Rule, ...] = ()
