"""Claims ``watermark_min_rounds``, ``watermark_low_rounds``, ``watermark_high_rounds``.

They follow the watermarks through a whole run, while the static rules ``watermark_min`` and so on
judge one moment, with everything that a capture says of the boot.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from analysis.compare.claim import Claim, Number, Scope, Verdict
from analysis.compare.facts import Facts, Tables
from analysis.compare.zones import ZoneKey, by_zone, marks, zone_fields
from analysis.model.release import Release
from analysis.model.watermark import Watermarks, movable_counts_as_lowmem, watermarks

SETTLED_LABEL = "settle/end"
"""Marked after vm.watermark_scale_factor was rewritten, so that the kernel computed anew."""

_KINDS = ("min", "low", "high")
_SYSCTLS = ("min_free_kbytes", "watermark_scale_factor")
_Marks = dict[ZoneKey, Watermarks]


def watermark_claims(tables: Tables, facts: Facts) -> Iterator[Claim]:
    """Three claims per node and zone, over all rounds from the settled mark on.

    The kernel computes from the managed pages of that moment; at boot those are not yet all. So a
    difference fails only after the mark ``settle/end``; in a run without it, it is unknown.
    What the kernel printed as boost is taken off first. A release that adds the boost without
    printing it (5.10) leaves a difference that is equal in all three marks unknown.
    """
    zones = zone_fields(tables, "managed", "boost", *_KINDS)
    settled = next((mark.round for mark in marks(tables) if mark.label == SETTLED_LABEL), None)
    if settled is not None:
        zones = {key: fields for key, fields in zones.items() if key[0] >= settled}
    managed: dict[int, dict[ZoneKey, int]] = {}
    for (number, node, zone), fields in zones.items():
        if "managed" in fields:
            managed.setdefault(number, {})[node, zone] = fields["managed"]
    missing = _missing(facts)
    predictions = (
        {} if missing else {number: _predict(pages, facts) for number, pages in managed.items()}
    )

    for key, rounds in by_zone(zones):
        readings = {
            number: zones[(number, *key)]
            for number in rounds
            if all(kind in zones[(number, *key)] for kind in _KINDS)
        }
        for kind in _KINDS:
            yield _judge(key, kind, readings, predictions, missing, settled)


def _missing(facts: Facts) -> str:
    absent = [f"proc/sys/vm/{name}" for name in _SYSCTLS if name not in facts.sysctl]
    if facts.page_size_bytes is None:
        absent.append("the page size (kernel config, or meminfo beside zoneinfo)")
    return f"the run lacks {' and '.join(absent)}" if absent else ""


def _predict(managed: Mapping[ZoneKey, int], facts: Facts) -> list[_Marks]:
    """The watermarks, in every way that the release may compute them."""
    assert facts.page_size_bytes is not None, "checked by _missing"
    return [
        watermarks(
            managed,
            min_free_kbytes=facts.sysctl["min_free_kbytes"],
            watermark_scale_factor=facts.sysctl["watermark_scale_factor"],
            page_size_bytes=facts.page_size_bytes,
            movable_is_lowmem=movable_is_lowmem,
            highmem_by_name=facts.release <= Release(5, 10),
        )
        for movable_is_lowmem in sorted(movable_counts_as_lowmem(facts.release))
    ]


def _judge(
    key: ZoneKey,
    kind: str,
    readings: Mapping[int, Mapping[str, int]],
    predictions: Mapping[int, list[_Marks]],
    missing: str,
    settled: int | None,
) -> Claim:
    node, zone = key
    scope: Scope = {"node": node, "zone": zone, "rounds": len(readings)}

    def claim(
        predicted: Number | None, observed: Number | None, verdict: Verdict, why: str = ""
    ) -> Claim:
        return Claim(
            id=f"watermark_{kind}_rounds",
            scope=scope,
            predicted=predicted,
            observed=observed,
            unit="pages",
            verdict=verdict,
            why=why,
        )

    if not readings:
        return claim(None, None, Verdict.UNKNOWN, "no round shows the zone's watermarks")
    predicted, observed = 0, 0
    for number, fields in readings.items():
        observed = fields[kind] - fields.get("boost", 0)
        if missing:
            return claim(None, observed, Verdict.UNKNOWN, missing)
        options = sorted({_of(marks[key], kind) for marks in predictions[number]})
        predicted = options[0]
        if len(options) > 1:
            why = (
                f"the release may or may not share min_free_kbytes with ZONE_MOVABLE: "
                f"{' or '.join(map(str, options))} pages"
            )
            return claim(None, observed, Verdict.UNKNOWN, why)
        if predicted == observed:
            continue
        why = f"round {number}: predicted {predicted} from {fields['managed']} managed pages, "
        why += f"the kernel printed {observed} without boost"
        if settled is None:
            why += (
                f"; without the mark {SETTLED_LABEL} the kernel may have computed it before boot "
                f"memory was handed over"
            )
            return claim(predicted, observed, Verdict.UNKNOWN, why)
        if "boost" not in fields and _equally_raised(fields, predictions[number][0][key]):
            why += "; all three marks are raised alike and this release prints no boost"
            return claim(predicted, observed, Verdict.UNKNOWN, why)
        return claim(predicted, observed, Verdict.FAILS, why)
    return claim(predicted, observed, Verdict.HOLDS)


def _of(marks: Watermarks, kind: str) -> int:
    return {"min": marks.min_pages, "low": marks.low_pages, "high": marks.high_pages}[kind]


def _equally_raised(fields: Mapping[str, int], marks: Watermarks) -> bool:
    raises = {fields[kind] - _of(marks, kind) for kind in _KINDS}
    return len(raises) == 1 and min(raises) > 0
