"""The watermarks that a boot leaves: computed twice, each time from what was managed by then."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

from analysis.model.eras_watermark import WatermarkEra
from analysis.model.min_free import (
    automatic_min_free_kbytes,
    nr_free_buffer_pages,
    recommended_min_free_kbytes,
)
from analysis.model.watermark import Watermarks, ZoneKey, watermarks

DEFAULT_SCALE_FACTOR = 10
"""vm.watermark_scale_factor before anybody writes it: a thousandth of a zone."""
THP_BYTES_MIN = 512 << 20
"""A machine with less memory starts without transparent huge pages."""


class Khugepaged(Enum):
    """What the setup of transparent huge pages does at boot."""

    ABSENT = "not set up"
    """No CONFIG_TRANSPARENT_HUGEPAGE, or hardware that lacks huge pages."""
    STOPPED = "not wanted"
    """transparent_hugepage=never, by configuration or parameter."""
    STARTED = "started"


@dataclass(frozen=True, slots=True, kw_only=True)
class BootWatermarks:
    """The chain of a boot, in the kernel's order."""

    automatic_kbytes: int
    """The first value, of ``init_per_zone_wmark_min``."""
    first: Mapping[ZoneKey, Watermarks]
    buffer_pages: int | None = None
    """Pages beyond ``first``'s high watermarks when khugepaged was set up; None: it was not."""
    recommended_kbytes: int | None = None
    """What khugepaged asked for; None: it did not ask."""
    min_free_kbytes: int
    """The value in the end."""
    last: Mapping[ZoneKey, Watermarks]
    """The watermarks in the end."""


def boot_watermarks(
    first_managed_pages: Mapping[ZoneKey, int],
    managed_pages: Mapping[ZoneKey, int],
    *,
    khugepaged: Khugepaged,
    populated_zones: int,
    pageblock_pages: int,
    page_size_bytes: int,
    era: WatermarkEra,
) -> BootWatermarks:
    """min_free_kbytes and watermarks as a boot leaves them, without any sysctl written.

    ``first_managed_pages`` are those at ``postcore_initcall`` time, ``managed_pages`` those a
    little later, at ``subsys_initcall`` time; both before the initrd and the kernel's init memory
    are handed over. ``populated_zones`` counts zones up to ZONE_NORMAL that have memory.

    Raises:
        ValueError: as ``watermarks`` does.

    Kernel: mm/page_alloc.c, ``init_per_zone_wmark_min`` (postcore_initcall; in 4.19 core_initcall);
        mm/huge_memory.c,
        ``hugepage_init`` (subsys_initcall), which below 512 MiB of memory ends before it starts
        khugepaged; mm/khugepaged.c, ``start_stop_khugepaged`` and
        ``set_recommended_min_free_kbytes``: 4.19, 5.10, 6.1, 6.12, 7.2 and 7.3, ``era`` for what
        differs.
    Ignores: what recomputes later: a sysctl written, memory plugged, khugepaged started or stopped
        by hand.
    """

    def marks(managed: Mapping[ZoneKey, int], kbytes: int) -> dict[ZoneKey, Watermarks]:
        return watermarks(
            managed,
            min_free_kbytes=kbytes,
            watermark_scale_factor=DEFAULT_SCALE_FACTOR,
            page_size_bytes=page_size_bytes,
            movable_is_lowmem=era.movable_is_lowmem,
            highmem_by_name=era.highmem_by_name,
        )

    automatic = automatic_min_free_kbytes(
        nr_free_buffer_pages(first_managed_pages, {}),
        page_size_bytes=page_size_bytes,
        kbytes_max=era.automatic_kbytes_max,
    )
    first = marks(first_managed_pages, automatic)
    small = sum(managed_pages.values()) * page_size_bytes < THP_BYTES_MIN
    stopped = khugepaged is Khugepaged.STOPPED
    if (
        small
        or khugepaged is Khugepaged.ABSENT
        or (stopped and not era.recomputes_without_khugepaged)
    ):
        return BootWatermarks(
            automatic_kbytes=automatic, first=first, min_free_kbytes=automatic, last=first
        )
    asked = khugepaged_min_free_kbytes(
        automatic,
        managed_pages,
        {key: zone.high_pages for key, zone in first.items()},
        khugepaged=khugepaged,
        populated_zones=populated_zones,
        pageblock_pages=pageblock_pages,
        page_size_bytes=page_size_bytes,
    )
    return BootWatermarks(
        automatic_kbytes=automatic,
        first=first,
        buffer_pages=asked.buffer_pages,
        recommended_kbytes=asked.recommended_kbytes,
        min_free_kbytes=asked.min_free_kbytes,
        last=marks(managed_pages, asked.min_free_kbytes),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What the setup of khugepaged makes of min_free_kbytes."""

    buffer_pages: int
    recommended_kbytes: int | None
    """None: khugepaged is not wanted, the automatic value is computed again."""
    min_free_kbytes: int


def khugepaged_min_free_kbytes(
    min_free_kbytes: int,
    managed_pages: Mapping[ZoneKey, int],
    high_pages: Mapping[ZoneKey, int],
    *,
    khugepaged: Khugepaged,
    populated_zones: int,
    pageblock_pages: int,
    page_size_bytes: int,
) -> Asked:
    """min_free_kbytes after khugepaged was set up: at boot, or as transparent huge pages are
    switched later. Started, it raises the value; stopped, the automatic one comes back.

    ``high_pages`` are the high watermarks in force when it happens.

    Raises:
        ValueError: it is absent, so it sets up nothing.

    Kernel: mm/khugepaged.c, ``set_recommended_min_free_kbytes``: 6.1, 6.12, 7.2 and 7.3. 4.19
        and 5.10 are the same where khugepaged starts and do nothing where it stops.
    Ignores: a value that was written by hand, which a smaller automatic one does not replace.
    """
    if khugepaged is Khugepaged.ABSENT:
        raise ValueError("khugepaged is not there: nothing asks for a min_free_kbytes")
    buffer_pages = nr_free_buffer_pages(managed_pages, high_pages)
    if khugepaged is Khugepaged.STOPPED:
        return Asked(
            buffer_pages=buffer_pages,
            recommended_kbytes=None,
            min_free_kbytes=automatic_min_free_kbytes(
                buffer_pages, page_size_bytes=page_size_bytes
            ),
        )
    recommended = recommended_min_free_kbytes(
        buffer_pages,
        populated_zones=populated_zones,
        pageblock_pages=pageblock_pages,
        page_size_bytes=page_size_bytes,
    )
    return Asked(
        buffer_pages=buffer_pages,
        recommended_kbytes=recommended,
        min_free_kbytes=max(min_free_kbytes, recommended),
    )
