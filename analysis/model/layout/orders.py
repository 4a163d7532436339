"""Orders of the buddy allocator and of pageblocks."""

from __future__ import annotations

from analysis.model.layout.eras_layout import LayoutEra


def buddy_orders(config_value: int | None, *, inclusive: bool) -> int:
    """How many orders the buddy has, from 0; the largest is one less.

    ``config_value``: CONFIG_ARCH_FORCE_MAX_ORDER (FORCE_MAX_ZONEORDER before), None where it is
    not set; ``inclusive``: the value is the largest order, before it was the number of orders.

    Kernel: include/linux/mmzone.h, ``MAX_ORDER`` (``NR_PAGE_ORDERS`` from 6.8); 5.10, 6.1,
        6.12, 7.2 and 7.3.
    Ignores: nothing known.
    """
    if config_value is None:
        return 11
    return config_value + 1 if inclusive else config_value


def huge_page_shift(arch: str, page_bytes: int, *, pae: bool = True) -> int | None:
    """log2 of the bytes that a page middle directory entry maps; None: not known for the arch.

    Kernel: ``PMD_SHIFT`` of arch/*/include/asm/pgtable*.h: a table of ``page_bytes`` holds
        entries of 8 bytes (4 on i386 without PAE, where the second level is the first).
    Ignores: architectures with more than one kind of table.
    """
    page_shift = page_bytes.bit_length() - 1
    if arch in ("x86_64", "arm64", "riscv64"):
        return page_shift + page_shift - 3
    if arch == "i386":
        return 21 if pae else 22
    if arch == "arm":
        return 21
    return None


def pageblock_order(
    era: LayoutEra,
    *,
    orders: int,
    page_bytes: int,
    huge_shift: int,
    hugetlb: bool,
    thp: bool,
    own_limit: int | None,
) -> int:
    """Order of a pageblock, the unit that has one migrate type.

    A huge page where hugetlb (or, in newer kernels, THP) is built in, else the largest buddy
    block; never more than the largest buddy block, or the limit of its own that 6.16 brought.

    Kernel: include/linux/pageblock-flags.h, ``pageblock_order``; 5.10, 6.1, 6.12, 7.2 and 7.3.
    Ignores: HUGETLB_PAGE_SIZE_VARIABLE (powerpc, ia64), where boot decides.
    """
    most = orders - 1
    if era.pageblock_has_own_limit and own_limit is not None:
        most = min(most, own_limit)
    huge_order = huge_shift - (page_bytes.bit_length() - 1)
    if hugetlb:
        return min(huge_order, most) if era.pageblock_below_max_order else huge_order
    if thp and era.pageblock_follows_thp:
        return min(huge_order, most)
    return most
