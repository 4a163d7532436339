"""Numbers with their units, and changes, as people read them."""

from __future__ import annotations

from analysis.compare.groups.pair import Compared, Finding

_MIB_KB = 1024.0
_SECOND_MS = 1000.0
_TIMES = "\N{MULTIPLICATION SIGN}"
_MINUS = "\N{MINUS SIGN}"


def amount(value: float, unit: str, *, sign: bool = False) -> str:
    """``12.3 MiB`` of kB, ``1.2 s`` of ms, ``4.5k events``; with ``sign`` a difference."""
    mark = _MINUS if value < 0 else "+" if sign else ""
    size = abs(value)
    if unit == "kB":
        if size >= 4 * _MIB_KB:
            return f"{mark}{_digits(size / _MIB_KB)} MiB"
        return f"{mark}{_digits(size)} KiB"
    if unit == "ms" and size >= _SECOND_MS:
        return f"{mark}{_digits(size / _SECOND_MS)} s"
    if unit == "%":
        return f"{mark}{_digits(size)} {'points' if sign else '%'}"
    if size >= 100_000:
        return f"{mark}{_digits(size / 1000)}k {unit}"
    return f"{mark}{_digits(size)} {unit}"


def change(each: Compared) -> str:
    """A percentage, a factor, or the difference where the first is 0 or the unit is a share."""
    unit = each.measure.unit
    if unit == "%":
        return amount(each.difference, unit, sign=True)
    ratio = each.ratio
    if ratio is None or ratio <= 0:
        return amount(each.difference, unit, sign=True)
    if ratio >= 2:
        return f"{_TIMES}{_digits(ratio)}"
    percent = 100 * (ratio - 1)
    mark = _MINUS if percent < 0 else "+"
    return f"{mark}{_digits(abs(percent))} %"


def certainty(each: Compared) -> str:
    """The adjusted p; ``exact`` for what boot settles, which no test decides."""
    if each.measure.settled and each.constant and each.finding in (Finding.DIFFERS, Finding.SMALL):
        return "exact"
    return "" if each.p is None else f"{each.p:.3f}"


def _digits(size: float) -> str:
    if size >= 100 or size == int(size):
        return f"{size:,.0f}"
    return f"{size:.3g}"
