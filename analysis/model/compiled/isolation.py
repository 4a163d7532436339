"""Pageblocks set apart. Twin of ``analysis.model.allocator.isolation``."""

from __future__ import annotations

from typing import Any

from analysis.model.compiled.layout import (
    ACCOUNTS_EACH_BLOCK,
    BLOCK_ISOLATED_FROM,
    ISOLATED,
    MAX_ORDER,
    PAGEBLOCK_ORDER,
    START,
    ZONE_WORDS,
    ZONES_AT,
    compiled,
)
from analysis.model.compiled.lists import (
    block_order,
    block_type,
    pageblock_type,
    remove,
    set_pageblock_type,
)
from analysis.model.compiled.zone import (
    ISOLATE,
    account,
    block_words,
    give_back,
    move_pageblock,
    pageblock_start,
)


@compiled
def isolate_pageblock(m: Any, zone: int, page: int) -> None:
    """Moves a pageblock's free pages to the Isolate lists, where no request finds them."""
    at = ZONES_AT + zone * ZONE_WORDS
    start = pageblock_start(m, page)
    kind = pageblock_type(m, max(start, m[at + START]))
    if kind == ISOLATE:
        return
    m[block_words(m, start) + BLOCK_ISOLATED_FROM] = kind + 1
    m[at + ISOLATED] += 1
    if not m[ACCOUNTS_EACH_BLOCK]:
        set_pageblock_type(m, page, 0, ISOLATE)
        account(m, zone, -move_pageblock(m, zone, page, ISOLATE), kind)
    elif not _cut(m, zone, start, ISOLATE):
        move_pageblock(m, zone, page, ISOLATE)


@compiled
def unisolate_pageblock(m: Any, zone: int, page: int) -> None:
    """Gives a pageblock its type back, and its free pages to that type's lists."""
    at = ZONES_AT + zone * ZONE_WORDS
    start = pageblock_start(m, page)
    kind = m[block_words(m, start) + BLOCK_ISOLATED_FROM] - 1
    if kind < 0:
        return
    m[block_words(m, start) + BLOCK_ISOLATED_FROM] = 0
    m[at + ISOLATED] -= 1
    order = block_order(m, zone, start)
    if m[PAGEBLOCK_ORDER] <= order < m[MAX_ORDER]:
        buddy = start ^ (1 << order)
        if block_order(m, zone, buddy) == order and block_type(m, buddy) != ISOLATE:
            remove(m, start)
            set_pageblock_type(m, start, order, kind)
            give_back(m, zone, start, order, kind, 1, -1)
            return
    if not m[ACCOUNTS_EACH_BLOCK]:
        account(m, zone, move_pageblock(m, zone, page, kind), kind)
        set_pageblock_type(m, page, 0, kind)
    elif not _cut(m, zone, start, kind):
        move_pageblock(m, zone, page, kind)


@compiled
def _cut(m: Any, zone: int, start: int, kind: int) -> bool:
    """Cuts the free block above pageblock size that holds a pageblock, and retypes that one."""
    pageblock_order = m[PAGEBLOCK_ORDER]
    for order in range(pageblock_order + 1, m[MAX_ORDER] + 1):
        first = start & ~((1 << order) - 1)
        if block_order(m, zone, first) == order:
            old = block_type(m, first)
            remove(m, first)
            account(m, zone, -(1 << order), old)
            set_pageblock_type(m, start, 0, kind)
            for piece in range(first, first + (1 << order), 1 << pageblock_order):
                give_back(m, zone, piece, pageblock_order, -1, -1, -1)
            return True
    return False
