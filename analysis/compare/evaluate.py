"""All claims of a run."""

from __future__ import annotations

from dataclasses import replace

from analysis.compare.buddy import buddy_claims
from analysis.compare.claim import Claim
from analysis.compare.facts import Facts, Tables, page_size_from_tables
from analysis.compare.fragmentation import fragmentation_claims
from analysis.compare.free_pages import free_pages_claims
from analysis.compare.watermark import watermark_claims


def evaluate(tables: Tables, facts: Facts) -> list[Claim]:
    """Every claim that the tables of a run allow, in a fixed order.

    A table that is absent leaves out the claims about it; a fact that is absent makes the claims
    that need it unknown.

    Raises:
        ParseError: a take or drop mark that cannot be read.
    """
    if facts.page_size_bytes is None:
        facts = replace(facts, page_size_bytes=page_size_from_tables(tables))
    return [
        *watermark_claims(tables, facts),
        *free_pages_claims(tables),
        *fragmentation_claims(tables),
        *buddy_claims(tables, facts),
    ]
