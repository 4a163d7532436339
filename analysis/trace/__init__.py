"""Raw ftrace rings → typed event arrays in one order across CPUs.

``open_window`` decodes a traced window of a run; ``decode`` does it for rings from anywhere.
"""

from analysis.trace.counter import Audit, Hole
from analysis.trace.events import EventStream, Gap, KernelLoss, Merged, Summary, decode
from analysis.trace.format import Formats, read_formats
from analysis.trace.ring import RingDamage
from analysis.trace.window import open_window

__all__ = [
    "Audit",
    "EventStream",
    "Formats",
    "Gap",
    "Hole",
    "KernelLoss",
    "Merged",
    "RingDamage",
    "Summary",
    "decode",
    "open_window",
    "read_formats",
]
